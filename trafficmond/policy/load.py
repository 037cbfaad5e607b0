"""Files and settings -> one validated `Policy`: reads everything, then returns all of it or raises every mistake."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trafficmond.errors import ConfigError, Mistake
from trafficmond.model import Action, Reason
from trafficmond.policy import prefixes
from trafficmond.policy.classes import Classes, TooManyClasses
from trafficmond.policy.geography import Geography
from trafficmond.policy.lastgood import LastGood, Parse
from trafficmond.policy.prefixes import Prefixes
from trafficmond.policy.readers import lasting, permitted, read_json, read_list, read_own, read_toml
from trafficmond.policy.rules import ListSource, Rule, Rules, read_tables

_PARSERS: Mapping[str, Callable[..., Rules]] = {".toml": read_toml, ".json": read_json}
_RULES_ENDINGS = (".toml", ".json")
_LIST_ENDINGS = frozenset((".netset", ".ipset", ".txt", ".cidr"))
# bound: a file of rules or prefixes | refused; what was in force of it stays
_MAX_FILE_BYTES = 256 << 20
# bound: prefixes of all files | refused; what was in force stays
_MAX_PREFIXES = 4_000_000  # about half a gigabyte of table at worst (scattered IPv6 hosts)
_ALIKE_TOLD = 10  # rules that could be one
_READS = 3  # of a file that changes meanwhile
_UNFETCHED = "has not been fetched yet; have it fetched: systemctl enable --now trafficmon-fetch.timer"
_HINT = "nothing was changed; trafficctl check names every mistake"


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """Everything that decides about addresses, weakest rule first: of two rules on one prefix the later one wins.

    `prefixes` are those of all rules in the order of the rules; `owner` is each one's index into `rules`. Those of rule
    `i` are rows `starts[i]` to `starts[i + 1]`.
    """

    rules: tuple[Rule, ...]
    prefixes: Prefixes
    owner: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    default: Action
    notes: tuple[Mistake, ...] = ()
    parts: tuple[Rules, ...] = ()  # that it was made of
    default_shadow: Action | None = None  # what would be the default of what comes in if it were in force

    def begins_as(self, other: Policy) -> int:
        """With at least how many rules both begin: those of files that were not read again."""
        count = 0
        for mine, others in zip(self.parts, other.parts, strict=False):
            if mine is not others:
                break
            count += len(mine.rules)
        return count

    @property
    def default_text(self) -> str:
        """The default for people: "drop", "drop in shadow"."""
        return str(self.default) if self.default_shadow is None else f"{self.default_shadow} in shadow"

    def prefixes_of(self, index: int) -> Prefixes:
        """The prefixes of `rules[index]`."""
        return self.prefixes.take(slice(int(self.starts[index]), int(self.starts[index + 1])))


@dataclass(slots=True)
class Cache:
    """What each file held when it was last read, by path; a file that has not changed since is not read again."""

    files: dict[Path, tuple[tuple[object, ...], Rules]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """What the lists and the rules files hold, weakest first, and what is wrong or odd about them.

    `saved` is what the daemon's own file holds, which stands behind what the settings say themselves.
    """

    parts: tuple[Rules, ...] = ()
    saved: tuple[Rules, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    notes: tuple[Mistake, ...] = ()

    def same_rules(self, other: Files) -> bool:
        """Whether both are of the same reading of each file."""
        mine, others = (*self.parts, *self.saved), (*other.parts, *other.saved)
        same = (len(self.parts), len(mine)) == (len(other.parts), len(others))
        return same and all(one is another for one, another in zip(mine, others, strict=True))


def read_files(
    cidr_dir: Path | None,
    lists: Sequence[ListSource] = (),
    saved: Path | None = None,
    cache: Cache | None = None,
    last_good: LastGood | None = None,
    geography: Geography | None = None,
    instead: Path | None = None,
) -> Files:
    """What `lists`, all rules files in `cidr_dir` and the daemon's own, `saved`, hold.

    A plain list in `cidr_dir` that no `[[list]]` names has no action: it is not read, and a note says so. With
    `last_good`, a list that is wrong, and anything else that cannot be read, is what it last was, and a note says so;
    else it is a mistake. A rules file `instead` is read in the place of the one of its name.
    """
    reader = _Reader(cache if cache is not None else Cache(), last_good, geography)
    for source in lists:
        reader.read_list(source)
    elsewhere = {os.path.realpath(path) for path in (*(source.path for source in lists), *((saved,) if saved else ()))}
    if cidr_dir is not None:
        reader.read_folder(cidr_dir, elsewhere, instead)
    parts = tuple(reader.parts)
    if saved is not None and saved.exists():
        reader.read(saved, read_own)
    reader.forget_unread()
    notes = (*reader.notes, *(geography.notes if geography else ()))
    return Files(parts, tuple(reader.parts[len(parts) :]), tuple(reader.mistakes), notes)


def read_last_good(
    cidr_dir: Path,
    lists: Sequence[ListSource],
    saved: Path,
    cache: Cache,
    last_good: LastGood,
    geography: Geography | None = None,
) -> Files:
    """What `read_files` was when all was last right, whatever has become of lists and rules files since."""
    reader = _Reader(cache, last_good, geography)
    for source in lists:
        reader.take_last_good(source.path, partial(read_list, source), source)
    for path in last_good.within(cidr_dir):
        reader.take_rules_last_good(path)
    return with_saved(Files(tuple(reader.parts)), saved, cache)


def with_saved(files: Files, saved: Path, cache: Cache) -> Files:
    """`files` with what the daemon's own file holds now."""
    reader = _Reader(cache)
    if saved.exists():
        reader.read(saved, read_own)
    mistakes, notes = (*files.mistakes, *reader.mistakes), (*files.notes, *reader.notes)
    return Files(files.parts, tuple(reader.parts), mistakes, notes)


def make_policy(
    files: Files,
    *,
    default: Action = Action.MONITOR,
    default_shadow: bool = False,
    permitted_cidrs: Sequence[str] = (),
    runtime: Sequence[Mapping[str, Any]] | Rules = (),
    allowlist: Sequence[str] = (),
    guard: Sequence[tuple[str, str]] = (),
) -> Policy:
    """The policy of the lists and rules files, the original's `permitted_cidrs`, the daemon's own file, the tables
    added at `runtime`, the settings' `allowlist` and the `guard` (pairs of prefix and label). With `default_shadow` the
    default is to monitor, and `default` only what it would have been.

    On one prefix a rule beats a list; of two rules, or two lists, the later one wins: in the order just given,
    lists in the order of the settings, files in that of their names. Raises ConfigError with every mistake found.
    """
    reader = _Reader(Cache())
    reader.parts += files.parts
    reader.mistakes += files.mistakes
    reader.notes += files.notes
    if permitted_cidrs:
        reader.add(permitted(permitted_cidrs, "settings"))
    reader.parts += files.saved
    reader.add(runtime if isinstance(runtime, Rules) else read_tables(runtime, "runtime", own=True))
    if allowlist:
        reader.add(lasting(Reason.ALLOWLIST, allowlist, "allowlist", "policy.allowlist"))
    for cidr, label in guard:
        reader.add(lasting(Reason.GUARD, [cidr], label, "guard"))
    if default_shadow:
        return _assembled(reader, Action.MONITOR, default)
    return _assembled(reader, default)


def load_policy(
    cidr_dir: Path | None,
    lists: Sequence[ListSource] = (),
    *,
    saved: Path | None = None,
    cache: Cache | None = None,
    last_good: LastGood | None = None,
    geography: Geography | None = None,
    **rest: Any,
) -> Policy:
    """`make_policy` of `read_files`. Raises ConfigError with every mistake found."""
    return make_policy(read_files(cidr_dir, lists, saved, cache, last_good, geography), **rest)


def is_ignored(name: str) -> bool:
    """Whether a file of this name is no business of the rules: hidden, or what editors leave while they save."""
    return name.startswith((".", "#")) or name.endswith(("~", "#", ".swp", ".swx", ".tmp", ".part"))


def is_rules_file(name: str) -> bool:
    """Whether a file of this name in `cidr_dir` is read."""
    return name.endswith(_RULES_ENDINGS) and not is_ignored(name)


class _Reader:
    """Collects the rules of files in order, through the cache."""

    def __init__(self, cache: Cache, last_good: LastGood | None = None, geography: Geography | None = None) -> None:
        self.parts: list[Rules] = []
        self.mistakes: list[Mistake] = []
        self.notes: list[Mistake] = []
        self._cache = cache
        self._last_good = last_good
        self._parsers: Mapping[str, Parse] = {
            ".toml": partial(_PARSERS[".toml"], geography=geography),
            ".json": _PARSERS[".json"],
        }
        self._meaning = geography.mark if geography else None  # of rules files, besides what they say
        self._read: set[Path] = set()

    def add(self, part: Rules) -> None:
        self.parts.append(part)
        self.mistakes += part.mistakes
        self.notes += part.notes

    def read(self, path: Path, parse: Parse) -> None:
        """Adds what a rules file holds."""
        try:
            self.add(self._load(path, parse, self._meaning))
        except OSError as error:
            self._fall_back(
                path, parse, self._meaning, [Mistake(str(path), f"cannot be read: {error.strerror or error}")]
            )

    def read_list(self, source: ListSource) -> None:
        """Adds what a `[[list]]` holds. One that had members and has none any more is taken for broken."""
        path, parse = source.path, partial(read_list, source)
        try:
            rules = self._load(path, parse, source)
        except OSError as error:
            if source.fetched and isinstance(error, FileNotFoundError) and not self._known(path, parse, source):
                self._unfetched(path, parse, source)
                return
            self._fall_back(path, parse, source, [Mistake(str(path), f"cannot be read: {error.strerror or error}")])
            return
        if rules.mistakes:
            self._fall_back(path, parse, source, rules.mistakes)
        elif len(rules.prefixes):
            self.add(rules)
        elif self._last_good is None:
            self.add(rules)
            self.notes.append(Mistake(str(path), "holds no prefix"))
        elif (before := self._last_good.of(path, source, parse)) is not None and len(before.prefixes):
            self._fall_back(path, parse, source, [Mistake(str(path), "holds no prefix any more")])
        else:
            self.add(rules)

    def read_folder(self, directory: Path, elsewhere: set[str], instead: Path | None = None) -> None:
        """Adds the rules files of `directory` in order of their names, but for those that are read `elsewhere`, and
        one `instead` of that of its name."""
        try:
            names = sorted({*(path.name for path in directory.iterdir()), *([instead.name] if instead else [])})
        except OSError as error:
            self._without_folder(directory, error)
            return
        for name in names:
            path = instead if instead and name == instead.name else directory / name
            if is_ignored(name) or os.path.realpath(path) in elsewhere:
                continue
            if is_rules_file(name):
                self.read(path, self._parsers[path.suffix])
            elif not path.is_file():
                continue
            elif path.suffix in _LIST_ENDINGS:
                what = f'is not read: no [[list]] names it; in the settings write [[list]], path = "{path}"'
                self.notes.append(Mistake(str(path), f'{what} and action = "drop", each on a line of its own'))
            else:
                self.notes.append(Mistake(str(path), "is not read: rules files end in .toml or .json"))

    def _without_folder(self, directory: Path, error: OSError) -> None:
        absent = isinstance(error, FileNotFoundError)
        what = "does not exist" if absent else f"cannot be read: {error.strerror or error}"
        known = self._last_good.within(directory) if self._last_good else []
        for path in known:
            self.take_rules_last_good(path)
        if known:
            self.notes.append(Mistake(str(directory), f"{what}; the rules that were last read from it stay in force"))
        elif absent or self._last_good:
            self.notes.append(Mistake(str(directory), f"{what}; no rules are read from it"))
        else:
            self.mistakes.append(Mistake(str(directory), what))

    def _load(self, path: Path, parse: Parse, meaning: object) -> Rules:
        """What `path` holds, through the cache. Raises OSError."""
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is no regular file")
        known = self._cache.files.get(path)
        if known is None or known[0] != (*_stamp(status), meaning):
            stamp, data = _read_settled(path)
            known = self._cache.files[path] = ((*stamp, meaning), parse(data, str(path)))
            if (
                self._last_good
                and not known[1].mistakes
                and (len(known[1].prefixes) or not isinstance(meaning, ListSource))
            ):
                self._last_good.keep(path, meaning, known[1], data, stamp[0])
        self._read.add(path)
        return known[1]

    def _fall_back(self, path: Path, parse: Parse, meaning: object, mistakes: Sequence[Mistake]) -> None:
        """The last good content of a source in place of what is wrong with it now."""
        if self._last_good is None:
            self.mistakes += mistakes
            return
        held = self.take_last_good(path, parse, meaning)
        stays = "nothing of it is in force" if held is None else f"what it last held stays in force ({held:,} prefixes)"
        first, *others = mistakes
        also = f" (and {len(others):,} more mistakes)" if others else ""
        self.notes.append(Mistake(first.where, f"{first.what}{also}; {stays}"))

    def _unfetched(self, path: Path, parse: Parse, source: ListSource) -> None:
        known = self._cache.files.get(path)
        if known is None or known[0] != (source,):
            known = self._cache.files[path] = ((source,), parse(b"", str(path)))
        self._read.add(path)
        self.add(known[1])
        self.notes.append(Mistake(str(path), _UNFETCHED))

    def _known(self, path: Path, parse: Parse, meaning: object) -> bool:
        return self._last_good is not None and self._last_good.of(path, meaning, parse) is not None

    def take_rules_last_good(self, path: Path) -> None:
        """The same for a rules file; other files of the folder are passed over."""
        if is_rules_file(path.name):
            self.take_last_good(path, self._parsers[path.suffix], self._meaning)

    def take_last_good(self, path: Path, parse: Parse, meaning: object) -> int | None:
        """Adds it, and returns of how many prefixes it is; None if there is none."""
        self._read.add(path)
        rules = self._last_good.of(path, meaning, parse) if self._last_good else None
        if rules is None:
            return None
        self.add(rules)
        return len(rules.prefixes)

    def forget_unread(self) -> None:
        for path in self._cache.files.keys() - self._read:
            del self._cache.files[path]
        if self._last_good:
            self._last_good.forget_all_but(self._read)
            if self._last_good.trouble:
                self.notes.append(Mistake("state_dir", self._last_good.trouble))


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev


def _read_settled(path: Path) -> tuple[tuple[int, int, int, int], bytes]:
    """The file's stamp and content, with no writing seen in between. Raises OSError."""
    for _ in range(_READS):
        with open(path, "rb", opener=_without_waiting) as file:
            before = os.fstat(file.fileno())
            if before.st_size > _MAX_FILE_BYTES:
                raise OSError(f"it is larger than {_MAX_FILE_BYTES >> 20} MiB; split it")
            data = file.read(_MAX_FILE_BYTES + 1)
            if _stamp(before) == _stamp(os.fstat(file.fileno())) and len(data) == before.st_size:
                return _stamp(before), data
    raise OSError("it is being written; its next change will be seen")


def _without_waiting(path: str, flags: int) -> int:
    """For `open`: a pipe that has taken the file's place meanwhile is no reason to wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _assembled(reader: _Reader, default: Action, shadow: Action | None = None) -> Policy:
    rows = prefixes.concat([part.prefixes for part in reader.parts])
    if len(rows) > _MAX_PREFIXES:
        what = f"have {len(rows):,} prefixes; at most {_MAX_PREFIXES:,} fit"
        reader.mistakes.append(Mistake("all rules together", what))
    reader.mistakes += _too_many_services(reader.parts)
    if reader.mistakes:
        raise ConfigError(reader.mistakes, hint=_HINT)
    rules = tuple(chain.from_iterable(part.rules for part in reader.parts))
    counts = np.concatenate([part.counts for part in reader.parts])
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    owner = np.repeat(np.arange(len(rules), dtype=np.int32), counts)
    return Policy(rules, rows, owner, starts, default, tuple(reader.notes), tuple(reader.parts), shadow)


def _too_many_services(parts: Sequence[Rules]) -> list[Mistake]:
    """What is wrong with rules that name services in more ways than the kernel tells apart, and which could be one."""
    naming = list(chain.from_iterable(part.naming for part in parts))
    try:
        Classes.of(rule.judged for rule in naming)
    except TooManyClasses:
        what = "name services in more than 255 different ways; give rules that are for nearly the same the same ports"
        if alike := max(_alike(parts), key=len, default=[]):
            told = ", ".join(rule.source if rule.line else rule.name for rule in alike[:_ALIKE_TOLD])
            rest = f" and {len(alike) - _ALIKE_TOLD:,} more" if len(alike) > _ALIKE_TOLD else ""
            what = f"{what}. One rule with all their ports could stand for {told}{rest}, which differ in nothing else"
        return [Mistake("all rules together", what)]
    return []


def _alike(parts: Sequence[Rules]) -> list[list[Rule]]:
    """Groups of rules that differ in nothing but their services."""
    groups: dict[tuple[object, ...], list[Rule]] = {}
    for part in parts:
        starts = np.cumsum(part.counts) - part.counts
        for rule, first, count in zip(part.rules, starts.tolist(), part.counts.tolist(), strict=True):
            if rule.services:
                rows = part.prefixes.take(slice(first, first + count))
                same = rule.action, rule.direction, rule.expires, rule.rate_per_s, rule.burst, rule.reason
                key = (*same, *(column.tobytes() for column in (rows.family, rows.plen, rows.hi, rows.lo)))
                groups.setdefault(key, []).append(rule)
    return [group for group in groups.values() if len(group) > 1]

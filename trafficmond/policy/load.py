"""Files and settings -> one validated `Policy`: reads everything, then returns all of it or raises every mistake."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trafficmond.errors import ConfigError, Mistake
from trafficmond.model import Action, Reason
from trafficmond.policy import prefixes
from trafficmond.policy.prefixes import Prefixes
from trafficmond.policy.readers import lasting, permitted, read_json, read_list, read_toml
from trafficmond.policy.rules import ListSource, Rule, Rules, read_tables

_LIST_ENDINGS = frozenset((".netset", ".ipset", ".txt", ".cidr"))
_MAX_FILE_BYTES = 256 << 20
_MAX_PREFIXES = 4_000_000  # about half a gigabyte of table at worst (scattered IPv6 hosts)
_READS = 3  # of a file that changes meanwhile
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

    def prefixes_of(self, index: int) -> Prefixes:
        """The prefixes of `rules[index]`."""
        return self.prefixes.take(slice(int(self.starts[index]), int(self.starts[index + 1])))

    def next_expiry(self, now: float) -> float | None:
        """When the next rule ends (epoch seconds); from then on a new table saves the kernel a step."""
        ends = (rule.expires for rule in self.rules if rule.expires is not None and rule.expires > now)
        return min(ends, default=None)


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


def read_files(
    cidr_dir: Path | None, lists: Sequence[ListSource] = (), saved: Path | None = None, cache: Cache | None = None
) -> Files:
    """What `lists`, all rules files in `cidr_dir` and the daemon's own, `saved`, hold.

    A plain list in `cidr_dir` that no `[[list]]` names has no action: it is not read, and a note says so.
    """
    reader = _Reader(cache if cache is not None else Cache())
    for source in lists:
        reader.read(source.path, partial(read_list, source), source)
    elsewhere = {path.resolve() for path in (*(source.path for source in lists), *((saved,) if saved else ()))}
    for path in reader.scan(cidr_dir, elsewhere) if cidr_dir is not None else ():
        reader.read(path, read_toml if path.suffix == ".toml" else read_json)
    reader.forget_unread()
    files = Files(tuple(reader.parts), (), tuple(reader.mistakes), tuple(reader.notes))
    return with_saved(files, saved) if saved is not None else files


def with_saved(files: Files, saved: Path) -> Files:
    """`files` with what the daemon's own file holds now."""
    reader = _Reader(Cache())
    if saved.exists():
        reader.read(saved, read_toml)
    mistakes, notes = (*files.mistakes, *reader.mistakes), (*files.notes, *reader.notes)
    return Files(files.parts, tuple(reader.parts), mistakes, notes)


def make_policy(
    files: Files,
    *,
    default: Action = Action.MONITOR,
    permitted_cidrs: Sequence[str] = (),
    runtime: Sequence[Mapping[str, Any]] = (),
    allowlist: Sequence[str] = (),
    guard: Sequence[tuple[str, str]] = (),
) -> Policy:
    """The policy of the lists and rules files, the original's `permitted_cidrs`, the daemon's own file, the tables
    added at `runtime`, the settings' `allowlist` and the `guard` (pairs of prefix and label).

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
    reader.add(read_tables(runtime, "runtime"))
    if allowlist:
        reader.add(lasting(Reason.ALLOWLIST, allowlist, "allowlist", "policy.allowlist"))
    for cidr, label in guard:
        reader.add(lasting(Reason.GUARD, [cidr], label, "guard"))
    return _assembled(reader, default)


def load_policy(
    cidr_dir: Path | None,
    lists: Sequence[ListSource] = (),
    *,
    saved: Path | None = None,
    cache: Cache | None = None,
    **rest: Any,
) -> Policy:
    """`make_policy` of `read_files`. Raises ConfigError with every mistake found."""
    return make_policy(read_files(cidr_dir, lists, saved, cache), **rest)


def is_ignored(name: str) -> bool:
    """Whether a file of this name is no business of the rules: hidden, or what editors leave while they save."""
    return name.startswith((".", "#")) or name.endswith(("~", "#", ".swp", ".swx", ".tmp", ".part"))


class _Reader:
    """Collects the rules of files in order, through the cache."""

    def __init__(self, cache: Cache) -> None:
        self.parts: list[Rules] = []
        self.mistakes: list[Mistake] = []
        self.notes: list[Mistake] = []
        self._cache = cache
        self._read: set[Path] = set()

    def add(self, part: Rules) -> None:
        self.parts.append(part)
        self.mistakes += part.mistakes
        self.notes += part.notes

    def read(self, path: Path, parse: Callable[[bytes, str], Rules], meaning: object = None) -> None:
        """Adds what `path` holds; `meaning` is what else the result depends on."""
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise OSError("it is no regular file")
            stamp = (*_stamp(status), meaning)
            known = self._cache.files.get(path)
            if known is None or known[0] != stamp:
                read_stamp, data = _read_settled(path)
                known = self._cache.files[path] = ((*read_stamp, meaning), parse(data, str(path)))
        except OSError as error:
            self.mistakes.append(Mistake(str(path), f"cannot be read: {error.strerror or error}"))
            return
        self._read.add(path)
        self.add(known[1])

    def scan(self, directory: Path, elsewhere: set[Path]) -> list[Path]:
        """The rules files of `directory` in order of their names, but for those that are read `elsewhere`."""
        try:
            names = sorted(entry.name for entry in os.scandir(directory) if entry.is_file())
        except FileNotFoundError:
            self.notes.append(Mistake(str(directory), "does not exist; no rules are read from it"))
            return []
        except OSError as error:
            self.mistakes.append(Mistake(str(directory), f"cannot be read: {error.strerror or error}"))
            return []
        paths = []
        for name in names:
            path = directory / name
            if is_ignored(name) or path.resolve() in elsewhere:
                continue
            if path.suffix in (".toml", ".json"):
                paths.append(path)
            elif path.suffix in _LIST_ENDINGS:
                what = f'is not read: no [[list]] of the settings has path = "{path}" and an action for it'
                self.notes.append(Mistake(str(path), what))
            else:
                self.notes.append(Mistake(str(path), "is not read: rules files end in .toml or .json"))
        return paths

    def forget_unread(self) -> None:
        for path in self._cache.files.keys() - self._read:
            del self._cache.files[path]


def _stamp(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev


def _read_settled(path: Path) -> tuple[tuple[int, int, int, int], bytes]:
    """The file's stamp and content, with no writing seen in between. Raises OSError."""
    for _ in range(_READS):
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            if before.st_size > _MAX_FILE_BYTES:
                raise OSError(f"it is larger than {_MAX_FILE_BYTES >> 20} MiB; split it")
            data = file.read(_MAX_FILE_BYTES + 1)
            if _stamp(before) == _stamp(os.fstat(file.fileno())) and len(data) == before.st_size:
                return _stamp(before), data
    raise OSError("it is being written; its next change will be seen")


def _assembled(reader: _Reader, default: Action) -> Policy:
    rows = prefixes.concat([part.prefixes for part in reader.parts])
    if len(rows) > _MAX_PREFIXES:
        what = f"have {len(rows):,} prefixes; at most {_MAX_PREFIXES:,} fit"
        reader.mistakes.append(Mistake("all rules together", what))
    if reader.mistakes:
        raise ConfigError(reader.mistakes, hint=_HINT)
    rules = tuple(rule for part in reader.parts for rule in part.rules)
    counts = np.concatenate([part.counts for part in reader.parts])
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    owner = np.repeat(np.arange(len(rules), dtype=np.int32), counts)
    return Policy(rules, rows, owner, starts, default, tuple(reader.notes))

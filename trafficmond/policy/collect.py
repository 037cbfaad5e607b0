"""Reads lists and rules files, each only after a change. Of a broken file, the last good content stays in use."""

import os
import stat
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from trafficmond import figures
from trafficmond.dataclass import dataclass, field
from trafficmond.errors import Advice, Mistake
from trafficmond.files import is_file, opened
from trafficmond.policy.geography import Geography
from trafficmond.policy.lastgood import LastGood, Parse
from trafficmond.policy.readers import read_json, read_list, read_toml
from trafficmond.policy.rules import ListSource, Rules

_RULES_ENDINGS = (".toml", ".json")
_LIST_ENDINGS = frozenset((".netset", ".ipset", ".txt", ".cidr"))
# bound: a file of rules or prefixes | the file is refused; its last good content stays in force
_MAX_FILE_BYTES = 256 << 20
_READS = 3  # attempts for a file that changes meanwhile
_CUT_OFF = "is shorter than before and ends within a line, as if cut off; if it is complete, add a newline at its end"
_UNFETCHED = "has not been fetched yet; to fetch it: systemctl enable --now trafficmon-fetch.timer"


@dataclass(slots=True)
class Cache:
    """The last content of each file, by path; an unchanged file is not read again."""

    files: dict[Path, tuple[tuple[object, ...], Rules]] = field(default_factory=dict)


def is_ignored(name: str) -> bool:
    """Whether a file of this name is ignored: hidden, or a leftover of an editor."""
    return name.startswith((".", "#")) or name.endswith(("~", "#", ".swp", ".swx", ".tmp", ".part"))


def is_rules_file(name: str) -> bool:
    """Whether a file of this name in `cidr_dir` is read."""
    return name.endswith(_RULES_ENDINGS) and not is_ignored(name)


class Collector:
    """Collects the rules of files in order, through the cache."""

    def __init__(self, cache: Cache, last_good: LastGood | None = None, geography: Geography | None = None) -> None:
        self.parts: list[Rules] = []
        self.mistakes: list[Mistake] = []
        self.notes: list[Advice] = []
        self._cache = cache
        self._last_good = last_good
        self._parsers: Mapping[str, Parse] = {".toml": partial(read_toml, geography=geography), ".json": read_json}
        self._meaning = geography.mark if geography else None  # of rules files, besides their content
        self._read: set[Path] = set()

    def add(self, part: Rules) -> None:
        self.parts.append(part)
        self.mistakes += part.mistakes
        self.notes += part.notes

    def read(self, path: Path, parse: Parse) -> None:
        try:
            self.add(self._load(path, parse, self._meaning))
        except OSError as error:
            self._fall_back(
                path, parse, self._meaning, [Mistake(str(path), f"cannot be read: {error.strerror or error}")]
            )

    def read_list(self, source: ListSource) -> None:
        """Adds a `[[list]]`. One that had members and is empty now counts as broken, unless it may be empty."""
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
        elif len(rules.prefixes) or source.may_be_empty:
            self.add(rules)
        elif self._last_good is None:
            self.add(rules)
            self.notes.append(Advice(str(path), "holds no prefix"))
        elif (before := self._last_good.of(path, source, parse)) is not None and len(before.prefixes):
            self._fall_back(path, parse, source, [Mistake(str(path), "has no prefixes any more")])
        else:
            self.add(rules)

    def read_folder(self, directory: Path, elsewhere: set[str], instead: Path | None = None) -> None:
        """Adds the rules files of `directory` in order of their names, except those that are read `elsewhere`;
        `instead` replaces the one of its name."""
        try:
            names = sorted({*(path.name for path in directory.iterdir()), *([instead.name] if instead else [])})
        except OSError as error:
            self._without_folder(directory, error)
            return
        for name in names:
            path = instead if instead and name == instead.name else directory / name
            if is_ignored(name) or os.path.realpath(path) in elsewhere:
                continue
            shown = os.fsencode(name).decode("utf-8", "backslashreplace")
            if shown != name:
                self.notes.append(Advice(str(directory / shown), "is not read: its name is not UTF-8; rename it"))
            elif is_rules_file(name):
                self.read(path, self._parsers[path.suffix])
            elif not is_file(path):
                continue
            elif path.suffix in _LIST_ENDINGS:
                what = f'is not read: no [[list]] names it; in the settings write [[list]], path = "{path}"'
                self.notes.append(Advice(str(path), f'{what} and action = "drop", each on a line of its own'))
            else:
                what = "is not read: rules files end in .toml or .json, lists in .netset, .ipset, .txt or .cidr"
                self.notes.append(Advice(str(path), what))

    def _without_folder(self, directory: Path, error: OSError) -> None:
        absent = isinstance(error, FileNotFoundError)
        what = "does not exist" if absent else f"cannot be read: {error.strerror or error}"
        known = self._last_good.within(directory) if self._last_good else []
        for path in known:
            self.take_rules_last_good(path)
        if known:
            self.notes.append(Advice(str(directory), f"{what}; the rules that were last read from it stay in force"))
        elif absent or self._last_good:
            self.notes.append(Advice(str(directory), f"{what}; no rules are read from it"))
        else:
            self.mistakes.append(Mistake(str(directory), what))

    def _load(self, path: Path, parse: Parse, meaning: object) -> Rules:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")
        known = self._cache.files.get(path)
        if known is None or known[0] != (*_stamp(status), meaning):
            stamp, data = _read_stable(path)
            rules = parse(data, str(path))
            if isinstance(meaning, ListSource) and self._is_cut_off(path, parse, meaning, data, rules):
                rules = Rules.nothing(str(path), [Mistake(str(path), _CUT_OFF)])
            known = self._cache.files[path] = ((*stamp, meaning), rules)
            if (
                self._last_good
                and not known[1].mistakes
                and (len(known[1].prefixes) or not isinstance(meaning, ListSource) or meaning.may_be_empty)
            ):
                self._last_good.keep(path, meaning, known[1], data)
        self._read.add(path)
        return known[1]

    def _is_cut_off(self, path: Path, parse: Parse, source: ListSource, data: bytes, rules: Rules) -> bool:
        """Whether a list is probably truncated: its last prefix may then be cut, and much wider."""
        if not len(rules.prefixes) or data.endswith((b"\n", b"\r")) or self._last_good is None:
            return False
        before = self._last_good.of(path, source, parse)
        return before is not None and len(rules.prefixes) < len(before.prefixes)

    def _fall_back(self, path: Path, parse: Parse, meaning: object, mistakes: Sequence[Mistake]) -> None:
        """Adds the last good content of a source in place of its mistakes."""
        if self._last_good is None:
            self.mistakes += mistakes
            return
        known = len(self.notes)
        held = self.take_last_good(path, parse, meaning)
        del self.notes[known:]  # on lines that the file no longer has
        stays = (
            "nothing of it is in force"
            if held is None
            else f"its last good content stays in force ({figures.many(held, 'prefix')})"
        )
        first, *others = mistakes
        also = f" (and {figures.many(len(others), 'more mistake')})" if others else ""
        self.notes.append(Advice(first.where, f"{first.what}{also}; {stays}"))

    def _unfetched(self, path: Path, parse: Parse, source: ListSource) -> None:
        known = self._cache.files.get(path)
        if known is None or known[0] != (source,):
            known = self._cache.files[path] = ((source,), parse(b"", str(path)))
        self._read.add(path)
        self.add(known[1])
        self.notes.append(Advice(str(path), _UNFETCHED))

    def _known(self, path: Path, parse: Parse, meaning: object) -> bool:
        return self._last_good is not None and self._last_good.of(path, meaning, parse) is not None

    def take_rules_last_good(self, path: Path) -> None:
        """Adds the last good content of a rules file; other files of the folder are ignored."""
        if is_rules_file(path.name):
            self.take_last_good(path, self._parsers[path.suffix], self._meaning)

    def take_last_good(self, path: Path, parse: Parse, meaning: object) -> int | None:
        """Adds the last good content, and returns its number of prefixes; None if there is none."""
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
                self.notes.append(Advice("state_dir", self._last_good.trouble))


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    # Programs can set st_mtime, but not st_ctime.
    return status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev


def _read_stable(path: Path) -> tuple[tuple[int, ...], bytes]:
    """The file's stamp and content, with no change in between. Raises OSError."""
    for _ in range(_READS):
        with open(opened(path), "rb") as file:
            before = os.fstat(file.fileno())
            if before.st_size > _MAX_FILE_BYTES:
                raise OSError(f"it is larger than {_MAX_FILE_BYTES >> 20} MiB; split it")
            data = file.read(_MAX_FILE_BYTES + 1)
            if _stamp(before) == _stamp(os.fstat(file.fileno())) and len(data) == before.st_size:
                return _stamp(before), data
    raise OSError("it is still being written; it is read again at its next change")

"""The last good content of each source of rules, so that a broken source affects no other.

Copies are in a folder of the daemon's own, one per source, for the next start. Nothing depends on that folder: if it
cannot be written, copies last until the daemon ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import quote, unquote

from trafficmond import files
from trafficmond.policy.rules import Rules

LAST_GOOD_NAME = "last-good"  # in state_dir
_LONGEST_NAME = 255  # bytes, in all file systems of Linux that matter

Parse = Callable[[bytes, str], Rules]


class LastGood:
    """Copies by path. `meaning` is what else a source's rules depend on: when it changes, copies are parsed again."""

    def __init__(self, folder: Path) -> None:
        self.trouble = ""  # why copies cannot be kept
        self._folder = folder
        self._held: dict[Path, tuple[object, Rules]] = {}

    def keep(self, path: Path, meaning: object, rules: Rules, data: bytes, modified_ns: int) -> None:
        """Keeps the valid content of `path`, which was changed at `modified_ns`."""
        self._held[path] = meaning, rules
        copy = self._copy(path)
        try:
            if (found := _stat(copy)) and (found.st_mtime_ns, found.st_size) == (modified_ns, len(data)):
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            files.replace(copy, data, modified_ns=modified_ns)
            self.trouble = ""
        except OSError as error:
            self.trouble = f"cannot keep copies of lists and rules for the next start: {error.strerror or error}"

    def of(self, path: Path, meaning: object, parse: Parse) -> Rules | None:
        """The last good rules of `path`; None if unknown, or invalid with the present `meaning`."""
        held = self._held.get(path)
        if held and held[0] == meaning:
            return held[1]
        try:
            rules = parse(files.read(self._copy(path)), str(path))
        except OSError:
            return None
        if rules.mistakes:
            return None
        self._held[path] = meaning, rules
        return rules

    def settled(self) -> str:
        """An identifier of the copies, which are all on the disk. Raises OSError if any could not be stored."""
        if self.trouble:
            raise OSError(self.trouble)
        self._folder.mkdir(parents=True, exist_ok=True)
        return digest(self._folder, durable=True)

    def within(self, folder: Path) -> list[Path]:
        """The sources in a folder, in order of their names."""
        return sorted(path for path in self._known() if path.parent == folder)

    def forget_all_but(self, paths: Collection[Path]) -> None:
        """Removes the copies of all other sources."""
        for path in self._known() - set(paths):
            self._held.pop(path, None)
            with contextlib.suppress(OSError):
                self._copy(path).unlink(missing_ok=True)

    def aside(self) -> LastGood:
        """A copy for checking rules that are not in force: the stored copies stay as they are."""
        return _Aside(self)

    def _known(self) -> set[Path]:
        stored: set[Path] = set()
        with contextlib.suppress(OSError):
            stored = {Path(unquote(copy.name)) for copy in self._folder.iterdir() if not copy.name.startswith(".")}
        return stored | self._held.keys()

    def _copy(self, path: Path) -> Path:
        """The path of a copy, named after the source's whole path; if that is too long, there is no copy."""
        name = quote(str(path), safe="")
        if len(name) > _LONGEST_NAME:  # three bytes for each of those that are not ASCII
            name = str(path).replace("%", "%25").replace("/", "%2F")
        return self._folder / name


def digest(folder: Path, *, durable: bool = False) -> str:
    """A hash of all copies in a folder; `durable`: they are on the disk when this returns. Raises OSError."""
    found = hashlib.blake2b(digest_size=16)
    for copy in sorted(folder.iterdir()):
        if copy.name.startswith("."):
            continue
        with open(files.opened(copy), "rb") as file:
            data = file.read()
            if durable:
                os.fsync(file.fileno())
        found.update(f"{copy.name} {len(data)} ".encode() + data)
    if durable:
        files.sync_folder(folder)
    return found.hexdigest()


class _Aside(LastGood):
    def __init__(self, real: LastGood) -> None:
        super().__init__(real._folder)
        self._held = dict(real._held)

    def keep(self, path: Path, meaning: object, rules: Rules, data: bytes, modified_ns: int) -> None:  # noqa: ARG002
        self._held[path] = meaning, rules

    def forget_all_but(self, paths: Collection[Path]) -> None:
        pass


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None

"""What each source of rules held when it was last right, so that a source that breaks breaks itself only.

Copies lie in a folder of the daemon's own, one a source, so that the next start has them too. Nothing depends on that
folder: where it cannot be written, what is remembered lasts until the daemon ends.
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

Parse = Callable[[bytes, str], Rules]


class LastGood:
    """By path. `meaning` is what else a source's rules depend on: copies are read again when it is another."""

    def __init__(self, folder: Path) -> None:
        self.trouble = ""  # why copies cannot be kept
        self._folder = folder
        self._held: dict[Path, tuple[object, Rules]] = {}

    def keep(self, path: Path, meaning: object, rules: Rules, data: bytes, modified_ns: int) -> None:
        """`path` was changed at `modified_ns`, and what it holds now is right."""
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
        """What `path` held when it was last right; None if that is unknown, or wrong by the `meaning` of today."""
        held = self._held.get(path)
        if held and held[0] == meaning:
            return held[1]
        try:
            rules = parse(self._copy(path).read_bytes(), str(path))
        except OSError:
            return None
        if rules.mistakes:
            return None
        self._held[path] = meaning, rules
        return rules

    def settled(self) -> str:
        """What tells the copies from others, all of them on the disk. Raises OSError if any could not be kept."""
        if self.trouble:
            raise OSError(self.trouble)
        self._folder.mkdir(parents=True, exist_ok=True)
        return digest(self._folder, durable=True)

    def within(self, folder: Path) -> list[Path]:
        """Sources of that folder, in order of their names."""
        return sorted(path for path in self._known() if path.parent == folder)

    def forget_all_but(self, paths: Collection[Path]) -> None:
        """These alone are sources now."""
        for path in self._known() - set(paths):
            self._held.pop(path, None)
            with contextlib.suppress(OSError):
                self._copy(path).unlink(missing_ok=True)

    def aside(self) -> LastGood:
        """The same for a look at what is not in force yet: what is kept stays as it is."""
        return _Aside(self)

    def _known(self) -> set[Path]:
        stored: set[Path] = set()
        with contextlib.suppress(OSError):
            stored = {Path(unquote(copy.name)) for copy in self._folder.iterdir() if not copy.name.startswith(".")}
        return stored | self._held.keys()

    def _copy(self, path: Path) -> Path:
        """Its name is the source's whole path; one that is too long for that is not kept."""
        return self._folder / quote(str(path), safe="")


def digest(folder: Path, *, durable: bool = False) -> str:
    """Of all copies in a folder; `durable`: they are on the disk when this returns. Raises OSError."""
    found = hashlib.blake2b(digest_size=16)
    for copy in sorted(folder.iterdir()):
        if copy.name.startswith("."):
            continue
        with copy.open("rb") as file:
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

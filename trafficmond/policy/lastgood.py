"""The last good content of each source of rules, and which of it was in force together.

A broken source affects no other: its last good content is used. If a start finds mistakes, all sources are as they were
in the set that was in force last. Copies are in a folder of the daemon's own, named after their content, so that one
file, replaced at once, names a whole set. If the folder cannot be written, copies last until the daemon ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from trafficmond import files
from trafficmond.dataclass import dataclass, field
from trafficmond.policy.rules import Rules

LAST_GOOD_NAME = "last-good"  # in state_dir
INDEX_NAME = "in-force.json"  # in that folder: the set that was in force last

Parse = Callable[[bytes, str], Rules]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class KeptSet:
    """A set of rules that was in force: the rules in the settings, and the name of the copy of each source."""

    settings: Mapping[str, Any] = field(default_factory=dict)  # trial.rule_settings; empty: none was kept
    copies: Mapping[str, str] = field(default_factory=dict)


class LastGood:
    """Copies by path. `meaning` is what else a source's rules depend on: when it changes, copies are parsed again."""

    def __init__(self, folder: Path) -> None:
        self.trouble = ""  # why copies cannot be kept
        self.unread = ""  # why the set that was in force last is unknown
        self.kept = KeptSet()
        self._folder = folder
        self._held: dict[Path, tuple[object, Rules]] = {}
        self._lock = threading.Lock()  # of the files in the folder
        try:
            self.kept = read_checked(folder / INDEX_NAME, _kept_set, KeptSet())
        except (OSError, ValueError) as error:
            self.unread = f"{folder / INDEX_NAME}: {getattr(error, 'strerror', '') or error}"
        self._names = {Path(path): name for path, name in self.kept.copies.items()}

    def keep(self, path: Path, meaning: object, rules: Rules, data: bytes) -> None:
        """Keeps the valid content of `path`."""
        self._held[path], self._names[path] = (meaning, rules), _name(data)
        try:
            self.add(data)
            self.trouble = ""
        except OSError as error:
            self.trouble = f"cannot keep copies of lists and rules for the next start: {error.strerror or error}"

    def add(self, data: bytes, mode: int | None = None) -> str:
        """Makes a copy, if there is none; returns its name. Raises OSError."""
        with self._lock:
            if self._copy(_name(data)) is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                files.replace(self._folder / _name(data), data, mode=mode)
        return _name(data)

    def kept_of(self, path: Path | None) -> Mapping[str, str]:
        """The copy of a file in the set that was in force last; empty if there is none."""
        return {key: name for key, name in self.kept.copies.items() if key == str(path)}

    def copy_of(self, path: Path) -> bytes | None:
        """Its content; None if it is missing or damaged."""
        return next((self._copy(name) for name in self.kept_of(path).values()), None)

    def of(self, path: Path, meaning: object, parse: Parse) -> Rules | None:
        """The last good rules of `path`; None if unknown, damaged, or invalid with the present `meaning`."""
        held = self._held.get(path)
        if held and held[0] == meaning:
            return held[1]
        data = self._copy(self._names.get(path, ""))
        rules = parse(data, str(path)) if data is not None else None
        if rules is None or rules.mistakes:
            return None
        self._held[path] = meaning, rules
        return rules

    def within(self, folder: Path) -> list[Path]:
        """The sources in a folder, in order of their names."""
        return sorted(path for path in self._names if path.parent == folder)

    def forget_all_but(self, paths: Collection[Path]) -> None:
        """Forgets all other sources; the set that is kept still has them."""
        for path in self._names.keys() - set(paths):
            del self._names[path]
            self._held.pop(path, None)

    def copies(self) -> Mapping[str, str] | None:
        """The names of the copies by path; None: they are not of rules in force."""
        return {str(path): name for path, name in self._names.items()}

    def commit(self, kept: KeptSet) -> None:
        """Keeps a set in force for the next start: on the disk, as a whole, when this returns. Raises OSError."""
        if kept == self.kept:
            return
        body = json.dumps({"settings": kept.settings, "copies": kept.copies}).encode()
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True)
            for name in {*kept.copies.values()} - {*self.kept.copies.values()}:
                with open(files.opened(self._folder / name), "rb") as file:
                    os.fsync(file.fileno())
            files.replace(self._folder / INDEX_NAME, checked(body), durable=True)
            self.kept, self.unread = kept, ""
            used = {INDEX_NAME, *kept.copies.values(), *self._names.values()}
            for copy in [each for each in self._folder.iterdir() if each.name not in used]:
                with contextlib.suppress(OSError):
                    copy.unlink()

    def whole(self) -> Mapping[str, Any]:
        """The rules in the settings of the set that was in force last. Raises ValueError if none was kept, or any copy
        is missing or damaged: sets are never mixed."""
        if self.unread:
            raise ValueError(self.unread)
        if not self.kept.settings:
            raise ValueError(f"none are kept in {self._folder}")
        for path, name in self.kept.copies.items():
            if self._copy(name) is None:
                raise ValueError(f"the copy of {path} in {self._folder} is missing or damaged")
        return self.kept.settings

    def aside(self) -> LastGood:
        """A copy for checking rules that are not in force: this one stays as it is."""
        return _Aside(self)

    def _copy(self, name: str) -> bytes | None:
        try:
            data = files.read(self._folder / name)
        except OSError:
            return None
        return data if _name(data) == name else None


class _Aside(LastGood):
    def __init__(self, real: LastGood) -> None:
        self.trouble, self.unread, self.kept, self._folder = "", "", real.kept, real._folder
        self._held, self._names = dict(real._held), dict(real._names)

    def keep(self, path: Path, meaning: object, rules: Rules, data: bytes) -> None:
        self._held[path], self._names[path] = (meaning, rules), _name(data)

    def copies(self) -> None:
        return None


def checked(body: bytes) -> bytes:
    """`body` after a checksum: a file that was changed must not be used."""
    return hashlib.blake2b(body, digest_size=16).hexdigest().encode() + b"\n" + body


def read_checked(path: Path, made: Callable[[Any], T], nothing: T) -> T:
    """What `made` makes of the JSON in a `checked` file; `nothing` if there is none. Raises OSError, ValueError."""
    try:
        data = files.read(path)
        body = data.partition(b"\n")[2]
        if data != checked(body):
            raise ValueError("it was damaged, or changed by another program")
        return made(json.loads(body))
    except FileNotFoundError:
        return nothing
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"another version wrote it: {error}") from None


def _kept_set(found: Any) -> KeptSet:
    return KeptSet(dict(found["settings"]), {str(key): str(name) for key, name in found["copies"].items()})


def _name(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()

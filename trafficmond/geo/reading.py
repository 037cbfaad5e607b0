"""Reads databases from files. If a file is gone, damaged or much smaller, its last good content stays in use."""

import contextlib
import stat
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from urllib.parse import quote

from trafficmond import files
from trafficmond.errors import Advice
from trafficmond.geo.geoip import Database, GeoIp
from trafficmond.geo.mmdb import Damaged, read

# bound: a database of countries or networks | the file is refused; the last good one stays in use
_MAX_FILE_BYTES = 512 << 20
_OLD_S = 180 * 86400.0
_LEAST = 0.5  # a database may shrink to this share of its networks


def open_geoip(paths: Sequence[Path]) -> GeoIp:
    """The databases in files; mistakes of files are in its `notes`."""
    databases, notes = [], []
    for path in paths:
        try:
            databases.append(_load(path, _mark(path)))
        except (OSError, Damaged) as error:
            notes.append(Advice(str(path), _why(error)))
    return GeoIp(tuple(databases), tuple(notes))


def outdated(geoip: GeoIp, now: float) -> list[Advice]:
    """A note on each database that was built long ago."""
    old = [each for each in geoip.databases if 0 < each.content.built < now - _OLD_S]
    what = "is from {}, and networks have changed owners since; get a newer one"
    return [Advice(str(each.path), what.format(_day(each.content.built))) for each in old]


class Databases:
    """Reads files when they change, and stores a copy of the last good content of each for the next start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[Path, Database] = {}
        self._refused: dict[Path, tuple[tuple[int, ...], str]] = {}  # path -> state of the file, and its mistake
        self.geoip = GeoIp()

    def refresh(self, paths: Sequence[Path]) -> GeoIp:
        """Reads the files that have changed; a file with a mistake keeps its last good content. Never raises."""
        notes = [note for path in paths for note in self._refresh(path)]
        self._forget_all_but(paths)
        databases = tuple(self._held[path] for path in paths if path in self._held)
        if databases != self.geoip.databases or tuple(notes) != self.geoip.notes:
            self.geoip = GeoIp(databases, tuple(notes))
        return self.geoip

    def _refresh(self, path: Path) -> list[Advice]:
        """Updates `_held` for one file; returns its mistakes."""
        try:
            mark = _mark(path)
        except OSError as error:
            return [self._stays(path, _why(error))]
        held = self._held.get(path)
        if held and held.mark == mark:
            return []
        if path in self._refused and self._refused[path][0] == mark:
            return [self._stays(path, self._refused[path][1])]
        try:
            fresh = _load(path, mark)
        except (OSError, Damaged) as error:
            what = _why(error)
        else:
            before = held or self._copied(path)
            had, has = (len(each.content.networks) if each else 0 for each in (before, fresh))
            if not before or before.mark == mark or has >= had * _LEAST:
                self._held[path] = fresh
                self._refused.pop(path, None)
                return self._keep(path)
            what = f"has shrunk from {had:,} networks to {has:,}"
        self._refused[path] = mark, what
        return [self._stays(path, what)]

    def _stays(self, path: Path, what: str) -> Advice:
        if path not in self._held and (copy := self._copied(path)):
            self._held[path] = copy
        if path not in self._held:
            return Advice(str(path), f"{what}; this file is not used")
        return Advice(str(path), f"{what}; its last good content stays in use ({_day(self._held[path].content.built)})")

    def _copied(self, path: Path) -> Database | None:
        try:
            copy = self._copy(path)
            return Database(path, _mark(copy), read(files.read(copy)))
        except (OSError, Damaged):
            return None

    def _keep(self, path: Path) -> list[Advice]:
        """Stores a copy of the file for the next start; returns a mistake if that fails."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            copy, status = self._copy(path), path.stat()
            with contextlib.suppress(OSError):
                if _mark(copy)[:2] == _mark(path)[:2]:
                    return []
            files.replace(copy, files.read(path), modified_ns=status.st_mtime_ns)
        except OSError as error:
            return [Advice(str(path), f"cannot be kept for the next start: {error.strerror or error}")]
        return []

    def _forget_all_but(self, paths: Collection[Path]) -> None:
        self._held = {path: each for path, each in self._held.items() if path in paths}
        self._refused = {path: each for path, each in self._refused.items() if path in paths}
        wanted = {self._copy(path).name for path in paths}
        with contextlib.suppress(OSError):
            for copy in self._folder.iterdir():
                if copy.name not in wanted:
                    copy.unlink(missing_ok=True)

    def _copy(self, path: Path) -> Path:
        return self._folder / quote(str(path), safe="")


def _load(path: Path, mark: tuple[int, ...]) -> Database:
    if mark[1] > _MAX_FILE_BYTES:
        raise Damaged(f"it is larger than {_MAX_FILE_BYTES >> 20} MiB")
    database = Database(path, mark, read(files.read(path)))
    if not any(database.knows(kind, family) for kind in ("country", "asn") for family in (4, 6)):
        raise Damaged("it has no countries or autonomous systems")
    return database


def _mark(path: Path) -> tuple[int, ...]:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is not a regular file")
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns


def _why(error: Exception) -> str:
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _day(then: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(then))

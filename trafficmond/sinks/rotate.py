"""Rotated log files: names, how many are kept, and compression in the background."""

import contextlib
import os
import re
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

_STAMP = "%Y%m%dT%H%M%SZ"
_SUFFIX = re.compile(r"\.(\d{8}T\d{6}Z)(?:\.gz)?")
_CHUNK = 1 << 20


def stamp_of(path: Path, name: str) -> str | None:
    """The stamp in the name of a file rotated away from `path` ("traffic.csv.20260131T235959Z.gz"), or None."""
    found = _SUFFIX.fullmatch(name.removeprefix(path.name)) if name.startswith(path.name) else None
    return found[1] if found else None


def next_stamp(existing: Sequence[str], now: float) -> str:
    """The stamp of a file rotated at `now` (epoch seconds), later than all existing ones. The order of files thus
    survives a clock that jumps back."""
    stamp = datetime.fromtimestamp(now, UTC).strftime(_STAMP)
    newest = max(existing, default="")
    if stamp > newest:
        return stamp
    after = datetime.strptime(newest, _STAMP).replace(tzinfo=UTC) + timedelta(seconds=1)
    return after.strftime(_STAMP)


class Rotation:
    """The rotated files beside one log file."""

    def __init__(self, path: Path, max_files: int, compress: bool) -> None:
        self._path = path
        self._max_files = max_files
        self._compress = compress
        self._worker: threading.Thread | None = None

    def files(self) -> list[Path]:
        """The existing files, oldest first."""
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self._path.parent) as entries:
            found = [(stamp, entry.name) for entry in entries if (stamp := stamp_of(self._path, entry.name))]
        return [self._path.parent / name for _, name in sorted(found)]

    def take(self, source: Path, now: float) -> None:
        """Add `source` to the rotated files, remove those beyond the limit, compress the others."""
        if self._max_files == 0:
            source.unlink()
        else:
            stamps = [stamp_of(self._path, file.name) or "" for file in self.files()]
            source.rename(self._path.with_name(f"{self._path.name}.{next_stamp(stamps, now)}"))
        self.prune()

    def prune(self) -> None:
        """Remove the files beyond the limit, and compress the others in the background."""
        files = self.files()
        excess = max(0, len(files) - self._max_files)
        for file in files[:excess]:
            file.unlink(missing_ok=True)
        plain = [file for file in files[excess:] if file.suffix != ".gz"]
        if self._compress and plain and (self._worker is None or not self._worker.is_alive()):
            self._worker = threading.Thread(target=_compress_all, args=(plain,), name="log-gzip", daemon=True)
            self._worker.start()


def _compress_all(files: Sequence[Path]) -> None:
    # A file that cannot be compressed now (no space, gone) is tried again at the next rotation.
    for file in files:
        with contextlib.suppress(OSError):
            compress_file(file)


def compress_file(file: Path) -> None:
    """Replace `file` by `file`.gz, complete or not at all. Raises OSError."""
    import gzip
    import shutil

    target = file.with_name(file.name + ".gz")
    partial = file.with_name("." + target.name + ".part")
    try:
        with file.open("rb") as source, partial.open("wb") as raw:
            os.fchmod(raw.fileno(), os.fstat(source.fileno()).st_mode & 0o777)
            with gzip.GzipFile(file.name, "wb", compresslevel=6, fileobj=raw, mtime=0) as packed:
                shutil.copyfileobj(source, packed, _CHUNK)
            raw.flush()
            os.fsync(raw.fileno())
        partial.replace(target)
        file.unlink()
    finally:
        partial.unlink(missing_ok=True)

"""A file of lines that is only ever appended to, whole lines at a time, and rotated by size."""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from trafficmond import files
from trafficmond.config.streams import Log
from trafficmond.sinks.rotate import Rotation

log = logging.getLogger(__name__)

SHORTENED = (
    "%s was shortened by another program; logging continues after what is left of it. logrotate needs no "
    "copytruncate: the daemon notices when the file is renamed"
)
_BACKWARDS = 65536
FILE_MODE = 0o640


class LineFile:
    """Appends lines. Raises OSError with nothing written, no half line either: the caller may retry.

    `header` begins each new file; an existing file with another beginning is rotated away. A half line at the end of an
    existing file, left by a crash in mid-write, is cut off.
    """

    def __init__(self, settings: Log, header: bytes = b"", clock: Callable[[], float] = time.time) -> None:
        assert settings.path is not None
        self._path = settings.path
        self._limit = settings.rotate_size
        self._header = header
        self._clock = clock
        self._rotation = Rotation(settings.path, settings.max_files, settings.compress)
        self._fd = -1
        self._size = 0  # after our last write
        self.shortened = 0  # how often another program shortened it in place

    def append(self, lines: bytes) -> None:
        """Write whole lines: all or, with OSError, none."""
        size = self._follow()
        if self._limit and size > len(self._header) and size + len(lines) > self._limit:
            os.fsync(self._fd)
            self._rotation.take(self._path, self._clock())
            self.reopen()
            size = 0
        try:
            write_all(self._fd, lines if size else self._header + lines, size)
            self._size = os.fstat(self._fd).st_size
        except OSError:
            self._close()  # a file system that failed can be unmounted, and the file found again when it is back
            raise

    def reopen(self) -> None:
        """Create a new file at the path, if the old one was moved away."""
        self._close()
        self._open()

    def close(self) -> None:
        """Sync the file to disk and close it. An unfinished compression is left to the next start."""
        if self._fd >= 0:
            os.fsync(self._fd)
        self._close()

    def _follow(self) -> int:
        """Open the file that has the name now, if it was moved or removed; return its size."""
        if self._fd >= 0:
            ours = os.fstat(self._fd)
            same = same_file(self._path, ours)
            if same and ours.st_size >= self._size:
                return ours.st_size
            if same:
                self.shortened += 1
                log.warning(SHORTENED, self._path)
            self._close()
        self._open()
        return os.fstat(self._fd).st_size

    def _open(self) -> None:
        self._fd = open_log(self._path, os.O_RDWR | os.O_APPEND)
        try:
            if os.pread(self._fd, len(self._header), 0) not in (b"", self._header):
                self._rotation.take(self._path, self._clock())
                self._close()
                self._fd = open_log(self._path, os.O_RDWR | os.O_APPEND)
            cut_half_line(self._fd)
            self._size = os.fstat(self._fd).st_size
            self._rotation.prune()
        except OSError:
            self._close()
            raise

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class Stream:
    """Standard output, a terminal, a pipe or a device: written at once, never rotated."""

    shortened = 0

    def __init__(self, path: Path | None = None, fd: int = 1) -> None:
        """`path` is opened at the first writing, which may wait for a pipe's reader; without one, `fd` is used."""
        self._path = path
        self._fd = fd if path is None else -1
        self._rest = b""

    @property
    def is_terminal(self) -> bool:
        return self._fd >= 0 and os.isatty(self._fd)

    def append(self, data: bytes) -> None:
        """Write all. After an OSError the same call continues where the last one stopped."""
        if self._fd < 0 and self._path is not None:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        rest = memoryview(self._rest or data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        finally:
            self._rest = bytes(rest)

    def reopen(self) -> None:
        """Open the path again at the next writing."""
        self.close()

    def close(self) -> None:
        """Close the path if it was opened here; standard output stays open."""
        if self._path is not None and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def is_stream(path: Path | None) -> bool:
    """Whether a log's path is standard output (None), a pipe or a device, not a file to be rotated."""
    return path is None or (files.mode(path) != 0 and not files.is_file(path))


def open_log(path: Path, flags: int) -> int:
    """Open or create a log file, with its folder. Raises OSError, also if something else has taken its place."""
    path.parent.mkdir(0o750, parents=True, exist_ok=True)
    return files.opened(path, flags | os.O_CREAT, FILE_MODE)


def same_file(path: Path, ours: os.stat_result) -> bool:
    """Whether `path` still names the file with the status `ours`."""
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)


def write_all(fd: int, data: bytes, size: int) -> None:
    """Append `data` to a file of `size` bytes; on OSError the old size is restored."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(fd, rest) :]
    except OSError:
        os.ftruncate(fd, min(size, os.fstat(fd).st_size))
        raise


def cut_half_line(fd: int) -> None:
    """Remove what follows the last newline."""
    size = end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - _BACKWARDS)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(fd, end)

"""A file that holds one JSON array, valid at every moment, even after a SIGKILL.

Overwriting the closing bracket with one write does not give that: SIGKILL ends a write between two pages, and of 150
writers killed in mid-write two left a torn array. So the named file is never written to. A second file beside it gets
the records added since, then the two swap names. Both hold the same bytes, and each addition is written twice. A file
that a reader has open is written to at the second addition after it was opened.

Others may write to either file (an editor, logrotate's copytruncate): the size and time of both are kept, and a file
that was changed is examined again.
"""

import contextlib
import errno
import json
import logging
import os
import time
from collections.abc import Callable

from trafficmond import files
from trafficmond.config.streams import Log
from trafficmond.sinks.files import SHORTENED, open_log, same_file
from trafficmond.sinks.rotate import Rotation

log = logging.getLogger(__name__)

_BEGIN, _END = b"[", b"\n]\n"
_CHUNK = 1 << 20
_TAIL = 1 << 20  # a record is shorter
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # after these errors, the copy made so far is continued later


class ArrayFile:
    """Appends records to a JSON array in a file. Raises OSError with nothing changed: the caller may retry."""

    def __init__(self, settings: Log, clock: Callable[[], float] = time.time) -> None:
        assert settings.path is not None
        self._path = path = settings.path
        self._next = path.with_name(f".{path.name}.next")
        self._spare = path.with_name(f".{path.name}.last")
        self._limit = settings.rotate_size
        self._clock = clock
        self._rotation = Rotation(path, settings.max_files, settings.compress)
        self._fd = self._next_fd = -1
        self._end = 0  # of the records in the named file; _END begins there
        self._next_end = 0  # up to here the next file is equal to the named one
        self._mark = self._next_mark = (0, 0)  # size and time of both after our last write
        self.shortened = 0  # how often another program shortened it in place

    def append(self, records: bytes) -> None:
        """Add records, joined by commas: all or, with OSError, none."""
        self.reopen()
        if self._limit and self._end > len(_BEGIN) and self._end + len(records) > self._limit:
            self._rotation.take(self._path, self._clock())
            self.reopen()
        try:
            self._publish(self._end, (b",\n" if self._end > len(_BEGIN) else b"\n") + records)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                self._forget()  # a file system that failed can be unmounted, and the file found again when it is back
            raise

    def reopen(self) -> None:
        """Open the file that has the name now, if it was moved or removed."""
        if self._fd >= 0:
            ours = os.fstat(self._fd)
            if same_file(self._path, ours):
                if _mark(ours) == self._mark:
                    return
                if ours.st_size < self._mark[0]:
                    self.shortened += 1
                    log.warning(SHORTENED, self._path)
        self._forget()
        self._fd = self._open_named()
        try:
            end, whole = _find_end(self._fd)
            if end < 0:
                self._rotation.take(self._path, self._clock())
                os.close(self._fd)
                self._fd = self._open_named()
                end, whole = _find_end(self._fd)
            self._end = end
            self._mark = _mark(os.fstat(self._fd))
            if not whole:
                self._publish(end, b"")
            self._rotation.prune()
        except OSError:
            self._forget()
            raise

    def close(self) -> None:
        """Sync the file to disk and remove the second one."""
        if self._fd >= 0:
            os.fsync(self._fd)
        self._forget()

    def _open_named(self) -> int:
        """Open the named file; a new one has an empty array before it has the name."""
        if not self._path.exists() or (files.is_file(self._path) and not self._path.stat().st_size):
            fd = open_log(self._next, os.O_WRONLY | os.O_TRUNC)
            try:
                _write_at(fd, _BEGIN + _END, 0)
            finally:
                os.close(fd)
            self._next.rename(self._path)
        return open_log(self._path, os.O_RDWR)

    def _publish(self, end: int, addition: bytes) -> None:
        """Swap in the next file: the named one's bytes up to `end`, the addition and the bracket."""
        if self._next_fd < 0:
            self._next_fd = open_log(self._next, os.O_RDWR | os.O_TRUNC)
            self._next_end = 0
        elif _mark(os.fstat(self._next_fd)) != self._next_mark:
            self._next_end = 0
        self._next_end = min(self._next_end, end)
        try:
            while self._next_end < end:
                part = os.pread(self._fd, min(_CHUNK, end - self._next_end), self._next_end)
                if not part:
                    raise OSError(errno.ESTALE, "another program shortened it just now")
                _write_at(self._next_fd, part, self._next_end)
                self._next_end += len(part)
            _write_at(self._next_fd, addition + _END, end)
            os.ftruncate(self._next_fd, end + len(addition) + len(_END))
        finally:
            self._next_mark = _mark(os.fstat(self._next_fd))

        self._spare.unlink(missing_ok=True)
        os.link(self._path, self._spare)
        self._next.rename(self._path)
        self._spare.rename(self._next)
        self._fd, self._next_fd = self._next_fd, self._fd
        self._end, self._next_end = end + len(addition), end
        self._mark, self._next_mark = self._next_mark, self._mark

    def _forget(self) -> None:
        for fd in (self._fd, self._next_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._next_fd = -1
        for leftover in (self._next, self._spare):
            with contextlib.suppress(OSError):
                leftover.unlink()


def _mark(of: os.stat_result) -> tuple[int, int]:
    return of.st_size, of.st_mtime_ns


def _find_end(fd: int) -> tuple[int, bool]:
    """Return where the records of an array end (-1: unknown), and whether it ends as we write it. A half-written last
    line is excluded; so are a missing bracket and a comma before it, as the original left them."""
    size = os.fstat(fd).st_size
    start = max(0, size - _TAIL)
    tail = os.pread(fd, size - start, start)
    if os.pread(fd, 1, 0) != _BEGIN:
        return -1, False
    if tail == _BEGIN + _END or tail.endswith(b"}" + _END):
        return size - len(_END), True
    body = _strip(tail.rstrip().removesuffix(b"]"))
    if start == 0 and _parses(tail):
        return len(body), False
    for candidate in (body, _strip(body[: body.rfind(b"\n") + 1])):
        if start == 0 and candidate in (b"", _BEGIN):
            return len(_BEGIN), False
        last_line = candidate[candidate.rfind(b"\n") + 1 :].removeprefix(_BEGIN)
        if candidate.endswith(b"}") and _parses(_BEGIN + last_line + b"]"):
            return start + len(candidate), False
    return -1, False


def _strip(text: bytes) -> bytes:
    return text.rstrip().removesuffix(b",").rstrip()


def _parses(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except (ValueError, RecursionError):
        return False


def _write_at(fd: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        count = os.pwrite(fd, rest, offset)
        rest, offset = rest[count:], offset + count

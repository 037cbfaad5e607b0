"""The cgroups of this host by their numbers, followed by inotify(7) from a thread of their own.

A cgroup's number is the inode of its folder; the kernel gives it for a packet's socket. A short-lived unit is gone when
its flow is reported: so folders are read as soon as they are made, and removed ones remembered.
"""

import contextlib
import ctypes
import os
import select
import struct
import threading
import time
from collections import OrderedDict
from pathlib import Path

from trafficmond.errors import DatapathError

CGROUPS = Path("/sys/fs/cgroup")
# bound: cgroups with a name (`flows.units`) | the one that ended longest ago is evicted; its flows show a number
_MOST = 65536
_CREATE, _IGNORED, _OVERFLOW, _IS_DIR = 0x100, 0x8000, 0x4000, 0x40000000  # IN_
_ONLY_DIR = 0x01000000
_EVENT = struct.Struct("=iIII")  # struct inotify_event
_READ_BYTES = 65536
_REST_S = 60.0  # between walks if not every folder can be watched


def root(folder: Path = CGROUPS) -> Path | None:
    """The mount point of cgroup2; None: not mounted."""
    for each in (folder, folder / "unified"):
        if (each / "cgroup.controllers").exists():
            return each
    return None


class Cgroups:
    """Paths by number, from `start` on. Thread-safe."""

    def __init__(self, top: Path | None = None, most: int = _MOST) -> None:
        """`top`: the tree's folder, by default its mount point."""
        self._top = str(top or root() or "")
        self._most = most
        self._paths: dict[int, str] = {}  # number -> path below the top
        self._gone: OrderedDict[int, None] = OrderedDict()  # numbers of removed folders, the oldest first
        self._watched: dict[int, tuple[int, str]] = {}  # watch -> number, path
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = -1
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None
        self.unwatched = 0  # folders that could not be watched, in the last walk
        self.forgotten = 0  # names that were evicted, or did not fit

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, number: int) -> str | None:
        """The cgroup's path from the root, such as "/system.slice/cron.service"; None: it has no name here."""
        return self._paths.get(number)

    def start(self) -> None:
        """Reads the tree and starts following it. Raises DatapathError if there is none."""
        if not self._top:
            raise DatapathError(f"there is no tree of cgroup2 in {CGROUPS}", hint="set flows.units to false")
        self._inotify = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        self._walk()
        self._thread = threading.Thread(target=self._run, name="cgroups", daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._thread:
            os.eventfd_write(self._stop, 1)
            self._thread.join()
            self._thread = None
        for fd in (self._stop, self._inotify):
            if fd >= 0:
                os.close(fd)
        self._stop = self._inotify = -1

    # ---- the thread ----

    def _run(self) -> None:
        waiting = select.poll()
        for fd in (self._stop, self._inotify):
            if fd >= 0:
                waiting.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in waiting.poll(_REST_S * 1000 if self.unwatched else None)]
            if self._stop in ready:
                return
            if not ready:
                self._walk()
            elif self._read():
                time.sleep(0)  # lets other threads run while folders are made without end

    def _read(self) -> bool:
        try:
            events = os.read(self._inotify, _READ_BYTES)
        except OSError:
            return False
        at, lost = 0, False
        while at < len(events):
            watch, mask, _, length = _EVENT.unpack_from(events, at)
            name = os.fsdecode(events[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0"))
            at += _EVENT.size + length
            lost |= bool(mask & _OVERFLOW)
            if mask & _IGNORED:
                self._leave(watch)
            elif mask & _CREATE and mask & _IS_DIR and watch in self._watched:
                self._enter(f"{self._watched[watch][1]}/{name}")
        if lost:
            self._walk()
        return True

    def _walk(self) -> None:
        """Reads the whole tree; folders no longer in it count as removed."""
        self.unwatched = 0
        before = set(self._paths) - set(self._gone)
        present: set[int] = set()
        self._enter("", present)
        for number in before - present:
            self._gone.setdefault(number)

    def _enter(self, path: str, met: set[int] | None = None) -> None:
        """Adds a folder and those below it: watched first and then read, so that none is missed."""
        pending = [path]
        while pending:
            path = pending.pop()
            folder = self._top + path
            watch = self._watch(folder)
            with contextlib.suppress(OSError):  # it is gone already
                number = Path(folder).stat().st_ino
                self._name(number, path or "/")
                if met is not None:
                    met.add(number)
                if watch >= 0:
                    self._watched[watch] = (number, path)
                else:
                    self.unwatched += 1
                with os.scandir(folder) as entries:
                    pending += [f"{path}/{each.name}" for each in entries if each.is_dir(follow_symlinks=False)]

    def _watch(self, folder: str) -> int:
        """Watches a folder. Below 0: no more can be watched, or it is gone."""
        return int(self._libc.inotify_add_watch(self._inotify, os.fsencode(folder), _CREATE | _ONLY_DIR))

    def _leave(self, watch: int) -> None:
        number, _ = self._watched.pop(watch, (0, ""))
        if number in self._paths:
            self._gone.setdefault(number)

    def _name(self, number: int, path: str) -> None:
        self._gone.pop(number, None)
        if number not in self._paths and len(self._paths) >= self._most:
            self.forgotten += 1
            if not self._gone:
                return
            oldest, _ = self._gone.popitem(last=False)
            self._paths.pop(oldest, None)
        self._paths[number] = path

"""The cgroups of this host by their numbers, followed by inotify(7) from a thread of their own.

A cgroup's number is the inode of its folder; the kernel gives it for a packet's socket. A short-lived unit is gone when
its flow is reported: so folders are read as soon as they are made, and removed ones remembered. Until a folder has its
name, the thread keeps Python's lock: each time it lets another thread run, it may wait 5 ms for its next turn.
"""

import contextlib
import ctypes
import os
import select
import struct
import sys
import threading
import time
from collections import OrderedDict
from pathlib import Path

from trafficmond.errors import DatapathError

CGROUPS = Path("/sys/fs/cgroup")
# bound: cgroups with a name (`flows.units`) | the one that ended longest ago is evicted; its flows show a number
_MOST = 65536
# bound: bytes of a cgroup's path (`flows.units`) | the end is cut off
_MOST_OCTETS = 1024
_CREATE, _IGNORED, _OVERFLOW, _IS_DIR = 0x100, 0x8000, 0x4000, 0x40000000  # IN_
_ONLY_DIR = 0x01000000
_EVENT = struct.Struct("=iIII")  # struct inotify_event
_READ_BYTES = 65536
_HERE, _NO_FOLLOW, _INODE = -100, 0x100, 0x100  # AT_FDCWD, AT_SYMLINK_NOFOLLOW, STATX_INO
_STATX_BYTES, _INODE_AT = 256, slice(32, 40)  # struct statx
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
        self._paths: dict[int, bytes] = {}  # number -> path below the top
        self._gone: OrderedDict[int, None] = OrderedDict()  # numbers of removed folders, the oldest first
        self._watched: dict[int, tuple[int, str]] = {}  # watch -> number, path
        self._libc = ctypes.PyDLL(None, use_errno=True)  # keeps the lock
        self._events = ctypes.create_string_buffer(_READ_BYTES)
        self._found = ctypes.create_string_buffer(_STATX_BYTES)
        self._inotify = -1
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None
        self.unwatched = 0  # folders that could not be watched, in the last walk
        self.forgotten = 0  # names that were evicted, or did not fit

    def __len__(self) -> int:
        return len(self._paths)

    def path(self, number: int) -> str | None:
        """The cgroup's path from the root, such as "/system.slice/cron.service"; None: it has no name here."""
        found = self._paths.get(number)
        return None if found is None else os.fsdecode(found)

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
        size: int = self._libc.read(self._inotify, self._events, _READ_BYTES)
        events = self._events.raw[: max(0, size)]
        at, lost = 0, False
        made: list[str] = []
        while at < len(events):
            watch, mask, _, length = _EVENT.unpack_from(events, at)
            name = os.fsdecode(events[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0"))
            at += _EVENT.size + length
            lost |= bool(mask & _OVERFLOW)
            if mask & _IGNORED:
                self._leave(watch)
            elif mask & _CREATE and mask & _IS_DIR and watch in self._watched:
                made.append(f"{self._watched[watch][1]}/{name}")
        self._enter(made)
        if lost:
            self._walk()
        return size > 0

    def _walk(self) -> None:
        """Reads the whole tree; folders no longer in it count as removed."""
        self.unwatched = 0
        self._watched.clear()  # the end of a watch may be among lost events
        before = set(self._paths) - set(self._gone)
        for number in before - self._enter([""]):
            self._gone.setdefault(number)

    def _enter(self, paths: list[str]) -> set[int]:
        """Adds folders and those below; returns their numbers. Each is watched before it is read, so none is missed."""
        added: set[int] = set()
        while paths:
            present = {path: number for path in paths if (number := self._add_folder(path))}
            added.update(present.values())
            paths = []
            for path in present:
                with contextlib.suppress(OSError), os.scandir(self._top + path) as entries:  # it is gone already
                    paths += [f"{path}/{each.name}" for each in entries if each.is_dir(follow_symlinks=False)]
        return added

    def _add_folder(self, path: str) -> int:
        """Watches and names a folder, and returns its number; 0: it is gone."""
        folder = os.fsencode(self._top + path)
        watch = self._watch(folder)
        if self._libc.statx(_HERE, folder, _NO_FOLLOW, _INODE, self._found):
            return 0
        number = int.from_bytes(self._found.raw[_INODE_AT], sys.byteorder)
        self._name(number, path or "/")
        if watch >= 0:
            self._watched[watch] = (number, path)
        else:
            self.unwatched += 1
        return number

    def _watch(self, folder: bytes) -> int:
        """Watches a folder. Below 0: no more can be watched, or it is gone."""
        return int(self._libc.inotify_add_watch(self._inotify, folder, _CREATE | _ONLY_DIR))

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
        self._paths[number] = os.fsencode(path)[:_MOST_OCTETS]  # users choose the names of folders below their own

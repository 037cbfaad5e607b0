"""Watches the files of settings and rules, and calls back once for each burst of changes."""

import asyncio
import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from trafficmond.files import is_folder

_QUIET_SECONDS = 0.03  # a burst ends after this long without a change
_PATIENCE_SECONDS = 1.0  # a burst that continues is reported this often
_CHECK_SECONDS = 10.0  # between two looks at the files: network file systems have no inotify events
_POLL_SECONDS = 1.0
_LIMITS = (errno.ENOSPC, errno.EMFILE)  # of inotify
# Newer versions of watchdog also report that a file was opened or read, as the daemon does itself.
# Since watchdog 7 a change of owner, mode or times is "attrib", before "modified".
_CHANGES = frozenset(("created", "modified", "deleted", "moved", "closed", "attrib"))

Plan = Mapping[str, tuple[frozenset[str], bool]]
"""Folder to watch -> names in it to report, and whether to report all names for which a `Matters` is true, too."""

Matters = Callable[[str], bool]


def plan(files: Iterable[Path], folders: Iterable[Path]) -> Plan:
    """The folders to watch, so that no change is missed: in place, by rename, or to the folders above.

    A file is watched through its folder, since editors rename into place. A folder is also watched through its parent,
    since it may be replaced as a whole. What does not exist is watched through the nearest folder. Links are followed.
    """
    found: dict[str, set[str]] = {}
    whole: set[str] = set()

    def by_name(path: Path) -> None:
        path = path.absolute()
        while path != path.parent:
            if is_folder(path.parent):
                found.setdefault(os.path.realpath(path.parent), set()).add(path.name)
                return
            path = path.parent

    for file in files:
        by_name(file)
        by_name(Path(os.path.realpath(file)))
    for folder in folders:
        by_name(folder)
        if is_folder(folder):
            whole.add(os.path.realpath(folder))
            found.setdefault(os.path.realpath(folder), set())
    return {path: (frozenset(names), path in whole) for path, names in found.items()}


class _Handler:
    def __init__(self, folder: str, matters: Matters, touched: Callable[[], None]) -> None:
        self._folder = folder
        self._matters = matters
        self._touched = touched

    def dispatch(self, event: Any) -> None:
        if event.event_type not in _CHANGES:
            return
        for path in filter(None, (event.src_path, getattr(event, "dest_path", ""))):
            folder, name = os.path.split(os.fsdecode(path))
            gone = os.fsdecode(path) == self._folder and event.event_type == "deleted"
            if gone or (folder == self._folder and self._matters(name)):
                self._touched()
                return


class Watcher:
    """Reports each burst of changes to the watched files and folders.

    It reports about 50 ms after the last write of a burst, and each second during a long one. If the kernel's limits on
    inotify are reached, it polls the files each second instead; `note` then has a warning.
    """

    def __init__(self, matters: Matters = lambda _: True) -> None:
        """`matters` selects, by name, the files in watched folders whose content is watched. Of other files only
        creation and removal are noticed, at the next look."""
        self.note = ""
        self._changed: Callable[[], object] = lambda: None
        self._targets: tuple[tuple[Path, ...], tuple[Path, ...]] = ((), ())
        self._matters = matters
        self._wake = threading.Condition()
        self._first = self._last = 0.0  # times of the first and last change of the burst (monotonic); 0: no burst
        self._retargeted = self._stopping = False
        self._observer: Any = None  # made at the start: newer ones use an inotify instance, of which a user has 128
        self._seen: tuple[object, ...] = ()
        self._armed: dict[str, tuple[tuple[frozenset[str], bool], tuple[int, int], Any]] = {}
        self._thread: threading.Thread | None = None  # None: not started

    def watch(self, files: Iterable[Path], folders: Iterable[Path]) -> None:
        """Watches only these. After `start`, new ones are reported once: they may have changed before."""
        targets = (tuple(files), tuple(folders))
        with self._wake:
            if targets != self._targets:
                self._targets = targets
                self._retargeted = True
                self._wake.notify()

    def start(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], object]) -> None:
        """Starts watching; `changed` is called in `loop`. No change after this returns is missed."""
        self._changed = partial(loop.call_soon_threadsafe, changed)
        from trafficmond.config import inotify  # packets are judged already: they do not wait for watchdog's import

        self._observer = inotify.InotifyObserver()
        self._observer.start()
        self._retargeted = False
        self._arm()
        self._seen = self._fingerprint()
        self._thread = threading.Thread(target=self._run, name="config-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is None:
            return
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()
        self._observer.stop()
        self._observer.join()

    def _touched(self) -> None:
        with self._wake:
            self._last = time.monotonic()
            self._first = self._first or self._last
            self._wake.notify()

    def _run(self) -> None:
        while True:
            due, retargeted = self._wait()
            if self._stopping:
                return
            # First the watches, then the look, then the callback: a change after the look is an event.
            changed = self._arm(retargeted)
            before, self._seen = self._seen, self._fingerprint()
            if due or retargeted or changed or self._seen != before:
                with contextlib.suppress(RuntimeError):  # the loop is closed: the daemon stops
                    self._changed()

    def _wait(self) -> tuple[bool, bool]:
        """Waits until there is work. Returns whether a burst has ended, and whether the targets are new."""
        check_at = time.monotonic() + (_POLL_SECONDS if self.note else _CHECK_SECONDS)
        with self._wake:
            while not self._stopping and not self._retargeted:
                until = check_at
                if self._first:
                    until = min(check_at, self._last + _QUIET_SECONDS, self._first + _PATIENCE_SECONDS)
                now = time.monotonic()
                if now >= until:
                    break
                self._wake.wait(until - now)
            retargeted, self._retargeted = self._retargeted, False
            due = self._first != 0.0
            self._first = 0.0
            return due, retargeted

    def _arm(self, again: bool = False) -> bool:
        """Sets watches on all folders of the current plan. Returns whether any has changed. After the limits were
        reached only new targets are tried (`again`): each failure leaks a descriptor in watchdog."""
        if self.note and not again:
            return False
        wanted = plan(*self._targets)
        changed = False
        for folder, (names, inode, watch) in list(self._armed.items()):
            if folder not in wanted or wanted[folder] != names or _inode(folder) != inode or not self._alive(watch):
                with contextlib.suppress(KeyError, OSError):
                    self._observer.unschedule(watch)
                del self._armed[folder]
                changed = True
        note = ""
        for folder in wanted.keys() - self._armed.keys():
            names = wanted[folder]
            try:
                inode = _inode(folder)
                if not os.access(folder, os.R_OK):  # watchdog says nothing of it, and never ends such a watch
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                watch = self._observer.schedule(_Handler(folder, self._matters_in(*names), self._touched), folder)
            except FileNotFoundError:
                changed = True  # it was removed meanwhile, which is an event of the folder above
            except OSError as error:
                note = f"cannot watch {folder} ({error.strerror}); looking at the files each second instead"
                if error.errno in _LIMITS:
                    note += "; raise fs.inotify.max_user_instances and fs.inotify.max_user_watches with sysctl"
            else:
                self._armed[folder] = (names, inode, watch)
                changed = True
        self.note = note
        return changed

    def _matters_in(self, names: frozenset[str], whole: bool) -> Matters:
        return lambda name: name in names or (whole and self._matters(name))

    def _alive(self, watch: Any) -> bool:
        return any(emitter.watch == watch and emitter.is_alive() for emitter in self._observer.emitters)

    def _fingerprint(self) -> tuple[object, ...]:
        files, folders = self._targets
        found: list[object] = [_state(file) for file in files]
        for folder in folders:
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
                found += [(name, _state(folder / name) if self._matters(name) else ()) for name in names]
        return tuple(found)


def _inode(path: str) -> tuple[int, int]:
    try:
        found = Path(path).stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

"""Examines the disks for flows and logs, and the clock."""

import ctypes
import os
from collections.abc import Iterator

from trafficctl.doctor.examination import FAIL, OK, WARN, Finding, Host
from trafficmond import figures

_STA_UNSYNC = 0x40  # linux/timex.h
_OF_A_CONTAINER = ("/run/systemd/container", "/run/.containerenv", "/.dockerenv")
_TIMEX_BYTES, _TIMEX_STATUS = 208, 40  # struct timex, 64-bit


def examine(host: Host) -> Iterator[Finding]:
    yield from _room(host)
    yield from _clock(host)


def _room(host: Host) -> Iterator[Finding]:
    logs = {f"log {log.path.name}": log.path.parent for log in host.settings.logs if log.path}
    for subject, folder in {"state_dir": host.settings.state_dir, **logs}.items():
        path = host.path(folder)
        stat = os.statvfs(next(each for each in (path, *path.parents) if each.exists()))
        free = stat.f_bavail * stat.f_frsize
        room = figures.size(free)
        needed = host.settings.store.max_size if subject == "state_dir" else 0
        if stat.f_flag & os.ST_RDONLY:
            yield Finding(subject, FAIL, f"{folder} is on a read-only file system", "choose a folder that is writable")
        elif free < (64 << 20):
            yield Finding(subject, FAIL, f"{room} free at {folder}", "free some space, or use another disk")
        elif free < needed:
            what = f"{room} free at {folder}, less than store.max_size ({figures.size(needed)})"
            yield Finding(subject, WARN, what, "lower store.max_size, or free some space")
        else:
            yield Finding(subject, OK, f"{room} free at {folder}")


def _clock(host: Host) -> Iterator[Finding]:
    status = clock_status()
    if status is None:
        yield Finding("clock", WARN, "cannot find out whether a time service sets it", "check with timedatectl")
    elif status & _STA_UNSYNC:
        what, hint = "no time service sets it: recorded times may be wrong", "timedatectl set-ntp true"
        if any(host.path(each).exists() for each in _OF_A_CONTAINER):
            hint = f"the container uses its host's clock; on that host: {hint}"
        else:
            hint = f"install one and turn it on: apt install systemd-timesyncd; {hint}"
        yield Finding("clock", WARN, what, hint)
    else:
        yield Finding("clock", OK, "a time service sets it")


def clock_status() -> int | None:
    """The status bits of adjtimex(2); None if they cannot be read."""
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    if ctypes.sizeof(ctypes.c_long) != 8 or ctypes.CDLL(None).adjtimex(timex) < 0:
        return None
    return int.from_bytes(timex.raw[_TIMEX_STATUS : _TIMEX_STATUS + 4], "little")

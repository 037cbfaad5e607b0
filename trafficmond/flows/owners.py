"""Owners of traffic: the meaning of a batch's `owner`. Pure.

An owner is the number of a cgroup, which the kernel records for the creator of a socket, or one of these constants.
"""

import fnmatch
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from trafficmond import abi
from trafficmond.flows.batch import Batch, Column
from trafficmond.protocols import ICMPV6, IGMP

KERNEL, FORWARDED = abi.OWNER_KERNEL, abi.OWNER_FORWARDED
NOBODY = abi.OWNER_FORWARDED - 1  # incoming, and no socket of this host waits there
_WORDS = {KERNEL: "kernel", FORWARDED: "forwarded", NOBODY: "nobody"}
_NEIGHBOURS = ((130, 137), (143, 143))  # ICMPv6: multicast listeners and neighbour discovery; no router forwards them

_USER_MANAGER = re.compile(r"user@(\d{1,10})\.service")
_USER_SLICE = re.compile(r"user-(\d{1,10})\.slice")
_UNITS = (".service", ".scope", ".socket")
_LETTERS_OF_PATTERNS = frozenset("*?[")
_MOST_LETTERS = 512  # of a path: users choose the names of folders below their own
_LONGEST_NAME = 255  # of a unit; a longer text is not shown as one


class Owner(NamedTuple):
    """The owner columns of a flow; None: not recorded, or unknown."""

    unit: str | None = None
    cgroup: str | None = None  # its path from the root of the cgroups
    uid: int | None = None  # user of the session, or of the service manager
    process: str | None = None  # the command's short name
    pid: int | None = None


OF_UNITS = Owner._fields[:3]  # fields that do not need processes

UNKNOWN = Owner()


def special_owner(number: int) -> Owner | None:
    """The owner for 0 (unknown) or a constant that is not a cgroup; None for a cgroup."""
    if not number:
        return UNKNOWN
    word = _WORDS.get(number)
    return Owner(word) if word else None


def owner_of_path(path: str, service_of: Callable[[str], str] = lambda socket: socket) -> Owner:
    """The owner for a cgroup's path, such as "/system.slice/nginx.service".

    The unit is that of this host's service manager, which has only slices above it; folders below may be named by the
    programs in it, such as a container with its own nginx.service, and so are those outside all slices (LXC). Services
    of a user include their manager, sessions only the user. `service_of` returns a socket unit's service.
    """
    parts = [_called(part) for part in path.split("/") if part]
    whole = "/" + "/".join(parts)
    if len(whole) > _MOST_LETTERS:
        whole = whole[: _MOST_LETTERS - 1] + "…"
    user_slice = parts[1] if parts[:1] == ["user.slice"] and len(parts) > 1 else ""
    uid = int(user[1]) if (user := _USER_SLICE.fullmatch(user_slice)) else None
    unit, inside = _unit_of(parts)
    if not unit:
        return Owner(whole if uid is None else user_slice, whole, uid)
    if uid is not None and unit.startswith("session-"):
        return Owner(f"user-{uid}.slice", whole, uid)
    if uid is not None and _USER_MANAGER.fullmatch(unit):
        below, _ = _unit_of(inside)
        return Owner(f"{unit}/{below}" if below else unit, whole, uid)
    return Owner(service_of(unit) if unit.endswith(".socket") else unit, whole, uid)


def _unit_of(parts: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The first folder that is no slice, if it is a unit, and those below it."""
    at = next((at for at, part in enumerate(parts) if not part.endswith(".slice")), len(parts))
    return (parts[at], parts[at + 1 :]) if at < len(parts) and parts[at].endswith(_UNITS) else ("", ())


def _called(part: str) -> str:
    """A folder's name as text: terminal control characters are made visible, and systemd's prefix for names that look
    like the kernel's own files is removed."""
    text = part if part.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in part)
    text = text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"
    return text[1:] if text.startswith("_") and text.endswith((*_UNITS, ".slice")) else text


def unit_name(text: str) -> str:
    """The full name of a unit: "nginx" means "nginx.service", as for systemctl, and narrow tables show
    "user@1000/app". A pattern stays as it is, and names that a table cut are patterns."""
    text = text.replace("…", "*").replace("[^", "[!")  # both exclude letters, as for systemctl
    manager, slash, below = text.partition("/")
    if slash and manager.startswith("user@"):
        return f"{unit_name(manager)}/{unit_name(below)}"
    plain = not text.endswith((*_UNITS, ".slice")) and not text.startswith(("/", "cgroup ")) and not is_pattern(text)
    return f"{text}.service" if text and plain and text not in _WORDS.values() else text


def is_pattern(unit: str) -> bool:
    """Whether a unit is a shell's pattern, as systemctl accepts them: "nginx*". No unit has these letters."""
    return not _LETTERS_OF_PATTERNS.isdisjoint(unit)


def of_unit(text: str) -> Callable[[str | None], bool]:
    """The function that returns whether a unit is this one, or matches this pattern."""
    wanted = unit_name(text)
    if not is_pattern(wanted):
        return lambda unit: unit == wanted
    return lambda unit: unit is not None and fnmatch.fnmatchcase(unit, wanted)


def set_kernel_owner(rows: Batch) -> None:
    """Sets the kernel as the owner of rows `of_kernel` without a socket, in place: no router forwards these packets."""
    alone = rows["owner"] == np.uint64(FORWARDED)
    if alone.any():
        rows["owner"][np.flatnonzero(alone & of_kernel(rows))] = KERNEL


def of_kernel(rows: Batch) -> Column:
    """A mask of rows of neighbour discovery and group messages, with src as the sender."""
    proto = rows["proto"].copy()
    found: Column = proto == IGMP
    asks = np.flatnonzero(proto == ICMPV6)
    kind = rows["sport"][asks]
    for first, last in _NEIGHBOURS:
        found[asks] |= (kind >= first) & (kind <= last)
    return found

"""Whose traffic it is: what the `owner` of a batch stands for. Pure.

An owner is the number of a cgroup, which is what the kernel knows of whoever made a socket, or one of these words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from trafficmond import abi
from trafficmond.flows.batch import Batch, Column
from trafficmond.protocols import ICMPV6, IGMP

KERNEL, FORWARDED = abi.OWNER_KERNEL, abi.OWNER_FORWARDED
NOBODY = abi.OWNER_FORWARDED - 1  # it came in, and no socket of this host waits there
_WORDS = {KERNEL: "kernel", FORWARDED: "forwarded", NOBODY: "nobody"}
_NEIGHBOURS = ((130, 137), (143, 143))  # ICMPv6: multicast listeners and neighbour discovery; no router forwards them

_USER_MANAGER = re.compile(r"user@(\d{1,10})\.service")
_USER_SLICE = re.compile(r"user-(\d{1,10})\.slice")
_UNITS = (".service", ".scope", ".socket")
_MOST_LETTERS = 512  # of a path: users make folders of any name below their own


class Owner(NamedTuple):
    """What a flow's columns say; None: nobody has looked, or nobody knows."""

    unit: str | None = None
    cgroup: str | None = None  # its path from the root of the cgroups
    uid: int | None = None  # whose session it is, or whose service manager
    process: str | None = None  # the command's short name
    pid: int | None = None


OF_UNITS = Owner._fields[:3]  # what is told whether or not processes are


UNKNOWN = Owner()


def owner_of_word(number: int) -> Owner | None:
    """Of what is no cgroup; None where it is one."""
    if not number:
        return UNKNOWN
    word = _WORDS.get(number)
    return Owner(word) if word else None


def owner_of_path(path: str, service_of: Callable[[str], str] = lambda socket: socket) -> Owner:
    """Of a cgroup's path, such as "/system.slice/nginx.service".

    The unit is that of this host's service manager: the first on the way down, for what lies below may have been named
    by whoever runs in it, be it a container with an nginx.service of its own. Services of a user are told with the
    manager that runs them, sessions by their user alone. `service_of` names the service of a socket unit, which made
    the socket in its place.
    """
    parts = [_called(part) for part in path.split("/") if part]
    whole = "/" + "/".join(parts)
    if len(whole) > _MOST_LETTERS:
        whole = whole[: _MOST_LETTERS - 1] + "…"
    manager = next((found for part in parts if (found := _USER_MANAGER.fullmatch(part))), None)
    user = next((found for part in parts if (found := _USER_SLICE.fullmatch(part))), None)
    uid = int(user[1]) if user and parts[0] == "user.slice" else None
    at = next((at for at, part in enumerate(parts) if part.endswith(_UNITS)), None)
    if at is None:
        return Owner(whole if not user else user[0], whole, uid)
    unit = parts[at]
    if uid is not None and unit.startswith("session-"):
        return Owner(f"user-{uid}.slice", whole, uid)
    if uid is not None and manager and unit == manager[0]:
        below = next((part for part in parts[at + 1 :] if part.endswith(_UNITS)), None)
        return Owner(f"{unit}/{below}" if below else unit, whole, uid)
    return Owner(service_of(unit) if unit.endswith(".socket") else unit, whole, uid)


def _called(part: str) -> str:
    """A folder's name as text: what could steer a terminal is made visible, and systemd's mark is taken off, which it
    puts before names that the kernel would take for its own files."""
    text = part if part.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in part)
    return text[1:] if text.startswith("_") and text.endswith((*_UNITS, ".slice")) else text


def unit_name(text: str) -> str:
    """The unit that a person means by "nginx", and narrow tables by "user@1000/app": systemctl takes the one for
    "nginx.service" too."""
    manager, slash, below = text.partition("/")
    if slash and manager.startswith("user@"):
        return f"{unit_name(manager)}/{unit_name(below)}"
    plain = not text.endswith((*_UNITS, ".slice")) and not text.startswith(("/", "cgroup "))
    return f"{text}.service" if text and plain and text not in _WORDS.values() else text


def correct(rows: Batch) -> None:
    """Books to the kernel what only it sends, and what it sends of some without a socket: in place."""
    alone = rows["owner"] == np.uint64(FORWARDED)
    if alone.any():
        rows["owner"][np.flatnonzero(alone & of_kernel(rows))] = KERNEL


def of_kernel(rows: Batch) -> Column:
    """Which rows are of neighbour discovery and of groups, where src sent the packets."""
    found: Column = rows["proto"] == IGMP
    for first, last in _NEIGHBOURS:
        found |= (rows["proto"] == ICMPV6) & (rows["sport"] >= first) & (rows["sport"] <= last)
    return found

"""The credentials of a client of a Unix socket, as the kernel reports them, and its permissions."""

import grp
import os
import pwd
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from trafficmond.dataclass import dataclass

READ_GROUP = "trafficmon"
ADMIN_GROUP = "trafficmon-admin"
_SO_PEERGROUPS = 59  # asm-generic/socket.h; since Linux 4.13, absent from Python's socket module
_GETSOCKOPT_MOST = 1024  # bytes that Python passes on
_UCRED = struct.Struct("3i")
_PROC = Path("/proc")
_NO_LOGIN = (1 << 32) - 1  # the loginuid of services and timers


@dataclass(frozen=True, slots=True)
class Caller:
    """The process that called, by SO_PEERCRED, as the audit records it."""

    uid: int
    gid: int
    pid: int
    user: str  # the uid's name, or its number as text
    login: str | None = None  # the user who logged in, before sudo or su; None: unknown


@dataclass(frozen=True, slots=True)
class Peer:
    """A caller and the groups it had when it connected."""

    caller: Caller
    groups: frozenset[int]

    def may_change(self, admin_gid: int | None, own_uid: int) -> bool:
        """Whether it is root, in the admin group, or the daemon's own user (which could change the daemon anyway)."""
        return self.caller.uid in (0, own_uid) or (admin_gid is not None and admin_gid in self.groups)


def peer_of(sock: socket.socket) -> Peer:
    """The credentials of the process that connected. Raises OSError."""
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    caller = Caller(uid, gid, pid, user_name(uid), login_of(pid))
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GETSOCKOPT_MOST)
        groups: Sequence[int] = struct.unpack(f"{len(raw) // 4}I", raw)
    except OSError:  # too many groups for the buffer, or an old kernel
        groups = os.getgrouplist(caller.user, gid)
    return Peer(caller, frozenset([gid, *groups]))


def login_of(pid: int, proc: Path = _PROC) -> str | None:
    """The user whose login started a process, as PAM set it; None if there was no login or it cannot be read. It shows
    who acts as root, but is not a proof: root can change it."""
    try:
        uid = int((proc / str(pid) / "loginuid").read_text())
    except (OSError, ValueError):  # the process is gone, hidden or in another namespace, or the kernel has no audit
        return None
    return None if uid == _NO_LOGIN else user_name(uid)


def user_name(uid: int) -> str:
    """The user's name, or the number as text if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None

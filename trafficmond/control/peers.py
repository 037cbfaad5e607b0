"""Who is at the other end of a Unix socket, as the kernel vouches for it, and what they may do."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass

from trafficmond.control.view import Caller

READ_GROUP = "trafficmon"
ADMIN_GROUP = "trafficmon-admin"
_SO_PEERGROUPS = 59  # asm-generic/socket.h; since Linux 4.13, absent from Python's socket module
_UCRED = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Peer:
    """A caller and the groups it had when it connected."""

    caller: Caller
    groups: frozenset[int]

    def may_change(self, admin_gid: int | None, own_uid: int) -> bool:
        """Root, members of the admin group, and the daemon's own user (who could reach into it anyway)."""
        return self.caller.uid in (0, own_uid) or (admin_gid is not None and admin_gid in self.groups)


def peer_of(sock: socket.socket) -> Peer:
    """The credentials of the process that connected. Raises OSError if the kernel does not tell."""
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(Caller(uid, gid, pid, user_name(uid)), frozenset([gid, *_supplementary(sock)]))


def _supplementary(sock: socket.socket) -> tuple[int, ...]:
    size = 4 * os.sysconf("SC_NGROUPS_MAX")
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, size)
    except OSError:
        return ()
    return struct.unpack(f"{len(raw) // 4}I", raw)


def user_name(uid: int) -> str:
    """The user's name, or the number as text if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_id(name: str) -> int | None:
    """The group's id, None if there is no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None

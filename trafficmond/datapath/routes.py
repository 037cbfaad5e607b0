"""Default routes of this host, without reading all others: a router has a million of those."""

import contextlib
import ipaddress
import socket
import struct
import sys
from collections.abc import Iterator

from trafficmond.dataclass import dataclass
from trafficmond.datapath.netlink import asking, attributes, dump

_GETROUTE, _TABLE_MAIN, _UNICAST = 26, 254, 1
_ROUTE = struct.Struct("=8BI")  # struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
_DST, _OIF, _GATEWAY, _MULTIPATH, _VIA = 1, 4, 5, 9, 18  # RTA_
_HOP = struct.Struct("=HBBi")  # struct rtnexthop


@dataclass(frozen=True, slots=True)
class Hop:
    """A hop of a default route: an interface, and a gateway if there is one ("" otherwise)."""

    ifindex: int
    gateway: str


def default_routes() -> list[Hop]:
    """Every hop of the default routes of both families in the main table. Raises DatapathError."""
    found: list[Hop] = []
    with asking("read routes"):
        for family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(FileNotFoundError):  # the table exists from its first route on
                found += _of_family(family)
    return found


def _of_family(family: int) -> Iterator[Hop]:
    request = _ROUTE.pack(family, 0, 0, 0, _TABLE_MAIN, 0, 0, 0, 0)
    for message in dump(socket.NETLINK_ROUTE, _GETROUTE, request, strict=True):
        if not message[1]:
            if message[4] == _TABLE_MAIN and message[7] == _UNICAST:
                yield from hops(message)
        elif family == socket.AF_INET and any(attributes(message[_ROUTE.size :]).get(_DST, b"")):
            return  # the kernel dumps IPv4 routes in the order of their addresses


def hops(route: bytes) -> Iterator[Hop]:
    """The hops of a route message (struct rtmsg and its attributes)."""
    found = attributes(route[_ROUTE.size :])
    if _OIF in found:
        yield Hop(int.from_bytes(found[_OIF], sys.byteorder), _gateway(found))
    several, at = found.get(_MULTIPATH, b""), 0
    while at + _HOP.size <= len(several):
        length, _, _, ifindex = _HOP.unpack_from(several, at)
        if length < _HOP.size:
            break
        yield Hop(ifindex, _gateway(attributes(several[at + _HOP.size : at + length])))
        at += length + 3 & ~3


def _gateway(found: dict[int, bytes]) -> str:
    octets = found.get(_GATEWAY) or found.get(_VIA, b"")[2:]  # the latter: of another family, which precedes it
    return str(ipaddress.ip_address(octets)) if octets else ""

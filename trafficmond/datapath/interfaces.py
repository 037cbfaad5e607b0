"""The host's interfaces, through netlink: those that exist, those that the settings choose, and changes."""

import asyncio
import enum
import errno
import fnmatch
import re
import socket
import struct
import sys
from collections.abc import Callable, Collection, Iterable
from typing import Self

from trafficmond.config.checks import DEFAULT_ROUTE
from trafficmond.dataclass import dataclass
from trafficmond.datapath.netlink import HEADER, asking, attributes, dump
from trafficmond.datapath.routes import default_routes


class XdpMode(enum.StrEnum):
    """How an XDP program is attached; the words are those of `trafficctl status`.

    NATIVE: in the driver, before the kernel makes an skb of the frame. Linux 4.8, and a driver that supports it (veth:
    4.19). GENERIC: after that, whatever the driver is. Linux 4.12. OFFLOADED: in the card; others attach so, trafficmon
    does not. NONE: not at all.

    trafficmon attaches with a link (bpf_link), which XDP has since Linux 5.9.
    """

    NATIVE = "native"
    GENERIC = "generic"
    OFFLOADED = "offloaded"
    NONE = ""


class EgressHook(enum.StrEnum):
    """Where the program for outgoing packets is attached; the words are those of `trafficctl status`.

    TCX: a link at the egress side of TCX. Linux 6.6.
    CLSACT: a filter of the clsact qdisc. Linux 4.5.
    NONE: nowhere; the setting `egress` is off, or the kernel refused.
    """

    TCX = "tcx"
    CLSACT = "clsact"
    NONE = ""


_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_RTMGRP_LINK, _RTMGRP_TC, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV4_ROUTE = 0x1, 0x8, 0x10, 0x40
_RTMGRP_IPV6_IFADDR, _RTMGRP_IPV6_ROUTE = 0x100, 0x400
_GETLINK = 18  # RTM_GETLINK
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_IFNAME, _MTU, _LOWER, _MASTER, _LOWER_ELSEWHERE, _XDP = 3, 4, 5, 10, 37, 43  # IFLA_
_XDP_MODES = {
    7: XdpMode.OFFLOADED,
    6: XdpMode.GENERIC,
    5: XdpMode.NATIVE,
}  # IFLA_XDP_HW_PROG_ID, SKB, DRV; the last that is there counts
_SETTLE_S = 0.05  # changes come in bursts: a new interface sends several messages
_PACE_S = 0.5  # between notifications, each of which makes the daemon check the host
_READ_AT_ONCE = 256  # messages, before other tasks run: a router that learns its routes sends a million
_NEWROUTE, _DELROUTE = 24, 25
_NEW_IN_TC = (36, 40, 44, 48, 100)  # RTM_NEWQDISC, TCLASS, TFILTER, ACTION, CHAIN: they take nothing away
_DST_LEN_AT = HEADER.size + 1  # struct rtmsg: family, length of the destination


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface as netlink reports it."""

    ifindex: int
    name: str
    mtu: int
    up: bool
    raw_ip: bool  # frames start at the IP header (tun, WireGuard, PPP)
    xdp_prog_id: int  # of any XDP program attached now; 0: none
    xdp_mode: XdpMode  # how it is attached
    master: int = 0  # ifindex of the bridge or bond that it belongs to
    lower: int = 0  # ifindex of the interface that a VLAN or macvlan is on, or of a veth's other end


def list_interfaces() -> list[Interface]:
    """Every interface of this network namespace. Raises DatapathError."""
    with asking("list interfaces"):
        return [_interface(message) for message in dump(socket.NETLINK_ROUTE, _GETLINK, bytes(_LINK.size))]


def stacked(interfaces: Iterable[Interface]) -> dict[int, set[int]]:
    """By ifindex, the interfaces directly on top (bridge, bond, VLANs, macvlans), each after all that is below it."""
    found = {each.ifindex: each for each in interfaces}
    above: dict[int, set[int]] = {ifindex: {each.master} & found.keys() for ifindex, each in found.items()}
    for ifindex, each in found.items():
        if each.lower in found and found[each.lower].lower != ifindex:  # not the two ends of a veth
            above[each.lower].add(ifindex)
    return dict(sorted(above.items(), key=lambda item: _place(item[0], above)))


def _place(ifindex: int, above: dict[int, set[int]], limit: int = 8) -> tuple[int, int]:
    """The least number of an interface and all on top of it, and how many are on top of each other, negative."""
    uppers = [_place(upper, above, limit - 1) for upper in above[ifindex]] if limit else []
    return min([ifindex, *(first for first, _ in uppers)]), min((depth for _, depth in uppers), default=0) - 1


def _interface(message: bytes) -> Interface:
    _, kind, ifindex, flags, _ = _LINK.unpack_from(message)
    found = attributes(message[_LINK.size :])
    xdp = attributes(found.get(_XDP, b""))
    prog_id, mode = 0, XdpMode.NONE
    for number, attached_as in _XDP_MODES.items():
        if xdp.get(number):
            prog_id, mode = int.from_bytes(xdp[number], sys.byteorder), attached_as
    return Interface(
        ifindex=ifindex,
        name=name_of(found.get(_IFNAME, b"")),
        mtu=_number(found, _MTU),
        up=bool(flags & 1),
        raw_ip=kind not in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK),
        xdp_prog_id=prog_id,
        xdp_mode=mode,
        master=_number(found, _MASTER),
        lower=0 if _LOWER_ELSEWHERE in found else _number(found, _LOWER),
    )


def _number(found: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(found.get(kind, b""), sys.byteorder)


def name_of(octets: bytes) -> str:
    """An interface's name as shown and matched: octets that are not printable UTF-8, which Linux allows, as x\\xff."""
    text = octets.rstrip(b"\0").decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


@dataclass(frozen=True, slots=True)
class Selection:
    """The setting `interfaces` at this moment. A pattern is a name, a glob, a /regex/ or the word default-route; the
    loopback interface is chosen only by its full name."""

    patterns: tuple[str, ...]
    routes: Collection[int] = ()  # ifindex of interfaces with a default route

    @classmethod
    def now(cls, patterns: Iterable[str]) -> Self:
        """The selection with the present routes. Raises DatapathError."""
        wanted = tuple(patterns)
        return cls(wanted, {hop.ifindex for hop in default_routes()} if DEFAULT_ROUTE in wanted else ())

    def choosers(self, interface: Interface) -> list[str]:
        """The patterns that choose an interface; none: it is not chosen."""
        return [pattern for pattern in self.patterns if self._means(pattern, interface)]

    def chosen(self, interfaces: Iterable[Interface]) -> list[Interface]:
        return [interface for interface in interfaces if self.choosers(interface)]

    def _means(self, pattern: str, interface: Interface) -> bool:
        if pattern == DEFAULT_ROUTE and interface.ifindex in self.routes:
            return True
        if pattern == interface.name or interface.name == "lo":
            return pattern == interface.name
        if pattern.startswith("/"):
            return re.fullmatch(pattern[1:-1], interface.name) is not None
        return fnmatch.fnmatchcase(interface.name, pattern)


def is_plain_name(pattern: str) -> bool:
    """Whether a pattern is the name of one interface, which should therefore exist."""
    return pattern != DEFAULT_ROUTE and not pattern.startswith("/") and not set(pattern) & set("*?[")


class Watch:
    """Calls back, on the running loop, soon after links, addresses or default routes changed, or TC lost something;
    twice a second at most, the last time after the last change."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._pending: asyncio.TimerHandle | None = None
        self._last = -_PACE_S
        self._socket = _subscribed()
        self._loop.add_reader(self._socket, self._readable)

    def _readable(self) -> None:
        changed = False
        try:
            for _ in range(_READ_AT_ONCE):
                changed |= _matters(self._socket.recv(65536))
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            changed = True  # messages were lost: assume a change
        if changed and self._pending is None:
            wait = max(_SETTLE_S, self._last + _PACE_S - self._loop.time())
            self._pending = self._loop.call_later(wait, self._fire)

    def _fire(self) -> None:
        self._pending = None
        self._last = self._loop.time()
        self._callback()

    def close(self) -> None:
        if self._pending is not None:
            self._pending.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()


def _subscribed() -> socket.socket:
    found = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    groups = _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV4_ROUTE | _RTMGRP_IPV6_IFADDR | _RTMGRP_IPV6_ROUTE
    found.bind((0, groups | _RTMGRP_LINK | _RTMGRP_TC))
    return found


def _matters(messages: bytes) -> bool:
    """Whether one of these netlink messages is about anything but a route to a prefix, or something new in TC."""
    at = 0
    while at + HEADER.size <= len(messages):
        length, kind, *_ = HEADER.unpack_from(messages, at)
        if messages[at + _DST_LEN_AT] == 0 if kind in (_NEWROUTE, _DELROUTE) else kind not in _NEW_IN_TC:
            return True
        at += max(length, HEADER.size) + 3 & ~3
    return False

"""The listening sockets of this host, by sock_diag(7), and their programs, as far as permitted."""

import contextlib
import ipaddress
import socket
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from trafficmond.dataclass import dataclass
from trafficmond.datapath import sockets
from trafficmond.datapath.netlink import attributes
from trafficmond.networks import Address, unmapped

_ANSWERED_ANYWAY = {68, 546, 5353, 5355}  # DHCP, which always passes; multicast DNS and LLMNR, used only on the link
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_OWN_PORTS = (32768, 60999)  # ephemeral ports, unless the host is configured otherwise
_ONLY_SIX = 11  # INET_DIAG_SKV6ONLY
_INODE_AT = 68  # struct inet_diag_msg, its last word
_SOURCE_AT = 8
_STARTERS = {"systemd", "init"}  # they open sockets for other programs


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP listener, or a UDP socket on a fixed port."""

    proto: int
    address: Address  # unspecified: every one
    port: int
    name: str = ""  # name of the program, else of the port's service; empty: unknown
    both: bool = False  # an IPv6 socket that accepts IPv4 as well

    @property
    def families(self) -> tuple[int, ...]:
        """The address families of packets that reach it."""
        return (4, 6) if self.both else (self.address.version,)


def listeners(proc: Path = Path("/proc")) -> list[Listener]:
    """The sockets that other hosts can reach; none if the kernel has no sock_diag."""
    try:
        found = [each for proto in (socket.IPPROTO_TCP, socket.IPPROTO_UDP) for each in _waiting(proto)]
    except OSError:
        return []
    names = _programs(frozenset(inode for _, inode in found), proc)
    return [_named(each, names.get(inode, "")) for each, inode in found]


def _waiting(proto: int) -> Iterator[tuple[Listener, int]]:
    lowest, highest = _own_ports()
    state = sockets.LISTEN if proto == socket.IPPROTO_TCP else sockets.CLOSED
    for family in (socket.AF_INET, socket.AF_INET6):
        for message in sockets.diagnosed(family, proto, state):
            port = int.from_bytes(message[4:6], "big")
            if proto == socket.IPPROTO_UDP and (lowest <= port <= highest or port in _ANSWERED_ANYWAY):
                continue
            size = 4 if family == socket.AF_INET else 16
            address = unmapped(ipaddress.ip_address(message[_SOURCE_AT : _SOURCE_AT + size]))
            if port and not address.is_loopback:
                only_six = attributes(message[sockets.MESSAGE_BYTES :]).get(_ONLY_SIX, b"\0")[0]
                both = address.version == 6 and address.is_unspecified and not only_six
                inode = int.from_bytes(message[_INODE_AT : _INODE_AT + 4], sys.byteorder)
                yield Listener(proto, address, port, both=both), inode


def _own_ports() -> tuple[int, int]:
    with contextlib.suppress(OSError, ValueError):
        lowest, highest = map(int, _PORT_RANGE.read_text().split())
        return lowest, highest
    return _OWN_PORTS


def _named(listener: Listener, name: str) -> Listener:
    if not name:
        with contextlib.suppress(OSError):
            name = socket.getservbyport(listener.port, "tcp" if listener.proto == socket.IPPROTO_TCP else "udp")
    return Listener(listener.proto, listener.address, listener.port, name, listener.both)


@lru_cache(1)
def _programs(inodes: frozenset[int], proc: Path) -> dict[int, str]:
    """The program of each socket; cached for the same set of sockets, since it reads every process."""
    found: dict[int, str] = {}
    for process in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone, or of another user
            held = set(_held(process)) & inodes
            if held and (name := (process / "comm").read_text().strip()) not in _STARTERS:
                found.update(dict.fromkeys(held - found.keys(), name))
    return found


def _held(process: Path) -> Iterator[int]:
    for entry in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            kind, _, number = str(entry.readlink()).partition(":[")
            if kind == "socket":
                yield int(number.rstrip("]"))

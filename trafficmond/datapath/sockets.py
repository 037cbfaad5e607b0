"""This host's open connections, as the kernel lists them: a new filter has not seen them begin."""

import ipaddress
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from trafficmond.dataclass import dataclass
from trafficmond.datapath.netlink import attributes, dump
from trafficmond.networks import Address, unmapped

PROC_NET = Path("/proc/self/net")
ESTABLISHED, CLOSED, LISTEN = 1, 7, 10  # enum in the kernel's net/tcp_states.h
OPEN = tuple(state for state in range(1, 12) if state != 6)  # all that a process has, so not TIME_WAIT
_TABLES = {"tcp": 6, "tcp6": 6, "udp": 17, "udp6": 17}


@dataclass(frozen=True, slots=True)
class Connection:
    proto: int
    local: Address
    local_port: int
    remote: Address
    remote_port: int
    state: int


def connections(proc_net: Path = PROC_NET) -> Iterator[Connection]:
    """Every TCP and UDP socket that has a peer, in any state. Unreadable files are left out."""
    for name, proto in _TABLES.items():
        try:
            lines = (proc_net / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _number, local, remote, state = line.split()[:4]
            here, there = _end(local), _end(remote)
            if there[1] and int(state, 16) != LISTEN:
                yield Connection(proto, *here, *there, int(state, 16))


@dataclass(frozen=True, slots=True)
class Peer:
    """The far end of an established TCP connection."""

    address: str
    port: int
    quiet_s: float  # since data was last received, or last sent, whichever is longer; 0 if unknown


def established(port: int) -> list[Peer]:
    """Established TCP connections to this port of this host. Uses sock_diag(7), which takes half a millisecond, or else
    all of /proc/net, which takes twenty."""
    try:
        return [peer for family in (socket.AF_INET, socket.AF_INET6) for peer in _peers(family, port)]
    except OSError:
        return [
            Peer(str(each.remote), each.remote_port, 0.0)
            for each in connections()
            if each.proto == socket.IPPROTO_TCP and each.local_port == port and each.state == ESTABLISHED
        ]


_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_REQUEST = struct.Struct("=BBBxI2s2s16s16sIQ")  # struct inet_diag_req_v2
_ANY_COOKIE = 0xFFFFFFFFFFFFFFFF
_PORT_AT = 4 + 2  # struct inet_diag_msg: family and state, ports, source, then the destination
_REMOTE_AT = 4 + 4 + 16
MESSAGE_BYTES = 72
_INFO = 2  # INET_DIAG_INFO: struct tcp_info
_LAST_SENT_AT, _LAST_CAME_AT = 44, 52  # tcpi_last_data_sent, tcpi_last_data_recv


def diagnosed(family: int, proto: int, state: int, port: int = 0, ask: int = 0) -> Iterator[bytes]:
    """A struct inet_diag_msg and the requested attributes of each socket in that state, on a port. Raises OSError."""
    return dump(*asking_for(family, proto, (state,), port, ask))


def asking_for(family: int, proto: int, states: Iterable[int], port: int = 0, ask: int = 0) -> tuple[int, int, bytes]:
    """The protocol, kind and body of that netlink request, for sockets in one of the states."""
    ends = (struct.pack("!H", port), b"", b"", b"")
    wanted = _REQUEST.pack(family, proto, ask, sum(1 << state for state in states), *ends, 0, _ANY_COOKIE)
    return _NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, wanted


def _peers(family: int, port: int) -> Iterator[Peer]:
    for message in diagnosed(family, socket.IPPROTO_TCP, ESTABLISHED, port, 1 << (_INFO - 1)):
        size = 4 if message[0] == socket.AF_INET else 16
        address = ipaddress.ip_address(message[_REMOTE_AT : _REMOTE_AT + size])
        (far_port,) = struct.unpack_from("!H", message, _PORT_AT)
        info, quiet_ms = attributes(message[MESSAGE_BYTES:]).get(_INFO, b""), 0
        if len(info) >= _LAST_CAME_AT + 4:
            quiet_ms = max(struct.unpack_from("=I", info, at)[0] for at in (_LAST_SENT_AT, _LAST_CAME_AT))
        yield Peer(str(unmapped(address)), far_port, quiet_ms / 1000)


def _end(text: str) -> tuple[Address, int]:
    """Address and port; /proc/net writes addresses as 32-bit words in host order."""
    words, _, port = text.partition(":")
    packed = b"".join(int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8))
    address = ipaddress.ip_address(packed)
    return unmapped(address), int(port, 16)

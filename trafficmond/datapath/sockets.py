"""This host's open connections, as /proc/net tells them: what a filter that begins now has not seen opened."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC_NET = Path("/proc/self/net")
ESTABLISHED, _LISTEN = 1, 10  # enum in the kernel's net/tcp_states.h
_TABLES = {"tcp": 6, "tcp6": 6, "udp": 17, "udp6": 17}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Connection:
    """A socket with a peer."""

    proto: int
    local: Address
    local_port: int
    remote: Address
    remote_port: int
    state: int


def connections(proc_net: Path = PROC_NET) -> Iterator[Connection]:
    """Every TCP and UDP socket that has a peer, in whatever state. What cannot be read is left out."""
    for name, proto in _TABLES.items():
        try:
            lines = (proc_net / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _number, local, remote, state = line.split()[:4]
            here, there = _end(local), _end(remote)
            if there[1] and int(state, 16) != _LISTEN:
                yield Connection(proto, *here, *there, int(state, 16))


def _end(text: str) -> tuple[Address, int]:
    """Address and port; /proc/net writes addresses as 32-bit words in host order."""
    words, _, port = text.partition(":")
    packed = b"".join(int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8))
    address = ipaddress.ip_address(packed)
    return getattr(address, "ipv4_mapped", None) or address, int(port, 16)

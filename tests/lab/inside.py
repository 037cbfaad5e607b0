"""Packets in tunnels, and what is inside as the host's build of the parser reads it."""

from __future__ import annotations

import ctypes
import random
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tmlab.packets import frame, udp, vxlan

from trafficmond import abi

ROOT = Path(__file__).resolve().parents[2]
IPV4, IPV6, BRIDGED = 0x0800, 0x86DD, 0x6558


class HostParser:
    """bpf/tunnel.h, compiled for this host."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "inside.so"
            source = Path(__file__).with_suffix(".c")
            subprocess.run(["cc", "-O2", "-shared", "-fPIC", f"-I{ROOT}/bpf", "-o", made, source], check=True)
            self._library = ctypes.CDLL(str(made))
        self._found = ctypes.create_string_buffer(abi.INNER.itemsize)
        self._name = ctypes.c_uint64()

    def inside(self, packet: bytes, seed: int, *, raw: bool = False) -> tuple[int, bytes] | None:
        """(name, struct tm_inner) of what the packet carries, None if that is nothing."""
        found, name = ctypes.byref(self._found), ctypes.byref(self._name)
        if not self._library.tm_inside(packet, len(packet), int(raw), ctypes.c_uint64(seed), found, name):
            return None
        return self._name.value, self._found.raw

    def count(self, packets: Iterable[bytes], seed: int, *, raw: bool = False) -> Counter[int]:
        """Packets by the name of what they carry, if anything."""
        found = (self.inside(packet, seed, raw=raw) for packet in packets)
        return Counter(each[0] for each in found if each)


def gre(inside: bytes, kind: int, flags: int = 0, fields: bytes = b"") -> bytes:
    """What follows an IP header of protocol 47."""
    return struct.pack("!HH", flags, kind) + fields + inside


def geneve(src: str, dst: str, vni: int, inside: bytes, kind: int = BRIDGED, options: bytes = b"") -> bytes:
    """An Ethernet frame around what Geneve (RFC 8926) carries."""
    head = struct.pack("!BBHI", len(options) // 4, 0, kind, vni << 8)
    return udp(src, dst, 49152, 6081, head + options + inside)


def wrapped(dice: random.Random, inside: bytes) -> bytes:
    """An Ethernet frame in a tunnel of any kind, most often rightly."""
    src, dst = dice.choice((("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")))
    kind = inside[12:14] if len(inside) >= 14 else b"\0\0"
    network = inside[14:]
    number = dice.randrange(1 << 24)
    flags = dice.choice((0, 0x8000, 0x2000, 0x1000, 0xB000, 0x4000, 0x2001))
    fields = bytes(4 * bin(flags >> 12).count("1"))
    kinds = (
        lambda: vxlan(src, dst, number, inside),
        lambda: geneve(src, dst, number, inside, options=bytes(4 * dice.choice((0, 0, 1, 63)))),
        lambda: geneve(src, dst, number, network, int.from_bytes(kind, "big")),
        lambda: frame(src, dst, dice.choice((4, 41)), network),
        lambda: frame(src, dst, 47, gre(network, int.from_bytes(kind, "big"), flags, fields)),
        lambda: frame(src, dst, 47, gre(inside, BRIDGED, flags, fields)),
        lambda: frame(src, dst, 47, gre(inside, 0x88BE, flags, fields + bytes(dice.choice((0, 8))))),
        lambda: frame(src, dst, 47, gre(inside, 0x22EB, 0x1000, bytes(4) + dice.randbytes(dice.choice((12, 20))))),
    )
    return dice.choice(kinds)()

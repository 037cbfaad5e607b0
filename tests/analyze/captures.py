"""Captures made by hand: frames, and pcap and pcapng files around them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

AT = 1_700_000_000.25
ADDED = {123: 4, 204: 1, 205: 1, 206: 1}  # bytes before a frame that were not on the wire, by link type


def ipv4(payload: bytes, proto: int = 6, src: str = "192.0.2.1", dst: str = "198.51.100.2") -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, proto, 0)
    return head + socket.inet_aton(src) + socket.inet_aton(dst) + payload


def ipv6(payload: bytes, proto: int = 17, src: str = "2001:db8::1", dst: str = "2001:db8::2") -> bytes:
    head = struct.pack(">IHBB", 6 << 28, len(payload), proto, 64)
    return head + socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst) + payload


def tcp(sport: int = 1234, dport: int = 80, flags: int = 0x02, payload: bytes = b"", ack: int = 0) -> bytes:
    return struct.pack(">HHIIBBHHH", sport, dport, 1, ack, 5 << 4, flags, 512, 0, 0) + payload


def udp(sport: int = 53, dport: int = 5353, payload: bytes = b"abc") -> bytes:
    return struct.pack(">HHHH", sport, dport, 8 + len(payload), 0) + payload


def ethernet(packet: bytes, kind: int = 0x0800, tags: Sequence[int] = ()) -> bytes:
    tagged = b"".join(struct.pack(">HH", 0x8100, tag) for tag in tags)
    return b"\x02" * 6 + b"\x04" * 6 + tagged + struct.pack(">H", kind) + packet


def pcap(
    frames: Sequence[tuple[float, bytes]], link: int = 1, order: str = "<", magic: int = 0xA1B2C3D4, snap: int = 262144
) -> bytes:
    """`frames` are (time, bytes); each is cut to `snap` bytes, its length on the wire kept."""
    ticks = 10**9 if magic == 0xA1B23C4D else 10**6
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap, link)]
    for at, frame in frames:
        kept = frame[:snap]
        out.append(struct.pack(order + "IIII", int(at), round((at - int(at)) * ticks), len(kept), len(frame)))
        out.append(b"\0" * 8 if magic == 0xA1B2CD34 else b"")
        out.append(kept)
    return b"".join(out)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += b"\0" * (-len(body) % 4)
    size = len(body) + 12
    return struct.pack(order + "II", kind, size) + body + struct.pack(order + "I", size)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + b"\0" * (-len(value) % 4)


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link: int = 1, options: bytes = b"", order: str = "<") -> bytes:
    return block(1, struct.pack(order + "HHI", link, 0, 0) + options, order)


def enhanced(ticks: int, frame: bytes, number: int = 0, order: str = "<", length: int | None = None) -> bytes:
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), length or len(frame))
    return block(6, head + frame, order)

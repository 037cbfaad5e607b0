"""Frames of pcap and pcapng files, made ready for an Ethernet wire.

Written apart from the product's own reader, so that each checks the other.
Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng; link types: tcpdump.org/linktypes.html.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .packets import MACS

_ETHERNET, _NULL, _PPP, _RAW, _LOOP, _SLL, _SLL2 = 1, 0, 9, 101, 108, 113, 276
_RAW_TYPES = {_RAW, 12, 14, 228, 229}


@dataclass(frozen=True)
class Capture:
    """The frames of a file that an Ethernet wire can carry; `skipped` counts the others by reason."""

    path: Path
    frames: list[bytes]
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def bytes(self) -> int:
        return sum(map(len, self.frames))

    @property
    def longest(self) -> int:
        return max(map(len, self.frames), default=0)


def read_capture(path: Path) -> Capture:
    """All frames of `path`, in order, as captured (a frame cut by the snap length stays cut).

    Raises ValueError if the file is neither pcap nor pcapng; one that ends in mid-record ends there.
    """
    data = path.read_bytes()
    records = _pcapng(data) if data[:4] == b"\x0a\x0d\x0d\x0a" else _pcap(data)
    frames: list[bytes] = []
    skipped: Counter[str] = Counter()
    for linktype, frame in records:
        wired = _on_ethernet(linktype, frame)
        if wired is None:
            skipped[f"link type {linktype} has no Ethernet form"] += 1
        elif len(wired) < 14:
            skipped["shorter than an Ethernet header"] += 1
        else:
            frames.append(wired)
    return Capture(path, frames, skipped)


def _pcap(data: bytes) -> Iterator[tuple[int, bytes]]:
    magic = data[:4]
    orders = {b"\xd4\xc3\xb2\xa1": "<", b"\x4d\x3c\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\xa1\xb2\x3c\x4d": ">"}
    # Kuznetzov's variant, "modified" pcap, has 8 more bytes a record.
    orders |= {b"\x34\xcd\xb2\xa1": "<", b"\xa1\xb2\xcd\x34": ">"}
    if magic not in orders:
        raise ValueError(f"magic {magic.hex()} is neither pcap nor pcapng")
    order = orders[magic]
    extra = 8 if magic in (b"\x34\xcd\xb2\xa1", b"\xa1\xb2\xcd\x34") else 0
    linktype = struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF
    at = 24
    while at + 16 + extra <= len(data):
        length = struct.unpack_from(order + "I", data, at + 8)[0]
        at += 16 + extra
        if at + length > len(data):
            return
        yield linktype, data[at : at + length]
        at += length


def _pcapng(data: bytes) -> Iterator[tuple[int, bytes]]:
    order, at = "<", 0
    interfaces: list[tuple[int, int]] = []  # link type, snap length
    while at + 12 <= len(data):
        kind = data[at : at + 4]
        if kind == b"\x0a\x0d\x0d\x0a":  # a section begins: its own byte order and interfaces
            order = "<" if data[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            interfaces = []
        code, length = struct.unpack_from(order + "II", data, at)
        if length < 12 or at + length > len(data):
            return
        body = data[at + 8 : at + length - 4]
        if code == 1:
            linktype, _, snaplen = struct.unpack_from(order + "HHI", body)
            interfaces.append((linktype, snaplen))
        elif code == 6:  # enhanced packet
            interface, _, _, captured = struct.unpack_from(order + "IIII", body)
            yield interfaces[interface][0], body[20 : 20 + captured]
        elif code == 2:  # the obsolete packet block
            interface, _, _, _, captured = struct.unpack_from(order + "HHIII", body)
            yield interfaces[interface][0], body[20 : 20 + captured]
        elif code == 3:  # simple packet
            linktype, snaplen = interfaces[0]
            original = struct.unpack_from(order + "I", body)[0]
            captured = min(original, snaplen or original, len(body) - 4)
            yield linktype, body[4 : 4 + captured]
        at += length


def _on_ethernet(linktype: int, frame: bytes) -> bytes | None:
    """`frame` with an Ethernet header in place of its own link header; None if it cannot have one."""
    if linktype == _ETHERNET:
        return frame
    if linktype in _RAW_TYPES:
        return _with_header(frame, _ethertype_by_version(frame))
    if linktype in (_NULL, _LOOP) and len(frame) >= 4:
        return _with_header(frame[4:], _ethertype_by_version(frame[4:]))
    if linktype == _SLL and len(frame) >= 16:
        return _with_header(frame[16:], frame[14:16])
    if linktype == _SLL2 and len(frame) >= 20:
        return _with_header(frame[20:], frame[0:2])
    if linktype == _PPP:
        start = 4 if frame[:2] == b"\xff\x03" else 2
        ethertype = {b"\x00\x21": b"\x08\x00", b"\x00\x57": b"\x86\xdd"}.get(frame[start - 2 : start])
        return _with_header(frame[start:], ethertype) if ethertype else None
    return None


def _with_header(packet: bytes, ethertype: bytes) -> bytes:
    return MACS + ethertype + packet


def _ethertype_by_version(packet: bytes) -> bytes:
    return b"\x86\xdd" if packet[:1] and packet[0] >> 4 == 6 else b"\x08\x00"

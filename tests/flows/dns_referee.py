"""Answers of DNS in plain Python: what bpf/host_dns.h must find, told again from RFC 1035."""

from __future__ import annotations

import ipaddress
import string
import struct

HEADER, MOST, LONGEST = 12, 2048, 253
A, CNAME, AAAA = 1, 5, 28
LETTERS = set((string.ascii_letters + string.digits + "-_").encode())


class Unreadable(Exception):
    """Not an answer to that question, or broken."""


class Missing(Unreadable):
    """It ends too early."""


def name_at(message: bytes, at: int, pointers_from: int) -> tuple[str, int]:
    """(a name, where the message goes on behind it)."""
    labels: list[str] = []
    start, follows, hops = at, 0, 0
    while True:
        if at >= len(message):
            raise Missing
        length = message[at]
        if length >= 0xC0:
            hops += 1
            if at + 1 >= len(message):
                raise Missing
            target = (length & 0x3F) << 8 | message[at + 1]
            follows = follows or at + 2
            if hops > 32 or not pointers_from <= target < start:
                raise Unreadable
            at = start = target
        elif length == 0:
            return ".".join(labels), follows or at + 1
        else:
            label = message[at + 1 : at + 1 + length]
            if length > 63 or len(label) < length or not set(label) <= LETTERS:
                raise Unreadable
            labels.append(label.decode().lower())
            if len(".".join(labels)) > LONGEST:
                raise Unreadable
            at += 1 + length


def question_at(message: bytes, at: int) -> tuple[str, int, int]:
    """(name, type, where the message goes on)."""
    name, at = name_at(message, at, len(message))
    if len(message) < at + 4:
        raise Missing
    kind, of = struct.unpack_from(">HH", message, at)
    if of != 1 or kind == 0:
        raise Unreadable
    return name, kind, at + 4


def answered(asked: bytes, message: bytes) -> list[tuple[str, str]]:
    """(address, name) for each that the answer gives. Raises Unreadable."""
    wanted, kind, _ = question_at(asked, 0)
    if len(message) < HEADER + 5:
        raise Missing
    told, of, at = question_at(message, HEADER)
    if (told, of) != (wanted, kind):
        raise Unreadable
    flags, _, count = struct.unpack_from(">HHH", message, 2)
    if kind not in (A, AAAA) or not wanted or flags & 0xF:
        return []
    cut = len(message) == MOST or bool(flags & 0x200)
    found: list[tuple[str, str]] = []
    for _ in range(count):
        try:
            owner, at = name_at(message, at, HEADER)
            if at + 10 > len(message):
                raise Missing
            of, group, _, length = struct.unpack_from(">HHIH", message, at)
            data = message[at + 10 : at + 10 + length]
            if len(data) < length:
                raise Missing
        except Unreadable:
            if cut:
                return found
            raise
        at += 10
        if group == 1 and owner == told:
            if of == CNAME:
                told, end = name_at(message[: at + length], at, HEADER)
                if end != at + length:
                    raise Unreadable
            elif of == kind and length == (4 if kind == A else 16) and worth(ipaddress.ip_address(data)):
                found.append((str(ipaddress.ip_address(data)), wanted))
        at += length
    return found


def worth(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether somebody talks to it."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.packed[0] not in (0, 127) and address.packed[0] < 224
    small = int(address) < 256
    return not small and address.packed[0] != 0xFF and address.ipv4_mapped is None

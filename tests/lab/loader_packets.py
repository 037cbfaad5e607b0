"""Packets of every kind, and what each is taken for."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tmlab.packets import ICMP, ICMPV6, MACS, TCP, UDP, frame, tcp, udp

from trafficmond import abi

A, B = "192.0.2.1", "192.0.2.2"
A6, B6 = "2001:db8::1", "2001:db8::2"
SCTP, GRE = 132, 47
SYN, ACK = 2, 16
IPV4, IPV6, QTAG, STAG = 0x0800, 0x86DD, 0x8100, 0x88A8


@dataclass(frozen=True)
class Expected:
    """A flow (`proto` and what follows), or `kind`: not_ip or why it is malformed."""

    kind: str = "flow"
    proto: int = 0
    sport: int = 0
    dport: int = 0
    payload: int = 0
    vlan: int = 0
    flags: int = 0
    bits: int = 0


def tagged(packet: bytes, *tags: tuple[int, int]) -> bytes:
    return packet[:12] + b"".join(struct.pack("!HH", *tag) for tag in tags) + packet[12:]


def changed(packet: bytes, at: int, *octets: int) -> bytes:
    return packet[:at] + bytes(octets) + packet[at + len(octets) :]


def with_options(packet: bytes, options: bytes) -> bytes:
    """An IPv4 packet with options of a multiple of four bytes."""
    longer = packet[:34] + options + packet[34:]
    total = len(longer) - 14
    return changed(longer, 14, 0x45 + len(options) // 4, 0, total >> 8, total & 255)


def extended(packet: bytes, *headers: tuple[int, bytes]) -> bytes:
    """An IPv6 packet with extension headers (their numbers, and each from its second byte on)."""
    numbers = [number for number, _ in headers] + [packet[20]]
    chain = b"".join(bytes([after]) + body for after, (_, body) in zip(numbers[1:], headers, strict=True))
    length = len(packet) - 54 + len(chain)
    return packet[:18] + struct.pack("!HB", length, numbers[0]) + packet[21:54] + chain + packet[54:]


OPTIONS = bytes([0, 1, 4, 0, 0, 0, 0])  # length 0, PadN
LONG_OPTIONS = bytes([1, 1, 12, *bytes(12)])
ROUTING = bytes([2, 4, 1, 0, 0, 0, 0, *bytes(16)])
AUTHENTICATION = bytes([4, 0, 0, *bytes(20)])  # 24 bytes: length in words, less two
FIRST, LATER = bytes([0, 0, 1, 0, 0, 0, 7]), bytes([0, 0, 0xB9, 0, 0, 0, 7])

UDP4, UDP6 = udp(A, B, 1000, 53, bytes(10)), udp(A6, B6, 1000, 53, bytes(10))
TCP4, TCP6 = tcp(A, B, 1000, 80, SYN), tcp(A6, B6, 1000, 80, ACK, bytes(7))
IS_UDP = Expected(proto=UDP, sport=1000, dport=53, payload=10, bits=abi.BIT_FIRST_PAYLOAD)
IS_FIRST = Expected(proto=UDP, sport=1000, dport=53, payload=10, bits=abi.BIT_FIRST_PAYLOAD | abi.BIT_MORE_FRAGMENTS)
IS_LATER = Expected(proto=UDP, payload=18, bits=abi.BIT_FIRST_PAYLOAD | abi.BIT_FRAGMENT)
SCTP_HEADER = struct.pack("!HHII", 1000, 2905, 1, 0)

PACKETS: dict[str, tuple[bytes, Expected]] = {
    "UDP": (UDP4, IS_UDP),
    "UDP over IPv6": (UDP6, IS_UDP),
    "UDP in a padded frame": (UDP4 + bytes(20), IS_UDP),
    "TCP SYN": (TCP4, Expected(proto=TCP, sport=1000, dport=80, flags=SYN)),
    "TCP over IPv6": (
        TCP6,
        Expected(proto=TCP, sport=1000, dport=80, flags=ACK, payload=7, bits=abi.BIT_FIRST_PAYLOAD),
    ),
    "TCP with options": (
        frame(A, B, TCP, struct.pack("!HHIIBBHHH", 1000, 80, 1, 0, 8 << 4, SYN, 9, 0, 0) + bytes(12 + 3)),
        Expected(proto=TCP, sport=1000, dport=80, flags=SYN, payload=3, bits=abi.BIT_FIRST_PAYLOAD),
    ),
    "SCTP": (frame(A, B, SCTP, SCTP_HEADER), Expected(proto=SCTP, sport=1000, dport=2905)),
    "ICMP echo": (frame(A, B, ICMP, bytes([8, 0, 0, 0, *bytes(4)])), Expected(proto=ICMP, sport=8, payload=4, bits=2)),
    "ICMPv6 unreachable": (
        frame(A6, B6, ICMPV6, bytes([1, 4, 0, 0])),
        Expected(proto=ICMPV6, sport=1, dport=4),
    ),
    "GRE, which has no ports": (frame(A, B, GRE, bytes(8)), Expected(proto=GRE, payload=8, bits=2)),
    "VLAN": (tagged(UDP4, (QTAG, 0x2005)), Expected(**{**IS_UDP.__dict__, "vlan": 5})),
    "QinQ": (tagged(UDP6, (STAG, 7), (QTAG, 5)), Expected(**{**IS_UDP.__dict__, "vlan": 7})),
    "three tags": (tagged(UDP4, (STAG, 7), (QTAG, 5), (QTAG, 6)), Expected(**{**IS_UDP.__dict__, "vlan": 7})),
    "IPv4 options": (with_options(UDP4, b"\x94\x04\0\0"), IS_UDP),
    "IPv4 with all the options there can be": (with_options(UDP4, b"\x01" * 40), IS_UDP),
    "first fragment": (changed(UDP4, 20, 0x20, 0), IS_FIRST),
    "later fragment": (changed(UDP4, 20, 0x00, 0x64), IS_LATER),
    "IPv6 options": (extended(UDP6, (0, OPTIONS), (60, LONG_OPTIONS)), IS_UDP),
    "IPv6 routing header": (extended(UDP6, (43, ROUTING)), IS_UDP),
    "IPv6 authentication header": (extended(UDP6, (51, AUTHENTICATION)), IS_UDP),
    "IPv6 first fragment": (extended(UDP6, (44, FIRST)), IS_FIRST),
    "IPv6 later fragment": (extended(UDP6, (44, LATER)), Expected(**{**IS_LATER.__dict__, "bits": 2 | 1 | 16})),
    "IPv6, eight extension headers": (extended(UDP6, *[(60, OPTIONS)] * 8), IS_UDP),
    "IPv6, no next header": (frame(A6, B6, 59, b""), Expected(proto=59)),
    "ARP": (MACS + struct.pack("!H", 0x0806) + bytes(28), Expected("not_ip")),
    "MPLS": (MACS + struct.pack("!HI", 0x8847, 16 << 12 | 1 << 8 | 64) + UDP4[14:], IS_UDP),
    "MPLS without an end": (MACS + struct.pack("!H", 0x8847) + bytes(28), Expected("short_vlan")),
    "half a VLAN tag": (UDP4[:12] + struct.pack("!HB", QTAG, 0), Expected("short_vlan")),
    "no IPv4 header": (UDP4[:33], Expected("short_ip")),
    "no IPv6 header": (UDP6[:53], Expected("short_ip")),
    "IPv4 options beyond the frame": (changed(UDP4[:38], 14, 0x4F, 0, 0, 24), Expected("bad_ip_length")),
    "IPv4 header of 16 bytes": (changed(UDP4, 14, 0x44), Expected("bad_ip_header")),
    "IPv5": (changed(UDP4, 14, 0x55), Expected("bad_ip_header")),
    "IPv4 in IPv6's place": (changed(UDP6, 14, 0x45), Expected("bad_ip_header")),
    "IPv4 longer than the frame": (UDP4[:-1], Expected("bad_ip_length")),
    "IPv4 shorter than its header": (changed(UDP4, 16, 0, 19), Expected("bad_ip_length")),
    "IPv6 longer than the frame": (UDP6[:-1], Expected("bad_ip_length")),
    "IPv6 extension header cut": (
        changed(extended(UDP6, (0, OPTIONS))[:58], 18, 0, 4),
        Expected("short_extension"),
    ),
    "IPv6 extension header too long": (
        extended(UDP6, (0, bytes([9]) + OPTIONS[1:])),
        Expected("short_extension"),
    ),
    "IPv6, nine extension headers": (extended(UDP6, *[(60, OPTIONS)] * 9), Expected("deep_extensions")),
    "UDP header cut": (changed(UDP4[:38], 16, 0, 24), Expected("short_transport")),
    "TCP header cut": (changed(TCP4[:44], 16, 0, 30), Expected("short_transport")),
    "ICMP header cut": (changed(UDP4[:36], 16, 0, 22, 0, 0, 0, 0, 64, ICMP), Expected("short_transport")),
    "SCTP header cut": (frame(A, B, SCTP, SCTP_HEADER[:8]), Expected("short_transport")),
    "TCP header of 16 bytes": (changed(TCP4, 46, 0x40), Expected("bad_transport")),
    "TCP options beyond the packet": (changed(TCP4, 46, 0xF0), Expected("bad_transport")),
    "UDP longer than the packet": (changed(UDP4, 38, 0, 99), Expected("bad_transport")),
    "UDP shorter than its header": (changed(UDP4, 38, 0, 7), Expected("bad_transport")),
}

"""Small packets made by hand, with right checksums, for tests that need a particular one."""

from __future__ import annotations

import ipaddress
import struct

from .namespaces import HOST_MAC, OUTSIDE_MAC

MACS = bytes.fromhex((HOST_MAC + OUTSIDE_MAC).replace(":", ""))  # destination, source
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58


def udp(src: str, dst: str, sport: int = 1024, dport: int = 9, payload: bytes = b"", *, vlan: int = 0) -> bytes:
    """An Ethernet frame with a UDP datagram, IPv4 or IPv6 by its addresses."""
    header = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0)
    return frame(src, dst, UDP, header + payload, check_at=6, vlan=vlan)


def tcp(src: str, dst: str, sport: int, dport: int, flags: int, payload: bytes = b"", *, vlan: int = 0) -> bytes:
    """An Ethernet frame with a TCP segment; `flags` as in the header's 14th byte (SYN 2, ACK 16)."""
    header = struct.pack("!HHIIBBHHH", sport, dport, 1, 0, 5 << 4, flags, 65535, 0, 0)
    return frame(src, dst, TCP, header + payload, check_at=16, vlan=vlan)


def vxlan(src: str, dst: str, vni: int, inside: bytes, sport: int = 49152) -> bytes:
    """An Ethernet frame in VXLAN (RFC 7348)."""
    return udp(src, dst, sport, 4789, struct.pack("!II", 0x08 << 24, vni << 8) + inside)


def frame(src: str, dst: str, protocol: int, body: bytes, *, check_at: int | None = None, vlan: int = 0) -> bytes:
    """An Ethernet frame around `body`, whose checksum goes to `check_at` (over the pseudo-header as well)."""
    source, target = ipaddress.ip_address(src).packed, ipaddress.ip_address(dst).packed
    if check_at is not None:
        pseudo = source + target + struct.pack("!II", len(body), protocol)
        body = body[:check_at] + struct.pack("!H", checksum(pseudo + body) or 0xFFFF) + body[check_at + 2 :]
    if len(source) == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0) + source + target
        packet = head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body
        ethertype = b"\x08\x00"
    else:
        packet = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + source + target + body
        ethertype = b"\x86\xdd"
    tag = struct.pack("!HH", 0x8100, vlan) if vlan else b""
    return MACS + tag + ethertype + packet


def checksum(data: bytes) -> int:
    """RFC 1071."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

"""What is compared: conversations, each with what it moved, when, and who is said to have begun it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class Ends(NamedTuple):
    """Who began, and with whom; the protocol by its name in small letters."""

    src: str
    sport: int
    dst: str
    dport: int
    protocol: str


@dataclass
class Sums:
    """What a conversation moved in both directions, from when to when, and which sides are said to have begun it."""

    packets: int = 0
    bytes: int = 0
    first: float = float("inf")
    last: float = float("-inf")
    began: set[tuple[str, int]] = field(default_factory=set)
    doubts: set[str] = field(default_factory=set)  # why the other side may be right about who began


Key = tuple[frozenset[tuple[str, int]], str]
Conversations = dict[Key, Sums]
_NAMES = {
    **{0: "hopopt", 1: "icmp", 2: "igmp", 4: "ipip", 6: "tcp", 8: "egp", 17: "udp", 27: "rdp", 33: "dccp", 41: "ipv6"},
    **{43: "ipv6-route", 44: "ipv6-frag", 46: "rsvp", 47: "gre", 50: "esp", 51: "ah", 58: "icmpv6", 59: "ipv6-nonxt"},
    **{60: "ipv6-opts", 88: "eigrp", 89: "ospf", 94: "ipip-94", 97: "etherip", 103: "pim", 108: "ipcomp", 112: "vrrp"},
    **{115: "l2tp", 124: "isis", 132: "sctp", 133: "fc", 135: "mobility", 136: "udplite", 137: "mpls-in-ip"},
    **{139: "hip", 140: "shim6", 142: "rohc", 143: "ethernet"},
}


def name_of(protocol: int) -> str:
    """A protocol's name in small letters (IANA, "Assigned Internet Protocol Numbers")."""
    return _NAMES.get(protocol, f"ip-{protocol}")


def add(
    found: Conversations,
    ends: Ends,
    first: float,
    last: float,
    packets: int,
    octets: int,
    doubt: str = "",
    began: int | None = 0,
) -> None:
    """Adds what moved between two ends; one that begins several times counts as begun by each who did.

    `began`: which of the ends, 0 or 1; None if this goes on with what had begun before.
    """
    sides = _sides(((ends.src, ends.sport), (ends.dst, ends.dport)))
    sums = found.setdefault((frozenset(sides), ends.protocol), Sums())
    sums.packets += packets
    sums.bytes += octets
    sums.first, sums.last = min(sums.first, first), max(sums.last, last)
    if began is not None:
        sums.began.add(sides[began])
    sums.doubts |= {doubt} - {""}


def key_of(sides: Iterable[tuple[str, int]], protocol: str) -> Key:
    """What a conversation is found by."""
    return frozenset(_sides(sides)), protocol


def _sides(sides: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return [(ipaddress.ip_address(address).compressed, port) for address, port in sides]


def apart(found: Conversations, what: str, packets: int, octets: int) -> None:
    """Adds packets that belong to no conversation."""
    if packets:
        sums = found.setdefault((frozenset({(what, 0)}), "none"), Sums())
        sums.packets += packets
        sums.bytes += octets

"""The two columnar batches: DELTA, one direction's packets since the last reading, from the data path or an offline
reader, and FLOW, the flow table's result for detectors, the store and the logs.

An address is two unsigned 64-bit words in host order, `hi` and `lo`; IPv4 is v4-mapped (hi 0, lo
0x0000ffffaabbccdd), with `family` telling 4 from 6. Times are epoch seconds (float64).
"""

import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from trafficmond import npt
from trafficmond.choice import Choice
from trafficmond.networks import Network
from trafficmond.protocols import WITH_PORTS

T = TypeVar("T")

V4_MAPPED = np.uint64(0x0000FFFF00000000)
NAT64 = np.uint64(0x0064FF9B << 32)  # `hi` of 64:ff9b::/96, whose addresses end with those of IPv4 (RFC 6052)

Batch = npt.NDArray[np.void]
Column = npt.NDArray[Any]

ENDPOINTS = [
    ("src_hi", "u8"),
    ("src_lo", "u8"),
    ("dst_hi", "u8"),
    ("dst_lo", "u8"),
    ("sport", "u2"),  # ICMP: type
    ("dport", "u2"),  # ICMP: code
    ("proto", "u1"),  # IANA number
    ("family", "u1"),  # 4 or 6
    ("direction", "u1"),  # model.Direction
    ("vlan", "u2"),  # outer id, 0: untagged
    ("ifindex", "u4"),
    ("verdict", "u4"),  # see trafficmond.verdict
]

DELTA = np.dtype(
    [
        *ENDPOINTS,
        ("inner", "u8"),  # the conversation inside a tunnel (names.Names.inners); 0: none, or not decoded
        ("owner", "u8"),  # egress: who sent the record's first packet (names.Names.owners); 0: not recorded
        ("packets", "u8"),
        ("bytes", "u8"),
        ("payload_bytes", "u8"),
        ("payload_packets", "u4"),
        ("first", "f8"),  # of the ledger record; offline of the delta
        ("last", "f8"),
        ("first_len", "u2"),  # wire length of the record's first and last packet
        ("last_len", "u2"),
        ("tcp_flags", "u1"),  # OR since the record began; offline over the delta
        ("first_flags", "u1"),  # TCP flags of the record's first packet
        ("bits", "u1"),  # abi.BIT_*
        ("ttl", "u1"),  # of the first packet
        ("new", "?"),  # the record began since the last reading
    ]
)

# A bidirectional flow: src is the initiator (who sent its first packet, or its SYN), dst the responder.
FLOW = np.dtype(
    [
        # keyed hash of the canonical five-tuple, interface, VLAN and `inner`; connections that follow one another on
        # the same ports share it, and differ in `first`
        ("id", "u8"),
        *ENDPOINTS,  # direction: of the initiator's packets; verdict: the latest of the initiator's
        ("inner", "u8"),  # as in DELTA
        ("owner", "u8"),  # owner on this host, from packets it sent (names.Names.owners); 0: unknown
        ("first", "f8"),
        ("last", "f8"),
        ("reply_first", "f8"),  # nan: never answered
        # since the flow began
        ("packets", "u8"),
        ("bytes", "u8"),
        ("payload_bytes", "u8"),
        ("reply_packets", "u8"),
        ("reply_bytes", "u8"),
        ("reply_payload_bytes", "u8"),
        ("payload_packets", "u4"),
        ("reply_payload_packets", "u4"),
        # in this batch
        ("d_packets", "u8"),
        ("d_bytes", "u8"),
        ("d_reply_packets", "u8"),
        ("d_reply_bytes", "u8"),
        ("tcp_flags", "u1"),  # OR of the initiator's
        ("reply_tcp_flags", "u1"),
        ("first_flags", "u1"),  # TCP flags of the flow's first packet
        ("bits", "u1"),  # abi.BIT_*; FIRST_PAYLOAD is that of the flow's first packet
        ("reply_bits", "u1"),  # ... FIRST_PAYLOAD: the responder's first packet carried payload; SPOKE_FIRST
        ("reply_first_flags", "u1"),  # TCP flags of the responder's first packet; 0: never answered
        ("first_len", "u2"),
        ("new", "?"),  # first seen in this batch
        ("ended", "?"),  # both sides closed, a reset, or idle for as long as its kind is remembered
    ]
)


def spread(rows: Column, most: int) -> Column:
    """At most so many of the rows, evenly spread, so that the start of a flood does not hide later rows."""
    if len(rows) <= most:
        return rows
    kept: Column = rows[np.arange(max(most, 0)) * len(rows) // max(most, 1)]
    return kept


def within(rows: Batch, side: str, network: Network) -> Column:
    """Whether each row's address of that side ("src", "dst") lies in a prefix."""
    mask, base, word = int(network.netmask), int(network.network_address), (1 << 64) - 1
    low, high = np.uint64(mask & word), np.uint64(mask >> 64)  # IPv4 without the upper half and the mapping prefix
    inside: Column = (rows["family"] == network.version) & (rows[side + "_lo"] & low == np.uint64(base & word))
    inside &= rows[side + "_hi"] & high == np.uint64(base >> 64)
    return inside


def of_prefixes(rows: Batch, sides: Sequence[str], wanted: Choice[Network]) -> Column:
    """Whether an address of one of the sides is in the chosen prefixes."""
    found: Column = np.zeros(len(rows), bool)
    for side in sides:
        for network in wanted.items:
            found |= within(rows, side, network)
    return found ^ wanted.but


def of_ports(rows: Batch, wanted: Choice[tuple[int, int]]) -> Column:
    """Whether a port of either side is among the chosen ones."""
    found: Column = np.zeros(len(rows), bool)
    for side in ("sport", "dport"):
        for first, last in wanted.items:
            found |= (rows[side] >= first) & (rows[side] <= last)
    return (found & np.isin(rows["proto"], WITH_PORTS)) ^ wanted.but


def empty(dtype: np.dtype[Any], count: int = 0) -> Batch:
    """A zeroed batch of `count` rows."""
    return np.zeros(count, dtype)


def take(rows: Batch, index: Column | slice) -> Batch:
    """`rows[index]`, several times faster: numpy copies structured rows a field at a time, opaque ones whole."""
    return _opaque(rows)[index].view(rows.dtype)


def copied(rows: Batch) -> Batch:
    """A copy of the rows; see `take`."""
    return _opaque(rows).copy().view(rows.dtype)


def put(rows: Batch, index: Column | slice, values: Batch) -> None:
    """`rows[index] = values` of the same dtype; see `take`."""
    _opaque(rows)[index] = _opaque(values)


def join(batches: Sequence[Batch]) -> Batch:
    """Batches of one dtype (at least one), one after the other; see `take`."""
    if len(batches) == 1:
        return batches[0]
    return np.concatenate([_opaque(batch) for batch in batches]).view(batches[0].dtype)


def _opaque(rows: Batch) -> Batch:
    if rows.dtype.hasobject:
        return rows  # numpy counts the references in it
    return rows.view(np.dtype((np.void, rows.dtype.itemsize)))


def split_address(packed: bytes) -> tuple[int, int]:
    """(hi, lo) of a packed IPv4 (4 bytes) or IPv6 (16 bytes) address."""
    if len(packed) == 4:
        return 0, int(V4_MAPPED) | int.from_bytes(packed, "big")
    return int.from_bytes(packed[:8], "big"), int.from_bytes(packed[8:], "big")


def address_text(hi: int, lo: int, family: int) -> str:
    if family == 4:
        return socket.inet_ntop(socket.AF_INET, (lo & 0xFFFFFFFF).to_bytes(4, "big"))
    return socket.inet_ntop(socket.AF_INET6, hi.to_bytes(8, "big") + lo.to_bytes(8, "big"))


def octets(hi: Column, lo: Column) -> Column:
    """Addresses as 16 bytes each, shape (rows, 16)."""
    words = np.empty((len(hi), 2), ">u8")
    words[:, 0], words[:, 1] = hi, lo
    return words.view(np.uint8)


def left_aligned(hi: Column, lo: Column, family: Column) -> tuple[Column, Column]:
    """The words of addresses in the form of `policy.prefixes` and databases: IPv4 in the upper half of `hi`."""
    four = family == 4
    return np.where(four, lo << np.uint64(32), hi), np.where(four, np.uint64(0), lo)


def addresses(hi: Column, lo: Column, family: Column) -> list[str]:
    """`address_text` of many rows."""
    v4 = family == 4
    if v4.all():
        packed = lo.astype(">u4").tobytes()
        ntoa = socket.inet_ntoa
        return [ntoa(packed[at : at + 4]) for at in range(0, len(packed), 4)]
    packed = octets(hi, lo).tobytes()
    ntop, inet, inet6 = socket.inet_ntop, socket.AF_INET, socket.AF_INET6
    return [
        ntop(inet, packed[at + 12 : at + 16]) if is_v4 else ntop(inet6, packed[at : at + 16])
        for at, is_v4 in zip(range(0, len(packed), 16), v4.tolist(), strict=True)
    ]


def named(numbers: list[int], name: Callable[[int], T]) -> list[T]:
    """The name of each number, looked up once per distinct number."""
    known = {number: name(number) for number in set(numbers)}
    return [known[number] for number in numbers]

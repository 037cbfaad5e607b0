"""Prefixes in columns, and parsing them from text.

Addresses are left-aligned in 128 bits, split into two host-order words: an IPv4 address is `addr << 32` in `hi` with
`lo` 0, so that both families shift, mask and compare alike. (Flow batches hold IPv4 v4-mapped.) Texts go through
`inet_pton` all at once; only if that fails, each one is parsed by itself to find the mistakes.
"""

import socket
from collections.abc import Sequence
from itertools import repeat
from typing import Self

import numpy as np

from trafficmond import networks, npt
from trafficmond.dataclass import dataclass
from trafficmond.flows.batch import address_text
from trafficmond.npt import U8, U64, Bool

_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_V4_MAPPED = np.uint64(0xFFFF)
_LENGTHS4 = {"": 32} | {str(length): length for length in range(33)}
_LENGTHS6 = {"": 128} | {str(length): length for length in range(129)}


@dataclass(frozen=True, slots=True, eq=False)
class Prefixes:
    """Columns of equal length: left-aligned masked address (`hi`, `lo`), prefix length, family (4 or 6)."""

    hi: U64
    lo: U64
    plen: U8
    family: U8

    def __len__(self) -> int:
        return len(self.hi)

    def take(self, index: slice | npt.NDArray[np.int64] | Bool) -> Self:
        return type(self)(self.hi[index], self.lo[index], self.plen[index], self.family[index])

    def same(self, other: Self) -> bool:
        columns = (self.hi, other.hi), (self.lo, other.lo), (self.plen, other.plen), (self.family, other.family)
        return all(np.array_equal(mine, others) for mine, others in columns)

    def text(self, row: int) -> str:
        """One prefix as people write it; a host route without its length."""
        family, length = int(self.family[row]), int(self.plen[row])
        address = key_text(int(self.hi[row]), int(self.lo[row]), family)
        return address if length == (32 if family == 4 else 128) else f"{address}/{length}"


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """Parsed texts: a row for each valid one; `bad`: position -> error."""

    prefixes: Prefixes
    bad: dict[int, str]
    host_bits: int  # how many had host bits, which are cleared


def concat(parts: Sequence[Prefixes]) -> Prefixes:
    """All rows of `parts`, in order."""
    if not parts:
        return zeroed(0)
    if len(parts) == 1:
        return parts[0]
    lo, at = np.zeros(sum(map(len, parts)), np.uint64), 0
    for part in parts:
        if part.lo.any():  # zero for IPv4; untouched pages take no memory
            lo[at : at + len(part)] = part.lo
        at += len(part)
    return Prefixes(
        np.concatenate([part.hi for part in parts]),
        lo,
        np.concatenate([part.plen for part in parts]),
        np.concatenate([part.family for part in parts]),
    )


def zeroed(rows: int) -> Prefixes:
    """So many rows, to be filled."""
    words, small = (np.zeros((2, rows), kind) for kind in (np.uint64, np.uint8))
    return Prefixes(*words, *small)


def key_text(hi: int, lo: int, family: int) -> str:
    """A left-aligned address as people write it."""
    return address_text(hi, hi >> 32 if family == 4 else lo, family)


def mask(length: npt.NDArray[np.int64]) -> U64:
    """The 64-bit netmask of each length; lengths below 0 count as 0, above 64 as 64."""
    bits = np.clip(length, 0, 64)
    # A shift by 64 is undefined, hence the two halves.
    return np.where(bits == 0, np.uint64(0), _ONES << np.minimum(64 - bits, 63).astype(np.uint64))


def masked(rows: Prefixes) -> tuple[Prefixes, int]:
    """`rows` with host bits cleared, and how many had some."""
    length = rows.plen.astype(np.int64)
    hi = rows.hi & mask(length)
    lo = rows.lo & mask(length - 64)
    odd = int(np.count_nonzero((hi != rows.hi) | (lo != rows.lo)))
    return Prefixes(hi, lo, rows.plen, rows.family), odd


def parse_address(text: str) -> tuple[int, int, int]:
    """(hi, lo, family) of an address, left-aligned; IPv4-mapped ones are IPv4. Raises ValueError naming valid forms."""
    hi, lo, _, family = _parse_one(str(networks.parse_address(text)))
    return hi, lo, family


def parse_one(text: str) -> Prefixes:
    """The prefix in `text`, host bits cleared. Raises ValueError naming valid forms."""
    hi, lo, plen, family = _parse_one(text)
    return masked(_columns([hi], [lo], [plen], [family]))[0]


def parse(texts: Sequence[str]) -> Parsed:
    """Parses prefixes and addresses, one per text, without surrounding space, of both families."""
    try:
        rows = _parse_all(texts)
        bad: dict[int, str] = {}
    except (OSError, KeyError, ValueError):
        rows, bad = _parse_each(texts)
    rows, host_bits = masked(_unmapped(rows))
    return Parsed(rows, bad, host_bits)


def _parse_all(texts: Sequence[str]) -> Prefixes:
    """All of `texts`, fast; raises OSError or KeyError if one is wrong, without saying which."""
    parts = [text.partition("/") for text in texts]
    if any(slash and not length for _, slash, length in parts):
        raise KeyError("a slash without a length")
    six = np.fromiter((":" in part[0] for part in parts), np.bool_, len(parts))
    if not six.any():
        return _parse_v4(parts)
    if six.all():
        return _parse_v6(parts)
    v4 = _parse_v4([part for part in parts if ":" not in part[0]])
    v6 = _parse_v6([part for part in parts if ":" in part[0]])
    place = np.empty(len(parts), np.int64)
    place[~six] = np.arange(len(v4))
    place[six] = len(v4) + np.arange(len(v6))
    return concat([v4, v6]).take(place)


def _parse_v4(parts: Sequence[tuple[str, str, str]]) -> Prefixes:
    packed = b"".join(map(socket.inet_pton, repeat(socket.AF_INET), [part[0] for part in parts]))
    hi = np.frombuffer(packed, ">u4").astype(np.uint64) << np.uint64(32)
    plen = np.frombuffer(bytes([_LENGTHS4[part[2]] for part in parts]), np.uint8)
    return Prefixes(hi, np.zeros(len(hi), np.uint64), plen, np.full(len(hi), 4, np.uint8))


def _parse_v6(parts: Sequence[tuple[str, str, str]]) -> Prefixes:
    packed = b"".join(map(socket.inet_pton, repeat(socket.AF_INET6), [part[0] for part in parts]))
    halves = np.frombuffer(packed, ">u8").astype(np.uint64).reshape(-1, 2)
    plen = np.frombuffer(bytes([_LENGTHS6[part[2]] for part in parts]), np.uint8)
    return Prefixes(halves[:, 0].copy(), halves[:, 1].copy(), plen, np.full(len(halves), 6, np.uint8))


def _parse_each(texts: Sequence[str]) -> tuple[Prefixes, dict[int, str]]:
    rows: list[tuple[int, int, int, int]] = []
    bad: dict[int, str] = {}
    for position, text in enumerate(texts):
        try:
            rows.append(_parse_one(text))
        except ValueError as error:
            bad[position] = str(error)
    return _columns(*zip(*rows, strict=True)) if rows else concat([]), bad


def _parse_one(text: str) -> tuple[int, int, int, int]:
    """(hi, lo, prefix length, family) with host bits kept; raises ValueError saying what is wrong."""
    packed, length = networks.split(text)
    if len(packed) == 4:
        return int.from_bytes(packed, "big") << 32, 0, length, 4
    return int.from_bytes(packed[:8], "big"), int.from_bytes(packed[8:], "big"), length, 6


def _columns(hi: Sequence[int], lo: Sequence[int], plen: Sequence[int], family: Sequence[int]) -> Prefixes:
    return Prefixes(
        np.array(hi, np.uint64), np.array(lo, np.uint64), np.array(plen, np.uint8), np.array(family, np.uint8)
    )


def _unmapped(rows: Prefixes) -> Prefixes:
    """IPv4-mapped IPv6 (::ffff:a.b.c.d/96 and longer) as IPv4, as it is in packets."""
    mapped = (rows.family == 6) & (rows.plen >= 96) & (rows.hi == 0) & (rows.lo >> np.uint64(32) == _V4_MAPPED)
    if not mapped.any():
        return rows
    return Prefixes(
        np.where(mapped, rows.lo << np.uint64(32), rows.hi),
        np.where(mapped, np.uint64(0), rows.lo),
        np.where(mapped, rows.plen - np.uint8(96), rows.plen),
        np.where(mapped, np.uint8(4), rows.family),
    )

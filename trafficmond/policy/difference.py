"""The prefixes that only one of two sets of rows has, in little memory: lists are long, and change little."""

import sys
from collections.abc import Iterator

import numpy as np

from trafficmond import npt
from trafficmond.npt import Bool
from trafficmond.policy import compiled
from trafficmond.policy.prefixes import Prefixes, concat

_AT_ONCE = 1 << 16  # rows sorted at once
_TOP = 3 if sys.byteorder == "little" else 0  # of the four 16-bit parts of a 64-bit word, that of its highest bits
_SLOTS = 1 << 16


def top_bits(rows: Prefixes) -> npt.NDArray[np.uint16]:
    """The upper 16 bits of each address: its slot of a root. No copy."""
    return np.ascontiguousarray(rows.hi).view(np.uint16)[_TOP::4]


def alike(one: Prefixes, other: Prefixes) -> Bool:
    """A mask of the rows that are equal in two sets with the same number of rows."""
    same: Bool = one.hi == other.hi
    for mine, others in (one.lo, other.lo), (one.plen, other.plen), (one.family, other.family):
        np.logical_and(same, mine == others, out=same)
    return same


def ends_alike(one: Prefixes, other: Prefixes) -> tuple[int, int]:
    """How many rows are equal at the beginning of both, and of the other rows how many at the end."""
    most = min(len(one), len(other))
    head = _leading(alike(one.take(slice(most)), other.take(slice(most))))
    rest = most - head
    tails = (rows.take(slice(len(rows) - rest, None)) for rows in (one, other))
    return head, _leading(alike(*tails)[::-1])


def only_in_one(one: Prefixes, other: Prefixes, most: int) -> Prefixes | None:
    """The prefixes that only one of them has, in any order; None: more than about `most`."""
    head, tail = ends_alike(one, other)
    one, other = (rows.take(slice(head, len(rows) - tail)) for rows in (one, other))
    found, count = [], 0
    for mine, others in _parts(one, other):
        found.append(_unmatched(mine, others))
        count += len(found[-1])
        if count > most:
            return None
    return concat(found)


def _leading(same: Bool) -> int:
    return len(same) if same.all() else int(np.argmin(same))


def _parts(one: Prefixes, other: Prefixes) -> Iterator[tuple[Prefixes, Prefixes]]:
    """Both sets, by consecutive parts of the address space."""
    if len(one) + len(other) <= _AT_ONCE:
        yield one, other
        return
    rows = np.zeros(_SLOTS, np.int64)
    for part in (one, other):
        rows += np.bincount(top_bits(part), minlength=_SLOTS)
    share = (np.cumsum(rows) - rows) // _AT_ONCE  # of each slot
    for number in np.unique(share[rows > 0]).tolist():
        first, last = np.searchsorted(share, (number, number + 1)).tolist()
        yield _between(one, first, last), _between(other, first, last)


def _between(rows: Prefixes, first: int, last: int) -> Prefixes:
    slot = top_bits(rows)
    within = slot >= first
    return rows.take(np.logical_and(within, slot <= last - 1, out=within))


def _unmatched(one: Prefixes, other: Prefixes) -> Prefixes:
    side = np.repeat(np.array([0, 1], np.uint8), (len(one), len(other)))
    rows, order = compiled.in_order(concat([one, other]), side)
    side = side[order]
    begins = np.ones(len(rows), np.bool_)
    begins[1:] = ~alike(rows.take(slice(1, None)), rows.take(slice(-1)))
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(rows)) - 1
    return rows.take(first[side[first] == side[last]])

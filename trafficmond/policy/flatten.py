"""Nested prefixes -> boundaries: sorted addresses, each with the entry that holds from there to the next one.

Prefixes are painted over the boundaries from the weakest and widest to the strongest and longest, all of one length at
once; a prefix falls back to the entry below it when it expires, and for services that it does not name.

An address is 128 bits, but nearly all prefixes end within its upper half. So there are two planes: the upper one has
the prefixes up to /64 (all of IPv4's); where longer ones exist, the upper half's value gets a boundary of its own whose
entry names a group, and the group has its own boundaries in the lower half.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from trafficmond import npt
from trafficmond.policy import compiled
from trafficmond.policy.layout import CROSS, POINTER

U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]

_ONE = np.uint64(1)
_WIDTHS = np.array([0, *(1 << 64 - length for length in range(1, 65))], np.uint64)  # of the upper half, by length


@dataclass(frozen=True, slots=True, eq=False)
class Layered:
    """Prefixes of one family and direction by address and length, and when each is painted: rows of one layer do not
    overlap."""

    hi: U64
    lo: U64
    plen: I64
    rank: I64  # class of precedence: a higher one paints over every lower one
    layer: npt.NDArray[np.integer[Any]]  # the lowest is painted first
    rule: I64
    through: npt.NDArray[np.bool_]  # the entry below shows through: its leaf depends on that

    def take(self, index: I64 | slice) -> Layered:
        """The rows at `index`."""
        return Layered(*(getattr(self, each.name)[index] for each in fields(self)))


class Leaves(Protocol):
    def fixed(self, rule: I64) -> U32:
        """Leaf of each rule that hides the entries below."""

    def over(self, rule: I64, below: U32) -> U32:
        """Leaf of each other rule, over `below`, the leaf it falls back to."""


@dataclass(frozen=True, slots=True, eq=False)
class Boundaries:
    """`at` ascending; `entry[i]` holds for addresses from `at[i]` up to `at[i + 1]`."""

    at: U64
    entry: U32


@dataclass(frozen=True, slots=True, eq=False)
class Flat:
    """The two planes: `POINTER | CROSS | g` in `upper` leads to group g, from `starts[g]` in `lower`."""

    upper: Boundaries
    lower: Boundaries
    starts: I64

    @property
    def groups(self) -> int:
        return len(self.starts) - 1


def ranges(first: I64, count: I64) -> I64:
    """first[0], first[0] + 1, ... (count[0] of them), then the same for the others."""
    total = int(count.sum())
    offset = np.cumsum(count) - count
    return np.asarray(np.repeat(first - offset, count) + np.arange(total))


def flatten(rows: Layered, default: int, leaves: Leaves) -> Flat:
    """The boundaries that `rows` make over `default`."""
    short = rows.plen <= 64
    long_rows = np.flatnonzero(~short)
    upper = rows.take(np.flatnonzero(short) if len(long_rows) else slice(None))
    groups, group_of = np.unique(rows.hi[long_rows], return_inverse=True)

    past = upper.hi + _WIDTHS[upper.plen]  # 0: beyond the last address
    at, begin, end = compiled.bounds(upper.hi, past, groups)
    entry = np.full(len(at), default, np.uint32)
    rank = np.zeros(len(at) if len(groups) else 0, np.uint32)
    for part in _layers(upper.layer):
        first, last = begin[part], end[part]
        compiled.paint(entry, first, last, _leaves_of(upper, part, entry, first, leaves))
        if len(groups):
            compiled.paint(rank, first, last, upper.rank[part].astype(np.uint32))
    if not len(groups):
        return Flat(_merged(at, entry), Boundaries(at[:0], entry[:0]), np.zeros(1, np.int64))

    place = np.searchsorted(at, groups)
    # A stronger class over the whole upper half leaves nothing of a weaker one within it.
    seen = rows.rank[long_rows] >= rank[place][group_of]
    lower, starts = _lower(rows, long_rows[seen], group_of[seen], entry[place], leaves)
    entry[place] = POINTER | CROSS | np.arange(len(groups), dtype=np.uint32)
    return Flat(_merged(at, entry), lower, starts)


def _lower(rows: Layered, index: I64, group: I64, base: U32, leaves: Leaves) -> tuple[Boundaries, I64]:
    """Boundaries of each group within its lower half; each begins at 0 with the entry `base` it is painted over."""
    count = len(base)
    first = rows.lo[index]
    past = first + (_ONE << (128 - rows.plen[index]).astype(np.uint64))  # 0: the next group's beginning
    all_group = np.concatenate([np.arange(count + 1), group, group + (past == 0)])
    all_at = np.concatenate([np.zeros(count + 1, np.uint64), first, past])
    order = np.lexsort((all_at, all_group))
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(all_group[order]) != 0) | (all_at[order][1:] != all_at[order][:-1])
    position = np.empty(len(order), np.int64)
    position[order] = np.cumsum(new) - 1
    at, owner = all_at[order][new][:-1], all_group[order][new][:-1]
    starts = position[: count + 1]
    begin, end = position[count + 1 : count + 1 + len(index)], position[count + 1 + len(index) :]
    entry = base[owner]
    for part in _layers(rows.layer[index]):
        compiled.paint(entry, begin[part], end[part], _leaves_of(rows, index[part], entry, begin[part], leaves))
    return Boundaries(at, entry), starts


def _leaves_of(rows: Layered, index: I64, entry: U32, begin: I64, leaves: Leaves) -> U32:
    """Leaves of the rows at `index`, to be painted over `entry` from `begin` on."""
    through = rows.through[index]
    if not through.any():
        return leaves.fixed(rows.rule[index])
    leaf = np.empty(len(index), np.uint32)
    leaf[~through] = leaves.fixed(rows.rule[index][~through])
    leaf[through] = leaves.over(rows.rule[index][through], entry[begin[through]])
    return leaf


def _layers(layer: npt.NDArray[np.integer[Any]]) -> list[I64]:
    """Row numbers of each distinct value of `layer`, ascending."""
    if not len(layer):
        return []
    order = np.argsort(layer, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(layer[order])) + 1)


def _merged(at: U64, entry: U32) -> Boundaries:
    """The boundaries without those that change nothing."""
    keep = np.ones(len(at), np.bool_)
    np.not_equal(entry[1:], entry[:-1], out=keep[1:])
    return Boundaries(at[keep], entry[keep])

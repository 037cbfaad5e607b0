"""Nested prefixes -> boundaries: sorted addresses, each with the entry that holds from there to the next one.

Prefixes are painted over the boundaries from the weakest and widest to the strongest and longest, all of one length at
once; a prefix falls back to the entry below it when it expires, and for services that it does not name.

An address is 128 bits, but nearly all prefixes end within its upper half. So there are two planes: the upper one has
the prefixes up to /64 (all of IPv4's); where longer ones exist, the upper half's value gets a boundary of its own whose
entry names a group, and the group has its own boundaries in the lower half.
"""

from typing import Any, Self

import numpy as np

from trafficmond import npt
from trafficmond.dataclass import dataclass, fields
from trafficmond.npt import I64, U32, U64
from trafficmond.policy import compiled
from trafficmond.policy.layout import CROSS, POINTER
from trafficmond.policy.leaves import RuleLeaves

_ONE = np.uint64(1)
_WIDTHS = np.array([0, *(1 << 64 - length for length in range(1, 65))], np.uint64)  # of the upper half, by length


@dataclass(frozen=True, slots=True, eq=False)
class Layered:
    """Prefixes of one family and direction, and when each is painted: rows of one layer do not overlap."""

    hi: U64
    lo: U64
    plen: I64
    rank: I64  # class of precedence: a higher one paints over every lower one
    layer: npt.NDArray[np.integer[Any]]  # the lowest is painted first
    rule: I64
    through: npt.NDArray[np.bool_]  # the entry below shows through: its leaf depends on that

    def take(self, index: I64 | slice) -> Self:
        return type(self)(*(getattr(self, each.name)[index] for each in fields(self)))


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


def flatten(rows: Layered, default: int, leaves: RuleLeaves) -> Flat:
    """The boundaries that `rows` make over `default`."""
    short = rows.plen <= 64
    long_rows = np.flatnonzero(~short)
    upper = rows.take(np.flatnonzero(short) if len(long_rows) else slice(None))
    groups, group_of = np.unique(rows.hi[long_rows], return_inverse=True)

    past = upper.hi + _WIDTHS[upper.plen]  # 0: beyond the last address
    at, begin, end = compiled.bounds(upper.hi, past, groups)
    weakest_class = int(upper.rank.min(initial=0))
    entry = np.full(len(at), default, np.uint32)
    hidden = np.zeros(len(at) if len(groups) else 0, np.uint32)  # the class that hides all weaker ones
    place = np.asarray(np.searchsorted(at, groups))
    weakest = np.full(len(groups), np.iinfo(np.int64).max)
    np.minimum.at(weakest, group_of, rows.rank[long_rows])
    base, held = np.zeros(len(groups), np.uint32), np.zeros(len(groups), np.bool_)
    index, group = [long_rows], [group_of]
    for part in _layers(upper.layer):
        first, last, rank = begin[part], end[part], upper.rank[part]
        # What is stronger than a longer prefix of a group is painted over it, there.
        stronger = np.flatnonzero(weakest < rank[0])
        if len(stronger):
            fresh = stronger[~held[stronger]]
            base[fresh], held[fresh] = entry[place[fresh]], True
            row = np.asarray(np.searchsorted(first, place[stronger], "right")) - 1
            covers = (row >= 0) & (last[row] > place[stronger])
            index.append(np.flatnonzero(short)[part[row[covers]]])
            group.append(stronger[covers])
        mixed = bool(rank[0] > weakest_class)
        compiled.paint(entry, *_painted(upper, part, entry, first, last, leaves, mixed))
        if len(groups):
            hides = ~upper.through[part]
            compiled.paint(hidden, first[hides], last[hides], rank[hides].astype(np.uint32))
    if not len(groups):
        return Flat(_merged(at, entry), Boundaries(at[:0], entry[:0]), np.zeros(1, np.int64))

    base[~held] = entry[place[~held]]
    found, of = np.concatenate(index), np.concatenate(group)
    seen = rows.rank[found] >= hidden[place][of]
    lower, starts = _lower(rows, found[seen], of[seen], base, leaves)
    entry[place] = POINTER | CROSS | np.arange(len(groups), dtype=np.uint32)
    return Flat(_merged(at, entry), lower, starts)


def _lower(rows: Layered, index: I64, group: I64, base: U32, leaves: RuleLeaves) -> tuple[Boundaries, I64]:
    """Boundaries of each group within its lower half; each begins at 0 with the entry `base` it is painted over. A
    prefix of up to /64 is all of it."""
    count = len(base)
    plen = np.maximum(rows.plen[index], 65)
    whole = rows.plen[index] < 65
    first = np.where(whole, np.uint64(0), rows.lo[index])
    past = np.where(whole, np.uint64(0), first + (_ONE << (128 - plen).astype(np.uint64)))  # 0: the next group
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
        compiled.paint(entry, *_painted(rows, index[part], entry, begin[part], end[part], leaves, mixed=True))
    return Boundaries(at, entry), starts


def _painted(
    rows: Layered, index: I64, entry: U32, begin: I64, end: I64, leaves: RuleLeaves, mixed: bool
) -> tuple[I64, I64, U32]:
    """The beginnings, ends and leaves of what the rows at `index` paint over `entry` from `begin` to `end`. `mixed`:
    weaker classes are below, whose prefixes may be longer, so that one row is over several entries."""
    rule, through = rows.rule[index], rows.through[index]
    if not through.any():
        return begin, end, leaves.fixed(rule)
    if mixed:
        cuts = np.flatnonzero(entry[1:] != entry[:-1]) + 1
        low, high = np.searchsorted(cuts, begin, "right"), np.searchsorted(cuts, end)
        inner = np.where(through, np.maximum(high - low, 0), 0)
        row = np.repeat(np.arange(len(index)), inner + 1)
        heads = np.cumsum(inner + 1) - (inner + 1)
        at = np.zeros(len(row), np.int64)
        is_head = np.zeros(len(row), np.bool_)
        is_head[heads] = True
        at[heads], at[~is_head] = begin, cuts[ranges(low, inner)]
        past = np.append(at[1:], 0)
        past[np.append(heads[1:] - 1, len(row) - 1)] = end
        begin, end, rule, through = at, past, rule[row], through[row]
    leaf = np.empty(len(rule), np.uint32)
    leaf[~through] = leaves.fixed(rule[~through])
    leaf[through] = leaves.over(rule[through], entry[begin[through]])
    return begin, end, leaf


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

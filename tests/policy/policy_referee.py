"""What the loops in C do that compile the verdict table, again with numpy: the referee that they are held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trafficmond.flows.batch import Column
from trafficmond.policy.flatten import ranges
from trafficmond.policy.layout import BLOCK_BITS
from trafficmond.policy.prefixes import Prefixes

_NO_CODE = -1


def in_order(rows: Prefixes, tail: Column) -> tuple[Prefixes, Column]:
    order = np.lexsort((tail, rows.plen, rows.lo, rows.hi, rows.family))
    return rows.take(order), order


def bounds(first: Column, past: Column, groups: Column) -> tuple[Column, Column, Column]:
    at = np.unique(np.concatenate([np.zeros(1, np.uint64), first, past, groups, groups + np.uint64(1)]))
    return at, np.searchsorted(at, first), np.where(past == 0, len(at), np.searchsorted(at, past))


def paint(target: Column, begin: Column, end: Column, value: Column) -> None:
    target[ranges(begin, end - begin)] = np.repeat(value, end - begin)


def codes(entry: Column, palette: Column) -> Column:
    place = np.minimum(np.searchsorted(palette, entry), len(palette) - 1)
    return np.where(palette[place] == entry, place, _NO_CODE).astype(np.int16)


def codable(at: Column, code: Column, nodes: Sequence[Column], shift: int) -> Column:
    start, first, count, base = nodes
    node = np.repeat(np.arange(len(start)), count)
    index = ranges(first, count)
    inside = at[index] - start[node] & (np.uint64(1) << np.uint64(64 - BLOCK_BITS - shift)) - np.uint64(1)
    wrong = node[(inside != 0) | (code[index] == _NO_CODE)]
    return (np.bincount(wrong, minlength=len(start)) == 0) & (code[base] != _NO_CODE)


def blocks_of_bytes(at: Column, code: Column, nodes: Sequence[Column], shift: int) -> Column:
    return code[slots(at, nodes, BLOCK_BITS, shift + BLOCK_BITS)[2]].astype(np.uint8)


def slots(at: Column, nodes: Sequence[Column], bits: int, shift: int) -> tuple[Column, Column, Column]:
    start, firsts, counts, bases = nodes
    each, total = 1 << bits, len(start) << bits
    width = np.uint64(64 - shift)  # of a slot, in bits
    index = ranges(firsts, counts)
    offset = at[index] - np.repeat(start, counts)
    slot = np.repeat(np.arange(len(start)) * each, counts) + (offset >> width).astype(np.int64)
    inside = offset & ((np.uint64(1) << width) - np.uint64(1)) != 0
    base = np.zeros(total, np.int32)
    base[::each] = bases
    # A boundary inside a slot is the base of the next one, unless that belongs to another node.
    follows = slot + inside
    same = (follows % each != 0) | ~inside
    base[follows[same]] = index[same]  # ascending, so the last one before the slot stays
    np.maximum.accumulate(base, out=base)
    slot, index = slot[inside], index[inside]
    first = np.zeros(total, np.int32)
    first[slot[::-1]] = index[::-1]  # descending, so the smallest stays
    return first, np.bincount(slot, minlength=total).astype(np.int32), base


LOOPS = in_order, bounds, paint, codes, codable, blocks_of_bytes, slots

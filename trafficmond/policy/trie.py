"""Compiles boundaries into the words of a multibit trie with range chunks (layout: bpf/abi.h).

A root has 2^16 entries, a block below it 256. Each level is built for all its nodes at once. If the subtree of a slot
has few boundaries, it becomes a chunk (the sorted boundaries) instead of a block. If it has more, in few slots, it
becomes two levels of chunks. So table and walk are bounded for any prefixes, unlike those of a pure multibit trie. A
block with nothing below it and all leaves in the palette is written in bytes, a quarter of the size.
"""

from collections.abc import Iterable
from typing import Self

import numpy as np

from trafficmond import abi, npt
from trafficmond.dataclass import dataclass
from trafficmond.npt import I64, U32, U64
from trafficmond.policy import compiled
from trafficmond.policy.flatten import Boundaries, Flat, ranges
from trafficmond.policy.layout import (
    BLOCK_BITS,
    BLOCK_UNITS,
    BYTES,
    BYTES_UNITS,
    CHUNK,
    CROSS,
    HEADER_UNITS,
    POINTER,
    UNIT,
    UNIT_WORDS,
)

_PAIR_STEP = abi.CHUNK_MAX + 1
_PAIR_MAX = _PAIR_STEP * _PAIR_STEP - 1  # boundaries that two levels of chunks hold
_FEW = 10  # boundaries, beyond which a block of bytes is faster than a chunk, and about as small
_STEP_WORDS = 1 << 20  # that a large table grows by
_CROWD = 8  # boundaries per slot, from which a block is not worth its kilobyte


@dataclass(frozen=True, slots=True, eq=False)
class _Nodes:
    """Nodes of one level in address order: first address, the boundaries inside (`first`, `count`), and the boundary
    whose entry holds at the node's first address (`base`)."""

    start: U64
    first: I64
    count: I64
    base: I64

    def pick(self, index: I64) -> Self:
        return type(self)(self.start[index], self.first[index], self.count[index], self.base[index])

    @property
    def columns(self) -> tuple[U64, I64, I64, I64]:
        """The columns, as the C loops take them."""
        return self.start, self.first, self.count, self.base


@dataclass(frozen=True, slots=True, eq=False)
class _Plane(Boundaries):
    """Boundaries with the place of each entry in the palette; -1: it has none."""

    code: npt.NDArray[np.int16]


class Builder:
    """Writes tries and records into one array, which grows, so that large tables are not in memory twice.

    `palette`: leaves, ascending, that blocks may name by their place in it.
    """

    def __init__(self, palette: U32, units: int = 0) -> None:
        """`units` of a table exist already, header included, and additions follow them. 0: a new table."""
        self._palette = palette
        self._before = units
        self.units = units or HEADER_UNITS  # used so far
        self._words = np.zeros((self.units - units) * UNIT_WORDS, np.uint32)

    def words(self) -> U32:
        """A new table with everything added, a whole number of pages; the builder is empty then."""
        words, self._words = self._words, self._words[:0]
        words.resize(-(-self.units // abi.PAGE_UNITS) * abi.PAGE_WORDS, refcheck=False)
        words[abi.HDR_PALETTE : abi.HDR_PALETTE + len(self._palette)] = self._palette
        return words

    def added(self) -> tuple[int, U32]:
        """Everything added so far: first word and content."""
        return self._before * UNIT_WORDS, self._words[: (self.units - self._before) * UNIT_WORDS]

    def add(self, content: U32) -> int:
        """Appends `content` as it is; returns its first unit."""
        unit = self.units
        self.units += -(-len(content) // UNIT_WORDS)
        self._write(unit, content)
        return unit

    def _write(self, unit: int, content: U32) -> None:
        at = (unit - self._before) * UNIT_WORDS
        self._grow()
        self._words[at : at + len(content)] = content

    def _grow(self) -> None:
        """Makes room for the used units; the kernel moves pages instead of copying."""
        needed = (self.units - self._before) * UNIT_WORDS
        if needed > len(self._words):
            self._words.resize(max(needed, min(2 * len(self._words), len(self._words) + _STEP_WORDS)), refcheck=False)

    def add_trie(self, pieces: Iterable[tuple[slice, Flat]]) -> int:
        """Appends a trie; returns its root's unit. `pieces`: slots of its root, and the boundaries for `add_slots`."""
        root = -(-self.units // BLOCK_UNITS) * BLOCK_UNITS  # then none straddles a page
        self.units = root + (1 << abi.ROOT_BITS) // UNIT_WORDS
        for slots, flat in pieces:
            self._write(root + slots.start // UNIT_WORDS, self.add_slots(flat, np.arange(slots.start, slots.stop)))
        return root

    def add_slots(self, flat: Flat, wanted: I64) -> U32:
        """Appends the nodes below slots of a trie's root; returns their entries. `flat` may be valid only there."""
        plane, everything = self._upper(flat)
        slots = _Slots.of(plane, everything, abi.ROOT_BITS, abi.ROOT_BITS)
        entry: U32 = plane.entry[slots.base[wanted]]
        inner = np.flatnonzero(slots.count[wanted])
        if len(inner):
            entry[inner] = self._add_nodes(plane, slots.pick(wanted[inner]), abi.ROOT_BITS)
        return entry

    def _upper(self, flat: Flat) -> tuple[_Plane, _Nodes]:
        """The upper plane of `flat`, after appending the lower one, and its root node."""
        upper = flat.upper
        if flat.groups:
            below = self._add_groups(flat)
            crossing = upper.entry & (POINTER | CROSS) == POINTER | CROSS
            upper = Boundaries(upper.at, upper.entry.copy())
            upper.entry[crossing] = below[upper.entry[crossing] & UNIT]
        one, zero = np.ones(1, np.int64), np.zeros(1, np.int64)
        everything = _Nodes(np.zeros(1, np.uint64), one, np.array([len(upper.at) - 1]), zero)
        return self._plane(upper), everything

    def _plane(self, boundaries: Boundaries) -> _Plane:
        return _Plane(boundaries.at, boundaries.entry, compiled.codes(boundaries.entry, self._palette))

    def _add_groups(self, flat: Flat) -> U32:
        """Appends the lower plane; returns each group's pointer."""
        starts = flat.starts[:-1]
        groups = _Nodes(np.zeros(flat.groups, np.uint64), starts + 1, np.diff(flat.starts) - 1, starts)
        return self._add_nodes(self._plane(flat.lower), groups, 0) | CROSS

    def _add_nodes(self, plane: _Plane, nodes: _Nodes, shift: int) -> U32:
        """Appends the best form of each node, and all below; returns pointers. `shift` address bits are used above."""
        coded = nodes.count > _FEW
        few = nodes.pick(np.flatnonzero(coded))
        coded[coded] = compiled.codable(plane.at, plane.code, few.columns, shift)
        small = ~coded & (nodes.count <= abi.CHUNK_MAX)
        pair = ~coded & ~small & (nodes.count <= _PAIR_MAX)
        pair[pair] = _crowded(plane, nodes.pick(np.flatnonzero(pair)), shift)
        inner = ~coded & ~small & ~pair
        ways = (coded, self._add_bytes), (small, self._add_chunks), (pair, self._add_pairs), (inner, self._add_inner)
        pointer = np.empty(len(small), np.uint32)
        for chosen, add in ways:
            if chosen.any():
                pointer[chosen] = add(plane, nodes.pick(np.flatnonzero(chosen)), shift)
        return pointer

    def _add_bytes(self, plane: _Plane, nodes: _Nodes, shift: int) -> U32:
        """Appends a block of bytes for each node; returns the pointers."""
        content = compiled.blocks_of_bytes(plane.at, plane.code, nodes.columns, shift)
        unit = -(-self.units // BYTES_UNITS) * BYTES_UNITS  # then none straddles a page
        self.units = unit + len(nodes.start) * BYTES_UNITS
        self._write(unit, content.view(np.uint32))
        return POINTER | BYTES | (unit + np.arange(len(nodes.start)) * BYTES_UNITS).astype(np.uint32)

    def _add_inner(self, plane: _Plane, nodes: _Nodes, shift: int) -> U32:
        """Appends a block for each node, and all below; returns the pointers."""
        unit = -(-self.units // BLOCK_UNITS) * BLOCK_UNITS  # then none straddles a page
        self.units = unit + len(nodes.start) * BLOCK_UNITS
        slots = _Slots.of(plane, nodes, BLOCK_BITS, shift + BLOCK_BITS)
        entry = plane.entry[slots.base]
        inner = np.flatnonzero(slots.count)
        if len(inner):
            entry[inner] = self._add_nodes(plane, slots.pick(inner), shift + BLOCK_BITS)
        self._write(unit, entry)
        return POINTER | (unit + np.arange(len(nodes.start)) * BLOCK_UNITS).astype(np.uint32)

    def _add_pairs(self, plane: Boundaries, nodes: _Nodes, shift: int) -> U32:
        """Appends two levels of chunks for each node: every 33rd boundary in the upper one, the rest below."""
        lowers = (nodes.count + _PAIR_STEP) // _PAIR_STEP
        number = ranges(np.zeros(len(lowers), np.int64), lowers)  # of the lower chunk within its node
        start = np.repeat(nodes.start, lowers)
        first = np.repeat(nodes.first, lowers) + number * _PAIR_STEP
        base = np.where(number == 0, np.repeat(nodes.base, lowers), first - 1)
        count = np.minimum(np.repeat(nodes.first + nodes.count, lowers) - first, abi.CHUNK_MAX)
        upper = Boundaries(plane.at[base], self._add_chunks(plane, _Nodes(start, first, count, base), shift))
        place = np.cumsum(lowers) - lowers
        return self._add_chunks(upper, _Nodes(nodes.start, place + 1, lowers - 1, place), shift)

    def _add_chunks(self, plane: Boundaries, nodes: _Nodes, shift: int) -> U32:
        """Reserves a chunk for each node, none straddling a page; returns the pointers."""
        size = -(-(3 * nodes.count + 3) // UNIT_WORDS)
        unit = np.empty(len(size), np.int64)
        for units in np.unique(size).tolist():
            same = np.flatnonzero(size == units)
            unit[same] = self._take_chunks(len(same), units)
        self._grow()
        _write_chunks(self._words, plane, nodes, shift, (unit - self._before) * UNIT_WORDS)
        return POINTER | CHUNK | unit.astype(np.uint32)

    def _take_chunks(self, count: int, units: int) -> I64:
        """Reserves `count` pieces of `units` units, in the current page, then in whole pages; returns first units."""
        here = min((-self.units % abi.PAGE_UNITS) // units, count)
        head = self.units + np.arange(here) * units
        if here == count:
            self.units += here * units
            return head
        page = -(-self.units // abi.PAGE_UNITS)
        each = abi.PAGE_UNITS // units
        number = np.arange(count - here)
        tail = (page + number // each) * abi.PAGE_UNITS + number % each * units
        self.units = int(tail[-1]) + units
        return np.concatenate([head, tail])


def _crowded(plane: Boundaries, nodes: _Nodes, shift: int) -> npt.NDArray[np.bool_]:
    """A mask of nodes with boundaries in so few slots that a block would be mostly empty."""
    node = np.repeat(np.arange(len(nodes.start)), nodes.count)
    slot = (plane.at[ranges(nodes.first, nodes.count)] - nodes.start[node]) << np.uint64(shift) >> np.uint64(56)
    new = np.ones(len(slot), np.bool_)
    new[1:] = (slot[1:] != slot[:-1]) | (node[1:] != node[:-1])
    return np.asarray(np.bincount(node[new], minlength=len(nodes.start)) * _CROWD < nodes.count)


@dataclass(frozen=True, slots=True, eq=False)
class _Slots:
    """All slots of the nodes of one level, 2^bits each; `shift` address bits are consumed below them."""

    nodes: _Nodes
    bits: int
    shift: int
    first: npt.NDArray[np.int32]
    count: npt.NDArray[np.int32]
    base: npt.NDArray[np.int32]

    @classmethod
    def of(cls, plane: Boundaries, nodes: _Nodes, bits: int, shift: int) -> Self:
        """The slots of some nodes. A boundary at the beginning of a slot is its base, not inside it."""
        return cls(nodes, bits, shift, *compiled.slots(plane.at, nodes.columns, bits, shift))

    def pick(self, index: I64) -> _Nodes:
        """The slots at `index`, as nodes of the level below."""
        within = (index & (1 << self.bits) - 1).astype(np.uint64) << np.uint64(64 - self.shift)
        start = self.nodes.start[index >> self.bits] + within
        return _Nodes(start, *(column[index].astype(np.int64) for column in (self.first, self.count, self.base)))


def _write_chunks(words: U32, plane: Boundaries, nodes: _Nodes, shift: int, word: I64) -> None:
    """Writes each chunk at its `word`: u32 count, pad; u64 key[count], the rest of the address after `shift` bits,
    left-aligned; u32 entry[count + 1]."""
    count = nodes.count
    words[word] = count
    step = ranges(np.zeros(len(count), np.int64), count)
    index = np.repeat(nodes.first, count) + step
    key = (plane.at[index] - np.repeat(nodes.start, count)) << np.uint64(shift)
    words.view(np.uint64)[np.repeat(word // 2 + 1, count) + step] = key
    entry = word + 2 + 2 * count
    words[entry] = plane.entry[nodes.base]
    words[np.repeat(entry + 1, count) + step] = plane.entry[index]

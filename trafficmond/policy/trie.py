"""Boundaries -> the words of a multibit trie with range chunks (layout: bpf/abi.h).

A root of 2^16 entries, then blocks of 256, each level built for all its nodes at once. Where a slot's subtree has few
boundaries it becomes a chunk, the boundaries themselves in order, instead of a block: that bounds the table's size and
the walk's length for sparse long prefixes, which a pure multibit trie does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trafficmond import abi
from trafficmond.policy.flatten import I64, U32, U64, Boundaries, Flat, ranges
from trafficmond.policy.layout import BLOCK_BITS, BLOCK_UNITS, CHUNK, CROSS, POINTER, UNIT, UNIT_WORDS


@dataclass(frozen=True, slots=True, eq=False)
class _Nodes:
    """Nodes of one level in address order: first address, the boundaries inside (`first`, `count`), and the boundary
    whose entry holds at the node's first address (`base`)."""

    start: U64
    first: I64
    count: I64
    base: I64


@dataclass(frozen=True, slots=True, eq=False)
class _Chunks:
    plane: Boundaries
    nodes: _Nodes
    shift: int  # address bits consumed above them
    unit: I64


class Builder:
    """Collects tries and records, then writes them all into one array of whole pages. Unit 0 is left for the header."""

    def __init__(self) -> None:
        self._units = 1
        self._written: list[tuple[int, npt.NDArray[np.uint32]]] = []
        self._chunks: list[_Chunks] = []

    def words(self) -> U32:
        """Everything added so far, a whole number of pages."""
        pages = -(-self._units // abi.PAGE_UNITS)
        words = np.zeros(pages * abi.PAGE_UNITS * UNIT_WORDS, np.uint32)
        for unit, content in self._written:
            words[unit * UNIT_WORDS : unit * UNIT_WORDS + len(content)] = content
        for chunks in self._chunks:
            _write_chunks(words, chunks)
        return words

    def add(self, content: U32) -> int:
        """Appends `content` as it is; returns its first unit."""
        unit = self._units
        self._units += -(-len(content) // UNIT_WORDS)
        self._written.append((unit, content))
        return unit

    def add_trie(self, flat: Flat) -> int:
        """Appends the trie of `flat`; returns its root's unit."""
        root = self._take_blocks(1 << abi.ROOT_BITS)
        upper = flat.upper
        if flat.groups:
            target = self._add_groups(flat)
            crossing = upper.entry & POINTER != 0
            upper = Boundaries(upper.at, upper.entry.copy())
            upper.entry[crossing] = target[upper.entry[crossing] & UNIT]
        one, zero = np.ones(1, np.int64), np.zeros(1, np.int64)
        nodes = _Nodes(np.zeros(1, np.uint64), one, np.array([len(upper.at) - 1]), zero)
        self._add_levels(upper, nodes, abi.ROOT_BITS, root)
        return root

    def _add_groups(self, flat: Flat) -> U32:
        """The lower plane; returns each group's pointer."""
        starts = flat.starts[:-1]
        nodes = _Nodes(np.zeros(flat.groups, np.uint64), starts + 1, np.diff(flat.starts) - 1, starts)
        pointer = np.empty(flat.groups, np.uint32)
        large = nodes.count > abi.CHUNK_MAX
        blocks, chunks = np.flatnonzero(large), np.flatnonzero(~large)
        root = self._take_blocks(len(blocks) << BLOCK_BITS)
        pointer[blocks] = _pointers(root, len(blocks)) | CROSS
        pointer[chunks] = self._add_chunks(flat.lower, _pick(nodes, chunks), 0) | CROSS
        if len(blocks):
            self._add_levels(flat.lower, _pick(nodes, blocks), BLOCK_BITS, root)
        return pointer

    def _add_levels(self, plane: Boundaries, nodes: _Nodes, bits: int, unit: int) -> None:
        """The level of `nodes` (2^bits slots each) at `unit`, and all levels below."""
        shift = 0
        while len(nodes.start):
            shift += bits
            slots = _Slots.of(plane, nodes, bits, shift)
            entry = plane.entry[slots.base]
            inner = np.flatnonzero(slots.count)
            large = slots.count[inner] > abi.CHUNK_MAX
            blocks, chunks = inner[large], inner[~large]
            entry[chunks] = self._add_chunks(plane, slots.pick(chunks), shift)
            below = self._take_blocks(len(blocks) << BLOCK_BITS)
            entry[blocks] = _pointers(below, len(blocks))
            self._written.append((unit, entry))
            nodes, unit, bits = slots.pick(blocks), below, BLOCK_BITS

    def _take_blocks(self, words: int) -> int:
        """Room for whole blocks; none straddles a page."""
        unit = -(-self._units // BLOCK_UNITS) * BLOCK_UNITS
        if words:
            self._units = unit + words // UNIT_WORDS
        return unit

    def _add_chunks(self, plane: Boundaries, nodes: _Nodes, shift: int) -> U32:
        """Room for a chunk a node, none straddling a page; returns the pointers."""
        size = -(-(3 * nodes.count + 3) // UNIT_WORDS)
        unit = np.empty(len(size), np.int64)
        for units in np.unique(size).tolist():
            same = np.flatnonzero(size == units)
            unit[same] = self._take_chunks(len(same), units)
        self._chunks.append(_Chunks(plane, nodes, shift, unit))
        return POINTER | CHUNK | unit.astype(np.uint32)

    def _take_chunks(self, count: int, units: int) -> I64:
        """First units of `count` pieces of `units` units each: fill the current page, then whole pages."""
        here = min((-self._units % abi.PAGE_UNITS) // units, count)
        head = self._units + np.arange(here) * units
        if here == count:
            self._units += here * units
            return head
        page = -(-self._units // abi.PAGE_UNITS)
        each = abi.PAGE_UNITS // units
        number = np.arange(count - here)
        tail = (page + number // each) * abi.PAGE_UNITS + number % each * units
        self._units = int(tail[-1]) + units
        return np.concatenate([head, tail])


def _pointers(unit: int, count: int) -> U32:
    return POINTER | (unit + np.arange(count) * BLOCK_UNITS).astype(np.uint32)


def _pick(nodes: _Nodes, index: I64) -> _Nodes:
    return _Nodes(nodes.start[index], nodes.first[index], nodes.count[index], nodes.base[index])


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
    def of(cls, plane: Boundaries, nodes: _Nodes, bits: int, shift: int) -> _Slots:
        """A boundary at the very beginning of a slot is the slot's base, not inside it."""
        slots = 1 << bits
        total = len(nodes.start) * slots
        width = np.uint64(64 - shift)  # of a slot, in bits
        index = ranges(nodes.first, nodes.count)
        offset = plane.at[index] - np.repeat(nodes.start, nodes.count)
        slot = np.repeat(np.arange(len(nodes.start)) * slots, nodes.count) + (offset >> width).astype(np.int64)
        inside = offset & ((np.uint64(1) << width) - np.uint64(1)) != 0

        base = np.zeros(total, np.int32)
        base[::slots] = nodes.base
        # A boundary inside a slot is the base of the next one, unless that belongs to another node.
        follows = slot + inside
        same = (follows % slots != 0) | ~inside
        base[follows[same]] = index[same]  # ascending, so the last one before the slot stays
        np.maximum.accumulate(base, out=base)
        slot, index = slot[inside], index[inside]
        first = np.zeros(total, np.int32)
        first[slot[::-1]] = index[::-1]  # descending, so the smallest stays
        return cls(nodes, bits, shift, first, np.bincount(slot, minlength=total).astype(np.int32), base)

    def pick(self, index: I64) -> _Nodes:
        """Some of the slots, as nodes of the level below."""
        within = (index & (1 << self.bits) - 1).astype(np.uint64) << np.uint64(64 - self.shift)
        start = self.nodes.start[index >> self.bits] + within
        return _Nodes(start, *(column[index].astype(np.int64) for column in (self.first, self.count, self.base)))


def _write_chunks(words: U32, chunks: _Chunks) -> None:
    """Each chunk: u32 count, pad; u64 key[count], what is left of the address, left-aligned; u32 entry[count + 1]."""
    nodes, count = chunks.nodes, chunks.nodes.count
    word = chunks.unit * UNIT_WORDS
    words[word] = count
    step = ranges(np.zeros(len(count), np.int64), count)
    index = np.repeat(nodes.first, count) + step
    key = (chunks.plane.at[index] - np.repeat(nodes.start, count)) << np.uint64(chunks.shift)
    words.view(np.uint64)[np.repeat(word // 2 + 1, count) + step] = key
    entry = word + 2 + 2 * count
    words[entry] = chunks.plane.entry[nodes.base]
    words[np.repeat(entry + 1, count) + step] = chunks.plane.entry[index]

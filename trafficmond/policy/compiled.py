"""Inner loops in C (bpf/host_table.h) by ctypes."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from trafficmond import npt
from trafficmond.compiled import fields
from trafficmond.flows.compiled import at_address as _at
from trafficmond.flows.compiled import library
from trafficmond.policy.prefixes import Prefixes

Column = npt.NDArray[Any]


class _Nodes(ctypes.Structure):
    """struct tm_nodes."""

    _fields_ = fields((ctypes.c_void_p, "start first count base"), (ctypes.c_uint64, "nodes"))


class _Prefixes(ctypes.Structure):
    """struct tm_prefixes."""

    _fields_ = fields((ctypes.c_void_p, "hi lo plen family"))


def in_order(rows: Prefixes, tail: Column) -> tuple[Prefixes, Column]:
    """Prefixes by family, address, length and `tail` (bytes), equal ones in their order; and the old place of each."""
    given: list[Column] = [np.ascontiguousarray(each) for each in (rows.hi, rows.lo, rows.plen, rows.family)]
    found: list[Column] = [np.empty_like(each) for each in given]
    tail, order = np.ascontiguousarray(tail), np.empty(len(tail), np.int64)
    one, other = _Prefixes(*map(_at, given)), _Prefixes(*map(_at, found))
    if not library().tm_prefix_order(ctypes.byref(one), _at(tail), len(tail), _at(order), ctypes.byref(other)):
        raise MemoryError
    return Prefixes(*found), order


def bounds(first: Column, past: Column, groups: Column) -> tuple[Column, Column, Column]:
    """(boundaries, where each prefix begins and where it ends among them) of 64-bit prefixes in order and of groups."""
    first, past, groups = map(np.ascontiguousarray, (first, past, groups))
    at = np.empty(2 * (len(first) + len(groups)) + 1, np.uint64)
    begin, end = np.empty(len(first), np.int64), np.empty(len(first), np.int64)
    given = _at(first), _at(past), len(first), _at(groups), len(groups)
    count = library().tm_bounds_of(*given, _at(at), _at(begin), _at(end))
    return at[:count], begin, end


def paint(target: Column, begin: Column, end: Column, value: Column) -> None:
    """target[begin[i]:end[i]] = value[i], of 32-bit values; the ranges do not overlap."""
    assert target.dtype == value.dtype == np.uint32
    begin, end, value = map(np.ascontiguousarray, (begin, end, value))
    library().tm_paint(_at(target), _at(begin), _at(end), _at(value), len(begin))


def codes(entry: Column, palette: Column) -> Column:
    """The place of each entry in the palette, -1 if it has none."""
    entry, code = np.ascontiguousarray(entry), np.empty(len(entry), np.int16)
    library().tm_codes(_at(entry), len(entry), _at(palette), len(palette), _at(code))
    return code


def codable(at: Column, code: Column, nodes: Sequence[Column], shift: int) -> Column:
    """A mask of `nodes` (start, first, count, base) with nothing below their slots and all leaves in the palette."""
    found = np.empty(len(nodes[0]), np.bool_)
    library().tm_codable(_at(at), _at(code), _nodes(nodes), shift, _at(found))
    return found


def blocks_of_bytes(at: Column, code: Column, nodes: Sequence[Column], shift: int) -> Column:
    """The bytes of a block for each of the codable `nodes`, one after the other."""
    block = np.empty(len(nodes[0]) << 8, np.uint8)
    library().tm_bytes(_at(at), _at(code), _nodes(nodes), shift, _at(block))
    return block


def slots(at: Column, nodes: Sequence[Column], bits: int, shift: int) -> tuple[Column, Column, Column]:
    """(first, count, base) of `trie._Slots`."""
    total = len(nodes[0]) << bits
    first, count, base = (np.empty(total, np.int32) for _ in range(3))
    library().tm_slots(_at(at), _nodes(nodes), bits, shift, _at(first), _at(count), _at(base))
    return first, count, base


def _nodes(columns: Sequence[Column]) -> Any:
    return ctypes.byref(_Nodes(*map(_at, columns), len(columns[0])))

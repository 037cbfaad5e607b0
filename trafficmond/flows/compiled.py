"""The library of inner loops in C, and those of flow table and detectors by ctypes (bpf/host_state.h, host_flows.h,
host_detect.h, host_texts.h). Other callers: `policy/compiled.py`, `store/image.py`, `analyze/native.py`."""

import ctypes
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from trafficmond import compiled
from trafficmond.errors import TrafficmonError
from trafficmond.flows import batch
from trafficmond.flows.batch import DELTA, FLOW, Batch, Column
from trafficmond.flows.canonical import MATE, REPLY
from trafficmond.flows.services import KNOWN
from trafficmond.flows.state import ANSWERED_S, CLOSE_LINGER_S, ESTABLISHED_S, STATE

_NAME = "libtmparse.so"
PLACES = tuple(folder / _NAME for folder in compiled.FOLDERS)
Signatures = dict[str, tuple[Any, list[Any]]]

_POINTER, _U32, _U64, _DOUBLE = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_double
_TABLES = tuple(np.ascontiguousarray(table) for table in (MATE, REPLY))
_LISTENS = 2  # TM_LISTENS


class _Rules(ctypes.Structure):
    """struct tm_flow_rules."""

    _fields_ = compiled.fields(
        (_POINTER, "key mate reply service"),
        (_DOUBLE, "idle active linger established answered before"),
        (_U32, "in_order pad"),
    )


class _Merge(ctypes.Structure):
    """struct tm_merge."""

    _fields_ = compiled.fields(
        (_POINTER, "row deadline quiet found slot start"),
        (_U32, "groups opens later fresh reopened reported"),
        (_POINTER, "out initial fresh_row reopened_row reported_row"),
    )


_SIGNATURES: Signatures = {
    "tm_state_layout": (_U32, [_POINTER]),
    "tm_row_layout": (_U32, [_POINTER]),
    "tm_flows_identify": (_U32, [_POINTER, _U32, _POINTER, _POINTER, _POINTER, _POINTER]),
    "tm_flows_turns": (ctypes.c_int, [_POINTER, _POINTER, _POINTER, _U32, _DOUBLE]),
    "tm_flows_merge": (None, [_POINTER] * 5),
    "tm_tick_size": (_U32, []),
    "tm_tick": (_DOUBLE, [*[_POINTER] * 3, _U32, _POINTER, _DOUBLE, _POINTER, _POINTER]),
    "tm_flows_deadlines": (None, [_POINTER, _U32, _POINTER, _POINTER, _POINTER]),
    "tm_ledger_gained": (None, [_POINTER, _POINTER, _U32, _POINTER]),
    "tm_ledger_moved": (_U32, [_POINTER, _POINTER, _U32, _POINTER]),
    "tm_columns": (None, [_POINTER, _U32, _U32, _POINTER, _POINTER, _POINTER, _U32]),
    "tm_gather": (None, [_POINTER, _U32, _POINTER, _U32, *[_POINTER] * 3, _U32, _POINTER, _U32]),
    "tm_mix": (None, [_POINTER, _U32, _U32, _POINTER]),
    "tm_detect_groups": (_U32, [_POINTER, _U32, _POINTER, _POINTER, _POINTER]),
    "tm_places": (_U32, [_POINTER, _U32, _POINTER, _U32, _POINTER, _U32, _POINTER, _POINTER]),
    "tm_sums": (None, [_POINTER, _U32, _POINTER, _U32, _U32, _POINTER]),
    "tm_mark": (None, [_POINTER, _U64, _U64, _U32, *[_POINTER] * 3, _U32, _POINTER]),
    "tm_add": (ctypes.c_int, [_POINTER, _U64, _U64, _U32, _POINTER, _POINTER, _U32]),
    "tm_detect_admit": (ctypes.c_int, [_POINTER, _POINTER, _POINTER, _POINTER, _U32, _POINTER]),
    "tm_v4_texts": (None, [_POINTER, _U32, _POINTER]),
    "tm_image_add": (ctypes.c_int, [_POINTER, _POINTER]),
    "tm_image_close": (_U32, [_POINTER]),
    "tm_community_texts": (ctypes.c_int, [_POINTER, _U32, _U32, _U32, _POINTER]),
    "tm_prefix_order": (ctypes.c_int, [_POINTER, _POINTER, _U64, _POINTER, _POINTER]),
    "tm_bounds_of": (_U64, [_POINTER, _POINTER, _U64, _POINTER, _U64, *[_POINTER] * 3]),
    "tm_paint": (None, [*[_POINTER] * 4, _U64]),
    "tm_codes": (None, [_POINTER, _U64, _POINTER, _U64, _POINTER]),
    "tm_codable": (None, [*[_POINTER] * 3, _U32, _POINTER]),
    "tm_bytes": (None, [*[_POINTER] * 3, _U32, _POINTER]),
    "tm_slots": (None, [_POINTER, _POINTER, _U32, _U32, *[_POINTER] * 3]),
    "tm_dns_take": (_U32, [_POINTER, _POINTER, _U32, _POINTER]),
    "tm_dns_read_answer": (ctypes.c_int, [ctypes.c_char_p, _U32, ctypes.c_char_p, _U32, _POINTER]),
}


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """The library, loaded once. Raises TrafficmonError if it is missing, or its version has other rows."""
    path = next((place for place in PLACES if place.exists()), None)
    if path is None:
        raise TrafficmonError(f"cannot find {_NAME}, a part of trafficmon", hint=compiled.HINT)
    try:
        loaded = ctypes.CDLL(str(path))
        declare(loaded, _SIGNATURES)
    except (OSError, AttributeError) as error:
        raise TrafficmonError(f"cannot load {path}: {error}", hint=compiled.HINT) from error
    if not (_fits(loaded.tm_row_layout, DELTA) and _fits(loaded.tm_state_layout, STATE)):
        raise TrafficmonError(f"{path} belongs to another version of trafficmon", hint=compiled.HINT)
    return loaded


def declare(loaded: ctypes.CDLL, signatures: Signatures) -> None:
    """Tell ctypes what these functions take and return. Raises AttributeError if one is missing."""
    for name, (result, arguments) in signatures.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments


def _fits(layout: Any, dtype: np.dtype[Any]) -> bool:
    found = (ctypes.c_uint32 * 64)()
    fields: Mapping[str, Any] = dtype.fields or {}
    offsets = [fields[name][1] for name in dtype.names or ()]
    return list(found[: layout(found)]) == [*offsets, dtype.itemsize]


Pairs = tuple[tuple[str, str], ...]


class Places(ctypes.Structure):
    """struct tm_table."""

    _fields_ = compiled.fields(
        (_POINTER, "key worth evidence row"),
        (_U64, "row_size buckets"),
        (_DOUBLE, "credit window"),
        (_U64, "evicted refused"),
    )


@lru_cache(maxsize=32)
def _layout(dtype: np.dtype[Any]) -> tuple[Column, Column] | None:
    """(offset, size) of each field; None if one is not a number."""
    fields: Mapping[str, Any] = dtype.fields or {}
    kinds = [fields[name][0] for name in dtype.names or ()]
    if not all(kind.kind in "buif" and kind.itemsize in (1, 2, 4, 8) for kind in kinds):
        return None
    offsets = np.array([fields[name][1] for name in dtype.names or ()], np.uint32)
    return offsets, np.array([kind.itemsize for kind in kinds], np.uint32)


def columns(rows: Batch) -> dict[str, Column] | None:
    """Every field of the rows by itself; None if a field is not a number, or the rows are not contiguous."""
    layout = _layout(rows.dtype)
    if layout is None or not rows.flags.c_contiguous:
        return None
    found = {name: np.empty(len(rows), rows.dtype[name]) for name in rows.dtype.names or ()}
    into = np.array([at_address(column) for column in found.values()], np.uint64)
    given = at_address(rows), len(rows), rows.dtype.itemsize
    library().tm_columns(*given, *(at_address(each) for each in (*layout, into)), len(found))
    return found


@lru_cache(maxsize=64)
def _spans(of: np.dtype[Any], into: np.dtype[Any], names: Pairs) -> tuple[Column, ...]:
    """(offset in one, offset in the other, size) of the fields named in both, neighbours together."""
    fields: Mapping[str, Any] = of.fields or {}
    others: Mapping[str, Any] = into.fields or {}
    spans: list[list[int]] = []
    for ours, theirs in sorted(names, key=lambda pair: fields[pair[0]][1]):
        (kind, start, *_), (other, to, *_) = fields[ours], others[theirs]
        if kind != other:
            raise TypeError(f"{theirs} is of another type than {ours}")
        if spans and (spans[-1][0] + spans[-1][2], spans[-1][1] + spans[-1][2]) == (start, to):
            spans[-1][2] += kind.itemsize
        else:
            spans.append([start, to, kind.itemsize])
    return tuple(np.array(column, np.uint32) for column in zip(*spans, strict=True))


def gather(rows: Batch, at: Column, into: Batch, names: Pairs) -> None:
    """`into[theirs] = rows[ours][at]` for each pair (ours, theirs) of `names`, in one pass over the rows."""
    spans = _spans(rows.dtype, into.dtype, names)
    rows, at = np.ascontiguousarray(rows), np.ascontiguousarray(at, np.int64)
    assert len(at) == len(into)
    assert not len(at) or (int(at.min()) >= 0 and int(at.max()) < len(rows))
    given = at_address(rows), rows.dtype.itemsize, at_address(at), len(at)
    library().tm_gather(*given, *map(at_address, spans), len(spans[0]), at_address(into), into.dtype.itemsize)


def gathered(rows: Batch, at: Column, dtype: np.dtype[Any]) -> Batch:
    """The fields of `dtype` of these rows, in one pass over them."""
    into = np.empty(len(at), dtype)
    gather(rows, at, into, tuple((name, name) for name in dtype.names or ()))
    return into


def gained(records: Batch, bases: Batch, into: Batch) -> None:
    """DELTA rows: the gain of abi.FLOW `records` over the abi.TAKEN `bases`; `first` and `last` are jiffies."""
    assert len(records) == len(bases) == len(into)
    library().tm_ledger_gained(at_address(records), at_address(bases), len(records), at_address(into))


def moved(slots: Batch, taken: Batch) -> Column:
    """The indexes of abi.FLOW `slots` whose packets or owner are not those of abi.TAKEN."""
    assert len(slots) == len(taken)
    found = np.empty(len(slots), np.int64)
    count = library().tm_ledger_moved(at_address(slots), at_address(taken), len(slots), at_address(found))
    return found[:count].copy()


def mixed(words: Sequence[Column]) -> Column:
    """`detect.windows.mix` of columns of unsigned 64-bit words, of one length."""
    columns = [np.ascontiguousarray(word) for word in words]
    assert all(len(column) == len(columns[0]) for column in columns)
    found = np.empty(len(columns[0]), np.uint64)
    into = np.array([at_address(column) for column in columns], np.uint64)
    library().tm_mix(at_address(into), len(columns), len(found), at_address(found))
    return found


def groups(keys: Column) -> tuple[Column, Column, Column]:
    """(order that sorts 64-bit keys, group of each row, where groups begin in that order)."""
    keys, count = np.ascontiguousarray(keys), len(keys)
    order, of, starts = (np.empty(count, np.int64) for _ in range(3))
    found = library().tm_detect_groups(at_address(keys), count, at_address(order), at_address(of), at_address(starts))
    if count and not found:
        raise MemoryError
    return order, of, starts[:found]


def places(known: Column, count: int, hashed: Column, keys: Column) -> tuple[Column, Column]:
    """Does the same as `index.Index.place`, given its tables."""
    keys = np.ascontiguousarray(keys)
    place, fresh = np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
    tables = at_address(known), count, at_address(hashed), len(hashed)
    new = library().tm_places(*tables, at_address(keys), len(keys), at_address(place), at_address(fresh))
    return place, fresh[:new]


def sum_up(of: Column, values: Column, sums: Column) -> None:
    """Add the 64-bit `values` (rows, columns) to the sums of each group; `of` may go over the rows several times."""
    of, values = np.ascontiguousarray(of, np.int64), np.ascontiguousarray(values)
    library().tm_sums(at_address(of), len(of), at_address(values), *values.shape, at_address(sums))


def mark(maps: Column, slots: Column, things: Column, marks: Column | None) -> Column:
    slots, things = np.ascontiguousarray(slots, np.int64), np.ascontiguousarray(things)
    before, given = np.empty(len(slots), np.uint8), None if marks is None else at_address(marks)
    assert len(things) == len(slots)
    assert marks is None or len(marks) == len(slots)
    columns = at_address(slots), at_address(things), given
    given_maps = maps.ctypes.data, len(maps), maps.strides[0], maps.shape[1]
    library().tm_mark(*given_maps, *columns, len(slots), at_address(before))
    return before


def add(field: Column, slots: Column, amounts: Column) -> None:
    """`detect.windows.BoundedTable.add` to one of its fields."""
    assert field.dtype.kind == "f"
    assert len(slots) == len(amounts)
    slots, amounts = np.ascontiguousarray(slots, np.int64), np.ascontiguousarray(amounts, np.float64)
    given = field.ctypes.data, len(field), field.strides[0], field.itemsize, at_address(slots), at_address(amounts)
    if not library().tm_add(*given, len(slots)):
        raise MemoryError


def admit(places: Places, keys: Column, weight: Column, now: Column) -> Column:
    """The slot of each key; see `detect.windows.BoundedTable.admit`."""
    slots = np.empty(len(keys), np.int64)
    columns = np.ascontiguousarray(keys), np.ascontiguousarray(weight, np.float64), np.ascontiguousarray(now)
    given = ctypes.addressof(places), *map(at_address, columns), len(keys), at_address(slots)
    if not library().tm_detect_admit(*given):
        raise MemoryError
    return slots


class Merged:
    """The result of merging a sorted batch of deltas; see `Loops.merge`."""

    def __init__(self, groups: int, fresh: Batch) -> None:
        self.flows = np.empty(groups, FLOW)  # of each group
        self.initial = np.empty(groups, bool)  # the group is the first of its connection in this batch
        self.fresh = fresh  # rows that the table did not have
        self.reopened = np.empty(groups, STATE)  # rows before another connection replaced them
        self.reported = np.empty(groups, STATE)  # rows as they were before their verdict changed


class Loops:
    """The loops for one table: its keys, its timeouts, and the time of its last reading (`before`)."""

    def __init__(self, keys: Column, idle_s: float, active_s: float, *, in_order: bool) -> None:
        self._library = library()
        self._keys = keys
        mate, reply = (table.ctypes.data for table in _TABLES)
        self._ports = KNOWN.astype(np.uint8)
        times = (idle_s, active_s, CLOSE_LINGER_S, ESTABLISHED_S, ANSWERED_S, 0.0)
        self._rules = _Rules(keys.ctypes.data, mate, reply, self._ports.ctypes.data, *times, in_order, 0)
        self._address = ctypes.addressof(self._rules)

    def configure(self, idle_s: float, active_s: float) -> None:
        self._rules.idle, self._rules.active = idle_s, active_s

    def set_listening(self, ports: Column) -> None:
        """Sets the ports on which this host accepts TCP connections."""
        self._ports[ports] |= _LISTENS

    def rules(self, before: float) -> int:
        """The address of struct tm_flow_rules, for deltas after a reading at `before`."""
        self._rules.before = before
        return self._address

    def identify(self, deltas: Batch, before: float) -> tuple[Column, Column, int, float]:
        """(id, swapped) of each delta, the number of later ICMP fragments, and when the earliest delta began."""
        count = len(deltas)
        ids, swapped, earliest = np.empty(count, np.uint64), np.empty(count, bool), ctypes.c_double()
        out = at_address(ids), at_address(swapped), ctypes.addressof(earliest)
        later = self._library.tm_flows_identify(at_address(deltas), count, self.rules(before), *out)
        return ids, swapped, later, earliest.value

    def takes_turns(self, deltas: Batch, ids: Column, side: Column, before: float) -> bool:
        """Whether a flow of the sorted batch has several connections in it, or several verdict words of one side."""
        return bool(
            self._library.tm_flows_turns(at_address(deltas), at_address(ids), at_address(side), len(ids), before)
        )

    def merge(
        self,
        table: tuple[Batch, Column, Column],
        deltas: tuple[Batch, Column, Column],
        groups: tuple[Column, Column, Column],
        fresh: Batch,
        *,
        opens: bool,
        later: bool,
    ) -> Merged:
        """Merge sorted `deltas` (rows, ids, sides) into the `table` (rows, deadlines, quiet), by `groups` (found, slot
        and start of each). New rows are written to `fresh`, which has room for all."""
        found, slots, starts = groups
        count = len(starts)
        into, bounds = Merged(count, fresh), np.append(starts, len(deltas[1])).astype(np.uint32)
        work = _Merge(
            *(at_address(each) for each in (*table, found, slots, bounds)),
            *(count, opens, later, 0, 0, 0),
            *(at_address(each) for each in (into.flows, into.initial, into.fresh, into.reopened, into.reported)),
        )
        self._library.tm_flows_merge(ctypes.addressof(work), *(at_address(each) for each in deltas), self._address)
        into.fresh = fresh[: work.fresh]
        into.reopened, into.reported = into.reopened[: work.reopened], into.reported[: work.reported]
        return into

    def deadlines(self, rows: Batch) -> tuple[Column, Column]:
        """(when each STATE row must be checked again, how long it is kept after its last packet)."""
        deadline, kept = np.empty(len(rows)), np.empty(len(rows))
        self._library.tm_flows_deadlines(
            at_address(rows), len(rows), self._address, at_address(deadline), at_address(kept)
        )
        return deadline, kept


def at_address(array: Column) -> int:
    """The address of a contiguous array."""
    assert array.flags.c_contiguous
    address: int = array.ctypes.data
    return address


def addresses(hi: Column, lo: Column, family: Column) -> list[str]:
    if not (family == 4).all():
        return batch.addresses(hi, lo, family)
    words, texts = lo.astype(np.uint32), np.empty(len(lo), "U15")
    library().tm_v4_texts(at_address(words), len(words), at_address(texts))
    found: list[str] = texts.tolist()
    return found


def community_texts(text: Batch, length: int) -> Column:
    """The Community ID of each row: a hash of its first `length` bytes."""
    found = np.empty(len(text), "U30")
    fits = library().tm_community_texts(at_address(text), len(text), text.dtype.itemsize, length, at_address(found))
    assert fits
    return found

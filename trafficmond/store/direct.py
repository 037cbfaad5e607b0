"""REPORT batches into SQLite without a Python object per value: the virtual table of bpf/host_store.h, by ctypes. If
SQLite loads no extensions, `rows.py` makes tuples instead."""

import ctypes
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from trafficmond.flows import compiled
from trafficmond.flows.batch import Batch
from trafficmond.flows.canonical import MATE
from trafficmond.flows.community_id import WITH_PORTS
from trafficmond.flows.inner import inner_flows
from trafficmond.flows.names import Names
from trafficmond.flows.report import FIELDS, REPORT
from trafficmond.protocols import SERVED
from trafficmond.store.rows import columns, owner_columns
from trafficmond.store.schema import FLOW_COLUMNS

_POINTER, _U32, _I64, _U64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int64, ctypes.c_uint64
_COLUMNS_MOST = 32
_IS_REAL, _IS_INTEGER, _IS_NAMED, _IS_ADDRESS, _IS_COMMUNITY = range(5)
_VALUE_INTEGER, _VALUE_NULL = -1, -2
_PORTS = np.zeros(256, np.uint8)
_PORTS[list(WITH_PORTS)] = 1
_PORTS[list(SERVED)] = 3
_ENDS = ("src_hi", "src_lo", "dst_hi", "dst_lo", "sport", "dport", "proto", "family")
_OFFSETS = {name: (at, of.itemsize) for name, (of, at, *_) in (REPORT.fields or {}).items()}

Value = str | int | None


class _Value(ctypes.Structure):
    """struct tm_value."""

    _fields_ = (("number", _U64), ("text", ctypes.c_char_p), ("integer", _I64), ("length", _I64))


class _Column(ctypes.Structure):
    """struct tm_column."""

    _fields_ = (*((name, _U32) for name in ("kind", "at", "width", "values_count")), ("values", ctypes.POINTER(_Value)))


class _Batch(ctypes.Structure):
    """struct tm_batch."""

    _fields_ = (
        *(("row", _POINTER), ("rows", _U64), ("size", _U64), ("columns", _U32), ("ends", _U32)),
        *(("mate", _POINTER), ("ports", _POINTER), ("column", _Column * _COLUMNS_MOST)),
    )


def load(connection: sqlite3.Connection) -> bool:
    """Register the virtual table with the connection; False if that fails."""
    try:
        connection.enable_load_extension(True)
        try:
            connection.load_extension(compiled.library()._name)
        finally:
            connection.enable_load_extension(False)
    except (sqlite3.Error, AttributeError):  # Python may be built without
        return False
    return True


def insert(connection: sqlite3.Connection, table: str, batch: Batch, names: Names) -> None:
    """Add the batch to the table, by a connection for which `load` returned True."""
    loaded = compiled.library()
    batch = np.ascontiguousarray(batch)
    of = tuple(_columns(batch, names))
    mates = np.ascontiguousarray(MATE)
    shared = _Batch(
        *(batch.ctypes.data, len(batch), batch.dtype.itemsize, len(of), _OFFSETS["src_hi"][0]),
        *(mates.ctypes.data, _PORTS.ctypes.data, (_Column * _COLUMNS_MOST)(*of)),
    )
    selected = ", ".join(f"c{number}" for number in range(len(of)))
    loaded.tm_rows_give(ctypes.addressof(shared))
    try:
        connection.execute(f"INSERT INTO {table} ({', '.join(columns(names))}) SELECT {selected} FROM tm_rows")
    finally:
        loaded.tm_rows_give(None)


def _columns(batch: Batch, names: Names) -> Iterator[_Column]:
    """In the order of `rows.columns`."""
    texts = names.texts()
    for name, kind in FLOW_COLUMNS.items():
        if name in texts:
            field, call = texts[name]
            numbers = np.unique(batch[field]).tolist()
            yield from _values(field, numbers, [(call(number),) for number in numbers])
        elif name in ("src_ip", "dst_ip"):
            yield _field(_IS_ADDRESS, f"{name[:3]}_hi")
        elif name == "community_id":
            yield _field(_IS_COMMUNITY, "src_hi")
        else:
            yield _field(_IS_REAL if kind == "REAL" else _IS_INTEGER, FIELDS.get(name, name))
    if names.inners:
        inner = np.unique(batch["inner"])
        yield from _values("inner", inner.tolist(), inner_flows(inner, names.inners))
    if names.owners:
        owner = np.unique(batch["owner"]).tolist()
        kept = len(owner_columns(names))
        yield from _values("owner", owner, [names.owner(number)[:kept] for number in owner])


def _field(kind: int, name: str) -> _Column:
    return _Column(kind, *_OFFSETS[name])


def _values(name: str, numbers: Sequence[int], values: Iterable[tuple[Value, ...]]) -> Iterator[_Column]:
    """Columns of the values that belong to each of a field's sorted, distinct numbers."""
    for column in zip(*values, strict=True):
        array = (_Value * len(numbers))(*map(_value, numbers, column))
        yield _Column(_IS_NAMED, *_OFFSETS[name], len(numbers), array)


def _value(number: int, value: Value) -> _Value:
    if value is None:
        return _Value(number, None, 0, _VALUE_NULL)
    if isinstance(value, int):
        return _Value(number, None, value, _VALUE_INTEGER)
    text = value.encode()
    return _Value(number, text, 0, len(text))

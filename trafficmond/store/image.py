"""REPORT batches as the image of a small database, made by bpf/host_store.h through ctypes: SQLite copies its records
into flows.db as they are, and queries read it as a table of their own."""

import ctypes
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import lru_cache

import numpy as np

from trafficmond.compiled import fields
from trafficmond.flows import compiled
from trafficmond.flows.batch import Batch, Column
from trafficmond.flows.canonical import MATE
from trafficmond.flows.community_id import WITH_PORTS
from trafficmond.flows.inner import Inner, inner_flows
from trafficmond.flows.names import Names
from trafficmond.flows.owners import Owner
from trafficmond.flows.report import FIELDS, REPORT
from trafficmond.protocols import SERVED
from trafficmond.store.schema import FLOW_COLUMNS, STORED
from trafficmond.worker import Named

TABLE = "image.unstored"

_POINTER, _U32, _I64, _U64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int64, ctypes.c_uint64
_PAGE = 65536  # TM_PAGE
_COLUMNS_MOST = 32
_NUMBERS_BYTES = 512  # of a record, without its names
_IS_REAL, _IS_INTEGER, _IS_NAMED, _IS_ADDRESS, _IS_COMMUNITY = range(5)
_VALUE_INTEGER, _VALUE_NULL = -1, -2
_PORTS = np.zeros(256, np.uint8)
_PORTS[list(WITH_PORTS)] = 1
_PORTS[list(SERVED)] = 3
_OFFSETS = {name: (at, of.itemsize) for name, (of, at, *_) in (REPORT.fields or {}).items()}

Value = str | int | None


class _Value(ctypes.Structure):
    """struct tm_value."""

    _fields_ = fields((_U64, "number"), (ctypes.c_char_p, "text"), (_I64, "integer length"))


class _Column(ctypes.Structure):
    """struct tm_column."""

    _fields_ = fields((_U32, "kind at width values_count"), (ctypes.POINTER(_Value), "values"))


class _Batch(ctypes.Structure):
    """struct tm_batch."""

    _fields_ = fields(
        (_POINTER, "row"),
        (_U64, "rows size"),
        (_U32, "columns ends"),
        (_POINTER, "mate ports"),
        (_Column * _COLUMNS_MOST, "column"),
    )


class _Image(ctypes.Structure):
    """struct tm_image."""

    _fields_ = fields((_POINTER, "root"), (_U32, "room leaves cells begin"), (_U64, "rows"))


def attach(connection: sqlite3.Connection) -> None:
    """Prepare the connection for `give`, once."""
    connection.execute("ATTACH ':memory:' AS image")


def set_rows(connection: sqlite3.Connection, batches: Sequence[Named]) -> None:
    """Make these the rows of TABLE, before a transaction. Raises ValueError if SQLite cannot store one of them."""
    loaded, mates = compiled.library(), np.ascontiguousarray(MATE)
    given = [(np.ascontiguousarray(batch), tuple(_columns(batch, names))) for batch, names in batches]
    leaves = sum(_leaves(len(batch), columns) for batch, columns in given)
    pages = np.empty((2 + leaves, _PAGE), np.uint8)  # what is not used takes no memory
    pages[:2] = _empty()
    image = _Image(pages[1].ctypes.data, leaves)
    for batch, columns in given:
        rows = batch.ctypes.data, len(batch), batch.dtype.itemsize, len(columns), _OFFSETS["src_hi"][0]
        shared = _Batch(*rows, mates.ctypes.data, _PORTS.ctypes.data, (_Column * _COLUMNS_MOST)(*columns))
        if not loaded.tm_image_add(ctypes.addressof(image), ctypes.addressof(shared)):
            raise ValueError("a number has more than 63 bits, or a name is too long")
    count = 1 + loaded.tm_image_close(ctypes.addressof(image))
    if count == 1:
        raise ValueError("too many rows")
    pages[0, 28:32] = np.frombuffer(count.to_bytes(4, "big"), np.uint8)  # the header's number of pages
    connection.deserialize(pages[:count].data, name="image")


def _leaves(rows: int, columns: Sequence[_Column]) -> int:
    """Enough pages for so many rows."""
    names = ((column.values[at].length for at in range(column.values_count)) for column in columns)
    most = _NUMBERS_BYTES + sum(max(lengths, default=0) for lengths in names)
    return 1 + rows // max(1, _PAGE // most - 1)


@lru_cache(maxsize=1)
def _empty() -> Column:
    """The pages of an image without rows: header and schema, and the table's root."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"PRAGMA page_size = {_PAGE}")
        connection.execute(f"CREATE TABLE unstored ({STORED})")
        return np.frombuffer(connection.serialize(), np.uint8).reshape(2, _PAGE)


def _columns(batch: Batch, names: Names) -> Iterator[_Column]:
    """In the order of STORED_COLUMNS."""
    texts = names.texts()
    for name, kind in FLOW_COLUMNS.items():
        if name in texts:
            field, call = texts[name]
            numbers = np.unique(batch[field]).tolist()
            yield from _values(field, numbers, [[call(number) for number in numbers]])
        elif name in ("src_ip", "dst_ip"):
            yield _field(_IS_ADDRESS, f"{name[:3]}_hi")
        elif name == "community_id":
            yield _field(_IS_COMMUNITY, "src_hi")
        else:
            yield _field(_IS_REAL if kind == "REAL" else _IS_INTEGER, FIELDS.get(name, name))
    inner = np.unique(batch["inner"]) if names.inners else batch["inner"][:0]
    yield from _values("inner", inner.tolist(), _by_field(inner_flows(inner, names.inners), Inner))
    owner = np.unique(batch["owner"]).tolist() if names.owners else []
    yield from _values("owner", owner, _by_field([names.owner(number) for number in owner], Owner))


def _field(kind: int, name: str) -> _Column:
    return _Column(kind, *_OFFSETS[name])


def _by_field(values: Sequence[tuple[Value, ...]], kind: type[Inner | Owner]) -> list[Sequence[Value]]:
    return list(zip(*values, strict=True)) or [()] * len(kind._fields)


def _values(name: str, numbers: Sequence[int], columns: Sequence[Sequence[Value]]) -> Iterator[_Column]:
    """Columns of the values that belong to each of a field's sorted, distinct numbers; NULL for any other number."""
    for column in columns:
        array = (_Value * len(numbers))(*map(_value, numbers, column))
        yield _Column(_IS_NAMED, *_OFFSETS[name], len(numbers), array)


def _value(number: int, value: Value) -> _Value:
    if value is None:
        return _Value(number, None, 0, _VALUE_NULL)
    if isinstance(value, int):
        return _Value(number, None, value, _VALUE_INTEGER)
    text = value.encode()
    return _Value(number, text, 0, len(text))

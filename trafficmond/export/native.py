"""Encodes blocks in ClickHouse's Native format, column by column. Pure.

https://clickhouse.com/docs/interfaces/formats#native: for each block the numbers of columns and rows, for each column
its name, its type and its values; numbers little-endian, texts and counts with a LEB128 length before them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from trafficmond.dataclass import dataclass
from trafficmond.flows import batch
from trafficmond.flows.batch import Column

DAY_S = 86400

_NUMBERS = {"Date": "<u2", "UInt8": "u1", "UInt16": "<u2", "UInt32": "<u4", "UInt64": "<u8", "Float64": "<f8"}


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one partition, to be inserted together; `first` and `last` are the range of `last_seen`."""

    rows: int
    first: float
    last: float
    body: bytes


def block_of(
    columns: Mapping[str, str], made: Mapping[str, bytes], numbers: Mapping[str, Column], last_seen: Column
) -> Block:
    """A block of `columns` (name -> type): encoded columns are in `made`, numeric columns in `numbers`."""
    body = bytearray(_count(len(columns)) + _count(len(last_seen)))
    for name, kind in columns.items():
        body += text(name) + text(kind)
        body += made[name] if name in made else numbers[name].astype(_NUMBERS[kind]).tobytes()
    return Block(len(last_seen), float(last_seen.min()), float(last_seen.max()), bytes(body))


def nullable(column: Sequence[Any], kind: str, count: int) -> bytes:
    """A nullable column: a byte for each of `count` values that tells whether it is missing, and then all values. In an
    empty `column` all values are missing."""
    kind = kind.removeprefix("Nullable(").removesuffix(")")
    number = _NUMBERS.get(kind)
    if not column:
        return b"\1" * count + bytes(count * (np.dtype(number).itemsize if number else 1))
    missing = bytes(value is None for value in column)
    if number:
        return missing + np.array([value or 0 for value in column], number).tobytes()
    if kind == "FixedString(16)":
        return missing + b"".join([value or bytes(16) for value in column])
    return missing + b"".join([text(value or "") for value in column])


def named(column: Column, name: Callable[[int], str]) -> bytes:
    """The encoded names of numbers; `name` is called once for each distinct number."""
    return b"".join(batch.named(column.tolist(), lambda number: text(name(number))))


def text(value: str) -> bytes:
    data = value.encode("utf-8", "replace")
    return _count(len(data)) + data


def _count(number: int) -> bytes:
    """A number in LEB128: seven bits a byte, the lowest first; the top bit means that more follow."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)

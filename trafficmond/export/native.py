"""REPORT batches in ClickHouse's Native format: columns, as numpy has them already. Pure.

https://clickhouse.com/docs/interfaces/formats#native: for each block the numbers of columns and rows, for each column
its name, its type and its values; numbers little-endian, texts and counts with a LEB128 length before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trafficmond.flows.batch import Batch, Column, take
from trafficmond.flows.community_id import community_ids
from trafficmond.flows.inside import Inside, insides
from trafficmond.flows.names import Names
from trafficmond.flows.owners import Owner
from trafficmond.model import Action, Direction
from trafficmond.protocols import protocol_name
from trafficmond.verdict import action_of

_DAY_S = 86400

# The columns of packaging/clickhouse/flows.sql that are sent, with the types they have there.
COLUMNS = {
    "day": "Date",
    "sensor": "String",
    "batch": "String",
    "row": "UInt32",
    "first_seen": "Float64",
    "last_seen": "Float64",
    "src": "FixedString(16)",
    "dst": "FixedString(16)",
    "src_port": "UInt16",
    "dst_port": "UInt16",
    "protocol": "String",
    "protocol_num": "UInt8",
    "packets": "UInt64",
    "bytes": "UInt64",
    "reply_packets": "UInt64",
    "reply_bytes": "UInt64",
    "tcp_flags": "UInt8",
    "reply_tcp_flags": "UInt8",
    "action": "String",
    "rule": "String",
    "interface": "String",
    "direction": "String",
    "vlan": "UInt16",
    "community_id": "String",
    "tunnel": "Nullable(String)",
    "vni": "Nullable(UInt32)",
    "inner_src_ip": "Nullable(String)",
    "inner_dst_ip": "Nullable(String)",
    "inner_src_port": "Nullable(UInt16)",
    "inner_dst_port": "Nullable(UInt16)",
    "inner_protocol": "Nullable(String)",
    "unit": "Nullable(String)",
    "cgroup": "Nullable(String)",
    "uid": "Nullable(UInt32)",
}
_NUMBERS = {"Date": "<u2", "UInt8": "u1", "UInt16": "<u2", "UInt32": "<u4", "UInt64": "<u8", "Float64": "<f8"}
_RENAMED = {
    "first_seen": "first",
    "last_seen": "last",
    "src_port": "sport",
    "dst_port": "dport",
    "protocol_num": "proto",
}


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one day, to be inserted at once. Times are those of `last_seen`."""

    rows: int
    first: float
    last: float
    body: bytes


def by_day(rows: Batch) -> Iterator[Batch]:
    """The rows of each UTC day, which is a partition of its own: an insert into one partition is atomic."""
    days = rows["last"] // _DAY_S
    for day in np.unique(days):
        yield take(rows, np.flatnonzero(days == day))


def block(rows: Batch, names: Names, sensor: str, batch: str) -> Block:
    """The rows, all of one day, as a block. `batch` names it for ever."""
    count = len(rows)
    made: dict[str, bytes] = {
        "day": np.full(count, rows["last"][0] // _DAY_S, "<u2").tobytes(),
        "sensor": _text(sensor) * count,
        "batch": _text(batch) * count,
        "row": np.arange(count, dtype="<u4").tobytes(),
        "src": _packed(rows["src_hi"], rows["src_lo"]),
        "dst": _packed(rows["dst_hi"], rows["dst_lo"]),
        "protocol": _named(rows["proto"], protocol_name),
        "action": _named(action_of(rows["verdict"]), lambda number: str(Action(number))),
        "rule": _named(rows["verdict"], names.rule),
        "interface": _named(rows["ifindex"], names.interface),
        "direction": _named(rows["direction"], lambda number: str(Direction(number))),
        "community_id": b"".join(map(_text, community_ids(rows))),
    }
    inner = insides(rows["inner"], names.inners) if names.inners else ()
    for at, name in enumerate(Inside._fields):
        made[name] = _nullable([each[at] for each in inner], COLUMNS[name], count)
    known = {number: names.owner(number) for number in np.unique(rows["owner"]).tolist()} if names.owners else {}
    owners = [known[number] for number in rows["owner"].tolist()] if known else ()
    for at, name in enumerate(Owner._fields):
        made[name] = _nullable([each[at] for each in owners], COLUMNS[name], count)
    body = bytearray(_count(len(COLUMNS)) + _count(count))
    for name, kind in COLUMNS.items():
        body += _text(name) + _text(kind)
        body += made[name] if name in made else rows[_RENAMED.get(name, name)].astype(_NUMBERS[kind]).tobytes()
    return Block(count, float(rows["last"].min()), float(rows["last"].max()), bytes(body))


def _nullable(column: Sequence[Any], kind: str, count: int) -> bytes:
    """Which of `count` values are missing, a byte each, and then all of them, with something in place of the missing.
    An empty column is one of which all are."""
    number = _NUMBERS.get(kind.removeprefix("Nullable(").removesuffix(")"))
    if not column:
        return b"\1" * count + bytes(count * (np.dtype(number).itemsize if number else 1))
    missing = bytes(value is None for value in column)
    if number:
        return missing + np.array([value or 0 for value in column], number).tobytes()
    return missing + b"".join([_text(value or "") for value in column])


def _named(column: Column, name: Callable[[int], str]) -> bytes:
    numbers = column.tolist()
    known = {number: _text(name(number)) for number in set(numbers)}
    return b"".join([known[number] for number in numbers])


def _packed(hi: Column, lo: Column) -> bytes:
    words = np.empty((len(hi), 2), ">u8")
    words[:, 0], words[:, 1] = hi, lo
    return words.tobytes()


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "replace")
    return _count(len(data)) + data


def _count(number: int) -> bytes:
    """LEB128: seven bits a byte, the least first, the top bit set where more follow."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)

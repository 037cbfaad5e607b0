"""Reads flows of flows.db by columns, in pieces.

SQLite joins a column of many rows into one text, which numpy parses. This is several times faster than reading rows,
and only addresses become Python objects.
"""

from __future__ import annotations

import contextlib
import socket
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from trafficmond.dataclass import dataclass
from trafficmond.errors import StoreError
from trafficmond.npt import I64, U64, Bool
from trafficmond.policy.judge import Conversations
from trafficmond.protocols import RST, SYN, TCP
from trafficmond.store.schema import STORED_COLUMNS, partition_table

PIECE_ROWS = 1 << 16
_PEER = "CASE direction WHEN 'egress' THEN dst_ip ELSE src_ip END"
# The small fields of a row in one number: ports, protocol, TCP flags, direction, and which sides sent packets.
_SMALL = (
    "src_port + (dst_port << 16) + (protocol_num << 32) + ((tcp_flags | reply_tcp_flags) << 40) "
    "+ (reply_tcp_flags << 48) + ((direction = 'egress') << 56) + ((packets > 0) << 57) + ((reply_packets > 0) << 58)"
)
_COLUMNS = (_PEER, _SMALL, "packets + reply_packets", "bytes + reply_bytes", "CAST(last_seen AS INTEGER)", "rowid")
_JOINED = ", ".join(f"group_concat({column}, ' ')" for column in _COLUMNS)
_SAME = ("first_seen", "src_ip", "dst_ip", "src_port", "dst_port", "protocol_num", "interface")
_HINT = "use sudo or join group trafficmon"


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one partition of flows.db, from the first rowid to the last."""

    table: str
    first: int
    last: int

    @property
    def rows(self) -> int:
        """The number of rows, at most: some rowids may be missing."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, eq=False)
class Flows:
    """Columns of flows; packets and bytes count both sides."""

    of: Conversations
    answered: Bool  # the other side answered, and not only with a reset
    packets: I64
    bytes: I64
    last: I64  # epoch s
    row: I64  # rowid

    def __len__(self) -> int:
        return len(self.row)


Edge = Mapping[int, int]
"""The end of flows.db at a moment: the last rowid of each partition."""


class Reader:
    """Reads flows.db at `path`; one reader for each process. Every method raises StoreError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._errors_reported():
            self._connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
            self._connection.execute("PRAGMA cache_size = -4096")

    def edge(self) -> Edge:
        with self._errors_reported():
            numbers = [number for (number,) in self._connection.execute("SELECT number FROM partitions")]
            last, ask = "SELECT coalesce(max(rowid), 0) FROM", self._connection.execute
            return {number: ask(f"{last} {partition_table(number)}").fetchone()[0] for number in numbers}

    def pieces(self, edge: Edge, since: float) -> Iterator[Piece]:
        """The pieces up to this end, the latest first, without partitions that ended before `since`."""
        for number in sorted(edge, reverse=True):
            if self._ended(number) >= since:
                for last in range(edge[number], 0, -PIECE_ROWS):
                    yield Piece(partition_table(number), max(1, last - PIECE_ROWS + 1), last)

    def _ended(self, number: int) -> float:
        """The time of a partition's latest flow in epoch seconds; 0 if the partition is gone or empty."""
        with self._errors_reported():
            found = self._connection.execute("SELECT last_seen FROM partitions WHERE number = ?", (number,)).fetchone()
        return float(found[0]) if found and found[0] is not None else 0.0

    def read(self, piece: Piece, since: float) -> Flows:
        """The rows of a piece that were seen since then; none if its partition is gone."""
        where = "rowid BETWEEN ? AND ? AND +last_seen >= ?"
        with self._errors_reported():
            try:
                ask = self._connection.execute
                texts = ask(f"SELECT {_JOINED} FROM {piece.table} WHERE {where}", (piece.first, piece.last, since))
                return _flows(texts.fetchone(), self.path)
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return _flows([None] * len(_COLUMNS), self.path)
                raise

    def between(self, first: Edge, last: Edge, since: float) -> Iterator[dict[str, Any]]:
        """The rows, with all columns, that were added between two ends."""
        with self._errors_reported():
            for number, end in last.items():
                where = f"rowid > {first.get(number, 0)} AND rowid <= {end} AND last_seen >= ?"
                yield from self._rows(partition_table(number), where, (since,))

    def named(self, table: str, rows: Sequence[int]) -> dict[int, dict[str, Any]]:
        with self._errors_reported():
            found = self._rows(table, f"rowid IN ({', '.join(map(str, rows))})", ())
            return {row.pop("rowid"): row for row in found}

    def _rows(self, table: str, where: str, values: Sequence[Any]) -> Iterator[dict[str, Any]]:
        cursor = self._connection.execute(f"SELECT rowid, * FROM {table} WHERE {where}", values)
        names = [each[0] for each in cursor.description]
        for row in cursor:
            yield dict(zip(names, row, strict=True))

    @contextlib.contextmanager
    def _errors_reported(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: cannot be read: {error}", hint=_HINT) from error


def latest(live: Iterable[Mapping[str, Any]], stored: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Flows that were not stored when they were asked for, and those stored since, each once."""
    rows = {tuple(row.get(name) for name in _SAME): dict(row) for row in stored}
    rows |= {tuple(row.get(name) for name in _SAME): dict(row) for row in live}
    return list(rows.values())


def of_rows(rows: Sequence[Mapping[str, Any]]) -> Flows:
    """The columns of rows; `row` is the position of each."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE live ({', '.join(STORED_COLUMNS)})")
        marks = ", ".join("?" * len(STORED_COLUMNS))
        values = ([row.get(name) or 0 for name in STORED_COLUMNS] for row in rows)
        connection.executemany(f"INSERT INTO live VALUES ({marks})", values)
        return _flows(connection.execute(f"SELECT {_JOINED} FROM live").fetchone(), Path("live"))


def _flows(texts: Sequence[str | None], path: Path) -> Flows:
    """The columns of the texts into which SQLite joined them; of no rows, all are None."""
    peers = (texts[0] or "").split()
    small, packets, octets, last, row = (_numbers(text) for text in texts[1:])
    if not len(peers) == len(small) == len(packets) == len(octets) == len(last) == len(row):
        raise StoreError(f"{path}: has incomplete rows", hint="check it: sqlite3 FILE 'PRAGMA quick_check'")
    hi, lo, six = _addresses(peers)
    near, far, protocol = small & 0xFFFF, small >> 16 & 0xFFFF, small >> 32 & 0xFF
    flags, back = small >> 40 & 0xFF, small >> 48 & 0xFF
    egress, asked, answered = (small >> bit & 1 == 1 for bit in (56, 57, 58))
    answered = answered & ~((protocol == TCP) & (back & RST != 0) & (back & SYN == 0))
    of = Conversations(hi, lo, six, protocol, near, far, egress, asked, answered, flags)
    return Flows(of, answered, packets, octets, last, row)


def _numbers(text: str | None) -> I64:
    return np.fromstring(text, np.int64, sep=" ") if text else np.zeros(0, np.int64)


def _addresses(texts: Sequence[str]) -> tuple[U64, U64, Bool]:
    """The addresses as 128 bits, IPv4 in the upper 32, and which of them are IPv6."""
    six = np.array([":" in text for text in texts], np.bool_)
    hi, lo = np.zeros(len(texts), np.uint64), np.zeros(len(texts), np.uint64)
    for family, chosen in ((socket.AF_INET, ~six), (socket.AF_INET6, six)):
        at = np.flatnonzero(chosen)
        some = texts if len(at) == len(texts) else [texts[place] for place in at.tolist()]
        packed = b"".join(map(socket.inet_pton, repeat(family), some))
        if family == socket.AF_INET:
            hi[at] = np.frombuffer(packed, ">u4").astype(np.uint64) << np.uint64(32)
        else:
            halves = np.frombuffer(packed, ">u8").reshape(-1, 2)
            hi[at], lo[at] = halves[:, 0], halves[:, 1]
    return hi, lo, six

"""The partitions of `flows`: where rows go, when a partition is full, and which is dropped when."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import numpy as np

from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.store.rows import flow_rows
from trafficmond.store.schema import FLOW_COLUMNS, INDEXED, create_partition, create_view, partition_table

_PARTS_BY_SIZE = 128  # a partition is about 1/128 of max_size and covers at most 1/64 of max_age, so that the
_PARTS_BY_AGE = 64  # view never has more arms than SQLite can join (500), and dropping one is quick
_MOST_PARTS = 400  # after several changes of max_size there may be more small ones than reckoned
_ROW_BYTES = 256  # with its share of three indexes
_LEAST_ROWS = 1024


@dataclass(slots=True)
class Partition:
    """One of `partitions`; times are epoch seconds, None while it is empty."""

    number: int
    first_seen: float | None
    last_seen: float | None
    rows: int
    sealed: bool


class Partitions:
    """The partitions of one open file. Every method expects the caller's transaction, and may be rolled back:
    `load` then reads the truth again."""

    def __init__(self, connection: sqlite3.Connection, max_age_s: float, max_size_bytes: int) -> None:
        self._connection = connection
        self.max_age_s = max_age_s
        self.max_size_bytes = max_size_bytes
        self.all: list[Partition] = []
        self.load()

    def load(self) -> None:
        """Read the list from the file."""
        self.all = [
            Partition(number, first, last, rows, bool(sealed))
            for number, first, last, rows, sealed in self._connection.execute(
                "SELECT number, first_seen, last_seen, rows, sealed FROM partitions ORDER BY number"
            )
        ]

    @property
    def rows(self) -> int:
        """Rows in `flows`."""
        return sum(part.rows for part in self.all)

    @property
    def room(self) -> int:
        """Rows that the open partition still takes."""
        full = max(_LEAST_ROWS, self.max_size_bytes // _PARTS_BY_SIZE // _ROW_BYTES)
        return max(0, full - self.all[-1].rows)

    def insert(self, batch: Batch, names: Names) -> None:
        """Add a REPORT batch to the open partition."""
        part = self.all[-1]
        marks = ", ".join("?" * len(FLOW_COLUMNS))
        self._connection.executemany(
            f"INSERT INTO {partition_table(part.number)} VALUES ({marks})", flow_rows(batch, names)
        )
        first, last = float(np.min(batch["first"])), float(np.max(batch["last"]))
        part.first_seen = first if part.first_seen is None else min(part.first_seen, first)
        part.last_seen = last if part.last_seen is None else max(part.last_seen, last)
        part.rows += len(batch)
        self._connection.execute(
            "UPDATE partitions SET first_seen = ?, last_seen = ?, rows = ? WHERE number = ?",
            (part.first_seen, part.last_seen, part.rows, part.number),
        )

    def must_rotate(self) -> bool:
        """Whether the open partition is full, or covers its share of the time."""
        part = self.all[-1]
        if part.first_seen is None or part.last_seen is None:
            return False
        return self.room == 0 or part.last_seen - part.first_seen > self.max_age_s / _PARTS_BY_AGE

    def rotate(self) -> None:
        """Seal the open partition and begin the next."""
        part = self.all[-1]
        table = partition_table(part.number)
        for column in INDEXED:
            self._connection.execute(f"CREATE INDEX {table}_{column} ON {table} ({column})")
        self._connection.execute("UPDATE partitions SET sealed = 1 WHERE number = ?", (part.number,))
        create_partition(self._connection, part.number + 1)
        part.sealed = True
        self.all.append(Partition(part.number + 1, None, None, 0, False))
        create_view(self._connection)

    def expired(self, now: float) -> Partition | None:
        """The oldest partition, if it is full, and too old or one too many."""
        oldest = self.all[0]
        if not oldest.sealed:
            return None
        too_old = oldest.last_seen is not None and oldest.last_seen < now - self.max_age_s
        too_many = len(self.all) > _MOST_PARTS
        return oldest if too_old or too_many or self.used_bytes() > self.max_size_bytes else None

    def drop(self, part: Partition) -> None:
        """Remove a partition and its rows; its pages are used again, the file does not shrink."""
        self._connection.execute("DELETE FROM partitions WHERE number = ?", (part.number,))
        self.all.remove(part)
        create_view(self._connection)
        self._connection.execute(f"DROP TABLE {partition_table(part.number)}")

    def used_bytes(self) -> int:
        """Bytes of the file that hold something."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        (size,) = self._connection.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * size)

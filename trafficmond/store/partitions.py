"""The partitions of `flows`: insertion, rotation, and removal of the oldest.

A partition leaves `flows` at once, and its table is removed step by step. SQLite reads each page that it frees, and the
pages of old flows are on the disk: they are read in pieces first, so that the drop does not wait for it. A table that
is still too large is deleted in pieces, which costs more, since each page is written again.
"""

import sqlite3
import time

import numpy as np

from trafficmond.dataclass import dataclass
from trafficmond.flows.batch import Batch
from trafficmond.store.image import TABLE
from trafficmond.store.schema import INDEXED, STORED_COLUMNS, create_partition, create_view, partition_table, present

_PARTS_BY_SIZE = 128  # a partition is about 1/128 of max_size and covers at most 1/64 of max_age, so that the
_PARTS_BY_AGE = 64  # view never has more arms than SQLite can join (500)
_HOUR_S = 3600.0
_MOST_PARTS = 400  # changes of max_size may leave more small partitions than planned
_ROW_BYTES = 256  # with its share of three indexes
_LEAST_ROWS = 1024
_PIECE_ROWS = 8192  # between two checks of the clock
_DROP_ROWS = 1 << 19  # at once: rows that were read are dropped at about 10 million a second


@dataclass(slots=True)
class Partition:
    """One of `partitions`; times are epoch seconds, None while it is empty."""

    number: int
    first_seen: float | None
    last_seen: float | None
    rows: int
    sealed: bool


class Partitions:
    """The partitions of one open file. Every method runs in the caller's transaction. After a rollback, call `load`."""

    def __init__(self, connection: sqlite3.Connection, max_age_s: float, max_size_bytes: int) -> None:
        self._connection = connection
        self.max_age_s = max_age_s
        self.max_size_bytes = max_size_bytes
        self.all: list[Partition] = []
        self._retired: dict[str, int] = {}  # tables that are no longer in `flows`: last row read
        self.load()

    def load(self) -> None:
        self.all = [
            Partition(number, first, last, rows, bool(sealed))
            for number, first, last, rows, sealed in self._connection.execute(
                "SELECT number, first_seen, last_seen, rows, sealed FROM partitions ORDER BY number"
            )
        ]
        retired = self._connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'flows_[0-9]*' "
            "AND name NOT IN (SELECT 'flows_' || number FROM partitions)"
        )
        self._retired = {name: self._retired.get(name, 0) for (name,) in retired}

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.all)

    def newest(self, now: float) -> float | None:
        """When the latest row was stored, apart from those of the last hour and those after a jump of the clock within
        their partition: a clock that is wrong may have stored them."""
        most = self.max_age_s / _PARTS_BY_AGE + _HOUR_S
        times = ((part.first_seen or 0.0, part.last_seen or 0.0) for part in self.all)
        ends = (last if last - first <= most else first for first, last in times if 0 < first < now - _HOUR_S)
        return max(ends, default=None)

    @property
    def room(self) -> int:
        """Rows that the open partition still takes."""
        full = max(_LEAST_ROWS, self.max_size_bytes // _PARTS_BY_SIZE // _ROW_BYTES)
        return max(0, full - self.all[-1].rows)

    def insert(self, batch: Batch) -> None:
        """Add the rows of the image, which are those of the batch."""
        part = self.all[-1]
        table = partition_table(part.number)
        # SQLite copies whole records only if no columns are named: those of another order or number must be.
        named = "" if present(self._connection, table) == [*STORED_COLUMNS] else f" ({', '.join(STORED_COLUMNS)})"
        self._connection.execute(f"INSERT INTO {table}{named} SELECT * FROM {TABLE}")
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

    def must_shrink(self, now: float) -> bool:
        """Whether there is something to remove: the rest of a retired partition, or an expired one."""
        return bool(self._retired) or self._expired(now)

    def shrink(self, now: float, budget_s: float) -> None:
        """Remove rows that are too old or too many, for at most `budget_s`; the next call continues. Freed pages are
        reused; the file does not shrink."""
        deadline = time.monotonic() + budget_s
        while self.must_shrink(now):
            if self._retired:
                self._free_some(next(iter(self._retired)))
            else:
                part = self.all.pop(0)
                self._connection.execute("DELETE FROM partitions WHERE number = ?", (part.number,))
                create_view(self._connection)
                self._retired[partition_table(part.number)] = 0
            if time.monotonic() >= deadline:
                return

    def _expired(self, now: float) -> bool:
        """Whether the oldest partition is full, and too old or above the limit of number."""
        oldest = self.all[0]
        if not oldest.sealed:
            return False
        # Rows that were stored while the clock was ahead are as old as those after them.
        ended = next((part.last_seen for part in self.all if part.last_seen and part.last_seen <= now), now)
        too_old = ended < now - self.max_age_s
        too_many = len(self.all) > _MOST_PARTS
        return too_old or too_many or self.used_bytes() > self.max_size_bytes

    def _free_some(self, table: str) -> None:
        ask = self._connection.execute
        index = ask("SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ?", (table,)).fetchone()
        (first,) = ask(f"SELECT min(rowid) FROM {table}").fetchone()
        (last,) = ask(f"SELECT max(rowid) FROM {table}").fetchone()
        if index:
            ask(f"DROP INDEX {index[0]}")
        elif last is not None and self._retired[table] < last:
            begin = max(first, self._retired[table] + 1)
            self._retired[table] = begin + _PIECE_ROWS - 1
            ask(f"SELECT count(*) FROM {table} WHERE rowid BETWEEN ? AND ?", (begin, self._retired[table])).fetchone()
        elif last is not None and last - first >= _DROP_ROWS:
            ask(f"DELETE FROM {table} WHERE rowid < ?", (first + _PIECE_ROWS,))
        else:
            ask(f"DROP TABLE {table}")
            del self._retired[table]

    def used_bytes(self) -> int:
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        (size,) = self._connection.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * size)

"""The one thread that writes flows.db, behind a bounded queue (queue.py).

The queue is written in batches. A write that fails because of space, rights or a lock is retried until it succeeds,
while the queue fills. A broken file is set aside and replaced by a new one.
"""

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from trafficmond.dataclass import dataclass
from trafficmond.errors import StoreError
from trafficmond.flows.batch import take
from trafficmond.geo.geoip import EMPTY
from trafficmond.store import image, records, rollups
from trafficmond.store.file import File, is_broken, is_passing
from trafficmond.store.partitions import Partitions
from trafficmond.store.queue import Queue
from trafficmond.store.schema import partition_table

_STEP_S = 3600.0  # a wall clock further ahead than this was set, or the host was off
_TRUST_S = 3600.0  # until it is believed


class Ageing:
    """Follows the wall clock, but believes a jump forward only after an hour: a clock that was set
    by mistake, or is wrong until a time server answers, would make all history too old at once."""

    def __init__(self, clock: Callable[[], float], newest: float | None) -> None:
        """`newest`: when the latest row was stored, by the wall clock of that time; None: there is no row."""
        self._clock = clock
        now = clock()
        self._last = now if newest is None else min(now, newest)
        self._at = self._steady_since = time.monotonic()

    def now(self) -> float:
        """Epoch seconds."""
        now, at = self._clock(), time.monotonic()
        expected = self._last + at - self._at
        if now <= expected + _STEP_S:
            self._steady_since = at
        elif at - self._steady_since < _TRUST_S:
            return expected
        self._last, self._at = now, at
        return now


log = logging.getLogger(__name__)

_RETRY_S = (0.1, 0.5, 2.0, 5.0)
_HOUSEKEEPING_S = 1.0
_PRUNE_S = 60.0
_SHRINK_S = 0.01  # of the writer's time for removals at once, and a step more
_CHECK_S = 2.0
_UNFIT = (OverflowError, ValueError)  # a number beyond 63 bits, text that is no Unicode
_LEAST_WAL_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the file and of the queue before it."""

    max_age_s: float
    max_size_bytes: int
    # bound: flows that wait for `flows.db` | further flows are lost and counted; `status` shows them
    queue_rows: int = 262_144

    @property
    def wal_bytes(self) -> int:
        """The size of the write-ahead log at which storing pauses for a reader's transaction."""
        return max(_LEAST_WAL_LIMIT_BYTES, self.max_size_bytes // 4)


class Writer(threading.Thread):
    """Owns the file. The public attributes are plain values that any thread may read."""

    def __init__(self, path: Path, limits: Limits, clock: Callable[[], float] = time.time) -> None:
        super().__init__(name="store", daemon=True)
        self.path = path
        self.limits = limits
        self.geoip = EMPTY  # places of addresses, for the rollups
        self.queue = Queue(path, limits.queue_rows)
        self.written_rows = 0
        self.state = "ok"
        self._clock = clock
        self._pruned_at = 0.0
        self._damage = ""
        self.rows = 0
        self.file = File(path)
        self._partitions: Partitions  # since the file was opened
        self._ageing: Ageing

    def run(self) -> None:
        """Write and do the housekeeping until stopped, whatever happens to the disk."""
        try:
            self._write_until_stopped()
            self.state = "closed"
        finally:
            if self.state != "closed":
                self.state = "the writer ended unexpectedly; see the journal for the reason"
            self.queue.close(self.state)
            self.file.close()

    def _write_until_stopped(self) -> None:
        failures = 0
        checked = False
        while self.queue.wait(_HOUSEKEEPING_S):
            try:
                self.open_if_lost()
                if not checked:
                    self._check()
                    checked = True
                self._run_tasks()
                self._write_batch()
                self._housekeeping()
            except (sqlite3.Error, StoreError, OSError) as error:
                self._recover(error, failures)
                failures += 1
            else:
                if failures:
                    log.info("%s: storing again", self.path)
                failures = 0
                self.state = "ok"

    def open_if_lost(self) -> None:
        """Open the file, which the thread does when it can, or again after it was lost. Raises StoreError."""
        if self._damage:
            self.file.give_up(self._damage)
            self._damage = ""
        if self.file.is_lost():
            self.file.reopen()
            image.attach(self.file.connection)
            self._partitions = Partitions(self.file.connection, self.limits.max_age_s, self.limits.max_size_bytes)
            self.rows = self._partitions.rows
            self._ageing = Ageing(self._clock, self._partitions.newest(self._clock()))

    def _check(self) -> None:
        """Check for damage at the start, before a query finds it: newest partitions first, within the time allowed."""
        newest_first = (partition_table(part.number) for part in reversed(self._partitions.all))
        self.file.check(("partitions", "threats", "bans", "audit", "rollups", *newest_first), _CHECK_S)

    def _run_tasks(self) -> None:
        while (task := self.queue.task) is not None:
            try:
                if task.what:
                    with self.file.durable(task.durable), self._transaction() as connection:
                        result = task.work(connection)
                else:  # readers do not wait for writers
                    result = task.work(self.file.connection)
            except (*_UNFIT, sqlite3.Error) as error:
                if isinstance(error, sqlite3.Error) and (is_passing(error) or is_broken(error)):
                    raise
                self.queue.finish_task(task, failure=str(error))
            else:
                self.queue.finish_task(task, result)

    def _write_batch(self) -> None:
        """Write the next batch, or what the open partition has room for, in one transaction; its rows leave the queue
        when it is committed. If SQLite cannot store one of its values, they are lost."""
        if not (waiting := self.queue.batches):
            return
        self._bound_wal()
        self._partitions.max_age_s, self._partitions.max_size_bytes = self.limits.max_age_s, self.limits.max_size_bytes
        if self._partitions.must_rotate():
            with self._transaction():
                self._partitions.rotate()
        batch, names = waiting[0]
        part, rest = batch[: self._partitions.room], batch[self._partitions.room :]
        left = [(rest, names)] if len(rest) else []
        # In the order of time: its index takes half as long to make, and who reads by it reads neighbours.
        part = take(part, np.argsort(part["last"], kind="stable"))
        try:
            image.set_rows(self.file.connection, [(part, names)])
            with self._transaction(lambda: self.queue.took(1, left, len(part), 0)) as connection:
                self._partitions.insert(part)
                rollups.add(connection, part, names, self.geoip)
        except (*_UNFIT, sqlite3.DataError, sqlite3.IntegrityError) as error:
            log.error("%s: %d rows cannot be stored: %s", self.path, len(part), error)
            self.queue.took(1, left, 0, len(part))
        else:
            self.written_rows += len(part)
        self.rows = self._partitions.rows

    def _bound_wal(self) -> None:
        """Pause storing while a reader's transaction keeps the write-ahead log from being copied back."""
        if self.file.wal_bytes() <= self.limits.wal_bytes:
            return
        if not self.file.truncate_wal():
            raise StoreError(
                f"{self.path}: a reader has held a transaction for long; its write-ahead log is at the limit of "
                f"{self.limits.wal_bytes >> 20} MiB",
                hint="end that reader (fuser flows.db-wal shows it)",
            )

    def _housekeeping(self) -> None:
        """Prune the small tables; remove old and excess flows step by step, storing new ones in between."""
        now = self._ageing.now()
        if not 0 <= now - self._pruned_at < _PRUNE_S:
            self._pruned_at = now
            with self._transaction() as connection:
                rollups.prune(connection, now)
                records.prune(connection)
        while self._partitions.must_shrink(now):
            with self._transaction():
                self._partitions.shrink(now, _SHRINK_S)
            self.rows = self._partitions.rows
            if self.queue.has_work:
                break

    @contextlib.contextmanager
    def _transaction(self, committed: Callable[[], None] = lambda: None) -> Iterator[sqlite3.Connection]:
        """A transaction; `committed` is called before readers see it, so that no row is both in file and queue."""
        connection = self.file.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            with self.queue.commit_lock:
                connection.execute("COMMIT")
                committed()
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._partitions.load()
            raise

    def _recover(self, error: Exception, failures: int) -> None:
        """Report the error once; replace a broken file; wait before the next attempt."""
        self.state = str(error)
        if isinstance(error, sqlite3.Error) and is_broken(error):
            self._damage = str(error)
        elif not failures:
            log.error("%s: cannot store (%s); flows wait in memory; will try again", self.path, error)
        elif not isinstance(error, StoreError):
            self.file.close()
        self.queue.pause(_RETRY_S[min(failures, len(_RETRY_S) - 1)], _RETRY_S[0])

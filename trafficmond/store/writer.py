"""The one thread that writes flows.db, behind a bounded queue.

Nobody waits for it: what does not fit into the queue is lost and counted. What is in it is written in batches;
a write that fails for want of space, rights or a lock is kept and tried again until it succeeds, while the
queue holds what it can. A file that turns out broken is set aside and a fresh one takes its place.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trafficmond.errors import StoreError
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.store import records, rollups
from trafficmond.store.file import File, is_broken, is_passing
from trafficmond.store.partitions import Partitions
from trafficmond.store.schema import partition_table

log = logging.getLogger(__name__)

_TRANSACTION_ROWS = 16384
_RETRY_S = (0.1, 0.5, 2.0, 5.0)
_HOUSEKEEPING_S = 1.0
_PRUNE_S = 60.0
_SHRINK_S = 0.025  # of the writer's time at once for rows that go
_CHECK_S = 2.0
_UNFIT = (OverflowError, ValueError)  # a number beyond 63 bits, text that is no Unicode
_LEAST_WAL_LIMIT_BYTES = 64 << 20
_MOST_TASKS = 4096  # that wait while nothing can be written

Work = Callable[[sqlite3.Connection], Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept: in the file, and in the queue before it."""

    max_age_s: float
    max_size_bytes: int
    queue_rows: int = 262_144

    @property
    def wal_bytes(self) -> int:
        """How far a reader that holds a transaction may let the write-ahead log grow before storing pauses."""
        return max(_LEAST_WAL_LIMIT_BYTES, self.max_size_bytes // 4)


@dataclass(slots=True)
class _Task:
    """Something small to do that somebody may wait for; a durable one is on the disk when done."""

    work: Work
    what: str  # it writes; empty: it reads
    durable: bool
    done: Future[Any]


class Writer(threading.Thread):
    """Owns the file. The public attributes are plain values that any thread may read."""

    def __init__(self, path: Path, limits: Limits, clock: Callable[[], float] = time.time) -> None:
        super().__init__(name="store", daemon=True)
        self.path = path
        self.limits = limits
        self.written_rows = 0
        self.lost_rows = 0
        self.queued_rows = 0
        self.state = "ok"
        self.longest_shrink_s = 0.0
        self._clock = clock
        self._pruned_at = 0.0
        self._damage = ""
        self._file = File(path)
        self._partitions = Partitions(self._file.connection, limits.max_age_s, limits.max_size_bytes)
        self.rows = self._partitions.rows
        self._wake = threading.Condition()
        self._batches: deque[tuple[Batch, Names]] = deque()
        self._tasks: deque[_Task] = deque()
        self._stop_at: float | None = None

    @property
    def set_aside(self) -> Path | None:
        """What the latest broken file was renamed to."""
        return self._file.set_aside

    # ---- any thread ----

    def put(self, batch: Batch, names: Names) -> int:
        """Queue a REPORT batch; returns how many of its rows were lost because the queue is full."""
        with self._wake:
            room = max(0, self.limits.queue_rows - self.queued_rows) if self._stop_at is None else 0
            kept = batch[:room]
            for at in range(0, len(kept), _TRANSACTION_ROWS):
                self._batches.append((kept[at : at + _TRANSACTION_ROWS], names))
            self.queued_rows += len(kept)
            self.lost_rows += len(batch) - len(kept)
            self._wake.notify_all()
        return len(batch) - len(kept)

    def submit(self, work: Work, *, writes: str = "", durable: bool = False) -> Future[Any]:
        """Queue a small transaction of its own, in words what it writes; the future has its result, or a StoreError.

        Nobody need look at the future: what was not written is said and counted with the lost rows.
        """
        task = _Task(work, writes, durable, Future())
        task.done.set_running_or_notify_cancel()  # nobody may cancel it half done
        with self._wake:
            closed, full = self._stop_at is not None, len(self._tasks) >= _MOST_TASKS
            if not (closed or full):
                self._tasks.append(task)
                self._wake.notify_all()
                return task.done
        self._fail(task, "is closed" if closed else f"too much waits to be written ({self.state})")
        return task.done

    def _fail(self, task: _Task, why: str) -> None:
        if task.what:
            log.error("%s: %s was not written: %s", self.path, task.what, why)
            with self._wake:
                self.lost_rows += 1
        task.done.set_exception(StoreError(f"{self.path}: {why}"))

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is queued; False if that took longer."""
        with self._wake:
            return self._wake.wait_for(lambda: not self._batches and not self._tasks, timeout_s)

    def configure(self, limits: Limits) -> None:
        """Other limits from the next write on."""
        self.limits = limits

    def stop(self, timeout_s: float) -> None:
        """Write what is queued, then end; what cannot be written within the time is lost and counted."""
        with self._wake:
            self._stop_at = time.monotonic() + timeout_s
            self._wake.notify_all()

    # ---- the thread ----

    def run(self) -> None:
        """Until stopped: write, keep house, and outlast whatever happens to the disk."""
        try:
            self._outlast()
            self.state = "closed"
        finally:
            if self.state != "closed":
                self.state = "the writer ended unexpectedly; the journal has its last words"
            self._finish()

    def _outlast(self) -> None:
        failures = 0
        checked = False
        while self._wait():
            try:
                self._reopen_if_lost()
                if not checked:
                    self._check()
                    checked = True
                self._run_tasks()
                self._write_batches()
                self._keep_house()
            except (sqlite3.Error, StoreError, OSError) as error:
                self._recover(error, failures)
                failures += 1
            else:
                if failures:
                    log.info("%s: storing again", self.path)
                failures = 0
                self.state = "ok"

    def _wait(self) -> bool:
        """Sleep until there is something to do; False when it is time to end."""
        with self._wake:
            if not self._batches and not self._tasks and self._stop_at is None:
                self._wake.wait(_HOUSEKEEPING_S)
            if self._stop_at is None:
                return True
            return bool(self._batches or self._tasks) and time.monotonic() < self._stop_at

    def _reopen_if_lost(self) -> None:
        if self._damage:
            self._file.give_up(self._damage)
            self._damage = ""
        if self._file.is_lost():
            self._file.reopen()
            self._partitions = Partitions(self._file.connection, self.limits.max_age_s, self.limits.max_size_bytes)
            self.rows = self._partitions.rows

    def _check(self) -> None:
        """Damage is better found at the start than by a query; the newest partitions first, for as long as it may."""
        newest_first = (partition_table(part.number) for part in reversed(self._partitions.all))
        self._file.check(("partitions", "threats", "bans", "audit", "rollups", *newest_first), _CHECK_S)

    def _run_tasks(self) -> None:
        while self._tasks:
            task = self._tasks[0]
            try:
                with self._file.durable(task.durable), self._transaction() as connection:
                    result = task.work(connection)
            except (*_UNFIT, sqlite3.Error) as error:
                if isinstance(error, sqlite3.Error) and (is_passing(error) or is_broken(error)):
                    raise
                self._fail(task, str(error))
            else:
                task.done.set_result(result)
            with self._wake:
                self._tasks.popleft()
                self._wake.notify_all()

    def _write_batches(self) -> None:
        """One transaction of at most about _TRANSACTION_ROWS; what it held leaves the queue when it is committed."""
        if not self._batches:
            return
        self._bound_wal()
        self._partitions.max_age_s, self._partitions.max_size_bytes = self.limits.max_age_s, self.limits.max_size_bytes
        if self._partitions.must_rotate():
            with self._transaction():
                self._partitions.rotate()
        room = min(self._partitions.room, _TRANSACTION_ROWS)
        written = lost = 0
        rest: list[tuple[Batch, Names]] = []
        batches = tuple(self._batches)
        with self._transaction():
            for taken, (batch, names) in enumerate(batches, 1):  # noqa: B007
                part = batch[: room - written - lost]
                if self._insert(part, names):
                    written += len(part)
                else:
                    lost += len(part)
                if len(part) < len(batch):
                    rest = [(batch[len(part) :], names)]
                if written + lost >= room:
                    break
        with self._wake:
            for _ in range(taken):
                self._batches.popleft()
            self._batches.extendleft(rest)
            self.queued_rows -= written + lost
            self.lost_rows += lost
            self._wake.notify_all()
        self.written_rows += written
        self.rows = self._partitions.rows

    def _insert(self, batch: Batch, names: Names) -> bool:
        """Add a batch to the transaction; False, and nothing added, if SQLite cannot hold what is in it."""
        connection = self._file.connection
        connection.execute("SAVEPOINT batch")
        try:
            self._partitions.insert(batch, names)
            rollups.add(connection, batch, names)
        except (*_UNFIT, sqlite3.DataError, sqlite3.IntegrityError) as error:
            log.error("%s: %d rows cannot be stored: %s", self.path, len(batch), error)
            connection.execute("ROLLBACK TO batch")
            connection.execute("RELEASE batch")
            self._partitions.load()
            return False
        connection.execute("RELEASE batch")
        return True

    def _bound_wal(self) -> None:
        """Storing pauses while a reader's transaction keeps the write-ahead log from being copied back."""
        if self._file.wal_bytes() <= self.limits.wal_bytes:
            return
        if not self._file.truncate_wal():
            raise StoreError(
                f"{self.path}: a reader has held a transaction for long; its write-ahead log is at the limit of "
                f"{self.limits.wal_bytes >> 20} MiB",
                hint="end that reader (fuser flows.db-wal shows it)",
            )

    def _keep_house(self) -> None:
        """Keep what is not flows small; remove old flows and what is too much, step by step, new ones in between."""
        now = self._clock()
        if not 0 <= now - self._pruned_at < _PRUNE_S:
            self._pruned_at = now
            with self._transaction() as connection:
                rollups.prune(connection, now)
                records.prune(connection)
        while self._partitions.must_shrink(now):
            begin = time.monotonic()
            with self._transaction():
                self._partitions.shrink(now, _SHRINK_S)
            self.longest_shrink_s = max(self.longest_shrink_s, time.monotonic() - begin)
            self.rows = self._partitions.rows
            if self._batches or self._tasks or self._stop_at is not None:
                break

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._file.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._partitions.load()
            raise

    def _recover(self, error: Exception, failures: int) -> None:
        """Say what is wrong, once; replace a broken file; wait before the next try."""
        self.state = str(error)
        if isinstance(error, sqlite3.Error) and is_broken(error):
            self._damage = str(error)
        elif not failures:
            log.error("%s: cannot store (%s); flows are held, and tried again", self.path, error)
        elif not isinstance(error, StoreError):
            self._file.close()
        wait_s = _RETRY_S[min(failures, len(_RETRY_S) - 1)]
        if self._stop_at is not None:
            time.sleep(_RETRY_S[0])
        else:
            with self._wake:
                self._wake.wait_for(lambda: self._stop_at is not None, wait_s)

    def _finish(self) -> None:
        with self._wake:
            self._stop_at = time.monotonic()
            lost, self.queued_rows = self.queued_rows, 0
            self.lost_rows += lost
            self._batches.clear()
            left, self._tasks = self._tasks, deque()
            self._wake.notify_all()
        if lost:
            log.error("%s: closed before %d flows were written: %s", self.path, lost, self.state)
        for task in left:
            self._fail(task, f"closed before this was done ({self.state})")
        self._file.close()

"""The bounded queue of the writer of flows.db. Rows that do not fit or are never written are reported and counted."""

import itertools
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from trafficmond.dataclass import dataclass
from trafficmond.errors import StoreError
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.worker import Named

log = logging.getLogger(__name__)

TRANSACTION_ROWS = 16384
# bound: threats, bans and audit entries that wait for `flows.db` | further ones are lost, counted and reported
_MOST_TASKS = 4096  # waiting while nothing can be written

Work = Callable[[sqlite3.Connection], Any]


@dataclass(slots=True)
class Task:
    """A small transaction with a future; a durable one is on the disk when done."""

    work: Work
    what: str  # written, in words; empty: it only reads
    durable: bool
    done: Future[Any]


class Queue:
    """REPORT batches and small tasks. `rows` and `lost_rows` are plain numbers that any thread may read."""

    def __init__(self, path: Path, most_rows: int) -> None:
        self.most_rows = most_rows
        self.rows = 0
        self.lost_rows = 0
        # Held while a transaction becomes visible and its rows leave the queue: its holder sees each row once.
        self.commit_lock = threading.Lock()
        self._taken = 0  # batches removed from the queue, written or lost
        self._path = path
        self._wake = threading.Condition()
        self._batches: deque[Named] = deque()
        self._tasks: deque[Task] = deque()
        self._stop_at: float | None = None
        self._full = False  # at the last submission

    # ---- any thread ----

    def put(self, batch: Batch, names: Names) -> int:
        """Queue a REPORT batch; returns how many of its rows were lost because the queue is full."""
        with self._wake:
            room = max(0, self.most_rows - self.rows) if self._stop_at is None else 0
            kept = batch[:room]
            for at in range(0, len(kept), TRANSACTION_ROWS):
                self._batches.append((kept[at : at + TRANSACTION_ROWS], names))
            self.rows += len(kept)
            self.lost_rows += len(batch) - len(kept)
            self._wake.notify_all()
        return len(batch) - len(kept)

    def submit(self, work: Work, *, writes: str = "", durable: bool = False) -> Future[Any]:
        """Queue a small transaction; the future gets its result, or a StoreError. `writes` names what it stores. The
        future may be ignored: failures are reported and counted with the lost rows."""
        task = Task(work, writes, durable, Future())
        task.done.set_running_or_notify_cancel()  # no cancellation half way
        with self._wake:
            closed, full = self._stop_at is not None, len(self._tasks) >= _MOST_TASKS
            again, self._full = full and self._full, full
            if not (closed or full):
                self._tasks.append(task)
                self._wake.notify_all()
                return task.done
        self._fail(task, "is closed" if closed else "too much is waiting to be written", quiet=again)
        return task.done

    def stop(self, timeout_s: float) -> None:
        """Accept nothing more, and give the writer this time for the queue; the rest is lost."""
        with self._wake:
            self._stop_at = time.monotonic() + timeout_s
            self._wake.notify_all()

    @property
    def given(self) -> int:
        with self._wake:
            return self._taken + len(self._batches)

    def unwritten(self, given: int) -> list[Named] | None:
        """The waiting ones of the first `given` batches; None: later ones are written already. Hold `commit_lock`."""
        with self._wake:
            if self._taken > given:
                return None
            return list(itertools.islice(self._batches, given - self._taken))

    # ---- the writer's thread ----

    @property
    def has_work(self) -> bool:
        """Whether something waits, or the queue is stopping."""
        return bool(self._batches or self._tasks) or self._stop_at is not None

    def wait(self, timeout_s: float) -> bool:
        """Sleep until there is something to do, at most that long; False when it is time to end."""
        with self._wake:
            if not self.has_work:
                self._wake.wait(timeout_s)
            if self._stop_at is None:
                return True
            return bool(self._batches or self._tasks) and time.monotonic() < self._stop_at

    def pause(self, wait_s: float, last_wait_s: float) -> None:
        """Sleep even if something waits; `last_wait_s` once it is time to end."""
        with self._wake:
            ending = self._stop_at is not None
            if not ending:
                self._wake.wait_for(lambda: self._stop_at is not None, wait_s)
        if ending:
            time.sleep(last_wait_s)

    @property
    def batches(self) -> tuple[Named, ...]:
        return tuple(self._batches)

    def took(self, batches: int, rest: Sequence[Named], written: int, lost: int) -> None:
        """Remove finished batches, except for the rest of the last one; `written` and `lost` count rows."""
        with self._wake:
            for _ in range(batches):
                self._batches.popleft()
            self._batches.extendleft(rest)
            self._taken += batches - len(rest)
            self.rows -= written + lost
            self.lost_rows += lost
            self._wake.notify_all()

    @property
    def task(self) -> Task | None:
        """The next task; `finish_task` removes it."""
        return self._tasks[0] if self._tasks else None

    def finish_task(self, task: Task, result: Any = None, failure: str = "") -> None:
        """Remove a task that was done, or failed for good."""
        if failure:
            self._fail(task, failure)
        else:
            task.done.set_result(result)
        with self._wake:
            self._tasks.popleft()
            self._wake.notify_all()

    def close(self, why: str) -> None:
        """Count everything that waits as lost: nothing will be written any more."""
        with self._wake:
            self._stop_at = time.monotonic()
            lost, self.rows = self.rows, 0
            self.lost_rows += lost
            self._taken += len(self._batches)
            self._batches.clear()
            left, self._tasks = self._tasks, deque()
            self._wake.notify_all()
        if lost:
            log.error("%s: closed before %d flows were written: %s", self._path, lost, why)
        for task in left:
            self._fail(task, f"closed before this was done ({why})")

    def _fail(self, task: Task, why: str, *, quiet: bool = False) -> None:
        if task.what:
            log.log(logging.DEBUG if quiet else logging.ERROR, "%s: %s was not written: %s", self._path, task.what, why)
            with self._wake:
                self.lost_rows += 1
        task.done.set_exception(StoreError(f"{self._path}: {why}"))

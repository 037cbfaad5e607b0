"""What waits for the writer of flows.db: bounded; what does not fit, or is never written, is said and counted."""

from __future__ import annotations

import itertools
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trafficmond.errors import StoreError
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.worker import Named

log = logging.getLogger(__name__)

TRANSACTION_ROWS = 16384
# bound: threats, bans and audit entries that wait for `flows.db` | further ones are lost, counted, reported
_MOST_TASKS = 4096  # that wait while nothing can be written

Work = Callable[[sqlite3.Connection], Any]


@dataclass(slots=True)
class Task:
    """Something small to do that somebody may wait for; a durable one is on the disk when done."""

    work: Work
    what: str  # it writes; empty: it reads
    durable: bool
    done: Future[Any]


class Queue:
    """REPORT batches and small tasks. `rows` and `lost_rows` are plain numbers that any thread may read."""

    def __init__(self, path: Path, most_rows: int) -> None:
        self.most_rows = most_rows
        self.rows = 0
        self.lost_rows = 0
        # Held while a transaction becomes visible and what it wrote leaves the queue: who holds it sees each row once.
        self.settling = threading.Lock()
        self._taken = 0  # batches that have left, written or lost
        self._path = path
        self._wake = threading.Condition()
        self._batches: deque[Named] = deque()
        self._tasks: deque[Task] = deque()
        self._stop_at: float | None = None

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
        """Queue a small transaction of its own, in words what it writes; the future has its result, or a StoreError.

        Nobody need look at the future: what was not written is said and counted with the lost rows.
        """
        task = Task(work, writes, durable, Future())
        task.done.set_running_or_notify_cancel()  # nobody may cancel it half done
        with self._wake:
            closed, full = self._stop_at is not None, len(self._tasks) >= _MOST_TASKS
            if not (closed or full):
                self._tasks.append(task)
                self._wake.notify_all()
                return task.done
        self._fail(task, "is closed" if closed else "too much is waiting to be written")
        return task.done

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is queued; False if that took longer."""
        with self._wake:
            return self._wake.wait_for(lambda: not self._batches and not self._tasks, timeout_s)

    def stop(self, timeout_s: float) -> None:
        """Take nothing more, and have what is queued written within the time; what cannot be is lost."""
        with self._wake:
            self._stop_at = time.monotonic() + timeout_s
            self._wake.notify_all()

    @property
    def given(self) -> int:
        """How many batches have been put until now."""
        with self._wake:
            return self._taken + len(self._batches)

    def unwritten(self, given: int) -> list[Named] | None:
        """Of the first `given` batches those that wait; None: later ones are written already. Hold `settling`."""
        with self._wake:
            if self._taken > given:
                return None
            return list(itertools.islice(self._batches, given - self._taken))

    # ---- the writer's thread ----

    @property
    def presses(self) -> bool:
        """Whether something waits, or the end has come."""
        return bool(self._batches or self._tasks) or self._stop_at is not None

    def wait(self, timeout_s: float) -> bool:
        """Sleep until there is something to do, or for that long; False when it is time to end."""
        with self._wake:
            if not self.presses:
                self._wake.wait(timeout_s)
            if self._stop_at is None:
                return True
            return bool(self._batches or self._tasks) and time.monotonic() < self._stop_at

    def pause(self, wait_s: float, last_wait_s: float) -> None:
        """Sleep whatever waits: until it is time to end, and then for `last_wait_s` at a time."""
        with self._wake:
            ending = self._stop_at is not None
            if not ending:
                self._wake.wait_for(lambda: self._stop_at is not None, wait_s)
        if ending:
            time.sleep(last_wait_s)

    @property
    def batches(self) -> tuple[Named, ...]:
        """Those that wait, in order."""
        return tuple(self._batches)

    def took(self, batches: int, rest: Sequence[Named], written: int, lost: int) -> None:
        """So many batches are done, but for the rest of the last; in rows, written and lost."""
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
        """The next; it is taken off by `finish_task`."""
        return self._tasks[0] if self._tasks else None

    def finish_task(self, task: Task, result: Any = None, failure: str = "") -> None:
        """The task was done, or failed for good."""
        if failure:
            self._fail(task, failure)
        else:
            task.done.set_result(result)
        with self._wake:
            self._tasks.popleft()
            self._wake.notify_all()

    def close(self, why: str) -> None:
        """Nothing will be written any more: all that waits is lost."""
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

    def _fail(self, task: Task, why: str) -> None:
        if task.what:
            log.error("%s: %s was not written: %s", self._path, task.what, why)
            with self._wake:
                self.lost_rows += 1
        task.done.set_exception(StoreError(f"{self._path}: {why}"))

"""A thread with a bounded queue of batches: `put` never waits, and what does not fit is lost and counted."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names

log = logging.getLogger(__name__)

Named = tuple[Batch, Names]

_RETRY_S = 1.0
_GRACE_S = 0.5  # beyond a deadline, for a thread that notices it


class Worker(ABC):
    """A worker thread. All methods except `join` return at once, so the event loop may call them."""

    def __init__(self, name: str, most_rows: int) -> None:
        self.lost = 0  # rows, and other items
        self._most_rows = most_rows
        self._items: deque[Any] = deque()  # Named, and other items of a subclass
        self._waiting = 0  # rows in _items and in hand
        self._error = ""  # why the last attempt failed
        self._give_up_at: float | None = None  # when to end (monotonic); None: it is not to end
        self._after: Worker | None = None
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self, after: Worker | None = None) -> None:
        """Starts the thread. It waits for the thread of `after`, which has the same target, to end."""
        self._after = after
        self._thread.start()

    def put(self, rows: Batch, names: Names) -> None:
        """Queues a batch; what does not fit is lost and counted."""
        if not len(rows):
            return
        with self._wake:
            room = self.room if self._give_up_at is None else 0
            kept = rows[:room]
            self.lost += len(rows) - len(kept)
            if len(kept):
                self._items.append((kept, names))
                self._waiting += len(kept)
                self._wake.notify()

    @property
    def room(self) -> int:
        return max(0, self._most_rows - self._waiting)

    def finish(self, deadline: float) -> None:
        """Tells the thread to work off the queue and to end by `deadline` (time.monotonic). Does not wait."""
        with self._wake:
            self._give_up_at = deadline
            self._wake.notify()

    def join(self, deadline: float) -> None:
        """Waits for the end, until shortly after `deadline`; what is left in the queue is lost and counted."""
        self._thread.join(max(0.0, deadline - time.monotonic()) + _GRACE_S)
        self._abandon()

    @property
    def ended(self) -> bool:
        """Whether the thread has ended, and its losses are counted."""
        return not self._thread.is_alive()

    @abstractmethod
    def _work(self) -> None:
        """Works off the queue until it is time to end."""

    @abstractmethod
    def _explained(self, error: OSError) -> str: ...

    def _run(self) -> None:
        if self._after is not None:
            self._after._thread.join()
            self._after = None
        try:
            self._work()
        except Exception as error:  # all else continues, and what is queued from now on is counted as lost
            log.exception("the thread %s stopped because of a defect in trafficmon", self._thread.name)
            self._error = f"stopped because of a defect in trafficmon ({error!r}); restart trafficmond, and report it"
            self.finish(time.monotonic())
        self._abandon()

    def _retry(self, act: Callable[[], None]) -> bool:
        """Calls `act` until it raises no OSError. Returns False if it is time to end before that."""
        while True:
            try:
                act()
            except OSError as error:
                self._error = self._explained(error)
            else:
                self._error = ""
                return True
            with self._wake:
                left = _RETRY_S if self._give_up_at is None else self._give_up_at - time.monotonic()
                if left <= 0:
                    return False
                self._wake.wait(min(_RETRY_S, left))

    def _settle(self, rows: int, *, lost: int = 0) -> None:
        with self._wake:
            self._waiting -= rows
            self.lost += lost

    def _abandon(self) -> None:
        with self._wake:
            self.lost += self._waiting + sum(not isinstance(item, tuple) for item in self._items)
            self._items.clear()
            self._waiting = 0

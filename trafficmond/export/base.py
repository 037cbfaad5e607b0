"""An exporter: a bounded queue of reports, a thread, and a carrier that takes them to one place.

The daemon's loop only ever appends to the queue; a target that stalls costs counted flows, never a packet.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

import numpy as np

from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names

SLICE_ROWS = 16384  # at most in one parcel's making
_RETRY_S = 1.0


class Parcel(Protocol):
    """What a carrier sends at once: whole, or not at all."""

    @property
    def flows(self) -> int:
        """Reports in it."""


P = TypeVar("P", bound=Parcel)


class Carrier(Protocol[P]):
    """One way out. `pack` and `send` are called from the exporter's thread alone; the counters any thread may read."""

    sent: int  # flows that arrived, as far as the protocol tells
    lost: int  # flows that are known to have been lost on the way
    error: str  # why nothing arrives now; empty where all is well
    gather_s: float  # how long flows are collected to be sent together

    @property
    def waiting(self) -> int:
        """Flows that the carrier itself keeps until they arrive."""

    def pack(self, rows: Batch, names: Names) -> Iterable[P]:
        """Make parcels of at most SLICE_ROWS reports."""

    def send(self, parcel: P) -> None:
        """Send one. Raises OSError if it was not sent: it is called again with the same."""

    def close(self, deadline: float) -> None:
        """Let go, having sent by `deadline` (time.monotonic) what can be sent by then."""


class Exporter:
    """One [[export]] at work. Every method may be called from the daemon's loop: none waits, but `join`."""

    def __init__(self, name: str, carrier: Carrier[Any], buffer_rows: int) -> None:
        self.name = name
        self._carrier = carrier
        self._room = buffer_rows
        self._lost = 0
        self._error = ""
        self._batches: deque[tuple[Batch, Names]] = deque()
        self._waiting = 0  # rows in _batches and in hand
        self._since = 0.0  # when the oldest of _batches came
        self._give_up_at: float | None = None
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="export", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, rows: Batch, names: Names) -> None:
        """Queue a REPORT batch; what does not fit is lost and counted."""
        if not len(rows):
            return
        with self._wake:
            room = max(0, self._room - self._waiting) if self._give_up_at is None else 0
            kept = rows[:room]
            self._lost += len(rows) - len(kept)
            if len(kept):
                self._since = self._since if self._batches else time.monotonic()
                self._batches.append((kept, names))
                self._waiting += len(kept)
                self._wake.notify()

    def finish(self, deadline: float) -> None:
        """Tell the thread to send what waits, and to end by `deadline` (time.monotonic)."""
        with self._wake:
            self._give_up_at = deadline
            self._wake.notify()

    def join(self, deadline: float) -> None:
        """Wait for the end, until shortly after `deadline`; what could not be sent is lost and counted."""
        self._thread.join(max(0.0, deadline - time.monotonic()) + 0.5)

    def status(self) -> dict[str, Any]:
        """For `trafficctl status`: to, sent, queue, lost (flows), error."""
        carrier = self._carrier
        return {
            "to": self.name,
            "sent": carrier.sent,
            "queue": self._waiting + carrier.waiting,
            "lost": self._lost + carrier.lost,
            "error": self._error or carrier.error,
        }

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            rows, names = taken
            for at in range(0, len(rows), SLICE_ROWS):
                self._deliver(rows[at : at + SLICE_ROWS], names)
        self._carrier.close(self._give_up_at or 0.0)

    def _take(self) -> tuple[Batch, Names] | None:
        """What has gathered, as far as it goes by the same names; None when it is time to end."""
        with self._wake:
            while True:
                closing = self._give_up_at is not None
                if not self._batches:
                    if closing:
                        return None
                    self._wake.wait()
                    continue
                left = self._since + self._carrier.gather_s - time.monotonic()
                if closing or left <= 0 or self._waiting >= SLICE_ROWS:
                    break
                self._wake.wait(left)
            rows, names = self._batches.popleft()
            batches = [rows]
            while self._batches and self._batches[0][1] is names:
                batches.append(self._batches.popleft()[0])
            self._since = time.monotonic()
        return (rows if len(batches) == 1 else np.concatenate(batches)), names

    def _deliver(self, rows: Batch, names: Names) -> None:
        left = len(rows)
        try:
            for parcel in self._carrier.pack(rows, names):
                if not self._persist(parcel):
                    break
                left -= parcel.flows
                self._settle(parcel.flows)
        except Exception as error:  # noqa: BLE001 - a batch that cannot be told must not end the export
            self._error = f"some flows could not be sent: {type(error).__name__}: {error}"
        if left:
            self._settle(left)
            with self._wake:
                self._lost += left

    def _settle(self, flows: int) -> None:
        with self._wake:
            self._waiting -= flows

    def _persist(self, parcel: Parcel) -> bool:
        """Send it, again and again until that succeeds. False: the time to close has come first."""
        while True:
            try:
                self._carrier.send(parcel)
            except OSError as error:
                self._error = error.strerror or str(error)
            else:
                self._error = ""
                return True
            with self._wake:
                left = _RETRY_S if self._give_up_at is None else self._give_up_at - time.monotonic()
                if left <= 0:
                    return False
                self._wake.wait(min(_RETRY_S, left))

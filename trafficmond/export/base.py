"""An exporter: a bounded queue of reports, a thread, and a carrier that takes them to one place.

The daemon's loop only ever appends to the queue; a target that stalls costs counted flows, never a packet.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np

from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names

SLICE_ROWS = 16384  # at most in one parcel's making
_RETRY_S = 1.0
_FORBIDDEN = (errno.EPERM, errno.EAFNOSUPPORT)  # IPAddressDeny=, RestrictAddressFamilies=


def explained(error: Exception) -> str:
    """What went wrong, and what to do where the service's own bounds are the reason."""
    text = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in _FORBIDDEN:
        return f"{text}; the service may not send there: name the target in the drop-in export.conf (see export.md)"
    return str(text)


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

    def __init__(self, name: str, make: Callable[[], Carrier[Any]], buffer_rows: int) -> None:
        """`make` is called from the thread, again and again while it raises OSError."""
        self.name = name
        self._make = make
        self._carrier: Carrier[Any] | None = None
        self._room = buffer_rows
        self._lost = 0
        self._error = ""
        self._batches: deque[tuple[Batch, Names]] = deque()
        self._waiting = 0  # rows in _batches and in hand
        self._since = 0.0  # when the oldest of _batches came
        self._give_up_at: float | None = None
        self._wake = threading.Condition()
        self._after: Exporter | None = None
        self._thread = threading.Thread(target=self._run, name="export", daemon=True)

    def start(self, after: Exporter | None = None) -> None:
        """Start the thread; it begins once that of `after`, which sent to the same target, has ended."""
        self._after = after
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

    @property
    def ended(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    def status(self) -> dict[str, Any]:
        """For `trafficctl status`: to, sent, queue, lost (flows), error."""
        carrier = self._carrier
        sent, waiting, lost, error = (
            (carrier.sent, carrier.waiting, carrier.lost, carrier.error) if carrier else (0, 0, 0, "")
        )
        return {
            "to": self.name,
            "sent": sent,
            "queue": self._waiting + waiting,
            "lost": self._lost + lost,
            "error": self._error or error,
        }

    def _run(self) -> None:
        if self._after is not None:
            self._after._thread.join()
            self._after = None
        self._retry(self._begin)
        while self._carrier is not None and (taken := self._take(self._carrier.gather_s)) is not None:
            rows, names = taken
            for at in range(0, len(rows), SLICE_ROWS):
                self._deliver(self._carrier, rows[at : at + SLICE_ROWS], names)
        if self._carrier is not None:
            self._carrier.close(self._give_up_at or 0.0)
        with self._wake:
            self._lost += self._waiting
            self._waiting = 0
            self._batches.clear()

    def _begin(self) -> None:
        self._carrier = self._make()

    def _take(self, gather_s: float) -> tuple[Batch, Names] | None:
        """What has gathered, as far as it goes by the same names; None when it is time to end."""
        with self._wake:
            while True:
                closing = self._give_up_at is not None
                if not self._batches:
                    if closing:
                        return None
                    self._wake.wait()
                    continue
                left = self._since + gather_s - time.monotonic()
                if closing or left <= 0 or self._waiting >= SLICE_ROWS:
                    break
                self._wake.wait(left)
            rows, names = self._batches.popleft()
            batches = [rows]
            while self._batches and self._batches[0][1] is names:
                batches.append(self._batches.popleft()[0])
            self._since = time.monotonic()
        return (rows if len(batches) == 1 else np.concatenate(batches)), names

    def _deliver(self, carrier: Carrier[Any], rows: Batch, names: Names) -> None:
        left = len(rows)
        try:
            for parcel in carrier.pack(rows, names):
                if not self._retry(partial(carrier.send, parcel)):
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

    def _retry(self, act: Callable[[], None]) -> bool:
        """Do it, again and again until that succeeds. False: the time to close has come first."""
        while True:
            try:
                act()
            except OSError as error:
                self._error = explained(error)
            else:
                self._error = ""
                return True
            with self._wake:
                left = _RETRY_S if self._give_up_at is None else self._give_up_at - time.monotonic()
                if left <= 0:
                    return False
                self._wake.wait(min(_RETRY_S, left))

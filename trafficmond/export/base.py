"""An exporter: a worker whose transport sends reports to one target. If that stalls, flows are lost and counted."""

import errno
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol, TypeVar

from trafficmond.flows.batch import Batch, join
from trafficmond.flows.names import Names
from trafficmond.worker import Named, Worker

SLICE_ROWS = 16384  # rows packed into messages at a time
_FORBIDDEN = (errno.EPERM, errno.EAFNOSUPPORT)  # IPAddressDeny=, RestrictAddressFamilies=


def explained(error: Exception) -> str:
    """The text of an error, with advice if the restrictions of the service are the reason."""
    text = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in _FORBIDDEN:
        return f"{text}; the service may not send there: name the target in the drop-in export.conf (see export.md)"
    return str(text)


class Message(Protocol):
    """The unit of sending: it is sent completely or not at all."""

    @property
    def flows(self) -> int: ...


P = TypeVar("P", bound=Message)


class Transport(Protocol[P]):
    """Sends to one target. Only the exporter's thread calls `pack` and `send`; any thread may read the counters."""

    sent: int  # flows that arrived, if the protocol reports that
    lost: int  # flows that are known to be lost
    error: str  # why sending fails now; empty if it works
    gather_s: float  # how long flows are collected to be sent together

    @property
    def waiting(self) -> int:
        """The number of flows that the transport stores until they arrive."""

    def pack(self, rows: Batch, names: Names) -> Iterable[P]:
        """Makes messages of at most SLICE_ROWS reports."""

    def send(self, message: P) -> None:
        """Sends a message. Raises OSError if it was not sent; then it is called again with the same one."""

    def close(self, deadline: float) -> None:
        """Sends what can be sent by `deadline` (time.monotonic), and closes."""


class Exporter(Worker):
    """The worker of one [[export]]: queues reports, or threats, for its transport."""

    def __init__(self, name: str, make: Callable[[], Transport[Any]], buffer_rows: int) -> None:
        """`make` creates the transport; it is called in the thread until it raises no OSError."""
        super().__init__("export", buffer_rows)
        self.name = name
        self._make = make
        self._transport: Transport[Any] | None = None
        self._since = 0.0  # when the oldest of _items was queued

    def put(self, rows: Batch, names: Names) -> None:
        """Queues a REPORT batch; what does not fit is lost and counted."""
        with self._wake:
            self._since = self._since if self._items else time.monotonic()
            super().put(rows, names)

    def status(self) -> dict[str, Any]:
        """The fields for status: sent, queue, lost (of flows, or threats), error."""
        transport = self._transport
        sent, waiting, lost, error = (
            (transport.sent, transport.waiting, transport.lost, transport.error) if transport else (0, 0, 0, "")
        )
        return {"sent": sent, "queue": self._waiting + waiting, "lost": self.lost + lost, "error": self._error or error}

    def _work(self) -> None:
        self._retry(self._begin)
        while self._transport is not None and (taken := self._take(self._transport.gather_s)) is not None:
            rows, names = taken
            for at in range(0, len(rows), SLICE_ROWS):
                self._deliver(self._transport, rows[at : at + SLICE_ROWS], names)
        if self._transport is not None:
            self._transport.close(self._give_up_at or 0.0)

    def _explained(self, error: OSError) -> str:
        return explained(error)

    def _begin(self) -> None:
        self._transport = self._make()

    def _take(self, gather_s: float) -> Named | None:
        """The collected rows that have the same names; None when it is time to end."""
        with self._wake:
            while True:
                closing = self._give_up_at is not None
                if not self._items:
                    if closing:
                        return None
                    self._wake.wait()
                    continue
                left = self._since + gather_s - time.monotonic()
                if closing or left <= 0 or self._waiting >= SLICE_ROWS:
                    break
                self._wake.wait(left)
            rows, names = self._items.popleft()
            batches = [rows]
            while self._items and self._items[0][1] is names:
                batches.append(self._items.popleft()[0])
            self._since = time.monotonic()
        return join(batches), names

    def _deliver(self, transport: Transport[Any], rows: Batch, names: Names) -> None:
        left = len(rows)
        try:
            for message in transport.pack(rows, names):
                if not self._retry(partial(transport.send, message)):
                    break
                left -= message.flows
                self._settle(message.flows)
        except Exception as error:  # noqa: BLE001 - a batch that cannot be packed must not end the export
            self._error = f"some could not be sent: {type(error).__name__}: {error}"
        if left:
            self._settle(left, lost=left)

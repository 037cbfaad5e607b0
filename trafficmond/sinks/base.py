"""A sink: a worker with a writer of one format. A disk that stalls costs counted events, never a packet."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from trafficmond.config.streams import Log
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.model import Threat
from trafficmond.sinks.filters import Filter
from trafficmond.sinks.messages import Note
from trafficmond.sinks.writer import Writer
from trafficmond.worker import Named, Worker

SLICE = 2048  # events rendered and written at a time; on an error this much is tried again
_BURST_S = 30.0  # a log with a max_rate may write this many seconds of it at once
_RARE = 1024  # threats and notes that wait at most, beside the events


class Sink(Worker):
    """One [[log]] at work."""

    def __init__(self, log: Log, writer: Writer, *, notes: int = -1, warning: str = "") -> None:
        """`notes`: the least urgent priority of the daemon's own messages that it takes; -1: none.

        `warning` is shown as its error while it works.
        """
        super().__init__(f"log-{log.format}", log.buffer_size)
        self.log = log
        self.notes = notes
        self.written = 0
        self.sampled_out = 0  # events beyond max_rate
        self._allowance = log.max_rate * _BURST_S
        self._allowed_at = time.monotonic()
        self._writer = writer
        self._filter = Filter(log)
        self._warning = warning
        self._reopen = False

    def emit(self, batch: Batch, names: Names) -> None:
        """Queue what the filter lets through; what does not fit is lost and counted."""
        self.put(self._sample(self._filter.events(batch)), names)

    def _sample(self, batch: Batch) -> Batch:
        """As many of the events as max_rate allows, evenly; the rest is counted."""
        if not self.log.max_rate:
            return batch
        now = time.monotonic()
        earned = self.log.max_rate * (now - self._allowed_at)
        self._allowance = min(self._allowance + earned, self.log.max_rate * _BURST_S)
        self._allowed_at = now
        room = min(len(batch), int(self._allowance))
        self._allowance -= room
        self.sampled_out += len(batch) - room
        return batch if room == len(batch) else batch[np.arange(room) * len(batch) // max(room, 1)]

    def threat(self, threat: Threat) -> None:
        """Queue a threat that the filter lets through."""
        if self._filter.threat(threat):
            self._put(threat)

    def note(self, note: Note) -> None:
        """Queue a message about the daemon, if this sink takes it."""
        if note.message.priority <= self.notes:
            self._put(note)

    def _put(self, item: Threat | Note) -> None:
        with self._wake:
            if len(self._items) >= self.log.buffer_size + _RARE:
                self.lost += 1
                return
            self._items.append(item)
            self._wake.notify()

    def reopen(self) -> None:
        """Have the file begun anew, as after logrotate moved it."""
        with self._wake:
            self._reopen = True
            self._wake.notify()

    def close(self, deadline: float) -> None:
        """Write what waits, until `deadline` (time.monotonic); what is left then is lost and counted."""
        self.finish(deadline)
        self.join(deadline)

    @property
    def error(self) -> str:
        """Why nothing can be written now, or what is being done without; empty where all is well."""
        return self._error or self._warning

    @property
    def failing(self) -> bool:
        """Whether the last attempt to write failed."""
        return bool(self._error)

    def status(self) -> dict[str, Any]:
        """For `trafficctl status`: what the interface calls a `Log`; queue: events waiting."""
        return {
            "format": self.log.format,
            "path": str(self.log.path or ""),
            "queue": self._waiting,
            "written": self.written,
            "lost": self.lost,
            "sampled_out": self.sampled_out,
            "shortened": self._writer.shortened,
            "error": self.error,
        }

    def _work(self) -> None:
        while True:
            with self._wake:
                while not (self._items or self._reopen or self._give_up_at is not None):
                    self._wake.wait()
                closing = self._give_up_at is not None
                item = self._items.popleft() if self._items else None
                reopen, self._reopen = self._reopen, False
            if reopen and not self._persist(self._writer.reopen):
                return
            if item is None:
                if closing:
                    self._persist(self._writer.close)
                    return
            elif not self._write(item):
                return

    def _write(self, item: Named | Threat | Note) -> bool:
        if isinstance(item, Threat):
            return self._persist(partial(self._writer.threat, item), 1, once=1)
        if isinstance(item, Note):
            return self._persist(partial(self._writer.note, item), 1, once=1)
        batch, names = item
        for start in range(0, len(batch), SLICE):
            part = batch[start : start + SLICE]
            if not self._persist(partial(self._writer.events, part, names), len(part)):
                return False
            self._settle(len(part))
        return True

    def _persist(self, act: Callable[[], None], count: int = 0, *, once: int = 0) -> bool:
        """Do it, again and again until it succeeds. False: the time to close has come first.

        `count` is what it writes; `once` what is lost where the time comes first and nothing else counts it.
        """
        try:
            done = self._retry(act)
        except Exception as error:  # noqa: BLE001 - one record that cannot be written must not end the log
            self._warning = f"some records could not be written: {type(error).__name__}: {error}"
            self._settle(0, lost=count)
            return True
        if done:
            self.written += count
        else:
            self._settle(0, lost=once)
        return done

    def _explained(self, error: OSError) -> str:
        """Why it cannot be written; where the service may not write there, what would do."""
        what = error.strerror or str(error)
        if error.errno == errno.EROFS:
            what += "; use /var/log/trafficmon, or ReadWritePaths= in a drop-in of the service"
        return what

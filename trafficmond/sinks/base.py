"""A sink: a worker with a writer of one format. If the disk stalls, events are lost and counted, no packets."""

import errno
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from trafficmond import networks
from trafficmond.choice import Choice
from trafficmond.config.streams import Log
from trafficmond.flows.batch import Batch, of_prefixes
from trafficmond.flows.names import Names
from trafficmond.model import Action, Severity, Threat
from trafficmond.sinks.messages import Note
from trafficmond.sinks.writer import Writer
from trafficmond.verdict import action_of
from trafficmond.worker import Named, Worker


class Filter:
    """The filter of one [[log]], on columns."""

    def __init__(self, log: Log) -> None:
        self._actions = [Action.parse(name) for name in log.actions]
        self._all_actions = {Action.MONITOR, Action.DROP} <= set(self._actions)
        self._networks = tuple(networks.parse(text) for text in log.prefixes)
        self._least = Severity.parse(log.min_severity) if log.min_severity != "none" else None

    def events(self, batch: Batch) -> Batch:
        """The rows with one of the actions, and an address in one of the prefixes if there are any."""
        if not self._all_actions:
            batch = batch[np.isin(action_of(batch["verdict"]), self._actions)]
        if self._networks:
            batch = batch[of_prefixes(batch, ("src", "dst"), Choice(self._networks))]
        return batch

    def threat(self, threat: Threat) -> bool:
        """Whether it is severe enough, and has an address in one of the prefixes if there are any."""
        if self._least is None or threat.severity < self._least:
            return False
        ends = [networks.parse_address(end) for end in (threat.src_ip, threat.dst_ip) if end]
        return not self._networks or any(end in network for end in ends for network in self._networks)


SLICE = 2048  # events rendered and written at a time; on an error this much is tried again
_BURST_S = 30.0  # a log with a max_rate may write this many seconds of it at once
_RARE = 1024  # most threats and notes that wait, besides the events


class Sink(Worker):
    """A running [[log]]."""

    def __init__(self, log: Log, writer: Writer, *, notes: int = -1, warning: str = "") -> None:
        """`notes`: the lowest priority of the daemon's messages that it accepts; -1: none. `warning`: its error."""
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
        """Queue the events that match the filter; those that do not fit are lost and counted."""
        self.put(self._sample(self._filter.events(batch)), names)

    def _sample(self, batch: Batch) -> Batch:
        """Return an even sample, as large as max_rate allows; the rest is counted."""
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

    def threat(self, threat: Threat, state: str) -> None:
        """Queue a threat that matches the filter, with its state."""
        if self._filter.threat(threat):
            self._put(partial(self._writer.threat, threat, state))

    def note(self, note: Note) -> None:
        """Queue a message about the daemon, if this sink accepts it."""
        if note.message.priority <= self.notes:
            self._put(partial(self._writer.note, note))

    def _put(self, item: Callable[[], None]) -> None:
        with self._wake:
            if len(self._items) >= self.log.buffer_size + _RARE:
                self.lost += 1
                return
            self._items.append(item)
            self._wake.notify()

    def reopen(self) -> None:
        """Reopen the file, as after logrotate moved it."""
        with self._wake:
            self._reopen = True
            self._wake.notify()

    @property
    def error(self) -> str:
        """Why writing fails, or what is missing; empty if there is no error."""
        return self._error or self._warning

    @property
    def failing(self) -> bool:
        """Whether the last attempt to write failed."""
        return bool(self._error)

    def status(self) -> dict[str, Any]:
        """The status of this log, a `Log` of the Varlink interface; queue: events waiting."""
        return {
            "name": str(self.log.path or self.log.format),
            "format": self.log.format,
            "path": str(self.log.path or ""),
            "written": self.written,
            "queue": self._waiting,
            "lost": self.lost,
            "shortened": self._writer.shortened,
            "sampled_out": self.sampled_out,
            "state": self.error,
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

    def _write(self, item: Named | Callable[[], None]) -> bool:
        if callable(item):  # a threat or a note
            return self._persist(item, 1, once=1)
        batch, names = item
        for start in range(0, len(batch), SLICE):
            part = batch[start : start + SLICE]
            if not self._persist(partial(self._writer.events, part, names), len(part)):
                return False
            self._settle(len(part))
        return True

    def _persist(self, act: Callable[[], None], count: int = 0, *, once: int = 0) -> bool:
        """Retry until it succeeds; False if the time to close came first. `count`: events written. `once`: events lost
        at that time that nothing else counts."""
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
        """The error in words; if the service may not write there, with a remedy."""
        what = error.strerror or str(error)
        if error.errno == errno.EROFS:
            what += "; use /var/log/trafficmon, or ReadWritePaths= in a drop-in of the service"
        return what

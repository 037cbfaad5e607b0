"""All sinks as one: the daemon passes its events, threats and messages to it."""

import os
import time
from collections.abc import Hashable, Mapping, Sequence
from importlib import import_module
from typing import Any

from trafficmond import figures
from trafficmond.config.formats import BY_NAME, JOURNAL
from trafficmond.config.streams import Log
from trafficmond.dataclass import dataclass, replace
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.model import Threat
from trafficmond.sinks import journal, messages
from trafficmond.sinks.base import Sink
from trafficmond.sinks.console import Console
from trafficmond.sinks.messages import Message, Note
from trafficmond.sinks.writer import Writer

_STDERR = 2
_LOSS_REPORT_SECONDS = 60.0
_STUCK_S = 2.0  # at the end, the time for a log that cannot be written
_NOTES_ONLY = Log(format="console", actions=(), min_severity="none")


def make_sink(log: Log, verbose: bool = False) -> Sink:
    """The sink of one [[log]]. Without a journal, its entries go to standard error, and `error` says so. The journal
    gets every message of the daemon; other places get those of priority info only if `verbose`."""
    for_people = messages.DEBUG if verbose else messages.NOTICE
    if log.path is None and _under_systemd():
        for_people = -1  # standard error ends in the journal, which has them already
    if log.format == JOURNAL and not journal.available():
        return Sink(
            log,
            Console(log, _STDERR),
            notes=for_people,
            warning=f"{journal.lacking()}; writing to standard error instead",
        )
    chosen = BY_NAME[log.format]
    module, _, name = chosen.writer.partition(":")
    writer: Writer = getattr(import_module(f"trafficmond.sinks.{module}"), name)(log)
    return Sink(log, writer, notes=messages.DEBUG if log.format == JOURNAL else for_people if chosen.notes else -1)


@dataclass(slots=True)
class _Loss:
    count: int = 0
    at: float = -_LOSS_REPORT_SECONDS


class SinkSet:
    """Every [[log]], and always a place for the daemon's messages.

    They go to the journal under systemd, and else to standard error.
    """

    def __init__(self, logs: Sequence[Log], *, verbose: bool = False) -> None:
        self._verbose = verbose
        self._sinks = [make_sink(log, verbose) for log in logs]
        self._notes = _place_for_notes(logs, verbose)
        self._retired: list[Sink] = []  # removed from the settings, until their threads have ended
        self._failing: set[Sink] = set()  # as last reported
        self._losses: dict[Hashable, _Loss] = {}

    def start(self) -> None:
        for sink in self._all():
            sink.start()

    def reconfigure(self, logs: Sequence[Log], deadline: float) -> None:
        """Replace the logs, without waiting. A log with the same settings continues. The others write their queues
        until `deadline` (time.monotonic); a new log of the same file starts after that."""
        leaving = list(self._sinks)
        sinks: list[Sink] = []
        starting: list[Sink] = []
        for log in logs:
            same = next((sink for sink in leaving if sink.log == log), None)
            if same is None:
                starting.append(make_sink(log, self._verbose))
            else:
                leaving.remove(same)
            sinks.append(same or starting[-1])
        for sink in (*leaving, *self._notes):
            sink.finish(deadline)
        for sink in starting:
            sink.start(next((old for old in leaving if old.log.path == sink.log.path), None))
        self._retired += leaving
        self._sinks, self._notes = sinks, _place_for_notes(logs, self._verbose)
        for sink in self._notes:
            sink.start()

    def emit(self, events: Batch, names: Names) -> None:
        """Pass an EVENT batch, which must not change any more, to every log. Called each tick, empty or not."""
        for sink in self._sinks:
            sink.emit(events, names)
        self._report()

    def threat(self, threat: Threat, state: str) -> None:
        """Pass a copy of a threat to every log; `state`: opened, updated or closed."""
        threat = replace(threat, evidence=dict(threat.evidence))
        for sink in self._sinks:
            sink.threat(threat, state)

    def note(self, message: Message, text: str, fields: Mapping[str, object] | None = None) -> None:
        """Log a message about the daemon itself. `fields` get the prefix TRAFFICMON_ in the journal."""
        note = Note(message, text, time.time(), fields or {})
        for sink in self._all():
            sink.note(note)

    def loss(
        self, source: Hashable, name: str, count: int, fields: Mapping[str, object] | None = None, *, last: bool = False
    ) -> None:
        """Report `count`, the losses of `source` so far: only new ones, once a minute unless `last`."""
        loss, now = self._losses.setdefault(source, _Loss()), time.monotonic()
        more = count - loss.count
        if more and (last or now - loss.at >= _LOSS_REPORT_SECONDS):
            loss.count, loss.at = count, now
            details = {"what": f"{more} of {name}", "lost": count, **(fields or {})}
            self.note(messages.LOSS, f"{name} lost {figures.many(more, 'record')}", details)
        if last:
            del self._losses[source]

    def reopen(self) -> None:
        """Reopen every file, as logrotate requests with SIGUSR1."""
        for sink in self._all():
            sink.reopen()

    def close(self, deadline: float) -> None:
        """Write the queues until `deadline` (time.monotonic), and end the threads. A log that cannot be written gets
        less time: the rest of the daemon's stop waits for it."""
        stuck = min(deadline, time.monotonic() + _STUCK_S)
        ends = [(sink, stuck if sink.failing else deadline) for sink in (*self._all(), *self._retired)]
        for sink, end in ends:
            sink.finish(end)
        for sink, end in ends:
            sink.join(end)

    def status(self) -> list[dict[str, Any]]:
        return [sink.status() for sink in self._sinks]

    def _all(self) -> list[Sink]:
        return [*self._sinks, *self._notes]

    def _report(self) -> None:
        for sink in (*self._sinks, *self._retired):
            where = str(sink.log.path or sink.log.format)
            fields = {"path": where, "format": sink.log.format, "lost": sink.lost}
            failing = sink.failing
            if failing and sink not in self._failing:
                self._failing.add(sink)
                self.note(messages.LOG_FAILED, f"cannot write log {where}: {sink.error}", fields)
            elif not failing and sink in self._failing:
                self._failing.remove(sink)
                self.note(messages.LOG_RESUMED, f"log {where} is written again", fields)
            last = sink in self._retired and sink.ended
            self.loss(sink, f"log {where}", sink.lost, fields, last=last)
            if last:
                self._retired.remove(sink)
                self._failing.discard(sink)


def _place_for_notes(logs: Sequence[Log], verbose: bool) -> list[Sink]:
    """The sink for notes, if no log goes where people look for them."""
    journals = any(log.format == "journal" for log in logs)
    if _under_systemd():
        return [] if journals else [make_sink(replace(_NOTES_ONLY, format="journal"))]
    consoles = any(log.format == "console" and log.path is None for log in logs)
    if consoles or (journals and not journal.available()):
        return []
    notes = messages.DEBUG if verbose else messages.NOTICE
    return [Sink(_NOTES_ONLY, Console(_NOTES_ONLY, _STDERR), notes=notes)]


def _under_systemd() -> bool:
    # systemd.exec(5): set where standard output or error is the journal.
    return "JOURNAL_STREAM" in os.environ and journal.available()

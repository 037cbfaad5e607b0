"""The work of a tick: from a reading of the ledger to flows, rows, events and threats.

All of it runs on the loop's thread; parts that wait for a disk have a queue (store, sinks).
"""

import asyncio
import time
import traceback
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from trafficmond import abi, heap
from trafficmond.config.settings import Settings
from trafficmond.control.broadcast import Broadcast
from trafficmond.dataclass import InitVar, dataclass, field, replace
from trafficmond.detect.engine import CLOSED, UPDATED, Engine, ThreatUpdate
from trafficmond.export.exports import ExportSet
from trafficmond.flows import events
from trafficmond.flows.batch import Batch, Column
from trafficmond.flows.names import NO_NAMES, Names
from trafficmond.flows.recent import Recent
from trafficmond.flows.table import FlowTable
from trafficmond.model import Threat
from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet
from trafficmond.sinks.record import threat_record
from trafficmond.sinks.watched import EventRecords
from trafficmond.store.store import Status, Store
from trafficmond.tasks import Tasks
from trafficmond.units import Units
from trafficmond.worker import Named

EVENTS_PER_S = 20_000  # limit for the logs; events suppressed beyond it are counted and reported


@dataclass(slots=True)
class Moment:
    at: float = 0.0
    seconds: float = 1.0  # since the one before


@dataclass(eq=False)
class Pipeline:
    """Flow table, engine and the receivers of their output."""

    settings: InitVar[Settings]
    store: Store
    sinks: SinkSet
    exports: ExportSet
    broadcast: Broadcast
    _respond: Callable[[ThreatUpdate], None]
    _read: Callable[[], Batch]  # what the flow records gained since the last call (DELTA)
    _inners: Callable[[Column], Mapping[int, bytes]]  # the known conversations inside tunnels, by their `inner`
    _tasks: Tasks
    units: Units
    now: InitVar[float]
    names: Names = NO_NAMES
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)  # a reading is processed before the next begins
    _next_reading: asyncio.Task[None] | None = None  # requested, not begun
    _store_status: Status | None = None  # as last reported
    recent: Recent = field(default_factory=Recent)
    _flood: heap.Flood = field(default_factory=heap.Flood)
    suppressed_events: int = 0
    forgotten_inners: int = 0  # rows stored without their inner conversation
    by_verdict: dict[int, tuple[int, int]] = field(default_factory=dict)  # word -> packets, bytes since the start
    _stored_threats: dict[str, tuple[int, float]] = field(default_factory=dict)  # id -> count, last time, if open
    moment: Moment = field(init=False)
    engine: Engine = field(init=False)
    table: FlowTable = field(init=False)

    def __post_init__(self, settings: Settings, now: float) -> None:
        flows = settings.flows
        self.moment, self.engine = Moment(at=now), Engine(settings.detect)
        self.table = FlowTable(flows.table_capacity, flows.idle_timeout, flows.active_timeout)

    def configure(self, settings: Settings) -> None:
        flows = settings.flows
        self.table.configure(flows.table_capacity, flows.idle_timeout, flows.active_timeout)

    async def read_ledger(self) -> None:
        """Processes a reading of the ledger, even if the caller is cancelled; callers share a reading that has not
        begun. A failure is reported, and the next reading continues."""
        if self._next_reading is None:
            self._next_reading = self._tasks.spawn(self._read_ledger())
        await asyncio.shield(self._next_reading)

    async def _read_ledger(self) -> None:
        async with self._reading:
            self._next_reading = None
            try:
                deltas = self._read()
                if self._flood.passed(len(deltas)):
                    self._tasks.spawn(asyncio.to_thread(heap.give_back))
                for _ in self.steps(deltas, time.time()):
                    await asyncio.sleep(0)
            except Exception:  # noqa: BLE001  (nothing a packet contains may stop the daemon)
                self.report_failure("reading the flow ledger failed; will retry at the next interval")

    def steps(self, deltas: Batch, now: float) -> Iterator[None]:
        """Processes a reading of the ledger, a step at a time: in a flood a step lasts a quarter of a second, and
        clients are served in between. Never raises because of packet contents: a failing part is reported."""
        passed = now - self.moment.at
        seconds = max(passed, 1e-3) if passed >= 0 else self.moment.seconds  # the clock was set back: as before
        self._count(deltas)
        self._name_processes(deltas)
        changed = self.table.update(deltas, now)
        self.moment = Moment(now, seconds)
        self.recent.add(changed, seconds)
        yield
        self._emit(deltas, now, int(EVENTS_PER_S * min(seconds, 60.0)))
        yield
        try:
            updates = self.engine.feed(changed, now, seconds)
        except Exception:  # noqa: BLE001  (no packet may stop the daemon)
            self.report_failure("detection failed on a batch; continuing with the next one")
        else:
            for update in updates:
                self._report_threat(update)
            for update in self.engine.continued(now):  # if its ban has ended, it is banned again
                self._respond(update)
        yield
        self.store_due(now)

    def _name_processes(self, deltas: Batch) -> None:
        try:
            self.units.processes.name(deltas)
        except Exception:  # noqa: BLE001  (what is counted goes before what it is called)
            self.report_failure("process names could not be read; will retry at the next interval")

    def store_due(self, now: float) -> None:
        """Gives the store and the exports the rows that are due."""
        rows, names = self._due(now)
        self.store.put(rows, names)
        self.exports.put(rows, names)

    async def store_rest(self, now: float, patience_s: float) -> None:
        """Gives them all pending rows, as fast as their queues allow: a full flow table is larger than these. Rows that
        do not fit within `patience_s` are lost, counted and reported."""
        rows, names = self._due(now, everything=True)
        deadline = time.monotonic() + patience_s
        while len(rows):
            room = min(self.store.room, self.exports.room)
            if time.monotonic() >= deadline:
                room = len(rows)
            self.store.put(rows[:room], names)
            self.exports.put(rows[:room], names)
            rows = rows[room:]
            await asyncio.sleep(0.02)
        self.report_store_health()
        self.report_export_health()

    def _due(self, now: float, everything: bool = False) -> Named:
        rows = self.table.due(now, everything)
        names = self._names_for(rows)
        self.units.count_unnamed(rows, names.owners)
        inners = rows["inner"][rows["inner"] != 0]
        self.forgotten_inners += int(np.isin(inners, np.array(list(names.inners), np.uint64), invert=True).sum())
        return rows, names

    def _names_for(self, rows: Batch) -> Names:
        """Names for these rows. Only their inner conversations, which the kernel stores, are looked up."""
        inners = rows["inner"][rows["inner"] != 0]
        if not len(inners):
            return self.owned_by(rows)
        return replace(self.owned_by(rows), inners=self._inners(np.unique(inners)))

    def owned_by(self, rows: Batch) -> Names:
        """Names for these rows, owners included. Sets the owner of rows without one to the one whose socket waits."""
        self.units.set_owners(rows)
        return replace(self.names, owners=self.units.owners(rows)) if self.units.on else self.names

    def pending(self) -> Named:
        """The rows of the flow table that the store does not have yet; it gets them later all the same."""
        rows = self.table.pending()
        return rows, self._names_for(rows)

    def resume_threats(self, stored: list[Threat], now: float) -> None:
        """Resumes the threats that were open when the daemon stopped, and stores which are over."""
        for threat in self.engine.resume(stored, now):
            self._record_threat(threat, CLOSED)
        self._stored_threats = {each.id: (each.count, each.last_seen) for each in self.engine.threats()}
        for threat in self.engine.threats():
            self.exports.threat(threat, UPDATED)  # exporters may have lost it when the daemon was killed

    def store_threats(self) -> None:
        """Gives store and exports the updates of open threats, so that a restart does not lose them."""
        known, self._stored_threats = self._stored_threats, {}
        for threat in self.engine.threats():
            now = self._stored_threats[threat.id] = (threat.count, threat.last_seen)
            if known.get(threat.id) != now:
                self._record_threat(threat, UPDATED)

    def _record_threat(self, threat: Threat, state: str) -> None:
        self.exports.threat(threat, state)
        self.store.put_threat(threat, state)

    def report_store_health(self) -> bool:
        """Reports when flows.db fails or works again, lost rows, and a broken file that was set aside. Returns whether
        another file has taken its place, which then gets the open threats."""
        now, before = self.store.status(), self._store_status
        self._store_status = now
        if now.set_aside and now.set_aside != (before and before.set_aside):
            text = f"{now.path} was damaged; it was renamed to {now.set_aside} and replaced by an empty file"
            self.sinks.note(messages.STORE_REPLACED, text, {"path": now.set_aside})
        if now.state != (before.state if before else "ok"):
            failing = now.state != "ok"
            message = messages.STORE_FAILED if failing else messages.STORE_RESUMED
            text = f"cannot write flows.db: {now.state}" if failing else "flows.db can be written again"
            self.sinks.note(message, text, {"path": now.path, "reason": now.state, "lost": now.lost_rows})
        self.sinks.loss("store", now.path, now.lost_rows, {"path": now.path})
        if not before or now.replaced == before.replaced:
            return False
        self._stored_threats = {}
        self.store_threats()
        return True

    def report_export_health(self) -> None:
        """Reports exports that began to fail, work again, or lost records."""
        for to, what, trouble in self.exports.changes():
            message = messages.EXPORT_FAILED if trouble else messages.EXPORT_RESUMED
            self.sinks.note(message, f"{what} to {to}: {trouble or 'sent again'}", {"to": to})
        for row in self.exports.status():
            to, threats = row["to"], row["threats"]
            self.sinks.loss(("export", to), f"the export to {to}", row["lost"], {"to": to})
            if threats:
                self.sinks.loss(("threats", to), f"the export of threats to {to}", threats["lost"], {"to": to})

    def report_failure(self, text: str) -> None:
        """Reports that a part of the daemon failed, and where; called while handling the exception."""
        self.sinks.note(messages.ERROR_INTERNAL, text, {"what": text, "traceback": traceback.format_exc(limit=8)})

    def _count(self, deltas: Batch) -> None:
        words, which = np.unique(deltas["verdict"], return_inverse=True)
        packets = np.bincount(which, deltas["packets"], len(words)).astype(np.int64)
        octets = np.bincount(which, deltas["bytes"], len(words)).astype(np.int64)
        for word, more_packets, more_bytes in zip(words.tolist(), packets.tolist(), octets.tolist(), strict=True):
            had = self.by_verdict.get(word, (0, 0))
            self.by_verdict[word] = (had[0] + more_packets, had[1] + more_bytes)

    def _emit(self, deltas: Batch, now: float, budget: int) -> None:
        shadowed = np.unique(deltas["verdict"][deltas["verdict"] & abi.SHADOWED != 0]).tolist()
        loud = [word for word in shadowed if (self.names.would(word) or ("",))[0] != "allow"]
        batch, suppressed = events.events(deltas, now, budget, loud)
        self.suppressed_events += suppressed
        names = self.owned_by(batch)
        self.sinks.emit(batch, names)
        if len(batch) and self.broadcast.wants("events"):
            self.broadcast.publish_source("events", EventRecords(batch, names))

    def _report_threat(self, update: ThreatUpdate) -> None:
        threat = update.threat
        self.sinks.threat(threat, update.state)
        self._record_threat(threat, update.state)
        if self.broadcast.wants("threats"):
            self.broadcast.publish("threats", [threat_record(threat, update.state)])
        self._respond(update)

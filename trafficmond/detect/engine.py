"""The engine turns flow batches into threats that are opened, updated and closed.

With every batch, a detector reports each situation that it has evidence for. The engine makes it one threat: opened
once, updated when its count doubles, its severity rises or its source is proven, and closed after a quiet time. It
drops a threat that a broader one explains. In a flood of new threats, one threat counts those beyond the limit.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2s
from typing import Any, NamedTuple

import numpy as np

from trafficmond.dataclass import dataclass, replace
from trafficmond.detect.attempts import GRACE_S, Attempts
from trafficmond.detect.base import PATIENCE_S, Detector, DetectorInput
from trafficmond.detect.carpet import network_of
from trafficmond.detect.opened import (
    ADDRESSES,
    MOST_LISTED,
    OWN_SEVERITY,
    PROVEN,
    Open,
    about_the_same,
    copied,
    merge,
    of_network,
    worst_of,
)
from trafficmond.detect.ours import Ours
from trafficmond.detect.registry import DETECTORS, make_detectors
from trafficmond.detect.senders import Senders
from trafficmond.detect.windows import Columns
from trafficmond.flows.batch import FLOW, Batch, Column, empty, join, take
from trafficmond.model import Severity, Threat
from trafficmond.protocols import FIN, RST

OPENED, UPDATED, CLOSED, CONTINUED = "opened", "updated", "closed", "continued"

PART_ROWS = 20480
"""Rows processed together, which limits the memory of working copies in a flood."""
# bound: open threats | the weakest ends for a more severe one; else one further threat counts the rest
MOST_OPEN = 512
# bound: new threats of a detector within a minute, and as many notes | one further threat counts the rest
MOST_NEW = 10  # of one detector ...
NEW_WITHIN_S = 60.0  # ... within this time; more are counted in one threat
_OVERFLOW_UNIT = "reports"
_CROWD, _ALONE = "crowd", 2  # strangers that sweep for the same service are reported one by one; more are one threat
_RETURNS_S = 14400.0  # a situation that returns so soon after its threat was closed is the same
REMEMBERED_S = _RETURNS_S + max(detector.idle_timeout_s for detector in DETECTORS.values())
"""How long threats are of use after their last evidence."""
_PAUSES = 2  # ... and stays open for so many times its last pause
REPORT_FACTOR = 2  # growth of a count that gives an update


@dataclass(frozen=True, slots=True)
class ThreatUpdate:
    """A change of a threat. `threat` is a copy that does not change any more, unless it is CONTINUED."""

    state: str  # OPENED, UPDATED, CLOSED or CONTINUED
    threat: Threat


class Tick(NamedTuple):
    """The FLOW rows that changed by `now` (epoch s) in the last `interval_s`."""

    flows: Batch
    now: float
    interval_s: float = 1.0


class Engine:
    """All detectors over one stream of FLOW batches. Bounded: MOST_OPEN threats, and what each detector declares."""

    def __init__(self, settings: Mapping[str, Any] | None = None, ours: Ours | None = None) -> None:
        self.ours = ours or Ours()
        self._detectors: list[Detector] = make_detectors(settings)
        self._attempts, self._senders = Attempts(), Senders()
        self._open: dict[tuple[str, ...], Open] = {}
        self._newest: dict[tuple[str, bool], deque[float]] = {}
        self._opened: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        # Closed threats, each with the time of its last evidence.
        self._over: OrderedDict[tuple[str, ...], tuple[Threat, float]] = OrderedDict()

    def feed(self, flows: Batch, now: float, interval_s: float = 1.0) -> list[ThreatUpdate]:
        """Process the FLOW rows that changed by `now` (epoch s) in the last `interval_s`; return changes of threats."""
        return self._feed(Columns(flows), now, interval_s)

    def _feed(self, flows: Columns, now: float, interval_s: float) -> list[ThreatUpdate]:
        updates: list[ThreatUpdate] = []
        for columns in _significant(flows):
            attempts = Columns(self._attempts.feed(columns, now))
            if not len(flows) and not len(attempts) and not any(each.due(now) for each in self._detectors):
                continue
            seen = DetectorInput(columns, attempts, now, interval_s, self.ours, senders=self._senders)
            for detector in self._detectors:
                for _, threat in detector.feed(seen):
                    updates += self._take(detector, threat, now)
        return updates + self._close(now)

    def feed_ticks(self, ticks: Sequence[Tick], joined: Columns | None = None) -> list[ThreatUpdate]:
        """The same for several ticks, in order of time, with the results of `feed` for each: common work is done once.
        Many rows are processed a tick at a time. `joined`: the rows of all, if available."""
        whole = Columns(join([tick.flows for tick in ticks])) if joined is None else joined
        if len(ticks) == 1:
            return self._feed(whole, ticks[0].now, ticks[0].interval_s)
        if len(whole) > PART_ROWS:
            return [update for tick in ticks for update in self.feed(*tick)]
        numbers = np.repeat(np.arange(len(ticks)), [len(tick.flows) for tick in ticks])
        significant = np.flatnonzero(_are_significant(whole))
        columns = whole.take(significant)
        columns.put("tick", numbers[significant])
        ends, widths = np.array([tick.now for tick in ticks]), np.array([tick.interval_s for tick in ticks])
        judged, judged_at = self._attempts.feed_ticks(columns, ends)
        attempts = Columns(judged)
        attempts.put("tick", judged_at)
        seen = DetectorInput(columns, attempts, ends[-1], widths[-1], self.ours, ends, widths, self._senders)
        found: list[list[tuple[Detector, Threat]]] = [[] for _ in ticks]
        for detector in self._detectors:
            for number, threat in detector.feed(seen):
                found[number].append((detector, threat))
        updates: list[ThreatUpdate] = []
        for tick, reported in zip(ticks, found, strict=True):
            for detector, threat in reported:
                updates += self._take(detector, threat, tick.now)
            updates += self._close(tick.now)
        return updates

    def inform(self, name: str, news: Any) -> None:
        """Give the detector of that name, if it is enabled, information from other parts."""
        for detector in self._detectors:
            if detector.name == name:
                detector.inform(news)

    def resume(self, stored: Iterable[Threat], now: float) -> list[Threat]:
        """Resume the threats that were open when the daemon stopped; return those that are over, for the store.

        One that was found again meanwhile is merged into the stored one, whose id and first time stay.
        """
        detectors = {detector.name: detector for detector in self._detectors}
        over: list[Threat] = []
        for threat in sorted(stored, key=lambda each: -each.last_seen):
            detector, age_s = detectors.get(threat.detector), abs(now - threat.last_seen)
            if detector is None or age_s > detector.idle_timeout_s or len(self._open) >= MOST_OPEN:
                over.append(threat)
                continue
            key = self._key(detector, threat)
            known = self._open.get(key)
            if known is None:
                self._open[key] = Open(copied(threat), threat.last_seen, threat.count, detector.idle_timeout_s)
                continue
            known.threat, again = copied(threat), known.threat
            merge(known.threat, again, detector.dedup_key)
            known.reported = known.threat.count
            if again.id != threat.id:
                over.append(again)
        self.remember(over, now)
        return over

    def remember(self, ended: Iterable[Threat], now: float) -> None:
        """Add recently closed threats, so that a situation that returns is the same threat."""
        detectors = {detector.name: detector for detector in self._detectors}
        for threat in sorted(ended, key=lambda each: each.last_seen):
            detector = detectors.get(threat.detector)
            if detector is not None and abs(now - threat.last_seen) <= _RETURNS_S + detector.idle_timeout_s:
                key = self._key(detector, threat)
                if key not in self._open:
                    self._over[key] = (copied(threat), threat.last_seen)
        self._forget()

    def learned(self) -> dict[str, Column]:
        """The detectors' state, as arrays by detector and name, for the next start. Waiting attempts are not included,
        since their outcome is not observed meanwhile."""
        return {
            f"{detector.name}.{name}": array
            for detector in self._detectors
            for name, array in detector.learned().items()
        }

    def recall(self, learned: Mapping[str, Column], now: float) -> list[str]:
        """Restore the state of an earlier engine; return the detectors whose state does not fit."""
        unfit = []
        for detector in self._detectors:
            own = f"{detector.name}."
            mine = {name.removeprefix(own): array for name, array in learned.items() if name.startswith(own)}
            try:
                if mine:
                    detector.recall(mine, now)
            except (ValueError, KeyError):
                unfit.append(detector.name)
        return unfit

    def finish(self, now: float) -> list[ThreatUpdate]:
        """Judge the attempts still waiting: the input has ended at `now`. Open threats stay open."""
        return self.feed(empty(FLOW), now + GRACE_S) + self.feed(empty(FLOW), now + PATIENCE_S)

    def threats(self) -> list[Threat]:
        """Copies of the open threats, the latest first."""
        return sorted((copied(entry.threat) for entry in self._open.values()), key=lambda threat: -threat.last_seen)

    def continued(self, now: float) -> list[ThreatUpdate]:
        """The open threats with evidence in the tick until `now`, even too little for an update; not copies. Of one
        with several addresses, what each of them did itself."""
        return [
            ThreatUpdate(CONTINUED, threat)
            for one in self._open.values()
            if one.last_evidence == now
            for threat in (one.latest if ADDRESSES in one.threat.evidence else [one.threat])
        ]

    def status(self) -> dict[str, Any]:
        """Counts of open, merged and dropped threats, and the fill of every table."""
        return {
            "open": len(self._open),
            "opened": dict(self._opened),
            "merged": self._counts["merged"],
            "redundant": self._counts["redundant"],
            "overflowed": self._counts["overflowed"],
            "waiting_dials": len(self._attempts),
            "dials_judged_early": self._attempts.early,
            "detectors": {detector.name: dict(detector.counters()) for detector in self._detectors},
        }

    def _take(self, detector: Detector, threat: Threat, now: float) -> list[ThreatUpdate]:
        key = self._key(detector, threat)
        entry = self._open.get(key)
        if entry is None and self._is_crowd(detector, threat):
            threat.evidence[_CROWD] = threat.evidence["services"][0]
            threat.summary += ", as other strangers do"
            key = self._key(detector, threat)
            entry = self._open.get(key)
        if entry is None and self._explained(detector, threat):
            self._counts["redundant"] += 1
            return []
        ended: list[ThreatUpdate] | None = []
        if entry is None:
            many = self._too_many(detector.name, threat.severity > Severity.LOW, now)
            ended = None if many else self._make_room(threat.severity)
        if ended is None:
            ended = []
            self._counts["overflowed"] += 1
            key = _many_key(detector.name)
            threat = self._overflow_threat(detector, threat)
            entry = self._open.get(key)
            if entry is not None:
                threat.count = entry.threat.count + 1
        if entry is None and (again := self._again(key, now, detector)) is not None:
            # A situation that returns is the same threat, and stays open as long as its pauses.
            known, last_evidence = again
            merge(known, threat, detector.dedup_key)
            waits_s = max(detector.idle_timeout_s, min(_PAUSES * abs(now - last_evidence), _RETURNS_S))
            self._open[key] = Open(known, now, known.count, waits_s)
            return [*ended, ThreatUpdate(UPDATED, copied(known))]
        if entry is None:
            # The same id for the same situation live and offline.
            threat.id = blake2s("|".join((*key, f"{threat.first_seen:.0f}")).encode(), digest_size=6).hexdigest()
            self._open[key] = Open(threat, now, threat.count, detector.idle_timeout_s)
            self._opened[detector.name] += 1
            return [*ended, ThreatUpdate(OPENED, copied(threat))]
        named, source = entry.threat.src_ip, threat.src_ip
        addresses = entry.threat.evidence.get(ADDRESSES, [])
        several, met = "src_ip" in detector.dedup_key and (bool(addresses) or source != named), source in entry.worst
        if several:
            threat.evidence.setdefault(ADDRESSES, [source])
        before = entry.worst.get(source, worst_of(threat)) if several else worst_of(entry.threat)
        own, proven = worst = entry.add(threat, now) if "src_ip" in detector.dedup_key else worst_of(threat)
        reported = worst > before or threat.count >= REPORT_FACTOR * entry.reported
        reported |= several and not met and proven and not entry.threat.evidence.get(PROVEN)
        if several and not met and source not in (named, *addresses):
            reported |= len(addresses) < MOST_LISTED or (proven and not self._too_many(ADDRESSES + key[0], True, now))
        if several and (reported or source == named):
            threat.evidence[OWN_SEVERITY] = str(own)
        merge(entry.threat, threat, detector.dedup_key, reported)
        entry.last_evidence = now
        self._counts["merged"] += 1
        if reported:
            entry.reported = entry.threat.count
            return [ThreatUpdate(UPDATED, copied(entry.threat))]
        return []

    def _key(self, detector: Detector, threat: Threat) -> tuple[str, ...]:
        """The dedup key of a threat: threats with the same key are one. The victim is the network, if it names one, and
        is the key if all its fields are empty. An IPv6 stranger is its /64, in which it may move."""
        if threat.evidence.get("unit") == _OVERFLOW_UNIT:
            return _many_key(detector.name)
        if crowd := threat.evidence.get(_CROWD):
            return (detector.name, "", "", crowd)
        victim, source = threat.evidence.get("network") or threat.dst_ip or "", threat.src_ip or ""
        if detector.bannable and ":" in source and not self.ours.has(source):
            source = network_of(source)
        fields = [{"src_ip": source, "dst_ip": victim, "summary": threat.summary}[each] for each in detector.dedup_key]
        return (detector.name, *(fields if any(fields) else [*fields, victim]))

    def _is_crowd(self, detector: Detector, threat: Threat) -> bool:
        """Whether a stranger sweeps for a service for which several others do."""
        if not (services := threat.evidence.get("services")) or not threat.src_ip or self.ours.has(threat.src_ip):
            return False
        others = [
            entry.threat
            for key, entry in self._open.items()
            if key[0] == detector.name and services[0] in entry.threat.evidence.get("services", ())
        ]
        alone = [other for other in others if other.src_ip and not self.ours.has(other.src_ip)]
        return len(alone) >= _ALONE or any(_CROWD in other.evidence for other in others)

    def _too_many(self, name: str, worse: bool, now: float) -> bool:
        """Whether another new threat of this detector would exceed the limit of new ones; counts it if not. Notes have
        a limit of their own."""
        newest = self._newest.setdefault((name, worse), deque(maxlen=MOST_NEW))
        if len(newest) == MOST_NEW and abs(now - newest[0]) < NEW_WITHIN_S:
            return True
        newest.append(now)
        return False

    def _make_room(self, severity: Severity) -> list[ThreatUpdate] | None:
        """Ends the weakest open threat, of those the one without evidence for the longest time, if there is no room for
        one of this severity; None if all are as severe."""
        if len(self._open) < MOST_OPEN:
            return []
        weakest = min(self._open, key=lambda key: (self._open[key].threat.severity, self._open[key].last_evidence))
        return [self._end(weakest)] if self._open[weakest].threat.severity < severity else None

    @staticmethod
    def _overflow_threat(detector: Detector, threat: Threat) -> Threat:
        summary = f"more {detector.name} threats at once than are reported one by one; the latest: {threat.summary}"
        sample = [address for address in (threat.src_ip, threat.dst_ip) if address]
        evidence = {"unit": _OVERFLOW_UNIT, "sample": sample}
        return replace(threat, src_ip=None, dst_ip=None, count=1, summary=summary, evidence=evidence)

    def _explained(self, detector: Detector, threat: Threat) -> bool:
        return any(
            (key[0] in detector.suppressed_by and about_the_same(entry.threat, threat))
            or (key[0] in (detector.name, *detector.suppressed_by) and of_network(entry.threat, threat))
            for key, entry in self._open.items()
            if entry.threat.severity >= threat.severity  # a note never hides a threat
        )

    def _again(self, key: tuple[str, ...], now: float, detector: Detector) -> tuple[Threat, float] | None:
        """The closed threat of this situation, and the time of its last evidence."""
        known = self._over.pop(key, None)
        late_s = _RETURNS_S + detector.idle_timeout_s
        return known if known is not None and abs(now - known[1]) <= late_s else None

    def _close(self, now: float) -> list[ThreatUpdate]:
        # After the clock was set back no threat stays open forever.
        quiet = [key for key, entry in self._open.items() if abs(now - entry.last_evidence) > entry.idle_timeout_s]
        closed = [self._end(key) for key in quiet]
        self._forget()
        return closed

    def _end(self, key: tuple[str, ...]) -> ThreatUpdate:
        entry = self._open.pop(key)
        self._over[key] = (entry.threat, entry.last_evidence)
        return ThreatUpdate(CLOSED, copied(entry.threat))

    def _forget(self) -> None:
        while len(self._over) > MOST_OPEN:
            self._over.popitem(last=False)


def _are_significant(flows: Batch | Columns) -> Column:
    """A mask of significant FLOW rows: without flows that only went quiet, half of all if each flow is seen once. A
    flow that was closing is over now and counts, though no packet came."""
    active: Column = (flows["d_packets"] > 0) | (flows["d_reply_packets"] > 0) | flows["new"]
    active |= (flows["tcp_flags"] | flows["reply_tcp_flags"]) & (FIN | RST) != 0
    return active


def _significant(flows: Columns) -> Iterator[Columns]:
    """The significant rows, at most PART_ROWS at a time."""
    if len(flows) <= PART_ROWS:
        yield flows.take(_are_significant(flows))
        return
    significant = np.flatnonzero(_are_significant(flows.batch))
    for begin in range(0, max(len(significant), 1), PART_ROWS):
        yield Columns(take(flows.batch, significant[begin : begin + PART_ROWS]))


def _many_key(name: str) -> tuple[str, ...]:
    """The key of the threat that counts those beyond the limit."""
    return (name, "", "", "many")

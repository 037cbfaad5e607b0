"""One host tries many ports (or IP protocols) of another.

It counts the distinct ports of a pair of hosts at which a connection attempt failed, in any way. If the host accepts
everything, it counts connections that were opened and closed without payload. Several sources that try many ports of a
host at the same time are one scan: they share the work, or all but one are decoys. The threat then names the target.
"""

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.dataclass import dataclass
from trafficmond.detect.attempts import Kind, Outcome, proven, with_resets
from trafficmond.detect.base import SAMPLES, Detection, DetectorInput, address, approx
from trafficmond.detect.distributed import DistributedDetector, Service, by_service
from trafficmond.detect.grouped import Entities
from trafficmond.detect.windows import (
    NOWHERE,
    BoundedTable,
    Columns,
    Grouped,
    estimate,
    estimate_of,
    mark,
    members,
    mix,
)
from trafficmond.flows.batch import Column
from trafficmond.model import Severity, Threat
from trafficmond.protocols import SYN

_KINDS = members(Kind.SYN, Kind.STEALTH, Kind.STRAY, Kind.DATAGRAM, Kind.PROTOCOL, size=256)
_PROBES = members(Kind.SYN, Kind.STEALTH, size=256)  # no client has several that fail, or several empty datagrams
_MOST_TRIES = 11  # datagrams that a probe of one port takes: nmap's --max-retries is 10 unless said otherwise
_AGREED = 1024  # a client of FTP or RPC visits many ports from here on, which its server names
_TEMPORARY = 32768  # Linux takes ports of connections from here on (ip_local_port_range)
_AT_ONCE, _AT_ONCE_S = 8, 60.0
# bound: minutes of targets, of which strangers try few ports each | the one with the fewest and oldest is forgotten
_CROWDS = 1024
_CROWD = 256  # places to count ports in
_FLOOD_PER_S = 200  # unfinished connections to random ports: from here on `syn_flood` reports them
_PART = 5  # failed ports within the window that make a source one of many: strangers look for one service or two
_MANY, _MANY_PORTS_FACTOR = 3, 3  # such sources, and times the ports of one scanner that they tried together
_SCANS_ELSEWHERE = 3  # hosts at which a source is one of many: it is no decoy of one scan
_WORDLESS_FACTOR = 5  # so many times more silent visits to open ports than failures: health checks visit some


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, help="Look for port scans.")
    ports: int = setting(15, min=3, max=1000, help="Distinct ports of one host that failed to answer one source.")
    window: float = duration("30m", min="10s", max="1d", help="If `ports` ports take longer, the severity is low.")
    memory: float = duration("1d", min="10s", max="7d", help="How long a source's probes of one host are added up.")
    failed_share: float = setting(
        0.5, min=0.0, max=1.0, help="At least this share of the ports tried must have failed."
    )
    capacity: int = setting(4096, min=64, max=1 << 20, help="Pairs of hosts watched at once; 1.3 kB each.")


class PortScan(DistributedDetector[Settings]):
    name = "port_scan"
    technique = "T1046"
    dedup_key = ("src_ip",)
    idle_timeout_s = 7200.0
    bannable = True
    fields = (
        *((name, "f4") for name in ("dials", "failed", "wordless", "answered", "lately")),
        ("begun", "f8"),  # of those tried lately
        ("map", "u1", 1024),
        ("spoke", "u1", 256),  # of the ports at which the source is not forged
    )
    evidence_bonus_s = 30.0

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, settings.window)  # the lists are by target: sources that are one of many
        self._crowds = BoundedTable([("flood", "f8"), ("map", "u1", _CROWD)], _CROWDS, self.evidence_bonus_s)
        # Of the present input: tick, source, target; the map of the ports it tried, its dials, the first, the last.
        self._parts: list[tuple[int, str, str, Column, int, float, float]] = []
        self._sure = np.zeros(0, bool)  # by entity: something failed that is no answer to a forged SYN

    @property
    def window_s(self) -> float:
        return self.settings.memory

    def choose(self, seen: DetectorInput) -> Columns:
        attempts = with_resets(seen.attempts, seen.flows, seen.ours)
        stream = (attempts["kind"] == Kind.DATAGRAM) & (attempts["packets"] > _MOST_TRIES)
        return attempts.take(_KINDS[attempts["kind"]] & ~stream)

    def key(self, rows: Columns) -> Column:
        return mix(rows["src"], rows["dst"])

    def weight(self, rows: Columns, by: Grouped) -> Column:
        return by.sum(rows["outcome"] != Outcome.ANSWERED)  # a pair is watched from its first failure on

    def judge(self, found: Entities) -> tuple[Column, Column]:
        settings, attempts, outcome = self.settings, found.kept, found.kept["outcome"]
        ports = np.where(attempts["kind"] != Kind.PROTOCOL, attempts["dport"], 0)
        fresh = mark(self.table.rows["map"], found.slot, mix(attempts["proto"], ports)) == 0
        was_answered = outcome == Outcome.ANSWERED
        was_wordless = (outcome == Outcome.ABANDONED) | (outcome == Outcome.HALF_OPEN)
        first = found.by.min(found.rows["at"])
        late = found.watched & (np.abs(first - found.states("begun")) > _AT_ONCE_S)
        self.table.rows["begun"][found.slots[late]], self.table.rows["lately"][found.slots[late]] = first[late], 0
        found.add(
            dials=~was_answered,
            lately=fresh & ~was_answered,
            answered=fresh & was_answered,
            wordless=fresh & was_wordless,
            failed=fresh & ~was_answered & ~was_wordless,
        )
        spoke = proven(attempts) & (attempts["dport"] < _AGREED)
        mark(self.table.rows["spoke"], found.slot[spoke], mix(attempts["dport"][spoke]))
        failed, wordless = found.states("failed"), found.states("wordless")
        tried = np.maximum(failed + wordless + found.states("answered"), 1)
        over = (failed >= settings.ports) & (failed >= settings.failed_share * tried)
        over |= (wordless >= _WORDLESS_FACTOR * settings.ports) & (wordless >= settings.failed_share * tried)
        # A visit to an open port is no probe: a scan continues while it fails.
        probe = found.rows["outcome"] != Outcome.ANSWERED
        # A reset SYN-ACK may be what a flooded service answers to a SYN that was forged from our address.
        forged = (found.rows["outcome"] == Outcome.REFUSED) & (found.rows["reply_tcp_flags"] & SYN != 0)
        probes, self._sure = found.by.sum(probe) > 0, found.by.sum(probe & ~forged) > 0
        part = (failed >= _PART) | self._in_crowd(found, (failed < _PART) & (failed > wordless))
        self._note_parts(found, self._sure & part & (failed >= settings.failed_share * tried))
        return (over | self._at_once(found)) & probes, found.states("dials")

    def _at_once(self, found: Entities) -> Column:
        """A mask of sources that tried some ports of one host without an answer: at once, or from outside."""
        failed, wordless, by = found.states("failed"), found.states("wordless"), found.by
        ours, now, first = found.seen.ours, by.max(found.rows["at"]), found.rows.take(by.first)
        few = (failed > wordless) & (found.states("answered") == 0)
        # A client of ours may look for all services of a host that is down; one from outside knows which are offered.
        slow = ours.side(first, "dst") & ~ours.side(first, "src") & (failed >= _AT_ONCE)
        slow &= now - found.states("since") <= self.settings.window
        few &= slow | (found.states("lately") >= _AT_ONCE) & (now - found.states("begun") <= _AT_ONCE_S)
        kind, empty = found.rows["kind"], found.rows["payload_bytes"] == 0
        # An acknowledgement of a host of ours, or to a port of FTP's data, may be left over from an old connection.
        stray = (kind == Kind.STRAY) & ~ours.side(found.rows, "src") & (found.rows["dport"] < _TEMPORARY)
        probe = _PROBES[kind] | stray
        found_few: Column = few & (by.sum(probe | (kind == Kind.DATAGRAM) & empty) == by.counts)
        return found_few

    def _in_crowd(self, found: Entities, few: Column) -> Column:
        """A mask of sources with few ports at a target of which such lost many ports within a minute."""
        few &= found.watched & _PROBES[found.rows["kind"][found.by.first]]
        at = np.flatnonzero(few[found.by.of] & (found.rows["outcome"] != Outcome.ANSWERED))
        # In order of time, so that it does not matter which of them share a batch.
        at = at[np.lexsort((found.rows["at"][at], found.rows["tick"][at]))]
        rows, table = found.rows.take(at), self._crowds
        by = Grouped(mix(rows["dst"], rows["at"] // _AT_ONCE_S))
        slots = table.admit(by.keys, by.counts, by.max(rows["at"]), np.inf)
        before = np.count_nonzero(table.rows["map"][slots], axis=1)
        fresh = mark(table.rows["map"], slots[by.of], mix(rows["dport"])) == 0
        slot, flood, ended = slots[by.of], _are_flood(rows), table.rows["flood"]
        many = (slot != NOWHERE) & ~flood & (np.abs(rows["at"] - ended[slot]) >= 1)  # its end may come a batch later
        flood &= slot != NOWHERE
        np.maximum.at(ended, slot[flood], rows["at"][flood])
        many &= estimate_of(before[by.of] + by.running(fresh), _CROWD) >= _MANY_PORTS_FACTOR * self.settings.ports
        few[:] = False
        few[found.by.of[at[many]]] = True
        return few

    def _note_parts(self, found: Entities, some: Column) -> None:
        """Records sources that may be one of many: several ports within the window, or a scan of their own."""
        quick = found.now - found.states("since") <= self.settings.window
        some &= found.watched & (quick | (found.states("failed") >= self.settings.ports))
        if not some.any():
            return
        last = found.by.max(np.where(found.rows["outcome"] != Outcome.ANSWERED, found.rows["at"], -np.inf))
        target = found.rows["dst"][found.by.first]
        for tick in np.unique(found.tick[some]).tolist():
            mine = np.flatnonzero(some & (found.tick == tick))
            for counted, listed in by_service(target[mine]):
                rows = found.rows.rows(found.by.first[mine[listed]])
                states, dst = self.table.rows[found.slots[mine[listed]]], address(rows[0], "dst")
                if len(counted):
                    states["map"][0] |= np.bitwise_or.reduce(self.table.rows["map"][found.slots[mine[counted]]])
                for one, state, at in zip(rows, states, last[mine[listed]].tolist(), strict=True):
                    dials, since = int(state["dials"]), state["since"]
                    self._parts.append((tick, address(one, "src"), dst, state["map"], dials, since, at))

    def examine(self, rows: Columns, seen: DetectorInput) -> list[Detection]:
        self._parts = []
        alone = super().examine(rows, seen)
        if not self._parts:
            return alone
        detections = []
        for tick in sorted({part[0] for part in self._parts} | {each.tick for each in alone}):
            parts: dict[str, tuple[Service, float]] = {}
            for _, src, dst, ports, dials, since, last in (part for part in self._parts if part[0] == tick):
                known = self._lists.add((dst, 0), src, 0, last)
                known.sources[src] = (max(dials, known.sources[src][0]), last)
                if len(known.sources) == 1:  # no other within the window
                    known.began, known.ports[:] = since, 0
                known.ports |= ports
                parts[dst] = known, last
            scans = {dst: threat for dst, one in parts.items() if (threat := self._scan_by_many(dst, *one)) is not None}
            detections += [Detection(tick, threat) for threat in scans.values()]
            mine = [each for each in alone if each.tick == tick]
            detections += [one for one in mine if not self._shared(one.threat, scans.get(one.threat.dst_ip or ""))]
        return detections

    def _shared(self, threat: Threat, scan: Threat | None) -> bool:
        """Whether a source has a part in the scan by several, or, with few ports, in what may become one."""
        if threat.evidence["proven"] or self._lists.places(threat.src_ip or "") >= _SCANS_ELSEWHERE:
            return False
        known = self._lists.at((threat.dst_ip or "", 0))
        few = all(threat.evidence[each] < self.settings.ports for each in ("failed", "opened_without_a_word"))
        told = scan is not None and scan.severity >= threat.severity
        return told or (few and known is not None and len(known.sources) >= _MANY)

    def _scan_by_many(self, dst: str, known: Service, last: float) -> Threat | None:
        """The scan of a target by several; None: there is none."""
        settings, places = self.settings, self._lists.places
        sources = [one for one in known.listed() if one["count"] < _PART or places(one["src_ip"]) < _SCANS_ELSEWHERE]
        dials, ports = sum(each["count"] for each in sources), int(estimate(known.ports))
        needed = _MANY_PORTS_FACTOR * settings.ports  # of a crowd, this many dials came before the first one listed
        if len(sources) < _MANY or ports < _AT_ONCE or max(dials, _MANY * len(sources)) < needed:
            return None
        slow = ports * settings.window < settings.ports * (last - known.began) or dials < _PART * len(sources)
        return self.found(
            Severity.LOW if slow else Severity.HIGH if ports >= 100 else Severity.MEDIUM,
            f"{len(sources):,} hosts tried {approx(ports)} ports of {dst} together (some may be decoys)",
            {"unit": "dials", "ports": ports, "hosts": len(sources), "targets": [dst], "sources": sources},
            dst=dst,
            times=(known.began, last),
            count=dials,
        )

    def threat(self, found: Entities, entity: int) -> Threat:
        mine, state, settings = found.all(entity), found.state(entity), self.settings
        ports = int(estimate(state["map"]))
        few = state["failed"] < settings.ports and state["wordless"] < _WORDLESS_FACTOR * settings.ports
        few |= not self._sure[entity]
        slow = ports * settings.window < settings.ports * (mine["at"].max() - state["since"])
        probes = mine[np.argsort(mine["outcome"] == Outcome.ANSWERED, kind="stable")]  # failures first
        src, dst = address(mine[0], "src"), address(mine[0], "dst")
        protocols = bool(np.mean(probes["kind"] == Kind.PROTOCOL) > 0.5)
        unit = "protocols" if protocols else "ports"
        sample = probes["proto" if protocols else "dport"][:SAMPLES]
        return self.found(
            Severity.LOW if slow or few else Severity.HIGH if ports >= 100 else Severity.MEDIUM,
            f"{src} tried {approx(ports)} {unit} of {dst}",
            {
                "unit": "dials",
                unit: ports,
                "failed": int(state["failed"]),
                "opened_without_a_word": int(state["wordless"]),
                "answered": int(state["answered"]),
                "proven": bool(estimate(state["spoke"]) >= settings.ports),
                "manner": sorted({Kind(kind).name.lower() for kind in np.unique(probes["kind"])}),
                "sample": [int(port) for port in np.unique(sample)],
                "targets": [dst],
            },
            src=src,
            dst=dst,
            times=(min(state["since"], mine["at"].min()), mine["at"][mine["outcome"] != Outcome.ANSWERED].max()),
            count=state["dials"],
        )


def _are_flood(rows: Columns) -> Column:
    """A mask of attempts of which more than _FLOOD_PER_S at one host in one tick come within a second."""
    order = np.lexsort((rows["at"], rows["tick"], rows["dst"]))
    at, place = rows["at"][order], mix(rows["dst"], rows["tick"])[order]
    first, last = slice(None, max(len(at) - _FLOOD_PER_S, 0)), slice(_FLOOD_PER_S, None)
    begins = np.flatnonzero((at[last] - at[first] < 1) & (place[last] == place[first]))
    edges = np.zeros(len(at) + 1, np.int64)
    edges[begins] += 1
    edges[begins + _FLOOD_PER_S + 1] -= 1
    flood = np.zeros(len(at), bool)
    flood[order] = np.cumsum(edges[:-1]) > 0
    return flood

"""One host tries many ports (or IP protocols) of another.

Counted are the distinct ports of a pair whose attempt failed, whatever its manner: SYN, NULL, FIN, Xmas, Maimon, ACK,
datagram, SCTP, bare IP protocol. A service that answers, replies of a service to many ports of its client, and
traceroute are no probes. A host that accepts everything (a tarpit, a SYN proxy) shows in the connections that were
opened and dropped without a word. Who sends a stream to a port does not ask whether it is open: a call whose answers
take another way is no scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.detect.attempts import Kind, Outcome, proven
from trafficmond.detect.base import SAMPLES, Observation, address, approx
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.windows import Columns, Grouped, estimate, mark_new, members, mix
from trafficmond.flows.batch import Column
from trafficmond.model import Severity, Threat
from trafficmond.protocols import UDP

# Their destination ports go up by one a probe: traceroute(8) from 33434, tracepath(8) from 44444.
_TRACES = ((33434, 33689), (44444, 44572))
_KINDS = members(Kind.SYN, Kind.STEALTH, Kind.STRAY, Kind.DATAGRAM, Kind.PROTOCOL, size=256)
_MOST_TRIES = 11  # datagrams that a probe of one port takes: nmap's --max-retries is 10 unless said otherwise
_AT_ONCE, _AT_ONCE_S = 8, 3.0
_WORDLESS_FACTOR = 5  # so many times more silent visits to open ports than failures: health checks visit some


@dataclass(frozen=True)
class Settings:
    """[detect.port_scan]"""

    enabled: bool = setting(True, help="Look for port scans.")
    ports: int = setting(15, min=3, max=1000, help="Distinct ports of one host that failed to answer one source.")
    window: float = duration("30m", min="10s", max="1d", help="A scan that takes longer has low severity.")
    memory: float = duration("1d", min="10s", max="7d", help="How long a pair's probes are added up.")
    failed_share: float = setting(
        0.5, min=0.0, max=1.0, help="At least this share of the ports tried must have failed."
    )
    capacity: int = setting(4096, min=64, max=1 << 20, help="Pairs of hosts watched at once; 1.1 kB each.")


class PortScan(GroupedDetector):
    name = "port_scan"
    technique = "T1046"
    dedup_key = ("src_ip",)
    idle_timeout_s = 7200.0
    bannable = True
    settings_class = Settings
    settings: Settings
    fields = (
        *((name, "f4") for name in ("dials", "failed", "wordless", "answered", "proven")),
        ("map", "u1", 1024),
    )
    evidence_bonus_s = 30.0

    @property
    def window_s(self) -> float:
        return self.settings.memory

    def choose(self, seen: Observation) -> Columns:
        attempts = seen.attempts
        port, trace = attempts["dport"], np.zeros(len(attempts), bool)
        for lowest, highest in _TRACES:
            trace |= (attempts["proto"] == UDP) & (port >= lowest) & (port <= highest)
        stream = (attempts["kind"] == Kind.DATAGRAM) & (attempts["packets"] > _MOST_TRIES)
        return attempts.take(_KINDS[attempts["kind"]] & ~trace & ~stream)

    def key(self, rows: Columns) -> Column:
        return mix(rows["src"], rows["dst"])

    def weight(self, rows: Columns, by: Grouped) -> Column:
        return by.sum(rows["outcome"] != Outcome.ANSWERED)  # a pair is watched from its first failure on

    def judge(self, found: Entities) -> tuple[Column, Column]:
        settings, attempts, outcome = self.settings, found.kept, found.kept["outcome"]
        ports = np.where(attempts["kind"] != Kind.PROTOCOL, attempts["dport"], 0)
        fresh = mark_new(self.table.rows["map"], found.slot, mix(attempts["proto"], ports))
        was_answered = outcome == Outcome.ANSWERED
        was_wordless = (outcome == Outcome.ABANDONED) | (outcome == Outcome.HALF_OPEN)
        found.add(
            dials=~was_answered,
            answered=fresh & was_answered,
            wordless=fresh & was_wordless,
            failed=fresh & ~was_answered & ~was_wordless,
            proven=proven(attempts),
        )
        failed, wordless = found.states("failed"), found.states("wordless")
        tried = np.maximum(failed + wordless + found.states("answered"), 1)
        over = (failed >= settings.ports) & (failed >= settings.failed_share * tried)
        over |= (wordless >= _WORDLESS_FACTOR * settings.ports) & (wordless >= settings.failed_share * tried)
        # A visit to what was found is no probe: a scan goes on while it fails.
        probes = found.by.sum(found.rows["outcome"] != Outcome.ANSWERED) > 0
        return (over | self._at_once(found)) & probes, found.states("dials")

    def _at_once(self, found: Entities) -> Column:
        """Who tried several ports of one host within moments, none of which answered: no client does."""
        at, by = found.rows["at"], found.by
        few = (found.states("failed") >= _AT_ONCE) & (found.states("answered") == 0) & (found.states("wordless") == 0)
        few &= by.sum(found.rows["kind"] == Kind.SYN) >= _AT_ONCE
        found_few: Column = few & (by.max(at) - by.min(at) <= _AT_ONCE_S)
        return found_few

    def threat(self, found: Entities, entity: int) -> Threat:
        mine, state, settings = found.all(entity), found.state(entity), self.settings
        ports = int(estimate(state["map"]))
        few = state["failed"] < settings.ports and state["wordless"] < _WORDLESS_FACTOR * settings.ports
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
                "proven": bool(state["proven"]),
                "manner": sorted({Kind(kind).name.lower() for kind in np.unique(probes["kind"])}),
                "sample": [int(port) for port in np.unique(sample)],
                "targets": [dst],
            },
            src=src,
            dst=dst,
            first_seen=min(state["since"], mine["at"].min()),
            last_seen=mine["at"][mine["outcome"] != Outcome.ANSWERED].max(),
            count=state["dials"],
        )

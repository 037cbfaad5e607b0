"""One host tries many ports (or IP protocols) of another.

Counted are the distinct ports of a pair whose dial failed, whatever its manner: SYN, NULL, FIN, Xmas, Maimon, ACK,
datagram, SCTP, bare IP protocol. A service that answers, replies of a service to many ports of its client, and
traceroute are no probes. A host that accepts everything (a tarpit, a SYN proxy) shows in the connections that were
opened and dropped without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.detect.base import SAMPLES, Observation, about, address, strongest, table_counters
from trafficmond.detect.dials import UDP, Kind, Outcome, proven
from trafficmond.detect.windows import NOWHERE, Columns, Grouped, Table, estimate, mark_new, members, mix
from trafficmond.flows.batch import Column
from trafficmond.model import Severity, Threat

# Their destination ports go up by one a probe: traceroute(8) from 33434, tracepath(8) from 44444.
_TRACES = ((33434, 33689), (44444, 44572))
_KINDS = members(Kind.SYN, Kind.STEALTH, Kind.STRAY, Kind.DATAGRAM, Kind.PROTOCOL, size=256)
_WORDLESS_FACTOR = 5  # so many times more silent visits to open ports than failures: health checks visit some


@dataclass(frozen=True)
class Settings:
    """[detect.port_scan]"""

    enabled: bool = setting(True, help="Look for port scans.")
    ports: int = setting(15, min=3, max=1000, help="Distinct ports of one host that failed to answer one source.")
    window: float = duration("30m", min="10s", max="1d", help="A scan that takes longer for them is of low severity.")
    memory: float = duration("1d", min="10s", max="7d", help="How long a pair's probes are added up.")
    failed_share: float = setting(
        0.5, min=0.0, max=1.0, help="At least this share of the ports tried must have failed."
    )
    capacity: int = setting(4096, min=64, max=1 << 20, help="Pairs of hosts watched at once; 1.1 kB each.")


class PortScan:
    """See the module."""

    name: ClassVar[str] = "port_scan"
    technique: ClassVar[str] = "T1046"
    identity: ClassVar[tuple[str, ...]] = ("src_ip",)
    yields_to: ClassVar[tuple[str, ...]] = ()
    quiet_s: ClassVar[float] = 7200.0
    settings_class: ClassVar[type[Any]] = Settings

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        fields = [("dials", "f4"), ("failed", "f4"), ("wordless", "f4"), ("answered", "f4"), ("proven", "f4")]
        self._pairs = Table([*fields, ("map", "u1", 1024)], settings.capacity, credit_s=30.0)

    def feed(self, seen: Observation) -> list[Threat]:
        """See base.Detector."""
        dials = seen.dials
        port, trace = dials["dport"], np.zeros(len(dials), bool)
        for lowest, highest in _TRACES:
            trace |= (dials["proto"] == UDP) & (port >= lowest) & (port <= highest)
        dials = dials.take(_KINDS[dials["kind"]] & ~trace)
        if not len(dials):
            return []
        answered = dials["outcome"] == Outcome.ANSWERED
        pairs = Grouped(mix(dials["src"], dials["dst"]))
        # A pair is watched from its first failure on.
        slots = self._pairs.watch(pairs.keys, pairs.sum(~answered), seen.now, self._settings.memory)

        slot = slots[pairs.of]
        kept = np.flatnonzero(slot != NOWHERE)
        slot, answered, outcome = slot[kept], answered[kept], dials["outcome"][kept]
        ported = dials["kind"][kept] != Kind.PROTOCOL
        fresh = mark_new(
            self._pairs.rows["map"], slot, mix(dials["proto"][kept], np.where(ported, dials["dport"][kept], 0))
        )
        wordless = (outcome == Outcome.ABANDONED) | (outcome == Outcome.HALF_OPEN)
        for field, what in (
            ("dials", np.ones(len(kept), bool)),
            ("answered", fresh & answered),
            ("wordless", fresh & wordless),
            ("failed", fresh & ~answered & ~wordless),
            ("proven", proven(dials)[kept]),
        ):
            self._pairs.add(field, slot, what)
        return self._threats(dials, pairs, slots)

    def _threats(self, dials: Columns, pairs: Grouped, slots: Column) -> list[Threat]:
        settings, rows = self._settings, self._pairs.rows
        failed, wordless, answered = (rows[name][slots] for name in ("failed", "wordless", "answered"))
        tried = np.maximum(failed + wordless + answered, 1)
        over = (failed >= settings.ports) & (failed >= settings.failed_share * tried)
        over |= (wordless >= _WORDLESS_FACTOR * settings.ports) & (wordless >= settings.failed_share * tried)
        threats = []
        for group in strongest(over & (slots != NOWHERE), rows["dials"][slots]):
            mine = dials.rows(pairs.of == group)
            row, one = rows[slots[group]], mine[0]
            ports = int(estimate(row["map"]))
            slow = ports * settings.window < settings.ports * (mine["at"].max() - row["since"])
            probes = mine[np.argsort(mine["outcome"] == Outcome.ANSWERED, kind="stable")]  # failures first
            src, dst = address(one, "src"), address(one, "dst")
            protocols = bool(np.mean(probes["kind"] == Kind.PROTOCOL) > 0.5)
            unit = "protocols" if protocols else "ports"
            sample = probes["proto" if protocols else "dport"][:SAMPLES]
            threats.append(
                Threat(
                    detector=self.name,
                    severity=Severity.LOW if slow else Severity.HIGH if ports >= 100 else Severity.MEDIUM,
                    technique=self.technique,
                    src_ip=src,
                    dst_ip=dst,
                    first_seen=float(min(row["since"], mine["at"].min())),
                    last_seen=float(mine["at"].max()),
                    count=int(row["dials"]),
                    summary=f"{src} tried {about(ports)} {unit} of {dst}",
                    evidence={
                        "unit": "dials",
                        unit: ports,
                        "failed": int(row["failed"]),
                        "opened_without_a_word": int(row["wordless"]),
                        "answered": int(row["answered"]),
                        "proven": bool(row["proven"]),
                        "manner": sorted({Kind(kind).name.lower() for kind in np.unique(probes["kind"])}),
                        "sample": [int(port) for port in np.unique(sample)],
                        "targets": [dst],
                    },
                )
            )
        return threats

    def counters(self) -> Mapping[str, int]:
        """See base.Detector."""
        return table_counters(self._pairs)

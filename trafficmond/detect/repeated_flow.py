"""One host dials the same closed service for ever: a stale configuration, a dead peer, or a knock on a door.

No attack by itself, so never more than low severity; it explains noise that would otherwise be looked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.detect.base import Observation, address, strongest, table_counters
from trafficmond.detect.dials import Kind, Outcome
from trafficmond.detect.windows import NOWHERE, Grouped, Table, mix
from trafficmond.model import Severity, Threat

_AT_LEAST_S = 60.0  # what happens all at once is something else


@dataclass(frozen=True)
class Settings:
    """[detect.repeated_flow]"""

    enabled: bool = setting(True, help="Report services dialled in vain again and again.")
    dials: int = setting(50, min=3, max=1 << 20, help="Failed dials of one host to one service in a window.")
    window: float = duration("10m", min="10s", max="1d", help="How long failed dials are added up.")
    capacity: int = setting(8192, min=64, max=1 << 20, help="Pairs of host and service watched at once; 40 bytes each.")


class RepeatedFlow:
    """See the module."""

    name: ClassVar[str] = "repeated_flow"
    technique: ClassVar[str] = "T1205"
    identity: ClassVar[tuple[str, ...]] = ("src_ip", "dst_ip")
    yields_to: ClassVar[tuple[str, ...]] = (
        "port_scan",
        "host_sweep",
        "syn_flood",
        "volume",
        "brute_force",
        "amplification",
    )
    quiet_s: ClassVar[float] = 3600.0
    settings_class: ClassVar[type[Any]] = Settings

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._services = Table([("failed", "f8"), ("answered", "f8")], settings.capacity, credit_s=30.0)

    def feed(self, seen: Observation) -> list[Threat]:
        """See base.Detector."""
        dials = seen.dials.take((seen.dials["kind"] == Kind.SYN) | (seen.dials["kind"] == Kind.DATAGRAM))
        if not len(dials):
            return []
        groups = Grouped(mix(dials["src"], dials["dst"], dials["proto"], dials["dport"]))
        failed = groups.sum((dials["outcome"] == Outcome.SILENT) | (dials["outcome"] == Outcome.REFUSED))
        answered = groups.sum(dials["outcome"] == Outcome.ANSWERED)
        slots = self._services.watch(groups.keys, failed, seen.now, self._settings.window)
        here, rows = slots != NOWHERE, self._services.rows
        rows["failed"][slots[here]] += failed[here]
        rows["answered"][slots[here]] += answered[here]
        total = np.where(here, rows["failed"][slots], 0)
        over = (total >= self._settings.dials) & (rows["answered"][slots] == 0)
        over &= seen.now - rows["since"][slots] >= _AT_LEAST_S
        threats = []
        for group in strongest(over, total):
            one = dials.rows(groups.first[group])
            src, dst = address(one, "src"), address(one, "dst")
            threats.append(
                Threat(
                    detector=self.name,
                    severity=Severity.LOW,
                    technique=self.technique,
                    src_ip=src,
                    dst_ip=dst,
                    first_seen=float(rows["since"][slots[group]]),
                    last_seen=seen.now,
                    count=int(total[group]),
                    summary=f"{src} dialled port {one['dport']} of {dst} {total[group]:.0f} times in vain",
                    evidence={"unit": "dials", "ports": [int(one["dport"])], "protocols": [int(one["proto"])]},
                )
            )
        return threats

    def counters(self) -> Mapping[str, int]:
        """See base.Detector."""
        return table_counters(self._services)

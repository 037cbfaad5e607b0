"""Talk with an address on one of the configured lists.

Knocks from listed addresses are the lists' daily bread and stay in the log. A threat is a conversation: the list only
monitors and somebody answered, or a host on this side opened it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from trafficmond.config.declare import setting
from trafficmond.detect.base import Observation, address, strongest, table_counters
from trafficmond.detect.windows import NOWHERE, Grouped, Table, mix
from trafficmond.flows.batch import is_drop
from trafficmond.model import Direction, Reason, Severity, Threat

_REASON_SHIFT, _REASON_MASK = 24, 0xF  # model.verdict_word


@dataclass(frozen=True)
class Settings:
    """[detect.blocklisted]"""

    enabled: bool = setting(True, help="Report talk with listed addresses.")
    packets: int = setting(1, min=1, max=1 << 30, help="Packets of such a conversation before it is said.")
    capacity: int = setting(4096, min=64, max=1 << 20, help="Pairs watched at once; 40 bytes each.")


class Blocklisted:
    """See the module."""

    name: ClassVar[str] = "blocklisted"
    technique: ClassVar[str] = "T1071"
    identity: ClassVar[tuple[str, ...]] = ("src_ip", "dst_ip")
    yields_to: ClassVar[tuple[str, ...]] = ()
    quiet_s: ClassVar[float] = 3600.0
    settings_class: ClassVar[type[Any]] = Settings

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pairs = Table([("packets", "f8")], settings.capacity, credit_s=60.0)

    def feed(self, seen: Observation) -> list[Threat]:
        """See base.Detector."""
        flows = seen.flows
        listed = flows["verdict"] >> _REASON_SHIFT & _REASON_MASK == Reason.LIST
        outward = flows["direction"] == Direction.EGRESS
        talk = ~is_drop(flows["verdict"]) & (flows["reply_packets"] > 0)
        at = np.flatnonzero(listed & (talk | outward) & (flows["d_packets"] > 0))
        if not len(at):
            return []
        flows = flows.take(at)
        groups = Grouped(mix(seen.src[at], seen.dst[at]))
        packets = groups.sum(flows["d_packets"])
        slots = self._pairs.watch(groups.keys, packets, seen.now, np.inf)
        here = slots != NOWHERE
        self._pairs.rows["packets"][slots[here]] += packets[here]
        total = np.where(here, self._pairs.rows["packets"][slots], 0)
        threats = []
        for group in strongest(total >= self._settings.packets, total):
            one = flows.rows(groups.first[group])
            src, dst, outgoing = address(one, "src"), address(one, "dst"), one["direction"] == Direction.EGRESS
            dropped = bool(is_drop(one["verdict"]))
            threats.append(
                Threat(
                    detector=self.name,
                    severity=Severity.MEDIUM if not dropped or outgoing else Severity.LOW,
                    technique=self.technique,
                    src_ip=src,
                    dst_ip=dst,
                    first_seen=float(self._pairs.rows["since"][slots[group]]),
                    last_seen=seen.now,
                    count=int(total[group]),
                    summary=f"{src} {'called listed' if outgoing else 'is listed and talks with'} {dst}"
                    + (" (dropped)" if dropped else ""),
                    evidence={"unit": "packets", "ports": [int(one["dport"])], "dropped": dropped},
                )
            )
        return threats

    def counters(self) -> Mapping[str, int]:
        """See base.Detector."""
        return table_counters(self._pairs)

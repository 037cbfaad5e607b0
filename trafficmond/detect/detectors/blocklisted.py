"""Conversations with an address on one of the configured lists.

Attempts from listed addresses are common and stay in the log. A threat is a conversation: the list only monitors and a
host here replied, or a host on this side opened it.
"""

from __future__ import annotations

from dataclasses import dataclass

from trafficmond.config.declare import setting
from trafficmond.detect.base import Observation, address
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.windows import Columns, Grouped, mix
from trafficmond.flows.batch import Column
from trafficmond.model import Direction, Reason, Severity, Threat
from trafficmond.verdict import is_drop, reason_of


@dataclass(frozen=True)
class Settings:
    """[detect.blocklisted]"""

    enabled: bool = setting(True, help="Report conversations with listed addresses.")
    packets: int = setting(1, min=1, max=1 << 30, help="Packets of such a conversation before it is reported.")
    capacity: int = setting(4096, min=64, max=1 << 20, help="Pairs watched at once; 40 bytes each.")


class Blocklisted(GroupedDetector):
    name = "blocklisted"
    technique = "T1071"
    dedup_key = ("src_ip", "dst_ip")
    idle_timeout_s = 3600.0
    settings_class = Settings
    settings: Settings
    fields = (("packets", "f8"),)
    evidence_bonus_s = 60.0

    def choose(self, seen: Observation) -> Columns:
        flows = seen.flows
        listed = reason_of(flows["verdict"]) == Reason.LIST
        outward = flows["direction"] == Direction.EGRESS
        talk = ~is_drop(flows["verdict"]) & (flows["reply_packets"] > 0)
        return flows.take(listed & (talk | outward) & (flows["d_packets"] > 0))

    def key(self, rows: Columns) -> Column:
        return mix(rows["src"], rows["dst"])

    def weight(self, rows: Columns, by: Grouped) -> Column:
        return by.sum(rows["d_packets"])

    def judge(self, found: Entities) -> tuple[Column, Column]:
        found.add(packets=found.kept["d_packets"])
        packets = found.states("packets")
        return packets >= self.settings.packets, packets

    def threat(self, found: Entities, entity: int) -> Threat:
        one, state = found.first(entity), found.state(entity)
        src, dst, outgoing = address(one, "src"), address(one, "dst"), one["direction"] == Direction.EGRESS
        dropped = bool(is_drop(one["verdict"]))
        return self.found(
            Severity.MEDIUM if not dropped or outgoing else Severity.LOW,
            f"{src} {'connected to listed' if outgoing else 'is listed and talks with'} {dst}"
            + (" (dropped)" if dropped else ""),
            {"unit": "packets", "ports": [int(one["dport"])], "dropped": dropped},
            src=src,
            dst=dst,
            first_seen=state["since"],
            last_seen=found.now[entity],
            count=state["packets"],
        )

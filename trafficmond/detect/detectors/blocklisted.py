"""Conversations with an address on one of the configured lists.

Attempts from listed addresses are common and stay in the log. A threat is a conversation: the list only monitors and a
host here replied, or a host on this side opened it.
"""

from trafficmond.config.declare import setting
from trafficmond.dataclass import dataclass
from trafficmond.detect.base import DetectorInput, address
from trafficmond.detect.grouped import Entities, PacketDetector
from trafficmond.detect.windows import Columns, mix
from trafficmond.flows.batch import Column
from trafficmond.model import Direction, Reason, Severity, Threat
from trafficmond.verdict import is_drop, reason_of


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, help="Report conversations with listed addresses.")
    packets: int = setting(1, min=1, max=1 << 30, help="A flow is reported after so many packets from its initiator.")
    capacity: int = setting(4096, min=64, max=1 << 20, help="Pairs watched at once; 40 bytes each.")


class Blocklisted(PacketDetector):
    name = "blocklisted"
    technique = "T1071"
    dedup_key = ("src_ip", "dst_ip")

    def choose(self, seen: DetectorInput) -> Columns:
        flows = seen.flows
        listed = reason_of(flows["verdict"]) == Reason.LIST
        outward = flows["direction"] == Direction.EGRESS
        talk = ~is_drop(flows["verdict"]) & (flows["reply_packets"] > 0)
        return flows.take(listed & (talk | outward) & (flows["d_packets"] > 0))

    def key(self, rows: Columns) -> Column:
        return mix(rows["src"], rows["dst"])

    def threat(self, found: Entities, entity: int) -> Threat:
        one, state = found.first(entity), found.state(entity)
        src, dst, outgoing = address(one, "src"), address(one, "dst"), one["direction"] == Direction.EGRESS
        dropped = bool(is_drop(one["verdict"]))
        return self.found(
            Severity.MEDIUM if not dropped or outgoing else Severity.LOW,
            (f"{src} connected to {dst}, which is listed" if outgoing else f"{src}, which is listed, talks with {dst}")
            + (" (dropped)" if dropped else ""),
            {"unit": "packets", "ports": [int(one["dport"])], "dropped": dropped},
            src=src,
            dst=dst,
            times=(state["since"], found.now[entity]),
            count=state["packets"],
        )

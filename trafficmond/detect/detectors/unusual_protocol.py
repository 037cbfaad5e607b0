"""IP protocols that are unusual on an ordinary network: tunnels of malware, probes, misconfiguration.

Severity is low, medium for numbers that IANA had not assigned. The port scan detector reports scans of protocols.
"""

from trafficmond.config.declare import setting
from trafficmond.dataclass import dataclass
from trafficmond.detect.base import DetectorInput, address
from trafficmond.detect.grouped import Entities, PacketDetector
from trafficmond.detect.windows import Columns, members, mix
from trafficmond.flows.batch import Column
from trafficmond.model import Severity, Threat

# Usual protocols of hosts and routers (IANA protocol numbers): hop-by-hop options as an empty packet's end, ICMP,
# IGMP, IPIP, TCP, EGP's successors, UDP, DCCP, 6in4, RSVP, GRE, ESP, AH, ICMPv6, no-next-header, EIGRP, OSPF, PIM,
# VRRP, L2TP, SCTP, mobility, UDP-Lite, MPLS, HIP, shim6, Ethernet in IP.
_ORDINARY = members(
    *(0, 1, 2, 4, 6, 17, 33, 41, 46, 47, 50, 51, 58, 59, 88, 89, 103, 112, 115, 132, 135, 136, 137, 139, 140, 143),
    size=256,
)
_UNASSIGNED = 148  # by IANA's Assigned Internet Protocol Numbers, in which 147 is BIT-EMU
_EXPERIMENTS = 253  # and 254 (RFC 3692)


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, help="Report unusual IP protocols.")
    packets: int = setting(10, min=1, max=1 << 30, help="A source is reported after so many packets of one protocol.")
    capacity: int = setting(1024, min=64, max=1 << 20, help="Sources and protocols watched at once; 40 bytes each.")


class UnusualProtocol(PacketDetector):
    name = "unusual_protocol"
    technique = "T1095"
    dedup_key = ("src_ip",)
    suppressed_by = ("port_scan", "volume")

    def choose(self, seen: DetectorInput) -> Columns:
        return seen.flows.take(~_ORDINARY[seen.flows["proto"]] & (seen.flows["d_packets"] > 0))

    def key(self, rows: Columns) -> Column:
        return mix(rows["src"], rows["proto"])

    def threat(self, found: Entities, entity: int) -> Threat:
        one, state = found.first(entity), found.state(entity)
        proto, src = int(one["proto"]), address(one, "src")
        return self.found(
            Severity.MEDIUM if _UNASSIGNED <= proto < _EXPERIMENTS else Severity.LOW,
            f"{src} uses IP protocol {proto}",
            {"unit": "packets", "protocols": [proto], "targets": [address(one, "dst")]},
            src=src,
            times=(state["since"], found.now[entity]),
            count=state["packets"],
        )

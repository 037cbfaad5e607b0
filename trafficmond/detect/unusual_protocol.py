"""IP protocols that have no business on an ordinary network: tunnels of malware, probes, misconfiguration.

Worth a look, seldom more: low severity, medium for numbers that IANA never assigned. A scan of protocols is a port
scan's matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from trafficmond.config.declare import setting
from trafficmond.detect.base import Observation, address, strongest, table_counters
from trafficmond.detect.windows import NOWHERE, Grouped, Table, members, mix
from trafficmond.model import Severity, Threat

# What hosts and routers ordinarily speak (IANA protocol numbers): hop-by-hop options as an empty packet's end, ICMP,
# IGMP, IPIP, TCP, EGP's successors, UDP, DCCP, 6in4, RSVP, GRE, ESP, AH, ICMPv6, no-next-header, EIGRP, OSPF, PIM,
# VRRP, L2TP, SCTP, mobility, UDP-Lite, MPLS, HIP, shim6, Ethernet in IP.
_ORDINARY = members(
    0,
    1,
    2,
    4,
    6,
    17,
    33,
    41,
    46,
    47,
    50,
    51,
    58,
    59,
    88,
    89,
    103,
    112,
    115,
    132,
    135,
    136,
    137,
    139,
    140,
    143,
    size=256,
)
_UNASSIGNED = 147  # from here on, up to the two numbers for experiments (RFC 3692)
_EXPERIMENTS = 253


@dataclass(frozen=True)
class Settings:
    """[detect.unusual_protocol]"""

    enabled: bool = setting(True, help="Report unusual IP protocols.")
    packets: int = setting(10, min=1, max=1 << 30, help="Packets of one source and protocol before it is said.")
    capacity: int = setting(1024, min=64, max=1 << 20, help="Sources and protocols watched at once; 40 bytes each.")


class UnusualProtocol:
    """See the module."""

    name: ClassVar[str] = "unusual_protocol"
    technique: ClassVar[str] = "T1095"
    identity: ClassVar[tuple[str, ...]] = ("src_ip",)
    yields_to: ClassVar[tuple[str, ...]] = ("port_scan", "volume")
    quiet_s: ClassVar[float] = 3600.0
    settings_class: ClassVar[type[Any]] = Settings

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sources = Table([("packets", "f8")], settings.capacity, credit_s=60.0)

    def feed(self, seen: Observation) -> list[Threat]:
        """See base.Detector."""
        at = np.flatnonzero(~_ORDINARY[seen.flows["proto"]] & (seen.flows["d_packets"] > 0))
        if not len(at):
            return []
        flows = seen.flows.take(at)
        groups = Grouped(mix(seen.src[at], flows["proto"]))
        packets = groups.sum(flows["d_packets"])
        slots = self._sources.watch(groups.keys, packets, seen.now, np.inf)
        here = slots != NOWHERE
        self._sources.rows["packets"][slots[here]] += packets[here]
        total = np.where(here, self._sources.rows["packets"][slots], 0)
        threats = []
        for group in strongest(total >= self._settings.packets, total):
            one = flows.rows(groups.first[group])
            proto, src = int(one["proto"]), address(one, "src")
            threats.append(
                Threat(
                    detector=self.name,
                    severity=Severity.MEDIUM if _UNASSIGNED <= proto < _EXPERIMENTS else Severity.LOW,
                    technique=self.technique,
                    src_ip=src,
                    dst_ip=None,
                    first_seen=float(self._sources.rows["since"][slots[group]]),
                    last_seen=seen.now,
                    count=int(total[group]),
                    summary=f"{src} speaks IP protocol {proto}",
                    evidence={"unit": "packets", "protocols": [proto], "targets": [address(one, "dst")]},
                )
            )
        return threats

    def counters(self) -> Mapping[str, int]:
        """See base.Detector."""
        return table_counters(self._sources)

"""Many servers answer one victim that asked nothing.

Reflected answers share their source port (the service abused, whatever it is), come from many hosts, are large, and
belong to no question of the victim's. TCP reflection shows as SYN-ACKs from many hosts that nobody dialled. Told by
the victim; the reflectors are misused, not attackers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.detect.base import Observation, about, address, addresses, strongest, table_counters
from trafficmond.detect.dials import ACK, SYN, TCP, UDP
from trafficmond.detect.windows import NOWHERE, Columns, Grouped, Table, decay, estimate, mark, mix
from trafficmond.flows.batch import Column
from trafficmond.model import Severity, Threat

_DNS, _HTTP, _HTTPS = 53, 80, 443
_BY_TCP = np.int64(0x10000)  # in place of a port, with room for it beside 16-bit ones
_SHORT = 3  # packets of a reflector's answer, on average, where the port also carries ordinary answers
_SOLICITED_SHARE = 0.1
_SYN_ACK_FACTOR = 5  # reflectors: a stray SYN-ACK is small and common (back-scatter)


@dataclass(frozen=True)
class Settings:
    """[detect.amplification]"""

    enabled: bool = setting(True, help="Look for reflected answers.")
    reflectors: int = setting(20, min=3, max=10000, help="Distinct hosts that answer one victim from one source port.")
    packets: int = setting(100, min=10, max=1 << 30, help="Their packets within a window.")
    mean_bytes: int = setting(
        180, min=0, max=65535, help="Mean size of the answers' packets; amplifying makes them large."
    )
    dns_mean_bytes: int = setting(
        400, min=0, max=65535, help="The same from port 53, where a resolver seen one way gets many small answers."
    )
    window: float = duration("30s", min="1s", max="10m", help="How long answers are remembered (they fade out).")
    capacity: int = setting(4096, min=64, max=1 << 20, help="Victims and ports watched at once; 0.4 kB each.")


class Amplification:
    """See the module."""

    name: ClassVar[str] = "amplification"
    technique: ClassVar[str] = "T1498.002"
    identity: ClassVar[tuple[str, ...]] = ("dst_ip",)
    yields_to: ClassVar[tuple[str, ...]] = ()
    quiet_s: ClassVar[float] = 300.0
    settings_class: ClassVar[type[Any]] = Settings

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        fields = [
            ("at", "f8"),
            ("packets", "f8"),
            ("bytes", "f8"),
            ("flows", "f8"),
            ("solicited", "f8"),
            ("total", "f8"),
        ]
        self._victims = Table([*fields, ("map", "u1", 256)], settings.capacity, credit_s=5.0)

    def feed(self, seen: Observation) -> list[Threat]:
        """See base.Detector."""
        flows = seen.flows
        udp, tcp = flows["proto"] == UDP, flows["proto"] == TCP
        silent = (flows["reply_packets"] == 0) & (flows["d_packets"] > 0)
        answers = udp & silent & (flows["sport"] != flows["dport"]) & (flows["sport"] > 0)
        # A SYN-ACK names the one it is sent to as the flow's opener, though nobody saw it open anything.
        syn_acks = tcp & (flows["reply_first_flags"] & (SYN | ACK) == SYN | ACK) & (flows["d_reply_packets"] > 0)
        syn_acks &= (flows["tcp_flags"] & SYN == 0) & (flows["reply_payload_bytes"] == 0)
        asked = udp & (flows["reply_packets"] > 0) & (flows["d_packets"] > 0)
        at = np.flatnonzero(answers | syn_acks | asked)
        if not len(at):
            return []
        flows, asked, by_tcp = flows.take(at), asked[at], tcp[at]
        # A question counts for its asker, at the port it asked.
        service = np.where(by_tcp, _BY_TCP, np.where(asked, flows["dport"], flows["sport"])).astype(np.int64)
        mine = asked | by_tcp
        victims = Grouped(mix(np.where(mine, seen.src[at], seen.dst[at]), service))
        hosts = np.where(mine, seen.dst[at], seen.src[at])
        packets = np.where(asked, 0, np.where(by_tcp, flows["d_reply_packets"], flows["d_packets"]))
        slots = self._victims.watch(victims.keys, victims.sum(packets), seen.now, np.inf)
        known = slots[slots != NOWHERE]
        rows = self._victims.rows
        decay(rows, known, seen.now, self._settings.window, ("packets", "bytes", "flows", "solicited"))
        quiet = known[rows["packets"][known] < 1]
        rows["map"][quiet] = 0
        rows["total"][quiet] = 0
        slot = slots[victims.of]
        kept = np.flatnonzero(slot != NOWHERE)
        slot = slot[kept]
        unasked = ~asked[kept]
        for field, amount in (
            ("packets", packets[kept]),
            ("total", packets[kept]),
            ("bytes", flows["d_bytes"][kept] * unasked),
            ("flows", (flows["new"][kept] & unasked)),
            ("solicited", flows["d_reply_packets"][kept] * ~unasked),
        ):
            self._victims.add(field, slot, amount)
        mark(rows["map"], slot[unasked], hosts[kept][unasked])
        return self._threats(flows, asked, service, victims, slots, seen.now)

    def _over(self, slots: Column, service: Column) -> Column:
        """Which of the victims and ports get reflected answers."""
        settings, states = self._settings, self._victims.rows
        packets, by_tcp = np.maximum(states["packets"][slots], 1), service == _BY_TCP
        over = (slots != NOWHERE) & (packets >= settings.packets)
        mean = states["bytes"][slots] / packets
        over &= by_tcp | (mean >= np.where(service == _DNS, settings.dns_mean_bytes, settings.mean_bytes))
        over &= ((service != _HTTP) & (service != _HTTPS)) | (packets <= _SHORT * np.maximum(states["flows"][slots], 1))
        over &= states["solicited"][slots] <= _SOLICITED_SHARE * packets
        enough = np.where(by_tcp, _SYN_ACK_FACTOR, 1) * settings.reflectors
        at = np.flatnonzero(over)
        over[at] = estimate(states["map"][slots[at]]) >= enough[at]
        found: Column = over
        return found

    def _threats(
        self, flows: Columns, asked: Column, service: Column, victims: Grouped, slots: Column, now: float
    ) -> list[Threat]:
        states = self._victims.rows
        over = self._over(slots, service[victims.first])
        threats = []
        for group in strongest(over, states["packets"][slots]):
            mine = flows.rows((victims.of == group) & ~asked)
            if not len(mine):
                continue
            state, port = states[slots[group]], int(service[victims.first[group]])
            hosts = int(estimate(state["map"]))
            victim, reflector = ("src", "dst") if port == _BY_TCP else ("dst", "src")
            dst = address(mine[0], victim)
            source = "SYN-ACKs" if port == _BY_TCP else f"answers from port {port}"
            threats.append(
                Threat(
                    detector=self.name,
                    severity=Severity.HIGH,
                    technique=self.technique,
                    src_ip=None,
                    dst_ip=dst,
                    first_seen=float(mine["first"].min()),
                    last_seen=now,
                    count=int(state["total"]),
                    summary=f"{dst} gets {source} of {about(hosts)} or more hosts that it did not ask",
                    evidence={
                        "unit": "packets",
                        "reflectors": hosts,
                        "mean_bytes": int(state["bytes"] / max(1.0, state["packets"])),
                        "ports": [] if port == _BY_TCP else [port],
                        "sample": addresses(mine, reflector),
                    },
                )
            )
        return threats

    def counters(self) -> Mapping[str, int]:
        """See base.Detector."""
        return table_counters(self._victims)

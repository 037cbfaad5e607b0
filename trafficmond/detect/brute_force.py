"""One host connects to one service again and again, each time for a short exchange: guessing.

Counted are short connections whose end was seen, to services that ask for a password: known ones by their port, and on
any port those whose server speaks first (SSH, FTP, SMTP, MySQL greet; HTTP and TLS wait). Services that programs talk
to all day (databases, directories, mail relays) count only if every exchange is small and alike, as refused logins are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.detect.base import Observation, address, strongest, table_counters
from trafficmond.detect.dials import ACK, FIN, RST, SYN, TCP
from trafficmond.detect.windows import NOWHERE, Columns, Grouped, Table, decay, members, mix
from trafficmond.flows.batch import Batch, Column
from trafficmond.model import Severity, Threat

_SPOKE_FIRST = 0x08  # abi.BIT_SPOKE_FIRST
_LOGIN_PORTS = members(
    *(21, 22, 23, 2222, 2323),  # FTP, SSH, telnet and where they are moved to
    *(110, 143, 993, 995, 465, 587),  # mailboxes and mail submission
    *(139, 445, 3389, 5985, 5986),  # Windows: SMB, RDP, WinRM
    *(512, 513, 514, 873, 1080, 1723, 5060, 5061),  # r-services, rsync, SOCKS, PPTP, SIP
    *(5900, 5901, 5902, 5903),  # VNC
)
_BUSY_PORTS = members(25, 88, 135, 389, 636, 1433, 1521, 3306, 5432, 6379, 9200, 11211, 27017)
_BUSY_FACTOR = 3  # ... and so many times more of them
_SPOKE_FIRST_SHARE = 0.2  # SSH speaks from both sides at once; the server wins some of the races
_SHORT_S, _SMALL_BYTES = 120.0, 65536
_ALIKE, _ALIKE_BYTES = 0.25, 2000  # variation coefficient and mean of the exchanges' sizes


@dataclass(frozen=True)
class Settings:
    """[detect.brute_force]"""

    enabled: bool = setting(True, help="Look for password guessing.")
    connections: int = setting(
        20, min=3, max=10000, help="Finished short connections of one host to one service in a window."
    )
    window: float = duration("60s", min="10s", max="1h", help="How long connections are remembered (they fade out).")
    slow_connections: int = setting(40, min=3, max=10000, help="The same over the slow window.")
    slow_window: float = duration("10m", min="1m", max="1d", help="How long a slow guesser is remembered.")
    capacity: int = setting(8192, min=64, max=1 << 20, help="Pairs of host and service watched at once; 0.1 kB each.")


class BruteForce:
    """See the module."""

    name: ClassVar[str] = "brute_force"
    technique: ClassVar[str] = "T1110"
    identity: ClassVar[tuple[str, ...]] = ("src_ip", "dst_ip")
    yields_to: ClassVar[tuple[str, ...]] = ()
    quiet_s: ClassVar[float] = 1800.0
    settings_class: ClassVar[type[Any]] = Settings

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        counts = [(name, "f8") for name in ("at", "quick", "slow", "total", "greeted")]
        sizes = [(name, "f8") for name in ("sent", "sent2", "got", "got2")]
        self._services = Table([*counts, *sizes], settings.capacity, credit_s=60.0)

    def feed(self, seen: Observation) -> list[Threat]:
        """See base.Detector."""
        flows = seen.flows
        done = flows["ended"] & (flows["proto"] == TCP) & (flows["first_flags"] & (SYN | ACK) == SYN)
        # One that merely went quiet is not over, and says nothing of how it began.
        done &= (flows["tcp_flags"] | flows["reply_tcp_flags"]) & (FIN | RST) != 0
        done &= (flows["payload_bytes"] > 0) & (flows["reply_payload_bytes"] > 0)
        done &= flows["last"] - flows["first"] <= _SHORT_S
        done &= flows["payload_bytes"] + flows["reply_payload_bytes"] <= _SMALL_BYTES
        greeted = flows["reply_bits"] & _SPOKE_FIRST != 0
        at = np.flatnonzero(done)
        if not len(at):
            return []
        flows, greeted = flows.take(at), greeted[at]
        services = Grouped(mix(seen.src[at], seen.dst[at], flows["dport"]))
        ports = flows["dport"][services.first]
        asks = _LOGIN_PORTS[ports] | _BUSY_PORTS[ports]
        asks |= services.sum(greeted) > 0
        count = services.sum(np.ones(len(flows)))
        slots = self._services.watch(services.keys, np.where(asks, count, 0), seen.now, np.inf)
        rows, known = self._services.rows, slots[slots != NOWHERE]
        elapsed = np.maximum(seen.now - rows["at"][known], 0.0)
        rows["quick"][known] *= np.exp(-elapsed / self._settings.window)
        decay(
            rows,
            known,
            seen.now,
            self._settings.slow_window,
            ("slow", "total", "greeted", "sent", "sent2", "got", "got2"),
        )
        slot = slots[services.of]
        kept = np.flatnonzero(slot != NOWHERE)
        slot = slot[kept]
        sent, got = (flows[name][kept].astype(np.float64) for name in ("payload_bytes", "reply_payload_bytes"))
        one = np.ones(len(kept))
        for field, amount in (
            *(("quick", one), ("slow", one), ("total", one), ("greeted", greeted[kept])),
            *(("sent", sent), ("sent2", sent * sent), ("got", got), ("got2", got * got)),
        ):
            self._services.add(field, slot, amount)
        return self._threats(flows, services, slots, seen.now)

    def _guessing(self, states: Batch, ports: Column) -> Column:
        total = np.maximum(states["total"], 1)
        alike = np.ones(len(states), bool)
        for one, square in (("sent", "sent2"), ("got", "got2")):
            mean = states[one] / total
            deviation = np.sqrt(np.maximum(states[square] / total - mean * mean, 0))
            alike &= (deviation <= _ALIKE * mean) & (mean <= _ALIKE_BYTES)
        greets = states["greeted"] >= _SPOKE_FIRST_SHARE * total
        busy = _BUSY_PORTS[ports]
        login = _LOGIN_PORTS[ports] | greets
        factor = np.where(busy, _BUSY_FACTOR, 1)
        many = states["quick"] >= factor * self._settings.connections
        many |= states["slow"] >= factor * self._settings.slow_connections
        guessing: Column = many & np.where(busy, alike, login)
        return guessing

    def _threats(self, flows: Columns, services: Grouped, slots: Column, now: float) -> list[Threat]:
        here = np.flatnonzero(slots != NOWHERE)
        states = self._services.rows[slots[here]]
        over = np.zeros(len(slots), bool)
        over[here] = self._guessing(states, flows["dport"][services.first[here]])
        threats = []
        for group in strongest(over, self._services.rows["slow"][slots]):
            one, state = flows.rows(services.first[group]), self._services.rows[slots[group]]
            src, dst = address(one, "src"), address(one, "dst")
            count = int(np.ceil(state["total"]))
            threats.append(
                Threat(
                    detector=self.name,
                    severity=Severity.HIGH if count >= 100 else Severity.MEDIUM,
                    technique=self.technique,
                    src_ip=src,
                    dst_ip=dst,
                    first_seen=float(state["since"]),
                    last_seen=now,
                    count=count,
                    summary=f"{src} made {count} short connections to port {one['dport']} of {dst}",
                    evidence={
                        "unit": "connections",
                        "ports": [int(one["dport"])],
                        "proven": True,  # both sides spoke over TCP
                        "server_speaks_first_share": round(float(state["greeted"] / max(1.0, state["total"])), 2),
                        "mean_sent_bytes": int(state["sent"] / max(1.0, state["total"])),
                        "mean_received_bytes": int(state["got"] / max(1.0, state["total"])),
                    },
                )
            )
        return threats

    def counters(self) -> Mapping[str, int]:
        """See base.Detector."""
        return table_counters(self._services)

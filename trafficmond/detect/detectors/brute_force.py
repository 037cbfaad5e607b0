"""One host connects to one service again and again, each time for a short exchange: guessing.

Counted are short connections whose end was seen, to services that ask for a password: known ones by their port, and on
any port those whose server speaks first (SSH, FTP, SMTP, MySQL greet; HTTP and TLS wait). Services that programs talk
to all day (databases, directories, mail relays) count only if every exchange is small and alike, as refused logins are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trafficmond import abi
from trafficmond.config.declare import duration, setting
from trafficmond.detect.base import Observation, address
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.windows import Columns, Grouped, decay, members, mix
from trafficmond.flows.batch import Batch, Column
from trafficmond.model import Severity, Threat
from trafficmond.protocols import ACK, FIN, RST, SYN, TCP

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
_FADING = ("slow", "total", "greeted", "sent", "sent2", "got", "got2")
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


class BruteForce(GroupedDetector):
    name = "brute_force"
    technique = "T1110"
    identity = ("src_ip", "dst_ip")
    quiet_s = 1800.0
    bannable = True
    settings_class = Settings
    settings: Settings
    fields = tuple((name, "f8") for name in ("at", "quick", *_FADING))
    credit_s = 60.0

    def choose(self, seen: Observation) -> Columns:
        flows = seen.flows
        done = flows["ended"] & (flows["proto"] == TCP) & (flows["first_flags"] & (SYN | ACK) == SYN)
        # One that merely went quiet is not over, and says nothing of how it began.
        done &= (flows["tcp_flags"] | flows["reply_tcp_flags"]) & (FIN | RST) != 0
        done &= (flows["payload_bytes"] > 0) & (flows["reply_payload_bytes"] > 0)
        done &= flows["last"] - flows["first"] <= _SHORT_S
        done &= flows["payload_bytes"] + flows["reply_payload_bytes"] <= _SMALL_BYTES
        return flows.take(done)

    def key(self, rows: Columns) -> Column:
        return mix(rows["src"], rows["dst"], rows["dport"])

    def weight(self, rows: Columns, by: Grouped) -> Column:
        ports = rows["dport"][by.first]
        asks = _LOGIN_PORTS[ports] | _BUSY_PORTS[ports] | (by.sum(_greeted(rows)) > 0)
        return np.where(asks, by.sum(np.ones(len(rows))), 0)

    def judge(self, found: Entities) -> tuple[Column, Column]:
        settings, now, rows, known = self.settings, found.seen.now, self.table.rows, found.known
        elapsed = np.maximum(now - rows["at"][known], 0.0)
        rows["quick"][known] *= np.exp(-elapsed / settings.window)
        decay(rows, known, now, settings.slow_window, _FADING)
        flows, one = found.kept, np.ones(len(found.kept))
        sent, got = (flows[name].astype(np.float64) for name in ("payload_bytes", "reply_payload_bytes"))
        found.add(quick=one, slow=one, total=one, greeted=_greeted(flows))
        found.add(sent=sent, sent2=sent * sent, got=got, got2=got * got)
        over = np.zeros(len(found.slots), bool)
        over[found.watched] = self._guessing(rows[known], found.rows["dport"][found.by.first[found.watched]])
        return over, found.states("slow")

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
        many = states["quick"] >= factor * self.settings.connections
        many |= states["slow"] >= factor * self.settings.slow_connections
        guessing: Column = many & np.where(busy, alike, login)
        return guessing

    def threat(self, found: Entities, entity: int) -> Threat:
        one, state = found.first(entity), found.state(entity)
        src, dst = address(one, "src"), address(one, "dst")
        count, total = int(np.ceil(state["total"])), max(1.0, state["total"])
        return self.found(
            Severity.HIGH if count >= 100 else Severity.MEDIUM,
            f"{src} made {count} short connections to port {one['dport']} of {dst}",
            {
                "unit": "connections",
                "ports": [int(one["dport"])],
                "proven": True,  # both sides spoke over TCP
                "server_speaks_first_share": round(float(state["greeted"] / total), 2),
                "mean_sent_bytes": int(state["sent"] / total),
                "mean_received_bytes": int(state["got"] / total),
            },
            src=src,
            dst=dst,
            first_seen=state["since"],
            last_seen=found.seen.now,
            count=count,
        )


def _greeted(flows: Columns) -> Column:
    greeted: Column = flows["reply_bits"] & abi.BIT_SPOKE_FIRST != 0
    return greeted

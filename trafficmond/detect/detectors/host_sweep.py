"""One host tries the same service (or pings) on many hosts.

Counted are distinct hosts whose first dial from this source at this port failed, against those that answered: a
client, crawler, resolver or mail server finds nearly everybody at home, a scanner hardly anybody (threshold random
walk: Jung et al., IEEE S&P 2004). Peers dialled again and again are being watched or missed, not looked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.detect.base import Observation, about, address, addresses
from trafficmond.detect.dials import Kind, Outcome, proven
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.windows import Columns, Grouped, estimate, mark_new, members, mix
from trafficmond.flows.batch import Column
from trafficmond.model import Severity, Threat

_KINDS = members(Kind.SYN, Kind.STEALTH, Kind.DATAGRAM, Kind.ICMP, size=256)
_FAILED = members(Outcome.SILENT, Outcome.REFUSED, Outcome.HALF_OPEN, size=256)
_REDIALS = 4  # a scanner tries a host a few times, a monitor or a peer for ever
_DATAGRAM_SHARE = 0.9  # a datagram that nobody answers is common; questions and gossip vary in length, probes do not
_DATAGRAM_SPREAD = 16  # bytes
# Behind a firewall, or where IPv6 is broken, a browser finds nobody at home either; so many times more for the web.
_WEB_PORTS, _WEB_FACTOR = members(80, 443), 4
_PEER_FACTOR = 3  # same port on both sides: peer-to-peer, NTP and IKE do that, and lose peers all the time


@dataclass(frozen=True)
class Settings:
    """[detect.host_sweep]"""

    enabled: bool = setting(True, help="Look for sweeps over many hosts.")
    hosts: int = setting(15, min=3, max=1000, help="Distinct hosts that failed to answer one source at one port.")
    ping_hosts: int = setting(15, min=3, max=1000, help="Distinct hosts that one source pinged.")
    failed_share: float = setting(
        0.75, min=0.0, max=1.0, help="At least this share of the hosts tried must have failed."
    )
    ping_failed_share: float = setting(0.3, min=0.0, max=1.0, help="The same for pings, which living hosts answer.")
    slow_hosts: int = setting(
        8, min=3, max=1000, help="So many failures with no answer at all make a low-severity threat."
    )
    window: float = duration("2h", min="10s", max="7d", help="How long a source's dials at a port are added up.")
    capacity: int = setting(4096, min=64, max=1 << 20, help="Sources and ports watched at once; 0.6 kB each.")


class HostSweep(GroupedDetector):
    name = "host_sweep"
    technique = "T1046"
    identity = ("src_ip",)
    quiet_s = 7200.0
    bannable = True
    settings_class = Settings
    settings: Settings
    fields = (
        *((name, "f4") for name in ("dials", "failed", "answered", "proven", "shortest", "longest", "peer")),
        ("map", "u1", 512),
    )
    credit_s = 30.0

    @property
    def window_s(self) -> float:
        return self.settings.window

    def choose(self, seen: Observation) -> Columns:
        return seen.dials.take(_KINDS[seen.dials["kind"]])

    def key(self, rows: Columns) -> Column:
        return mix(rows["src"], rows["proto"], np.where(rows["kind"] == Kind.ICMP, 0, rows["dport"]))

    def weight(self, rows: Columns, by: Grouped) -> Column:
        return by.sum(_FAILED[rows["outcome"]])  # a source is watched from its first failure on

    def judge(self, found: Entities) -> tuple[Column, Column]:
        dials, rows = found.kept, self.table.rows
        fresh = mark_new(rows["map"], found.slot, dials["dst"])
        found.add(
            dials=np.ones(len(dials), bool),
            failed=fresh & _FAILED[dials["outcome"]],
            answered=fresh & (dials["outcome"] == Outcome.ANSWERED),
            peer=(dials["sport"] == dials["dport"]) & (dials["kind"] == Kind.DATAGRAM),
            proven=proven(dials),
        )
        slots, lengths = found.known, found.rows["first_len"]
        least, most = found.by.min(lengths)[found.watched], found.by.max(lengths)[found.watched]
        shortest = rows["shortest"][slots]
        rows["shortest"][slots] = np.where(shortest == 0, least, np.minimum(shortest, least))
        rows["longest"][slots] = np.maximum(rows["longest"][slots], most)

        fewest = min(self.settings.hosts, self.settings.ping_hosts, self.settings.slow_hosts)
        some = np.flatnonzero(found.watched & (found.states("failed") + found.states("answered") >= fewest))
        over = np.zeros(len(found.slots), bool)
        over[some] = self._severity(found, some) > 0
        return over, found.states("dials")

    def _severity(self, found: Entities, which: Column) -> Column:
        """Of each of these entities, as a number; 0: none."""
        settings, first = self.settings, found.by.first[which]
        rows, kind, port = self.table.rows[found.slots[which]], found.rows["kind"][first], found.rows["dport"][first]
        failed, tried = rows["failed"], np.maximum(rows["failed"] + rows["answered"], 1)
        ping, datagram = kind == Kind.ICMP, kind == Kind.DATAGRAM
        share = np.where(ping, settings.ping_failed_share, settings.failed_share)
        share = np.where(datagram, np.maximum(share, _DATAGRAM_SHARE), share)
        hosts = np.where(ping, tried, failed)
        needed = np.where(ping, settings.ping_hosts, settings.hosts)
        needed = np.where(datagram & (rows["peer"] > 0.5 * rows["dials"]), _PEER_FACTOR * needed, needed)
        web = ~ping & _WEB_PORTS[port]
        needed = np.where(web, _WEB_FACTOR * needed, needed)
        searching = rows["dials"] <= _REDIALS * tried
        searching &= ~datagram | (rows["longest"] - rows["shortest"] <= _DATAGRAM_SPREAD)
        sure = searching & (hosts >= needed) & (failed >= share * tried)
        slow = searching & ~web & (kind == Kind.SYN) & (failed >= settings.slow_hosts) & (rows["answered"] == 0)
        severity: Column = np.where(
            sure, np.where(hosts >= 100, Severity.HIGH, Severity.MEDIUM), np.where(slow, Severity.LOW, 0)
        )
        return severity

    def threat(self, found: Entities, entity: int) -> Threat:
        mine, state = found.all(entity), found.state(entity)
        ping = mine["kind"][0] == Kind.ICMP
        hosts = int(estimate(state["map"]))
        src = address(mine[0], "src")
        service = "ping" if ping else f"port {mine['dport'][0]}"
        return self.found(
            Severity(int(self._severity(found, np.array([entity]))[0])),
            f"{src} tried {service} on {about(hosts)} hosts",
            {
                "unit": "dials",
                "hosts": hosts,
                "failed": int(state["failed"]),
                "answered": int(state["answered"]),
                "proven": bool(state["proven"]),
                "services": [service],
                "targets": addresses(mine, "dst"),
            },
            src=src,
            first_seen=min(state["since"], mine["at"].min()),
            last_seen=mine["at"].max(),
            count=state["dials"],
            technique="T1018" if ping else "",
        )

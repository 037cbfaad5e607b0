"""One host tries the same service (or pings) on many hosts.

Counted are distinct hosts whose first dial from this source at this port failed, against those that answered: a
client, crawler, resolver or mail server finds nearly everybody at home, a scanner hardly anybody (threshold random
walk: Jung et al., IEEE S&P 2004). Peers dialled again and again are being watched or missed, not looked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.detect.base import Observation, about, address, addresses, strongest, table_counters
from trafficmond.detect.dials import Kind, Outcome, proven
from trafficmond.detect.windows import NOWHERE, Columns, Grouped, Table, estimate, mark_new, members, mix
from trafficmond.flows.batch import Batch, Column
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


class HostSweep:
    """See the module."""

    name: ClassVar[str] = "host_sweep"
    technique: ClassVar[str] = "T1046"
    identity: ClassVar[tuple[str, ...]] = ("src_ip",)
    yields_to: ClassVar[tuple[str, ...]] = ()
    quiet_s: ClassVar[float] = 7200.0
    settings_class: ClassVar[type[Any]] = Settings

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        fields = [("dials", "f4"), ("failed", "f4"), ("answered", "f4"), ("proven", "f4")]
        sizes = [("shortest", "f4"), ("longest", "f4"), ("peer", "f4")]
        self._sources = Table([*fields, *sizes, ("map", "u1", 512)], settings.capacity, credit_s=30.0)

    def feed(self, seen: Observation) -> list[Threat]:
        """See base.Detector."""
        dials = seen.dials.take(_KINDS[seen.dials["kind"]])
        if not len(dials):
            return []
        ping = dials["kind"] == Kind.ICMP
        failed = _FAILED[dials["outcome"]]
        answered = dials["outcome"] == Outcome.ANSWERED
        groups = Grouped(mix(dials["src"], dials["proto"], np.where(ping, 0, dials["dport"])))
        # A source is watched from its first failure on.
        slots = self._sources.watch(groups.keys, groups.sum(failed), seen.now, self._settings.window)

        slot = slots[groups.of]
        kept = np.flatnonzero(slot != NOWHERE)
        slot, rows = slot[kept], self._sources.rows
        fresh = mark_new(rows["map"], slot, dials["dst"][kept])
        peer = (dials["sport"] == dials["dport"]) & (dials["kind"] == Kind.DATAGRAM)
        for field, what in (
            ("dials", np.ones(len(kept), bool)),
            ("failed", fresh & failed[kept]),
            ("answered", fresh & answered[kept]),
            ("peer", peer[kept]),
            ("proven", proven(dials)[kept]),
        ):
            self._sources.add(field, slot, what)
        known = np.flatnonzero(slots != NOWHERE)
        least, most = groups.min(dials["first_len"])[known], groups.max(dials["first_len"])[known]
        shortest = rows["shortest"][slots[known]]
        rows["shortest"][slots[known]] = np.where(shortest == 0, least, np.minimum(shortest, least))
        rows["longest"][slots[known]] = np.maximum(rows["longest"][slots[known]], most)
        return self._threats(dials, groups, slots)

    def _severity(self, rows: Batch, kind: Column, port: Column) -> Column:
        """Of each row's case, as a number; 0: none."""
        settings = self._settings
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

    def _threats(self, dials: Columns, groups: Grouped, slots: Column) -> list[Threat]:
        rows, least = (
            self._sources.rows,
            min(self._settings.hosts, self._settings.ping_hosts, self._settings.slow_hosts),
        )
        tried = rows["failed"][slots] + rows["answered"][slots]
        some = np.flatnonzero((slots != NOWHERE) & (tried >= least))
        first = groups.first[some]
        severity = np.zeros(len(slots), np.int64)
        severity[some] = self._severity(rows[slots[some]], dials["kind"][first], dials["dport"][first])
        threats = []
        for group in strongest(severity > 0, rows["dials"][slots]):
            mine = dials.rows(groups.of == group)
            row, one = rows[slots[group]], mine[0]
            ping = one["kind"] == Kind.ICMP
            hosts = int(estimate(row["map"]))
            src = address(one, "src")
            service = "ping" if ping else f"port {one['dport']}"
            threats.append(
                Threat(
                    detector=self.name,
                    severity=Severity(int(severity[group])),
                    technique="T1018" if ping else self.technique,
                    src_ip=src,
                    dst_ip=None,
                    first_seen=float(min(row["since"], mine["at"].min())),
                    last_seen=float(mine["at"].max()),
                    count=int(row["dials"]),
                    summary=f"{src} tried {service} on {about(hosts)} hosts",
                    evidence={
                        "unit": "dials",
                        "hosts": hosts,
                        "failed": int(row["failed"]),
                        "answered": int(row["answered"]),
                        "proven": bool(row["proven"]),
                        "services": [service],
                        "targets": addresses(mine, "dst"),
                    },
                )
            )
        return threats

    def counters(self) -> Mapping[str, int]:
        """See base.Detector."""
        return table_counters(self._sources)

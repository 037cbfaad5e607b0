"""A service of this host calls a new destination.

Each unit is compared only with its own past: its destinations are learnt for a time, and then new ones are reported,
unless the unit often has new ones, as browsers, resolvers and mail servers do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2s
from typing import TYPE_CHECKING

import numpy as np

from trafficmond import figures
from trafficmond.config.declare import duration, setting
from trafficmond.dataclass import dataclass
from trafficmond.detect.attempts import Kind, kinds
from trafficmond.detect.base import SAMPLES, Detection, DetectorInput, address
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.windows import Columns, mix
from trafficmond.flows.batch import NAT64, Batch, Column, left_aligned
from trafficmond.flows.owners import Owner
from trafficmond.model import Direction, Severity, Threat
from trafficmond.protocols import TCP, UDP, WITH_PORTS, protocol_name

if TYPE_CHECKING:
    from trafficmond.geo.geoip import GeoIp

# bound: known destinations of a unit | the one used longest ago is forgotten and counted
_PLACES = 64
# The longest prefixes that are routed, so each has an owner: /24 of IPv4, /48 of IPv6 (most filter longer ones).
_PREFIX_BITS = {4: np.uint64(24), 6: np.uint64(48)}
# From these on, a port may have been agreed upon for one conversation, and is then no service: over UDP as for RTP
# (RFC 3550, 11) and WebRTC; over TCP those that Linux gives out (ip_local_port_range), as passive FTP uses.
_AGREED_PORTS = {UDP: 1024, TCP: 32768}
_MOST_STEP_S = 3600.0  # a jump of the clock, or time in which the daemon did not run, does not count as learning


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, help="Report when a unit connects to a destination for the first time.")
    learning: float = duration("1w", min="1h", max="30d", help="Time to learn and count a unit's destinations.")
    few: int = setting(4, min=1, max=32, help="After so many new destinations within `learning`, no other is reported.")
    capacity: int = setting(1024, min=64, max=1 << 16, help="Units watched at once; 1.6 kB each.")


def _no_geoip() -> GeoIp:
    from trafficmond.geo.geoip import EMPTY  # few analyses of files need it

    return EMPTY


@dataclass(frozen=True, slots=True)
class Lookups:
    """Information that is not in the packets."""

    owner: Callable[[int], Owner | None]
    """Of a flow's `owner`."""
    geoip: Callable[[], GeoIp] = _no_geoip


class NewDestination(GroupedDetector[Settings]):
    name = "new_destination"
    technique = "T1071"
    dedup_key = ("summary",)
    suppressed_by = ("beacon", "blocklisted", "exfiltration", "host_sweep", "port_scan", "tunnel")
    idle_timeout_s = 3600.0
    # Times are in seconds of watching, since the first that this detector saw.
    fields = (
        ("began", "f8"),
        ("heard", "f8"),
        ("prefix", "u8", _PLACES),  # hash of prefix and service; 0: a free place
        ("system", "u8", _PLACES),  # ... of autonomous system and service; 0: not known
        ("met", "f4", _PLACES),
        ("called", "f4", _PLACES),
    )
    evidence_bonus_s = 86400.0

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._lookups = Lookups(lambda _: None)
        self._watched_s, self._last = 1.0, 0.0
        self._moments = np.empty(0)  # of the input's ticks, in seconds of watching
        self._forgotten = 0
        self._fresh: dict[int, Column] = {}  # by slot those of the rows `kept` to be reported

    def inform(self, news: Lookups) -> None:
        self._lookups = news

    def feed(self, seen: DetectorInput) -> list[Detection]:
        steps = np.clip(np.diff(seen.ends, prepend=self._last or seen.ends[0]), 0, _MOST_STEP_S)
        self._moments = self._watched_s + np.cumsum(steps)
        self._watched_s, self._last = float(self._moments[-1]), float(seen.ends[-1])
        return super().feed(seen)

    def choose(self, seen: DetectorInput) -> Columns:
        flows = seen.flows
        rows = flows.take(flows["new"] & (flows["owner"] != 0))
        owners, which = np.unique(rows["owner"], return_inverse=True)
        units = np.array([self._key(number) for number in owners.tolist()], np.uint64)[which]
        rows.put("unit", units)
        rows = rows.take(units != 0)
        outward = rows["direction"] == Direction.EGRESS
        if outward.any():
            outward &= (kinds(rows) != Kind.NONE) & ~seen.ours.side(rows, "dst")
        rows.put("outward", outward)
        return rows

    def key(self, rows: Columns) -> Column:
        return rows["unit"]

    def judge(self, found: Entities) -> tuple[Column, Column]:
        rows, slot, states = found.kept, found.slot, self.table.rows
        now = self._moments[rows["tick"]]
        # A unit is learned from its first packet on, also if it never connects anywhere.
        states["began"][slot] = np.where(states["began"][slot] == 0, now, states["began"][slot])
        states["heard"][slot] = now

        self._fresh = {}
        outward = np.flatnonzero(rows["outward"])
        prefix, system = self._destinations(rows.take(outward))
        _, each = np.unique(mix(slot[outward], prefix, system), return_index=True)
        each.sort()  # as they came
        prefix, system, each = prefix[each], system[each], outward[each]
        slot, now = slot[each], now[each]
        here = states["prefix"][slot] == prefix[:, None]
        here |= (states["system"][slot] == system[:, None]) & (system != 0)[:, None]
        known = here.any(axis=1)
        at = slot[known], here.argmax(axis=1)[known]
        states["called"][at], states["prefix"][at] = now[known], prefix[known]
        states["system"][at] = np.where(system[known] != 0, system[known], states["system"][at])

        for unit in np.unique(slot[~known]).tolist():
            mine = np.flatnonzero(~known & (slot == unit))
            _, first = np.unique(np.where(system[mine] != 0, system[mine], prefix[mine]), return_index=True)
            mine = mine[np.sort(first)][:_PLACES]
            if self._is_news(states[unit], float(now[mine[0]])):
                self._fresh[unit] = each[mine]
            self._learn(states[unit], prefix[mine], system[mine], float(now[mine[0]]))
        over = np.isin(found.slots, np.array(list(self._fresh), np.intp))
        return over, found.by.counts

    def threat(self, found: Entities, entity: int) -> Threat:
        fresh = self._fresh[int(found.slots[entity])]
        rows, state = found.kept.rows(fresh), found.state(entity)
        one = rows[0]
        owner = self._lookups.owner(int(one["owner"]))
        unit = (owner and owner.unit) or ""
        days = (self._moments[found.tick[entity]] - state["began"]) / 86400
        where = self._described(rows[:1])[0]
        more = f", and {len(rows) - 1} more," if len(rows) > 1 else ""
        return self.found(
            Severity.LOW,
            f"{unit} connected to {where}{more} for the first time in {figures.many(round(days), 'day')} of watching",
            {
                "unit": "destinations",
                "owner": unit,
                "known": int(np.count_nonzero(state["prefix"])) - len(rows),
                "targets": self._described(rows[:SAMPLES]),
                "ports": sorted({int(port) for port in rows["dport"][np.isin(rows["proto"], WITH_PORTS)]})[:SAMPLES],
            },
            src=address(one, "src"),
            dst=address(one, "dst"),
            times=(rows["first"].min(), found.now[entity]),
            count=len(rows),
        )

    def counters(self) -> Mapping[str, int]:
        counts = super().counters()
        return {**counts, "evicted": counts["evicted"] + self._forgotten}

    def recall(self, learned: Mapping[str, Column], now: float) -> None:
        super().recall(learned, now)
        self._watched_s = max(self._watched_s, float(self.table.rows["heard"].max()))

    def _key(self, number: int) -> int:
        """A key of the unit of an owner, the same in every run; 0: unknown, or not a unit."""
        owner = self._lookups.owner(number)
        if owner is None or not owner.unit or owner.cgroup is None:
            return 0
        return int.from_bytes(blake2s(owner.unit.encode(), digest_size=8).digest(), "big") or 1

    def _destinations(self, rows: Columns) -> tuple[Column, Column]:
        """The destination of each row: by prefix, and by the number of the system, 0 if unknown."""
        family = np.where(rows["dst_hi"] == NAT64, 4, rows["family"])
        hi, lo = left_aligned(rows["dst_hi"], rows["dst_lo"], family)
        cut = np.uint64(64) - np.where(family == 4, _PREFIX_BITS[4], _PREFIX_BITS[6])
        port = np.where(np.isin(rows["proto"], WITH_PORTS), rows["dport"], 0)
        for proto, first in _AGREED_PORTS.items():
            port[(rows["proto"] == proto) & (port >= first)] = 0
        numbers = self._lookups.geoip().column("asn", hi, lo, family).astype(np.uint64)
        by_system = np.where(numbers != 0, mix(numbers, rows["proto"], port), np.uint64(0))
        return mix(hi >> cut, family, rows["proto"], port), by_system

    def _is_news(self, state: Batch, now: float) -> bool:
        """Whether the unit has been observed for long enough, and has had few new destinations lately."""
        lately = (state["prefix"] != 0) & (state["met"] > now - self.settings.learning)
        learned = now - state["began"] >= self.settings.learning
        return bool(learned) and int(np.count_nonzero(lately)) < self.settings.few

    def _learn(self, state: Batch, prefix: Column, system: Column, now: float) -> None:
        at = np.argsort(state["called"], kind="stable")[: len(prefix)]  # free places first
        self._forgotten += int(np.count_nonzero(state["prefix"][at]))
        state["prefix"][at], state["system"][at] = prefix, system
        state["met"][at] = state["called"][at] = now

    def _described(self, rows: Batch) -> list[str]:
        """Each destination in words: "203.0.113.7, port 443/tcp (AS64500)"."""
        family = np.where(rows["dst_hi"] == NAT64, 4, rows["family"])
        hi, lo = left_aligned(rows["dst_hi"], rows["dst_lo"], family)
        numbers = self._lookups.geoip().column("asn", hi, lo, family).tolist()
        shown = []
        for row, number in zip(rows, numbers, strict=True):
            proto = protocol_name(int(row["proto"])).lower()
            service = f"port {row['dport']}/{proto}" if row["proto"] in WITH_PORTS else proto
            shown.append(f"{address(row, 'dst')} {service}" + (f" (AS{number})" if number else ""))
        return shown

"""Floods spread over the hosts of a network (carpet bombing): one threat, which names the network and one of the hosts.

Either three or more hosts of a /24 (IPv4) or /64 (IPv6) are flooded at once, or only all hosts together get too much:
then many sources must send to many hosts, none of which gets most of it. A farm of servers looks different.
"""

import ipaddress
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from trafficmond.detect.base import Detection, DetectorInput, address, approx, format_sources
from trafficmond.detect.grouped import GroupedDetector, S
from trafficmond.detect.windows import NOWHERE, BoundedTable, Columns, Grouped, decay, estimate, in_turns, mark, mix
from trafficmond.model import Severity, Threat

_HOSTS = 3  # so many under flood at once are one situation
_NETWORK_FACTOR = 4  # the factor from a host's threshold to that of its network
_SOURCES = 64  # of a flood below the threshold of each host
SCATTERED_HOSTS = 5
"""Enough hosts of a network, if the flood cannot be the traffic of a server farm that is seen in one direction."""
_PROBES = 11  # that a source sends to a host: fewer sources that send more do not scan (nmap's --max-retries is 10)
_MOST_OF_IT = 0.5
_IGNORED = 0.01  # of the threshold in a batch: less is not tracked
# bound: networks that each flood detector watches as a whole | the one with the least and oldest traffic is forgotten
_NETWORKS = 256


class FloodDetector(GroupedDetector[S]):
    """A detector of floods at one victim, which reports floods over a network as one."""

    spread_window_s: ClassVar[float] = 10.0
    """How long traffic to a network is remembered (it fades out)."""
    spread_hosts: ClassVar[int] = 64
    """How many hosts of a network must be hit: a quarter of a /24. Fewer may be a server farm whose answers are not
    seen."""
    unit: ClassVar[str] = "packets"
    patience_s: ClassVar[float] = 0.0
    """How long a flood of a network must last. If it is set, the rate counts, not the sum over the window."""

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        numbers = [(name, "f8") for name in ("at", "first", "amount", "other", "total", "began", "over")]
        maps = [("sources", "u1", 256), ("targets", "u1", 256)]
        self._networks = BoundedTable([*numbers, *maps], _NETWORKS, self.evidence_bonus_s)

    def scattered(self, rows: Columns) -> bool:  # noqa: ARG002  (of those that know no such flood)
        """Whether these rows of a network cannot be answers, so that `SCATTERED_HOSTS` are enough."""
        return False

    def victims(self, rows: Columns, seen: DetectorInput) -> list[Detection]:
        """The threats at single victims."""
        return self.examine(rows, seen)

    @abstractmethod
    def add_amounts(self, rows: Columns) -> float:
        """Adds columns about what each row adds to a flood of a network: `amount`, and `other`, traffic that counts
        against one; `at_hi`, `at_lo` (the victim) and `by` (a hash of the source), if they are not the row's ends;
        `kind`, if kinds are summed up separately. Returns the threshold of one host in `spread_window_s`."""

    def feed(self, seen: DetectorInput) -> list[Detection]:
        rows = self.choose(seen)
        spread = self._spread(rows, seen)
        reported = {(each.tick, each.threat.evidence["network"]) for each in spread}
        by_network: dict[tuple[int, str], list[Threat]] = defaultdict(list)
        alone: list[Detection] = []
        for each in self.victims(rows, seen):
            if each.threat.dst_ip is None:
                alone.append(each)
            else:
                by_network[each.tick, network_of(each.threat.dst_ip)].append(each.threat)
        for (tick, network), threats in by_network.items():
            if (tick, network) in reported:
                continue
            if len({threat.dst_ip for threat in threats}) >= _HOSTS:
                spread.append(Detection(tick, self._together(network, threats)))
            else:
                alone += [Detection(tick, threat) for threat in threats]
        return spread + alone

    def tables(self) -> Mapping[str, BoundedTable]:
        return {**super().tables(), "networks": self._networks}

    def _together(self, network: str, threats: list[Threat]) -> Threat:
        worst = max(threats, key=lambda threat: (threat.severity, threat.count))
        hosts = len({threat.dst_ip for threat in threats})
        return self.found(
            worst.severity,
            f"{hosts:,} or more hosts of {network} at once; at one of them: {worst.summary}",
            {**worst.evidence, "network": network, "targets": hosts},
            dst=worst.dst_ip,
            times=(min(threat.first_seen for threat in threats), max(threat.last_seen for threat in threats)),
            count=sum(threat.count for threat in threats),
        )

    def _spread(self, rows: Columns, seen: DetectorInput) -> list[Detection]:
        if len(rows) < self.spread_hosts:
            return []
        for name, column in (("at_hi", "dst_hi"), ("at_lo", "dst_lo"), ("by", "src")):
            rows.put(name, rows[column])
        rows.put("kind", np.zeros(len(rows)))
        threshold = _NETWORK_FACTOR * self.add_amounts(rows)
        if rows["amount"].sum() < _IGNORED * threshold:
            return []
        low = np.where(rows["family"] == 4, rows["at_lo"] & ~np.uint64(0xFF), np.uint64(0))
        rows.put("network", mix(rows["at_hi"], low, rows["kind"]))
        detections = []
        for step in in_turns(rows["network"], rows["tick"]):
            detections += self._spread_step(rows.take(step), threshold, seen)
        return detections

    def _spread_step(self, rows: Columns, threshold: float, seen: DetectorInput) -> list[Detection]:
        """The same for rows that have at most one tick of each network."""
        by = Grouped(rows["network"])
        counts = (by.sum(rows["amount"]) >= _IGNORED * threshold) | (self._networks.find(by.keys) != NOWHERE)
        if not counts.any():
            return []
        if not counts.all():
            rows = rows.take(counts[by.of])
            by = Grouped(rows["network"])
        table, amount = self._networks.rows, rows["amount"]
        now, sums, victim = seen.ends[rows["tick"][by.first]], by.sum(amount), mix(rows["at_hi"], rows["at_lo"])
        most = np.zeros(len(by))  # the largest share of one host or one source: it is a victim by itself, or scans
        for end in (victim, rows["by"]):
            if (most < sums).any():
                ends = Grouped(mix(rows["network"], end))
                most = np.maximum(most, Grouped(by.of[ends.first].view(np.uint64)).max(ends.sum(amount)))
        sums -= np.where(most > _MOST_OF_IT * sums, most, 0)
        weight = np.where(sums >= _IGNORED * threshold, sums, 0)
        slots = self._networks.admit(by.keys, weight, now, np.inf)
        watched = slots != NOWHERE
        known = slots[watched]
        decay(table, known, now[watched], self.spread_window_s, ("amount", "other"))
        begins = table["amount"][known] < _IGNORED * threshold
        quiet = known[begins]
        for field in ("sources", "targets", "total"):
            table[field][quiet] = 0
        table["first"][quiet] = now[watched][begins]
        for field, added in (("amount", sums), ("total", sums), ("other", by.sum(rows["other"]))):
            table[field][known] += added[watched]
        poured = np.where(amount > 0, slots[by.of], NOWHERE)
        mark(table["sources"], poured, rows["by"])
        mark(table["targets"], poured, victim)
        lasted_s = np.maximum(now - table["first"][slots], self.patience_s or np.inf)
        filled = 1 - np.exp(-lasted_s / self.spread_window_s)  # of the window, at an even rate
        over = watched & (sums > 0) & (table["amount"][slots] >= filled * threshold)
        over &= table["other"][slots] <= _MOST_OF_IT * table["amount"][slots]
        detections = []
        for at in np.flatnonzero(over).tolist():
            state, row = table[slots[at]], by.first[at]
            targets, sources = int(estimate(state["targets"])), int(estimate(state["sources"]))
            if targets < min(SCATTERED_HOSTS, self.spread_hosts) or (
                sources < _SOURCES and state["total"] <= _PROBES * sources * targets
            ):
                continue
            if targets < self.spread_hosts and not self.scattered(rows.take(by.of == at)):
                continue
            if abs(now[at] - state["over"]) > self.idle_timeout_s:
                state["began"] = now[at]
            state["over"] = now[at]
            if now[at] - state["began"] < self.patience_s:
                continue
            heaviest = int(np.argmax(np.where(by.of == at, amount, -1)))
            threat = self._spread_threat(address(rows, "at", heaviest), state, targets, sources, float(now[at]))
            detections.append(Detection(int(rows["tick"][row]), threat))
        return detections

    def _spread_threat(self, hit: str, state: Any, targets: int, sources: int, now: float) -> Threat:
        network = network_of(hit)
        return self.found(
            Severity.HIGH,
            f"{approx(targets)} hosts of {network} are flooded together: {state['amount']:,.0f} {self.unit} "
            f"in {self.spread_window_s:.0f} s from {format_sources(sources, state['sources'])}",
            {"unit": self.unit, "network": network, "targets": targets, "sources": sources},
            dst=hit,
            times=(state["began"], now),
            count=state["total"],
        )


@lru_cache(maxsize=256)
def network_of(address: str) -> str:
    """The /24 or /64 of an address. Behind NAT64 (RFC 6052, RFC 8215) it is that of the IPv4 address in it."""
    length = 120 if address.startswith("64:ff9b:") else 64 if ":" in address else 24
    return str(ipaddress.ip_network((address, length), strict=False))

"""The report: the sections and keys of the original analyser, with correct numbers, and threats and damage in addition.

It is gathered from batches in bounded memory. The result is plain data (dict, list, str, numbers), so the renderers and
the daemon's own report use the same form.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from trafficmond.analyze.ethertypes import shown
from trafficmond.analyze.run_stats import SIZE_CLASSES, Count, RunStats
from trafficmond.analyze.tally import Entry, Tally, Timeline
from trafficmond.dataclass import asdict
from trafficmond.detect.base import address
from trafficmond.detect.windows import Columns, mix
from trafficmond.flows import compiled
from trafficmond.flows.batch import FLOW, Batch, Column, join
from trafficmond.flows.canonical import TYPE_UNKNOWN
from trafficmond.model import Action, Threat
from trafficmond.protocols import ICMP, ICMPV6, SERVED, protocol_name
from trafficmond.verdict import action_of

Report = dict[str, Any]

GATHER = 1 << 14
"""Rows that are collected before they are counted."""
_SMALL = 256  # smaller numbers are counted without sorting

_ENDS = ("src_hi", "src_lo", "dst_hi", "dst_lo", "family")
_SIDE = np.dtype([(name, FLOW[name]) for name in _ENDS])
_FLOW = np.dtype([(name, FLOW[name]) for name in (*_ENDS, "sport", "dport", "proto")])
_COUNTED = [*_ENDS, "proto", "ifindex", "verdict", "packets", "bytes", "last"]  # of DELTA rows
_ACTION_NAMES = {Action.ALLOW: "ALLOW", Action.MONITOR: "LOG", Action.DROP: "DROP", Action.LIMIT: "LIMIT"}


class ReportBuilder:
    """Counts what the batches of a run contain; `report` returns the result."""

    def __init__(self, top: int = 10) -> None:
        self._top = top
        self._deltas: list[Batch] = []
        self._waiting = 0
        self._sources, self._destinations = Tally(_SIDE), Tally(_SIDE)
        self._pairs = Tally(_FLOW)
        self._timeline = Timeline()
        self._protocols: dict[int, Count] = {}
        self._actions: dict[int, Count] = {}
        self._interfaces: dict[int, Count] = {}
        self._services = np.zeros((len(SERVED), 65536), np.int64)  # flows by protocol and the responder's port

    def add_flows(self, flows: Columns) -> None:
        """Counts the FLOW rows of the flow table."""
        packets, octets = (
            (flows[f"d_{what}"] + flows[f"d_reply_{what}"]).view(np.int64) for what in ("packets", "bytes")
        )
        at = np.flatnonzero(packets)
        flows = flows.take(at)
        self._pairs.add(mix(flows["id"], flows["first"].view("u8")), packets[at], octets[at], flows)
        for which, proto in enumerate(SERVED):
            ports, counts = np.unique(flows["dport"][flows["new"] & (flows["proto"] == proto)], return_counts=True)
            self._services[which, ports] += counts

    def add(self, deltas: Batch) -> None:
        """Counts the DELTA rows of an interval."""
        if len(deltas):
            self._deltas.append(deltas)
        self._waiting += len(deltas)
        if self._waiting >= GATHER:
            self._count()

    def report(self, stats: RunStats, threats: Iterable[Threat], sources: list[dict[str, Any]], now: float) -> Report:
        """The whole report; `now` is its time (epoch seconds)."""
        self._count()
        listed = sorted(threats, key=lambda threat: (-threat.severity, threat.first_seen))
        temporal = self._temporal(stats)
        names = stats.interfaces
        interfaces = {names.get(k, "(not recorded)"): v for k, v in self._interfaces.items()}
        return {
            "generated_at": iso(now),
            "summary": self._summary(stats, len(listed), sources, temporal),
            "top_sources": self._talkers(self._sources, "src"),
            "top_destinations": self._talkers(self._destinations, "dst"),
            "protocol_distribution": _distribution({protocol_name(k): v for k, v in self._protocols.items()}),
            "temporal_analysis": temporal,
            "action_distribution": _distribution({_ACTION_NAMES[Action(k)]: v for k, v in self._actions.items()}),
            "interface_distribution": _distribution(interfaces),
            "packet_sizes": _sizes(stats),
            "threat_analysis": _threat_analysis(listed),
            "flow_analysis": self._flow_analysis(),
            "threats": [threat_dict(threat) for threat in listed],
            "damage": stats.parse_errors.as_dict(),
        }

    def _count(self) -> None:
        if not self._deltas:
            return
        rows = Columns(join(self._deltas)[_COUNTED])
        self._deltas, self._waiting = [], 0
        packets, octets = rows["packets"].view(np.int64), rows["bytes"].view(np.int64)
        sums = np.stack([packets, octets, np.ones_like(packets)], axis=1)
        action = action_of(rows["verdict"])
        for column, counts in (
            (rows["proto"], self._protocols),
            (action, self._actions),
            (rows["ifindex"], self._interfaces),
        ):
            _add_by(counts, column, sums)
        self._sources.add(rows["src"], packets, octets, rows)
        self._destinations.add(rows["dst"], packets, octets, rows)
        self._timeline.add(rows["last"], packets, np.where(action == Action.DROP, packets, 0), octets)

    def _summary(
        self, stats: RunStats, threats: int, sources: list[dict[str, Any]], temporal: dict[str, Any]
    ) -> dict[str, Any]:
        seen, duration = stats.seen, temporal["duration_seconds"]
        dropped = self._actions.get(Action.DROP, Count())
        return {
            "sources": sources,
            "records": stats.records,
            "total_packets": seen.packets,
            "total_bytes": seen.bytes,
            "average_packet_size": _ratio(seen.bytes, seen.packets),
            "unique_sources": self._sources.distinct(),
            "unique_destinations": self._destinations.distinct(),
            "unique_flows": self._pairs.distinct(),
            "unique_exact": self._sources.exact and self._destinations.exact and self._pairs.exact,
            "dropped_packets": dropped.packets,
            "drop_rate": _percent(dropped.packets, seen.packets),
            "packets_per_second": _ratio(seen.packets, duration),
            "bytes_per_second": _ratio(seen.bytes, duration),
            "start_time": temporal["start"],
            "end_time": temporal["end"],
            "duration_seconds": duration,
            "accounting": {
                **{name: asdict(getattr(stats, name)) for name in ("seen", "in_flows", "not_ip", "malformed")},
                "malformed_by": dict(stats.malformed_by.most_common()),
                "not_ip_types": shown(stats.not_ip_types),
                "captured_in_part": stats.snapped,
                "out_of_order": stats.late_rows,
            },
            "threats": threats,
            "damaged": stats.parse_errors.total,
        }

    def _talkers(self, tally: Tally, side: str) -> list[dict[str, Any]]:
        whole = sum(count.packets for count in self._protocols.values())
        return [
            {
                "ip": address(entry.row, side),
                "packets": entry.packets,
                "bytes": entry.bytes,
                "percent": _percent(entry.packets, whole),
            }
            for entry in tally.top(self._top)
        ]

    def _temporal(self, stats: RunStats) -> dict[str, Any]:
        timed = stats.first <= stats.last and stats.last > 0  # a capture may have packets without any time
        bins = list(self._timeline.bins()) if timed else []
        width = self._timeline.width
        peak = max(bins, key=lambda bin_: bin_[1], default=None)
        hours: Counter[int] = Counter()
        for start, packets, _, _ in bins:
            hours[start // 3600 % 24] += packets
        return {
            "start": iso(stats.first) if timed else None,
            "end": iso(stats.last) if timed else None,
            "duration_seconds": round(stats.last - stats.first, 6) if timed else 0.0,
            "interval_seconds": width,
            "timeline": [
                {"time": start, "packets": packets, "dropped": dropped, "bytes": octets}
                for start, packets, dropped, octets in bins
            ],
            "peak": None if peak is None else {"time": peak[0], "packets": peak[1], "bytes": peak[3]},
            "hourly": {f"{hour:02}": hours[hour] for hour in sorted(hours) if width <= 3600},
        }

    def _flow_analysis(self) -> dict[str, Any]:
        flows = self._pairs.distinct()
        packets = sum(count.packets for count in self._protocols.values())
        octets = sum(count.bytes for count in self._protocols.values())
        protos, ports = np.nonzero(self._services)
        counts = self._services[protos, ports]
        order = np.lexsort((ports, protos, -counts))[: self._top]
        return {
            "unique_flows": flows,
            "exact": self._pairs.exact,
            "average_packets": _ratio(packets, flows),
            "average_bytes": _ratio(octets, flows),
            "top_flows": [_flow(entry) for entry in self._pairs.top(self._top, by="bytes")],
            "top_services": [
                {"protocol": protocol_name(SERVED[protos[at]]), "port": int(ports[at]), "flows": int(counts[at])}
                for at in order.tolist()
            ],
        }


def threat_dict(threat: Threat) -> dict[str, Any]:
    times = {"first_seen": iso(threat.first_seen), "last_seen": iso(threat.last_seen)}
    return {**threat.row(), **times, "evidence": dict(threat.evidence)}


def iso(seconds: float) -> str:
    """UTC with milliseconds: 2024-11-29T00:00:00.000Z; a time outside the calendar as a number."""
    try:
        moment = datetime.fromtimestamp(round(seconds, 3), UTC)
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f}"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _threat_analysis(threats: list[Threat]) -> dict[str, Any]:
    detectors: dict[str, dict[str, Any]] = {}
    for threat in threats:
        found = detectors.setdefault(threat.detector, {"count": 0, "sources": [], "targets": []})
        found["count"] += 1
        for name, host in (("sources", threat.src_ip), ("targets", threat.dst_ip)):
            if host and host not in found[name]:
                found[name].append(host)
    return {
        "total": len(threats),
        "by_severity": dict(Counter(str(threat.severity) for threat in threats)),
        "by_detector": detectors,
    }


def _sizes(stats: RunStats) -> dict[str, Any]:
    sizes = stats.sizes
    return {
        "min": sizes.smallest,
        "max": sizes.largest,
        "average": _ratio(stats.seen.bytes, stats.seen.packets),
        "exact": sizes.exact,
        "distribution": dict(zip(SIZE_CLASSES, sizes.classes.tolist(), strict=True)),
    }


def _flow(entry: Entry) -> dict[str, Any]:
    row = entry.row
    has_type = not (row["proto"] in (ICMP, ICMPV6) and row["sport"] == TYPE_UNKNOWN)
    return {
        "src_ip": address(row, "src"),
        "src_port": int(row["sport"]) if has_type else None,
        "dst_ip": address(row, "dst"),
        "dst_port": int(row["dport"]) if has_type else None,
        "protocol": protocol_name(int(row["proto"])),
        "packets": entry.packets,
        "bytes": entry.bytes,
    }


def _add_by(counts: dict[int, Count], column: Column, values: Column) -> None:
    """Adds the `values` (packets, bytes, 1) of rows to the counts of what the column says."""
    small = int(column.max()) < _SMALL
    keys, which = (np.arange(_SMALL), column) if small else np.unique(column, return_inverse=True)
    sums = np.zeros((len(keys), 3), np.int64)
    compiled.sum_up(which, values, sums)
    for key, (packets, octets, rows) in zip(keys.tolist(), sums.tolist(), strict=True):
        if rows:
            counts.setdefault(key, Count()).add(packets, octets)


def _distribution(counts: dict[str, Count]) -> dict[str, Any]:
    whole = sum(count.packets for count in counts.values())
    ordered = sorted(counts.items(), key=lambda item: (-item[1].packets, item[0]))
    return {
        name: {"packets": count.packets, "bytes": count.bytes, "percent": _percent(count.packets, whole)}
        for name, count in ordered
    }


def _percent(part: int, whole: int) -> float:
    return max(round(100 * part / whole, 2), 0.01 if part else 0.0) if whole else 0.0


def _ratio(part: float, whole: float) -> float:
    return round(part / whole, 2) if whole else 0.0

"""The metrics of docs/metrics.md, made of a `Status` reply and further counters. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from trafficmond.dataclass import dataclass, field
from trafficmond.metrics.text import Family, Labels
from trafficmond.model import SEVERITIES, Action
from trafficmond.verdict import action_of, reason_of, reason_text

# Counters of evictions, losses and refusals: each is in `counters` of a `Status` reply, and a metric.
COUNTED: Mapping[str, str] = {
    "evicted_flows": "Flows evicted early because the flow table was full; what was counted is stored.",
    "unnamed_rows": "Rows of flows.db that show a cgroup by number, because it was removed before its name was read.",
    "forgotten_cgroups": "Names of cgroups that were evicted, or did not fit into the table.",
    "rows_without_inner": "Rows of flows.db for tunnels, stored without the flow inside the tunnel.",
    "dns_answers": "DNS answers that came in over watched interfaces (flows.dns_names).",
    "dns_unasked": "DNS answers ignored because this host had not asked, or they came late or twice.",
    "dns_lost": "DNS answers lost because more came than could be read.",
    "dns_unreadable": "DNS answers ignored because they are malformed, or do not match the question.",
    "dns_evicted_names": "Addresses whose names were evicted by later ones.",
    "process_unseen": "Records of flows without a process: socket older than the daemon, or in a cgroup it cannot see.",
    "process_given_way": "Records of flows without a process: the entry of the socket was evicted by later ones.",
    "process_reused": "Records of flows without a process: another process has used the port since.",
    "process_protocols": "Records of flows without a process: they are neither TCP nor UDP.",
    "process_forgotten": "Processes evicted by later ones: later rows of their flows show only the unit.",
    "process_lost": "Sockets of processes that did not fit into the kernel's table.",
    "merged_threats": "Findings of a detector that were merged into an open threat.",
    "redundant_threats": "Findings of a detector not reported because another detector's threat explains them.",
    "overflowed_threats": "Findings put into one common threat of the detector, as too many threats were new or open.",
    "early_dials": "Connection attempts that did not get the full time for an answer, because too many waited for one.",
    "spared_protected_bans": "Bans not made because the guard, the allowlist or a login protects the source.",
    "spared_forgeable_bans": "Bans not made because anybody could have forged the source.",
    "refused_questions": "Queries of flows.db that were refused because too many waited.",
    "refused_scrapes": "Requests for metrics that were refused because too many were served.",
    "evicted_scrapes": "Idle connections for metrics that were closed to make room for others.",
    "refused_clients": "Clients of the control socket that were refused because there were too many.",
    "evicted_clients": "Idle clients of the control socket that were disconnected to make room for others.",
    "bad_clients": "Clients of the control socket that did not speak its protocol.",
    "slow_clients": "Clients of the control socket that did not read their replies.",
    "lost_watch_records": "Events and threats that watchers did not read in time.",
}

_Value = float | Iterable[tuple[Labels, float]]  # of a metric without labels, or by its labels

_UNITS = ("packets", "bytes")
_CLASSES = ("in_flows", "unattributed", "not_ip", "malformed")


@dataclass(frozen=True, slots=True)
class Traffic:
    interface: str
    direction: str  # ingress or egress
    packets: int
    bytes: int
    dropped_packets: int
    dropped_bytes: int


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters that `Status` does not have."""

    traffic: Sequence[Traffic] = ()
    by_verdict: Mapping[int, tuple[int, int]] = field(default_factory=dict)  # verdict word -> packets, bytes
    would_drop: Sequence[int] = (0, 0)  # packets, bytes
    suppressed_events: int = 0
    stored_rows: int = 0
    cpu_seconds: float = 0.0


def families(status: Mapping[str, Any], counters: Counters) -> Iterator[Family]:
    yield from _daemon(status, counters)
    yield from _traffic(status, counters)
    yield from _rules(status)
    yield from _records(status, counters)
    yield from _exports(status)
    yield from _tables(status)


def _daemon(status: Mapping[str, Any], counters: Counters) -> Iterator[Family]:
    build = {"version": status["version"], "loader": status["loader"]}
    yield _gauge("build_info", "The running daemon and what loaded its programs; always 1.", [(build, 1)])
    yield _gauge("start_time_seconds", "When the daemon started, in seconds since 1970.", status["started_at"])
    yield _counter("cpu_seconds", "Processor time that the daemon has used.", counters.cpu_seconds)
    yield _gauge("memory_bytes", "Memory private to the daemon (RssAnon).", status["memory_bytes"])
    yield _gauge("warnings", "Warnings that status shows.", len(status["warnings"]))


def _traffic(status: Mapping[str, Any], counters: Counters) -> Iterator[Family]:
    for unit in _UNITS:
        samples: list[tuple[Labels, float]] = []
        for each in counters.traffic:
            dropped = getattr(each, f"dropped_{unit}")
            for verdict, count in (("pass", getattr(each, unit) - dropped), ("drop", dropped)):
                labels = {"interface": each.interface, "direction": each.direction, "verdict": verdict}
                samples.append((labels, count))
        text = f"{unit.capitalize()} seen on an interface, by direction and verdict."
        yield _counter(unit, text, samples)
    for place, unit in enumerate(_UNITS):
        sums: dict[tuple[str, str], int] = {}
        for word, counts in counters.by_verdict.items():
            key = str(Action(action_of(word))), reason_text(reason_of(word))
            sums[key] = sums.get(key, 0) + counts[place]
        text = f"{unit.capitalize()} of flows by action and by what decided it, since the start."
        yield _counter(
            f"decided_{unit}", text, [({"action": a, "reason": r}, count) for (a, r), count in sorted(sums.items())]
        )
    for place, unit in enumerate(_UNITS):
        text = f"{unit.capitalize()} that rules in shadow would have dropped, since the start."
        yield _counter(f"would_drop_{unit}", text, counters.would_drop[place])
    accounting = status["accounting"]
    for unit in _UNITS:
        text = f"{unit.capitalize()} by class; the classes add up to all {unit} seen."
        # Gauges, since packets can move from unattributed to in_flows.
        yield _gauge(f"accounted_{unit}", text, [({"class": name}, accounting[name][unit]) for name in _CLASSES])
    for unit in _UNITS:
        text = f"{unit.capitalize()} of the kernel's other counters, by their name in bpf/abi.h."
        samples = [({"count": name}, count[unit]) for name, count in accounting["others"].items()]
        yield _counter(f"counted_{unit}", text, samples)
    by = accounting["malformed_by"] or {}
    text = "Packets that could not be read, by reason."
    yield _counter("malformed_packets", text, [({"reason": reason}, count) for reason, count in by.items()])
    attached = {each.interface for each in counters.traffic}
    watched = tuple(({"interface": row["name"]}, int(row["name"] in attached)) for row in status["interfaces"])
    text = "1: the interface is watched. 0: it should be, but is not."
    yield _gauge("interface_attached", text, watched)
    yield _gauge("watched_interfaces", "Interfaces that are watched; 0: nothing is filtered or counted.", len(attached))
    text = "Interfaces that should be watched and are not."
    yield _gauge("unwatched_interfaces", text, len(watched) - len(attached))


def _rules(status: Mapping[str, Any]) -> Iterator[Family]:
    rules, config, threats = status["rules"], status["config"], status["threats"]
    yield _gauge("rules", "Rules in force.", rules["count"])
    yield _gauge("prefixes", "Prefixes in force, those of lists included.", rules["prefixes"])
    yield _gauge("bans", "Bans in force.", rules["bans"])
    yield _gauge("config_generation", "A number that grows when files are put in force.", config["generation"])
    yield _gauge("config_loaded_time_seconds", "When the files in force were read.", config["loaded_at"])
    refused = 1 if config["error"] else 0
    yield _gauge("config_refused", "1 while files on disk have mistakes and the last good ones stay in force.", refused)
    trial = status.get("probation")
    yield _gauge("probation", "1 while a change is on probation, 0 while none is.", 1 if trial else 0)
    text = "Seconds until the kernel takes back the change on probation; 0: there is none."
    yield _gauge("probation_left_seconds", text, trial["left_s"] if trial else 0)
    by_severity = [({"severity": severity}, threats[severity]) for severity in SEVERITIES]
    yield _gauge("open_threats", "Threats that are open, by severity.", by_severity)


def _records(status: Mapping[str, Any], counters: Counters) -> Iterator[Family]:
    ledger, store = status["ledger"], status["store"]
    yield _gauge("flows", "Flows that are in the flow table now.", status["flows"])
    yield _gauge("ledger_slots", "Slots of the kernel's ledger; each has room for one flow record.", ledger["slots"])
    yield _gauge("ledger_used_slots", "Slots of the ledger that hold a flow record.", ledger["used"])
    text = "Records evicted from the ledger before they were read; their packets are counted in flows nevertheless."
    yield _counter("ledger_evicted_records", text, ledger["evicted"])
    yield _gauge("store_rows", "Rows of flows in flows.db.", store["rows"])
    yield _gauge("store_queue_rows", "Rows waiting to be stored.", store["queue"])
    yield _counter("store_written_rows", "Rows stored since the start.", counters.stored_rows)
    yield _counter("store_lost_rows", "Rows that could not be stored.", store["lost_rows"])
    yield _gauge("store_size_bytes", "Size of flows.db and its log.", store["size_bytes"])
    yield _gauge("store_ok", "1 while flows.db can be written, 0 while it cannot.", 1 if store["state"] == "ok" else 0)
    logs = [({"log": log["name"]}, log) for log in status["logs"]]
    text = "Records waiting for a log."
    yield _gauge("log_queue_records", text, [(at, log["queue"]) for at, log in logs])
    yield _counter("log_records", "Records written to a log.", [(at, log["written"]) for at, log in logs])
    yield _counter("log_lost_records", "Records that a log lost.", [(at, log["lost"]) for at, log in logs])
    text = "Times that another program shortened a log in place."
    yield _counter("log_shortened", text, [(at, log["shortened"]) for at, log in logs])
    text = "Events beyond the max_rate of a log; a sample of them was written."
    yield _counter("log_sampled_out_events", text, [(at, log.get("sampled_out") or 0) for at, log in logs])
    text = "Events that no log got, because there were too many at once."
    yield _counter("suppressed_events", text, counters.suppressed_events)


def _exports(status: Mapping[str, Any]) -> Iterator[Family]:
    exports = [({"to": export["to"]}, export) for export in status["exports"]]
    yield _counter("export_flows", "Flows sent.", [(at, export["sent"]) for at, export in exports])
    yield _counter("export_lost_flows", "Flows that an export lost.", [(at, export["lost"]) for at, export in exports])
    text = "Flows waiting to be sent."
    yield _gauge("export_queue_flows", text, [(at, each["queue"]) for at, each in exports])
    threats = [(at, export["threats"]) for at, export in exports if export["threats"]]
    yield _counter("export_threats", "Updates of threats sent.", [(at, each["sent"]) for at, each in threats])
    text = "Updates of threats that an export lost."
    yield _counter("export_lost_threats", text, [(at, each["lost"]) for at, each in threats])
    text = "Updates of threats waiting to be sent."
    yield _gauge("export_queue_threats", text, [(at, each["queue"]) for at, each in threats])
    text = "1 while an export works, 0 while it cannot send flows or cannot send threats."
    working = ((at, 0 if each["error"] or (each["threats"] or each)["error"] else 1) for at, each in exports)
    yield _gauge("export_ok", text, working)


def _tables(status: Mapping[str, Any]) -> Iterator[Family]:
    at = [({"detector": each["name"]}, each) for each in status["detectors"]]
    text = "Entries in the tables of a detector."
    yield _gauge("detector_entries", text, [(who, each["entities"]) for who, each in at])
    text = "Capacity of the tables of a detector, in entries."
    yield _gauge("detector_capacity", text, [(who, each["capacity"]) for who, each in at])
    for key, text in (
        ("evicted", "Entries that a detector evicted to make room for others."),
        ("refused", "Entries refused by a detector because its tables were full of more important ones."),
    ):
        yield _counter(f"detector_{key}_entries", text, [(who, each[key]) for who, each in at])
    for name, text in COUNTED.items():
        yield _counter(name, text, status["counters"][name])


def _gauge(name: str, text: str, value: _Value) -> Family:
    return _family(name, "gauge", text, value)


def _counter(name: str, text: str, value: _Value) -> Family:
    return _family(name, "counter", text, value)


def _family(name: str, kind: str, text: str, value: _Value) -> Family:
    samples = value if isinstance(value, Iterable) else [({}, value)]
    return Family(f"trafficmon_{name}", kind, text, tuple(samples))

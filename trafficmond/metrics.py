"""OpenMetrics text (https://prometheus.io/docs/specs/om/open_metrics_spec/) of what `status` knows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Labels = Mapping[str, str]


def render(status: Mapping[str, Any]) -> str:
    """The exposition of a `Status` reply."""
    accounting, store, ledger = status["accounting"], status["store"], status["ledger"]
    lines: list[str] = []
    lines += _family(
        "trafficmon_build",
        "info",
        "The running daemon.",
        [({"version": status["version"], "loader": status["loader"]}, 1)],
    )
    lines += _family("trafficmon_start_time_seconds", "gauge", "When the daemon started.", [({}, status["started_at"])])
    watched = [row for row in status["interfaces"] if row["ifindex"]]
    for unit in ("packets", "bytes"):
        lines += _family(
            f"trafficmon_interface_{unit}",
            "counter",
            f"{unit.capitalize()} seen on an interface, by what became of them.",
            [
                ({"interface": row["name"], "verdict": verdict}, count)
                for row in watched
                for verdict, count in (
                    ("pass", row[unit] - row[f"dropped_{unit}"]),
                    ("drop", row[f"dropped_{unit}"]),
                )
            ],
        )
        classes = ("in_flows", "unattributed", "not_ip", "malformed")
        lines += _family(
            f"trafficmon_accounted_{unit}",
            "counter",
            f"{unit.capitalize()} by how they are accounted for; their sum is what was seen.",
            [({"class": name}, accounting[name][unit]) for name in classes],
        )
    malformed = [({"reason": name}, float(count)) for name, count in accounting["malformed_by"].items()]
    lines += _family("trafficmon_malformed_packets", "counter", "Packets that could not be read, by reason.", malformed)
    lines += _family("trafficmon_rules", "gauge", "Rules in force.", [({}, status["rules"]["count"])])
    lines += _family("trafficmon_prefixes", "gauge", "Prefixes in force.", [({}, status["rules"]["prefixes"])])
    lines += _family("trafficmon_bans", "gauge", "Bans in force.", [({}, status["rules"]["bans"])])
    lines += _family(
        "trafficmon_config_generation",
        "gauge",
        "Grows with each set of files put in force.",
        [({}, status["config"]["generation"])],
    )
    refused = 1 if status["config"]["error"] else 0
    lines += _family("trafficmon_config_refused", "gauge", "1 while the files on disk have mistakes.", [({}, refused)])
    lines += _family("trafficmon_flows", "gauge", "Flows followed now.", [({}, status["flows"])])
    lines += _family("trafficmon_ledger_slots", "gauge", "Slots of the kernel's ledger.", [({}, ledger["slots"])])
    lines += _family("trafficmon_ledger_used_slots", "gauge", "Slots that hold a record.", [({}, ledger["used"])])
    lines += _family("trafficmon_store_rows", "gauge", "Rows of flows in flows.db.", [({}, store["rows"])])
    lines += _family("trafficmon_store_queue_rows", "gauge", "Rows waiting to be stored.", [({}, store["queue"])])
    lines += _family(
        "trafficmon_store_lost_rows", "counter", "Rows that could not be stored.", [({}, store["lost_rows"])]
    )
    lines += _family(
        "trafficmon_store_size_bytes", "gauge", "Size of flows.db and its log.", [({}, store["size_bytes"])]
    )
    logs = [({"log": log["name"]}, log) for log in status["logs"]]
    lines += _family(
        "trafficmon_log_records",
        "counter",
        "Records written to a log.",
        [(labels, log["written"]) for labels, log in logs],
    )
    lines += _family(
        "trafficmon_log_lost_records",
        "counter",
        "Records that a log lost.",
        [(labels, log["lost"]) for labels, log in logs],
    )
    severities = ("low", "medium", "high", "critical")
    threats = [({"severity": severity}, float(status["threats"][severity])) for severity in severities]
    lines += _family("trafficmon_open_threats", "gauge", "Threats that are open.", threats)
    return "\n".join([*lines, "# EOF", ""])


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[Labels, float]]) -> list[str]:
    suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
    lines = [f"# TYPE {name} {kind}"]
    if name.endswith(("_bytes", "_seconds")):
        lines.append(f"# UNIT {name} {name.rpartition('_')[2]}")
    lines.append(f"# HELP {name} {text}")
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escape(label)}"' for key, label in labels.items())
        lines.append(f"{name}{suffix}{{{inside}}} {_number(value)}" if inside else f"{name}{suffix} {_number(value)}")
    return lines


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

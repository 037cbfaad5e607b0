"""A status as the daemon gives it, with something in every field, and counters beside it."""

from __future__ import annotations

from typing import Any

from trafficmond.metrics.families import COUNTED, Counters, Traffic
from trafficmond.model import Action, Reason
from trafficmond.verdict import verdict_word

T0 = 1_700_000_000.0


def _count(packets: int, octets: int) -> dict[str, int]:
    return {"packets": packets, "bytes": octets}


STATUS: dict[str, Any] = {
    "version": "0.2.0",
    "loader": "libbpf",
    "started_at": T0 + 0.5,
    "memory_bytes": 41_943_040,
    "warnings": ["one"],
    "interfaces": [{"name": "eth0", "mode": "native"}, {"name": 'we"ird\\', "mode": "there is no such interface"}],
    "accounting": {
        "in_flows": _count(900, 90_000),
        "unattributed": _count(40, 4_000),
        "not_ip": _count(50, 5_000),
        "malformed": _count(10, 1_000),
        "others": {"evicted": _count(700, 70_000)},
        "malformed_by": {"short_ip": 10},
    },
    "rules": {"count": 3, "prefixes": 4_567, "bans": 1},
    "config": {"generation": 7, "loaded_at": T0, "error": None},
    "threats": {"open": 1, "low": 0, "medium": 0, "high": 1, "critical": 0},
    "flows": 12,
    "ledger": {"slots": 131_072, "used": 20, "evicted": 17},
    "store": {"rows": 1_000, "queue": 2, "lost_rows": 3, "size_bytes": 65_536, "state": "ok"},
    "logs": [{"name": "journal", "queue": 1, "written": 99, "lost": 4, "shortened": 1, "sampled_out": 6}],
    "detectors": [{"name": "port_scan", "entities": 5, "capacity": 100, "evicted": 2, "refused": 1}],
    "counters": {name: number for number, name in enumerate(COUNTED)},
    "exports": [
        {"to": "ipfix+udp://192.0.2.5:4739", "sent": 80, "queue": 0, "lost": 0, "error": "", "threats": None},
        {
            "to": "clickhouse://ch:8123/trafficmon",
            "sent": 70,
            "queue": 10,
            "lost": 5,
            "error": "Connection refused",
            "threats": {"sent": 7, "queue": 2, "lost": 1, "error": ""},
        },
    ],
}

COUNTERS = Counters(
    traffic=[Traffic("eth0", "ingress", 700, 70_000, 100, 10_000), Traffic("eth0", "egress", 300, 30_000, 0, 0)],
    by_verdict={
        verdict_word(Action.DROP, Reason.RULE, 7): (60, 6_000),
        verdict_word(Action.DROP, Reason.RULE, 8): (40, 4_000),
        verdict_word(Action.MONITOR, Reason.DEFAULT): (800, 80_000),
    },
    suppressed_events=6,
    stored_rows=998,
    cpu_seconds=1.25,
)

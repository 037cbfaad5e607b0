"""What the toy handlers answer: a reply of each method, and the rows in them."""

from __future__ import annotations

from trafficmond.control.call import Row

T0 = 1_700_000_000.0


CONTROL: Row = {"clients": 1, "accepted": 1, "refused": 0, "evicted": 0, "bad": 0, "slow": 0, "lost_records": 0}


def count(packets: int, octets: int) -> Row:
    return {"packets": packets, "bytes": octets}


TRIAL: Row = {
    **{"what": "apply /etc/trafficmon/cidr.new", "user": "ada", "begun_at": T0, "until": T0 + 60, "left_s": 42.4},
    **{"folder": "/etc/trafficmon/cidr.new", "cidr_dir": "/etc/trafficmon/cidr.d"},
    "place": "/etc/trafficmon/cidr.d",
}
STATUS: Row = {
    "version": "0.2.0",
    "pid": 4242,
    "started_at": T0,
    "config": {"path": "/etc/trafficmon/trafficmond.toml", "generation": 7, "loaded_at": T0 + 5, "error": None},
    "loader": "libbpf",
    "loader_reason": None,
    "interfaces": [
        {
            "name": "eth0",
            "ifindex": 2,
            "mode": "native",
            "packets": 123_456_789,
            "bytes": 98_765_432_100,
            "dropped_packets": 4321,
            "dropped_bytes": 432_100,
        }
    ],
    "accounting": {
        "seen": count(123_456_789, 98_765_432_100),
        "in_flows": count(123_450_000, 98_765_000_000),
        "unattributed": count(789, 43_210),
        "not_ip": count(5_000, 300_000),
        "malformed": count(1_000, 88_890),
        "pending": count(0, 0),
        "dropped": count(4321, 432_100),
        "others": {"evicted": count(123_000_000, 98_000_000_000)},
        "malformed_by": {"short_ip": 1_000},
    },
    "rules": {"count": 3, "prefixes": 4_567, "lists": 1, "bans": 1, "default": "monitor"},
    "store": {
        "path": "/var/lib/trafficmon/flows.db",
        "rows": 1_234_567,
        "queue": 12,
        "lost_rows": 0,
        "size_bytes": 345_678_901,
        "state": "ok",
    },
    "logs": [
        {
            "name": "traffic.jsonl",
            "format": "jsonl",
            "path": "/var/log/trafficmon/traffic.jsonl",
            "written": 99_999,
            "queue": 0,
            "lost": 0,
            "state": "ok",
        }
    ],
    "ledger": {"memory_bytes": 33_554_432, "slots": 131_072, "used": 4_096, "evicted": 17, "pressure": 0.03125},
    "threats": {"open": 1, "low": 0, "medium": 0, "high": 1, "critical": 0, "response": "off"},
    "flows": 4_096,
    "memory_bytes": 41_943_040,
    "warnings": [],
}

RULE: Row = {
    "cidr": "203.0.113.0/24",
    "kind": "rule",
    "action": "drop",
    "direction": "ingress",
    "label": "bad neighbours",
    "source": "/etc/trafficmon/cidr.d/10-office.toml:1",
    "expires": None,
    "rate_per_s": None,
    "burst_packets": None,
    "prefixes": None,
    "packets": 4_321,
    "bytes": 432_100,
    "ports": None,
    "shadow": None,
    "would_drop": None,
}

FLOW: Row = {
    "first_seen": T0,
    "last_seen": T0 + 12.5,
    "src_ip": "192.0.2.10",
    "dst_ip": "203.0.113.5",
    "src_port": 51_000,
    "dst_port": 443,
    "protocol": "TCP",
    "protocol_num": 6,
    "packets": 10,
    "bytes": 1_200,
    "reply_packets": 8,
    "reply_bytes": 64_000,
    "action": "monitor",
    "rule": None,
    "interface": "eth0",
    "direction": "egress",
}

USAGE: list[Row] = [
    {
        "period": period,
        "key": "all",
        "flows": 10 * number,
        "packets": 1000 * number,
        "up_bytes": number << 20,
        "down_bytes": number << 22,
        "unsided_bytes": 0,
    }
    for number, period in ((3, "2026-11-27"), (0, "2026-11-26"), (1, "2026-11-25"))
]

THREAT: Row = {
    "id": "t-5f2a91c0",
    "detector": "port_scan",
    "severity": "high",
    "technique": "T1046",
    "src_ip": "203.0.113.5",
    "dst_ip": "192.0.2.10",
    "first_seen": T0,
    "last_seen": T0 + 60,
    "count": 250,
    "summary": "203.0.113.5 tried 250 ports of 192.0.2.10, 1 answered",
    "state": "opened",
    "evidence": {"unit": "ports", "ports": 250, "answered": 1, "sample": [22, 23, 80]},
    "not_banned": "response off",
    "src_country": "XX",
    "src_asn": 64500,
    "src_as_name": "Example Networks",
    "dst_country": None,
    "dst_asn": None,
    "dst_as_name": None,
}

BAN: Row = {
    "cidr": "203.0.113.5/32",
    "by": "port_scan",
    "reason": "port scan",
    "since": T0,
    "expires": T0 + 600,
    "threat": "t-5f2a91c0",
    "count": 1,
    "forced": False,
    "owner": "root",
    "ports": None,
}

LIVE_RATES: list[Row] = [
    {
        "window_s": window,
        "sent_packets_per_s": 400.0,
        "sent_bytes_per_s": 200_000.0,
        "received_packets_per_s": 600.0,
        "received_bytes_per_s": 1_300_000.0 - 100.0 * window,
    }
    for window in (2, 10, 40)
]

LIVE_FLOW: Row = {
    "src_ip": "192.0.2.10",
    "dst_ip": "203.0.113.5",
    "src_port": 51_000,
    "dst_port": 443,
    "protocol": "TCP",
    "interface": "eth0",
    "action": "monitor",
    "packets": 10_000,
    "bytes": 12_000_000,
    "sent_packets": 4_000,
    "sent_bytes": 2_000_000,
    "received_packets": 6_000,
    "received_bytes": 10_000_000,
    "packets_per_s": 1_000.0,
    "bytes_per_s": 1_200_000.0,
    "rates": LIVE_RATES,
    "age_s": 10.0,
    "unit": "nginx.service",
}


TOP: Row = {
    "at": T0,
    "interfaces": STATUS["interfaces"],
    "flows": [LIVE_FLOW],
    "hosts": [
        {"address": "192.0.2.10", "flows": 1, "packets_per_s": 1_000.0, "bytes_per_s": 1_200_000.0, "rates": LIVE_RATES}
    ],
    "units": [
        {
            **{"unit": "nginx.service", "flows": 1, "packets_per_s": 1_000.0, "bytes_per_s": 1_200_000.0},
            "rates": LIVE_RATES,
        }
    ],
    "threats": [THREAT],
    "flow_count": 4_096,
    "rates": LIVE_RATES,
    "moving": 1,
}

TOLD_THREAT: Row = {
    "threat": THREAT,
    "flows": [FLOW],
    "response": ["would have banned 203.0.113.5 for 10m (shadow)"],
}

_DECISION: Row = {"label": None, "source": None, "expires": None, "why": None}
EXPLANATION: Row = {
    "address": "203.0.113.5",
    "direction": "ingress",
    "action": "drop",
    "reason": "rule",
    "decisions": [
        {**_DECISION, "kind": "rule", "prefix": "203.0.113.0/24", "action": "drop", "wins": True}
        | {"source": "/etc/trafficmon/cidr.d/10-office.toml:1", "label": "bad neighbours"},
        {**_DECISION, "kind": "default", "prefix": None, "action": "monitor", "wins": False}
        | {"why": "a rule comes first"},
    ],
    "packets": 4_321,
    "bytes": 432_100,
    "dropped_packets": 4_321,
    "first_seen": T0,
    "last_seen": T0 + 60,
    "flows": [FLOW],
    "threats": [THREAT],
    "listeners": ["nginx.service"],
    "advice": ["to let it in: trafficctl add-cidr 203.0.113.5/32 --action allow"],
}

CHANGE: Row = {
    **{"at": T0, "uid": 0, "user": "root", "pid": 1},
    **{"change": "add-cidr", "subject": "203.0.113.0/24", "before": None, "after": "drop"},
}

RULES_CHANGE: Row = {
    **{"number": 7, "at": T0, "user": "root", "change": "add-cidr", "subject": "203.0.113.0/24"},
    **{"removed": 0, "added": 1},
}
ENTRY: Row = {"cidr": ["203.0.113.0/24"], "action": "drop", "ports": ["tcp/22"], "source": "runtime"}

REPLIES: dict[str, Row] = {
    "DnsNames": {"names": []},
    "Status": {**STATUS, "control": CONTROL},
    "Version": {"version": "0.2.0"},
    "Metrics": {"text": "# TYPE trafficmon_packets counter\ntrafficmon_packets_total 1\n# EOF\n"},
    "Bans": {"bans": [BAN]},
    "Threats": {"threats": [THREAT]},
    "Explain": EXPLANATION,
    "Usage": {"rows": USAGE},
    "Audit": {"entries": [CHANGE]},
    "Apply": {"rules": 3, "lists": 1, "prefixes": 4_567, "probation": TRIAL, "notes": ["2 rules -> 3 rules"]},
    "Confirm": {"confirmed": "apply", "notes": []},
    "Rollback": {"rolled_back": "apply", "notes": []},
    "History": {"changes": [RULES_CHANGE]},
    "RulesAt": {"rules": [{"default": "drop", "source": "policy.default"}, ENTRY]},
    "Undo": {"undone": 7, "done": ["removed: 203.0.113.0/24 drop"], "edits": [], "notes": []},
    "Reload": {
        **{"generation": 8, "rules": 3, "lists": 1, "prefixes": 4_567, "took_s": 0.012},
        "changed": ["cidr.d/10-office.toml"],
    },
}

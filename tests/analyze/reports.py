"""A report made by hand, as hostile as its sources can make it."""

from __future__ import annotations

from typing import Any

HOSTILE = "<script>alert(\"x\")</script>\u202e & 'quoted' \x1b[31m\n=1+1"


def share(packets: int, percent: float = 50.0) -> dict[str, Any]:
    return {"packets": packets, "bytes": packets * 100, "percent": percent}


def report(label: str = HOSTILE) -> dict[str, Any]:
    """Every piece of text that comes from outside is `label`."""
    count = {"packets": 3, "bytes": 300}
    return {
        "generated_at": "2024-11-29T10:00:00.000Z",
        "summary": {
            "sources": [{"name": label, "format": "traffic log (JSON)", "compression": None, "bytes": 1}],
            "records": 3,
            "total_packets": 3,
            "total_bytes": 300,
            "average_packet_size": 100.0,
            "unique_sources": 2,
            "unique_destinations": 1,
            "unique_flows": 2,
            "unique_exact": False,
            "dropped_packets": 1,
            "drop_rate": 33.33,
            "packets_per_second": 0.3,
            "bytes_per_second": 30.0,
            "start_time": "2024-11-29T10:00:00.000Z",
            "end_time": "2024-11-29T10:00:09.000Z",
            "duration_seconds": 9.0,
            "accounting": {
                "seen": count,
                "in_flows": count,
                "not_ip": count,
                "malformed": count,
                "malformed_by": {"short_ip": 2},
                "not_ip_types": {"ARP (0x0806)": 5},
                "captured_in_part": 0,
                "out_of_order": 0,
            },
            "threats": 1,
            "damaged": 30,
        },
        "top_sources": [{"ip": "2001:db8:1234:5678:9abc:def0:1234:5678", **share(2)}, {"ip": "192.0.2.1", **share(1)}],
        "top_destinations": [{"ip": "192.0.2.2", **share(3, 100.0)}],
        "protocol_distribution": {"TCP": share(2), "IP-200": share(1)},
        "temporal_analysis": {
            "start": "2024-11-29T10:00:00.000Z",
            "end": "2024-11-29T10:00:09.000Z",
            "duration_seconds": 9.0,
            "interval_seconds": 1,
            "timeline": [
                {"time": 1732874400 + n, "packets": n % 3, "dropped": n % 2 * (n % 3), "bytes": 100 * (n % 3)}
                for n in range(10)
            ],
            "peak": {"time": 1732874402, "packets": 2, "bytes": 200},
            "hourly": {"10": 9},
        },
        "action_distribution": {"LOG": share(2), "DROP": share(1)},
        "interface_distribution": {label: share(3, 100.0)},
        "packet_sizes": {
            "min": 40,
            "max": 1500,
            "average": 100.0,
            "exact": True,
            "distribution": {
                "0-64": 1,
                "65-127": 2,
                "128-255": 0,
                "256-511": 0,
                "512-1023": 0,
                "1024-1518": 0,
                "1519+": 0,
            },
        },
        "threat_analysis": {
            "total": 1,
            "by_severity": {"high": 1},
            "by_detector": {label: {"count": 1, "sources": [label], "targets": []}},
        },
        "flow_analysis": {
            "unique_flows": 2,
            "exact": True,
            "average_packets": 1.5,
            "average_bytes": 150.0,
            "top_flows": [
                {
                    "src_ip": "2001:db8:1234:5678:9abc:def0:1234:5678",
                    "src_port": 50000,
                    "dst_port": 443,
                    "dst_ip": "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
                    "protocol": "TCP",
                    "packets": 2,
                    "bytes": 200,
                },
                {
                    "src_ip": "192.0.2.1",
                    "src_port": 8,
                    "dst_ip": "192.0.2.2",
                    "dst_port": 0,
                    "protocol": "ICMP",
                    "packets": 1,
                    "bytes": 100,
                },
            ],
            "top_services": [{"protocol": "TCP", "port": 443, "flows": 2}],
        },
        "threats": [
            {
                "id": "1",
                "detector": label,
                "severity": "high",
                "technique": "T1046",
                "src_ip": "192.0.2.1",
                "dst_ip": None,
                "first_seen": "2024-11-29T10:00:01.000Z",
                "last_seen": "2024-11-29T10:00:05.000Z",
                "count": 20,
                "summary": label,
                "evidence": {"unit": "probes", label: label, "ports": [1, 2, 3], "proven": True, "deep": {"a": 1.5}},
            }
        ],
        "damage": {
            "total": 30,
            "by_kind": {"not JSON": 30},
            "places": [{"source": label, "where": "line 3", "what": f"not JSON: {label}"}],
        },
    }

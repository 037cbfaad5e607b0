"""Whole analyses: the original's example logs recounted by hand, one engine for all formats, bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from captures import AT, ethernet, ipv4, pcap, tcp
from readings import ROOT

from trafficmond.analyze import report as reports
from trafficmond.analyze.run import analyze
from trafficmond.analyze.run_stats import SIZE_CLASSES
from trafficmond.config.settings import Settings
from trafficmond.flows import compiled

NOW = 1_800_000_000.0
SECTIONS = [
    *("summary", "top_sources", "top_destinations", "protocol_distribution", "temporal_analysis"),
    *("action_distribution", "interface_distribution", "packet_sizes", "threat_analysis", "flow_analysis"),
    *("threats", "damage"),
]


def _report(*paths: Path, **kwargs: Any) -> dict[str, Any]:
    return analyze([str(path) for path in paths], Settings(), NOW, **kwargs)


def _events(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    head, *lines = path.read_text().splitlines()
    rows = [dict(zip(head.split(","), line.split(","), strict=True)) for line in lines]
    return [{name: int(value) if value.isdigit() else value for name, value in row.items()} for row in rows]


NAMES = {17: "UDP", 6: "TCP", 1: "ICMP", 47: "GRE", 50: "ESP", 51: "AH"}


@pytest.mark.parametrize(
    "name", ["sample_traffic.jsonl", "sample_traffic.csv", "threat_traffic.jsonl", "comprehensive_traffic.jsonl"]
)
def test_the_original_s_examples_equal_a_recount(name: str, data: Path) -> None:
    events = _events(data / "original" / name)
    report = _report(data / "original" / name)
    summary = report["summary"]
    sizes = [event["packet_size"] for event in events]
    times = [event["timestamp"] for event in events]
    assert list(report) == ["generated_at", *SECTIONS]
    assert summary["records"] == summary["total_packets"] == len(events)
    assert summary["total_bytes"] == sum(sizes)
    assert summary["unique_sources"] == len({event["src_ip"] for event in events})
    assert summary["unique_destinations"] == len({event["dst_ip"] for event in events})
    ends = ("src_ip", "src_port"), ("dst_ip", "dst_port")
    flows = Counter(
        (tuple(sorted((event[ip], event[port]) for ip, port in ends)), event["protocol_num"], event["interface"])
        for event in events
    )
    assert summary["unique_flows"] == report["flow_analysis"]["unique_flows"] == len(flows)
    assert summary["dropped_packets"] == sum(event["action"] == "DROP" for event in events)
    assert summary["duration_seconds"] == max(times) - min(times)

    for key, field in (("top_sources", "src_ip"), ("top_destinations", "dst_ip")):
        counts = Counter(event[field] for event in events)
        found = {talker["ip"]: talker for talker in report[key]}
        assert [talker["packets"] for talker in report[key]] == sorted(counts.values(), reverse=True)[:10]
        for ip, talker in found.items():
            assert talker["packets"] == counts[ip]
            assert talker["bytes"] == sum(event["packet_size"] for event in events if event[field] == ip)
            assert talker["percent"] == round(100 * counts[ip] / len(events), 2)

    for key, value in (
        ("protocol_distribution", lambda event: NAMES[event["protocol_num"]]),
        ("action_distribution", lambda event: event["action"]),
        ("interface_distribution", lambda event: event["interface"]),
    ):
        counts = Counter(map(value, events))
        assert {name: share["packets"] for name, share in report[key].items()} == counts

    temporal = report["temporal_analysis"]
    assert sum(bin_["packets"] for bin_ in temporal["timeline"]) == len(events)
    assert sum(bin_["bytes"] for bin_ in temporal["timeline"]) == sum(sizes)
    by_bin = Counter(time // temporal["interval_seconds"] for time in times)
    assert {
        bin_["time"] // temporal["interval_seconds"]: bin_["packets"]
        for bin_ in temporal["timeline"]
        if bin_["packets"]
    } == by_bin
    assert temporal["peak"]["packets"] == max(by_bin.values())

    packet_sizes = report["packet_sizes"]
    assert (packet_sizes["min"], packet_sizes["max"]) == (min(sizes), max(sizes))
    assert packet_sizes["average"] == round(sum(sizes) / len(sizes), 2)
    edges = [64, 127, 255, 511, 1023, 1518, float("inf")]
    classes = Counter(SIZE_CLASSES[next(i for i, edge in enumerate(edges) if size <= edge)] for size in sizes)
    assert {name: count for name, count in packet_sizes["distribution"].items() if count} == classes
    assert report["damage"]["total"] == 0


def test_the_port_scanner_of_the_example_is_found(data: Path) -> None:
    report = _report(data / "original/threat_traffic.jsonl")
    scans = [threat for threat in report["threats"] if threat["detector"] == "port_scan"]
    assert [(scan["src_ip"], scan["dst_ip"]) for scan in scans] == [("203.0.113.5", "192.168.1.100")]
    assert report["threat_analysis"]["by_detector"]["port_scan"]["sources"] == ["203.0.113.5"]
    assert report["threat_analysis"]["total"] == len(report["threats"])


def test_every_format_leads_to_the_same_engine(data: Path) -> None:
    zeek = _report(data / "flows/slips_portscan_vertical_conn.log")
    assert any(threat["detector"] == "port_scan" and threat["src_ip"] == "192.168.1.9" for threat in zeek["threats"])
    capture = _report(data / "pcaps/attacks/vscan_nmap_syn_1000.pcap")
    assert {threat["src_ip"] for threat in capture["threats"]} == {"192.168.1.10"}


def test_the_order_and_the_splitting_of_files_do_not_matter(tmp_path: Path) -> None:
    frames = [(AT + n / 10, ethernet(ipv4(tcp(1000 + n, 1 + n)))) for n in range(100)]
    whole, parts = tmp_path / "whole.pcap", []
    whole.write_bytes(pcap(frames))
    for number, part in enumerate((frames[50:], frames[:50])):
        parts.append(tmp_path / f"part{number}.pcap")
        parts[-1].write_bytes(pcap(part))
    one, two = _report(whole), _report(*parts)
    for section in ("top_sources", "temporal_analysis", "packet_sizes", "flow_analysis", "threats"):
        assert one[section] == two[section]
    assert one["threats"]
    assert len(two["summary"]["sources"]) == 2


def test_flows_outlast_the_gaps_and_captures_without_packets_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "empty.pcap"
    path.write_bytes(pcap([]))
    report = _report(path)
    assert report["summary"]["total_packets"] == 0
    assert report["summary"]["start_time"] is None
    assert report["temporal_analysis"]["timeline"] == []


def test_top_says_how_many(data: Path) -> None:
    report = _report(data / "original/comprehensive_traffic.jsonl", top=3)
    assert len(report["top_sources"]) == len(report["flow_analysis"]["top_flows"]) == 3


def test_progress_reaches_the_end(data: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = data / "pcaps/attacks/vscan_xscan_vuln_scanner.pcap"
    _report(path, tick=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (path.stat().st_size, path.stat().st_size)


def test_many_lines_stay_within_bounded_memory(tmp_path: Path) -> None:
    """200,000 lines of as many flows; the figures for a million are measured by make bench."""
    path = tmp_path / "many.jsonl"
    line = (
        '{"timestamp": %d, "src_ip": "10.%d.%d.%d", "dst_ip": "192.168.1.1", "src_port": %d, "dst_port": 443, '
        '"protocol": "TCP", "protocol_num": 6, "packet_size": 60, "action": "LOG", "interface": "eth0", '
        '"flow_hash": "00000000"}\n'
    )
    with path.open("w") as file:
        for n in range(200_000):
            file.write(line % (1_700_000_000 + n // 2000, n >> 16, n >> 8 & 255, n & 255, 1024 + n % 60000))
    code = (
        "import sys, json\n"
        "from trafficmond.analyze.run import analyze\n"
        "from trafficmond.config.settings import Settings\n"
        "from trafficmond.flows import compiled\n"
        "from pathlib import Path\n"
        "compiled.PLACES = (Path(sys.argv[2]),)\n"
        "report = analyze([sys.argv[1]], Settings(), 0.0)\n"
        # Not ru_maxrss, which a child begins with as its parent left it.
        "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(json.dumps([int(peak), report['summary']]))\n"
    )
    library = next(place for place in compiled.PLACES if place.exists())
    command = [sys.executable, "-c", code, str(path), str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=120)
    kilobytes, summary = json.loads(done.stdout)
    assert summary["total_packets"] == 200_000
    assert summary["unique_flows"] == pytest.approx(200_000, rel=0.035)
    assert kilobytes < 200 * 1024


def test_only_nothing_is_no_part_of_the_whole() -> None:
    assert [reports._percent(part, 100_000) for part in (0, 1, 40, 100_000)] == [0.0, 0.01, 0.04, 100.0]

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sink_events import AWKWARD, NAMES, event, threat

from trafficmond.flows.batch import Batch
from trafficmond.flows.events import Kind
from trafficmond.flows.names import NO_NAMES, Names
from trafficmond.flows.owners import Owner
from trafficmond.model import Action, Direction, Reason
from trafficmond.protocols import protocol_name
from trafficmond.sinks import record
from trafficmond.sinks.csv import HEADER, event_rows
from trafficmond.sinks.jsonl import event_lines, threat_line

ORIGINAL = Path(__file__).parents[3] / "shared/data/original"
TWELVE = record.FIELDS[:12]

Rendered = list[dict[str, Any]]


def read_jsonl(text: str) -> Rendered:
    return [json.loads(line) for line in text.splitlines()]


def read_csv(text: str) -> Rendered:
    numbers = record.NUMBERS
    return [
        {key: int(value) if key in numbers else value for key, value in row.items()}
        for row in csv.DictReader(io.StringIO(text, newline=""))
    ]


def as_jsonl(batch: Batch, names: Names = NAMES) -> Rendered:
    return read_jsonl("\n".join(event_lines(batch, names)).encode().decode())


def as_csv(batch: Batch, names: Names = NAMES) -> Rendered:
    return read_csv(HEADER + event_rows(batch, names).encode().decode())


FORMATS: list[Callable[..., Rendered]] = [as_jsonl, as_csv]


@pytest.mark.parametrize("rendered", FORMATS)
def test_every_field_of_an_event(rendered: Callable[..., Rendered]) -> None:
    batch = event(action=Action.DROP, reason=Reason.RULE, rule=5, vlan=7)
    (found,) = rendered(batch)
    assert tuple(found) == record.FIELDS
    assert found | {"flow_hash": "", "community_id": ""} == {
        "timestamp": 1732834800,
        "timestamp_iso": "2024-11-28T23:00:00.250Z",
        "src_ip": "203.0.113.5",
        "dst_ip": "192.168.1.100",
        "src_port": 12345,
        "dst_port": 22,
        "protocol": "TCP",
        "protocol_num": 6,
        "packet_size": 64,
        "action": "DROP",
        "interface": "eth0",
        "flow_hash": "",
        "event": "new",
        "direction": "ingress",
        "rule": AWKWARD,
        "reason": "rule",
        "vlan": 7,
        "community_id": "",
        **dict.fromkeys(("unit", "cgroup", "uid"), "" if rendered is as_csv else None),
        "would": "",
        "would_rule": "",
        **dict.fromkeys(("process", "pid"), "" if rendered is as_csv else None),
    }


def test_whose_an_event_is() -> None:
    batch = event()
    batch["owner"] = 77
    names = replace(NAMES, owners={77: Owner(AWKWARD, "/user.slice", 1000, AWKWARD, 42)})
    for rendered, uid in ((as_jsonl, 1000), (as_csv, "1000")):
        (found,) = rendered(batch, names)
        assert (found["unit"], found["cgroup"], found["uid"]) == (AWKWARD, "/user.slice", uid)
        assert (found["process"], str(found["pid"])) == (AWKWARD, "42")
    (found,) = as_jsonl(batch)
    assert found["unit"] == "cgroup 77"


def test_the_two_hashes() -> None:
    # The reference vector of the Community ID specification for 128.232.110.120:34855 > 66.35.250.204:80.
    there = event("128.232.110.120", "66.35.250.204", sport=34855, dport=80)
    back = event("66.35.250.204", "128.232.110.120", sport=80, dport=34855)
    (a, b) = as_jsonl(np.concatenate([there, back]))
    assert a["community_id"] == b["community_id"] == "1:LQU9qZlK+B5F3KDmev6m5PMibrg="
    assert a["flow_hash"] == b["flow_hash"]
    assert len(a["flow_hash"]) == 8
    assert int(a["flow_hash"], 16) >= 0


@pytest.mark.parametrize("rendered", FORMATS)
def test_ipv6_samples_egress_and_portless(rendered: Callable[[Batch], Rendered]) -> None:
    batch = event("2001:db8::1", "::ffff:1.2.3.4", proto=99, kind=Kind.SAMPLE, direction=Direction.EGRESS, rule=9)
    (found,) = rendered(batch)
    assert (found["src_ip"], found["dst_ip"]) == ("2001:db8::1", "::ffff:1.2.3.4")
    assert (found["protocol"], found["event"], found["direction"]) == ("IP-99", "sample", "egress")
    assert found["rule"] == "rule 9"


def test_numbers_without_names_do_not_fail() -> None:
    batch = event()
    batch["verdict"] |= 15 << 24
    (line,) = event_lines(batch, NO_NAMES)
    assert (json.loads(line)["interface"], json.loads(line)["reason"]) == ("if2", "reason 15")


@given(st.text(st.characters()), st.text(st.characters()))
@pytest.mark.parametrize("rendered", FORMATS)
def test_whatever_a_rule_or_interface_is_called_it_reads_back(
    rendered: Callable[[Batch, Names], Rendered], interface: str, rule: str
) -> None:
    names = Names({2: interface}, {5: rule})
    (found,) = rendered(event(rule=5, reason=Reason.RULE), names)
    for field, name, unnamed in (("interface", interface, "if2"), ("rule", rule, "rule 5")):
        assert found[field] == (name.encode("utf-8", "backslashreplace").decode() or unnamed)


@pytest.mark.parametrize("at", [0.0, 0.9996, 1732834800.9999, 4102444800.0005])
def test_both_times_are_one(at: float) -> None:
    (line,) = event_lines(event(at=at), NAMES)
    found = json.loads(line)
    assert found["timestamp_iso"] == record.iso_time(at)
    assert found["timestamp_iso"].endswith("Z")
    assert abs(found["timestamp"] - at) <= 1


def _same_reader(path: Path) -> Rendered:
    text = path.read_text()
    return read_csv(text) if path.suffix == ".csv" else read_jsonl(text)


@pytest.mark.skipif(not ORIGINAL.is_dir(), reason=f"the original's example files are not at {ORIGINAL}")
@pytest.mark.parametrize(
    "name", ["sample_traffic.csv", "sample_traffic.jsonl", "threat_traffic.jsonl", "comprehensive_traffic.jsonl"]
)
def test_the_files_of_the_original_and_ours_are_read_alike(name: str, tmp_path: Path) -> None:
    theirs = _same_reader(ORIGINAL / name)
    assert theirs
    batch = np.concatenate([_event_of(row) for row in theirs])
    path = tmp_path / name
    path.write_text(
        HEADER + event_rows(batch, NAMES) if path.suffix == ".csv" else "\n".join(event_lines(batch, NAMES))
    )
    ours = _same_reader(path)
    # Their flow_hash is of another kind, their interfaces are not ours, and their two times disagree.
    other = {"flow_hash", "interface", "timestamp_iso"}
    for their, our in zip(theirs, ours, strict=True):
        assert tuple(their) == TWELVE == tuple(our)[:12]
        if their["protocol"] == "Unknown":  # they know three names
            their["protocol"] = protocol_name(their["protocol_num"])
        their["packet_size"] = min(their["packet_size"], 65535)
        assert {k: our[k] for k in TWELVE if k not in other} == {k: their[k] for k in TWELVE if k not in other}
        assert all(type(our[k]) is type(their[k]) for k in TWELVE)


def _event_of(row: Mapping[str, Any]) -> Batch:
    return event(
        row["src_ip"],
        row["dst_ip"],
        sport=row["src_port"],
        dport=row["dst_port"],
        proto=row["protocol_num"],
        size=min(row["packet_size"], 65535),
        at=row["timestamp"],
        action=Action.DROP if row["action"] == "DROP" else Action.MONITOR,
    )


def test_a_threat_as_a_line() -> None:
    found = json.loads(threat_line(threat(), "opened"))
    assert (found["event"], found["detector"], found["severity"], found["count"]) == ("threat", "port_scan", "high", 40)
    assert found["timestamp_iso"] == "2024-11-28T23:01:00.500Z"
    assert found["evidence"] == {"unit": "ports", "sample": [22, 23, 25]}


def test_evidence_that_json_cannot_hold_is_made_plain() -> None:
    odd = threat()
    odd.evidence = {"n": np.int64(5), "share": np.float32(0.5), "gap": float("nan"), "at": {1: (np.inf, b"x")}}
    odd.evidence["ports"] = np.arange(3)
    found = json.loads(threat_line(odd, "opened"), parse_constant=pytest.fail)
    assert found["evidence"] == {
        "n": 5,
        "share": 0.5,
        "gap": None,
        "at": {"1": [None, "b'x'"]},
        "ports": [0, 1, 2],
    }


def test_every_field_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/logs.md").read_text()
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert [name for cell in cells for name in re.findall(r"`(\w+)`", cell)] == list(record.FIELDS)

"""The daemon's own logs: the C reader and the full one must agree, and damage must not stop either."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readings import Reading

from trafficmond.flows.batch import Batch, address_text
from trafficmond.model import Action

EVENT: dict[str, Any] = {
    "timestamp": 1732834800,
    "timestamp_iso": "2024-11-28T23:00:00.000Z",
    "src_ip": "203.0.113.5",
    "dst_ip": "192.168.1.100",
    "src_port": 12345,
    "dst_port": 22,
    "protocol": "TCP",
    "protocol_num": 6,
    "packet_size": 64,
    "action": "LOG",
    "interface": "eth0",
    "flow_hash": "a1b2c3d4",
}

_addresses = st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str))
_events = st.fixed_dictionaries(
    {
        "timestamp": st.one_of(
            st.integers(0, 2_000_000_000), st.integers(0, 2_000_000_000_000).map(lambda milli: milli / 1000)
        ),
        "src_ip": _addresses,
        "dst_ip": _addresses,
        "src_port": st.integers(0, 65535),
        "dst_port": st.integers(0, 65535),
        "protocol": st.just("ignored where there is a number"),
        "protocol_num": st.integers(0, 255),
        "packet_size": st.integers(0, 70000),
        "action": st.sampled_from(["LOG", "DROP", "ALLOW", "LIMIT"]),
        "interface": st.sampled_from(["", "eth0", "wlan0", "br-lan"]),
        "flow_hash": st.just("00000000"),
        "direction": st.sampled_from(["ingress", "egress"]),
        "rule": st.sampled_from(["default", "bad {neighbours}", 'quo"te', "back\\slash", "ü"]),
        "vlan": st.integers(0, 4095),
    }
)


def _lines(*events: dict[str, Any], **kwargs: Any) -> bytes:
    return b"".join(json.dumps(event, **kwargs).encode() + b"\n" for event in events)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(_events, min_size=1, max_size=30))
def test_every_layout_gives_the_same_rows(events: list[dict[str, Any]], reading: Reading) -> None:
    events = [{**EVENT, **event} for event in events]
    compact = {"separators": (",", ":"), "ensure_ascii": False}
    table = io.StringIO()
    writer = csv.DictWriter(table, list(EVENT | events[0]))
    writer.writeheader()
    writer.writerows(events)
    layouts = [
        _lines(*events),
        _lines(*events, **compact),
        b"[\n" + b",\n".join(json.dumps(event).encode() for event in events) + b"\n]\n",
        b"[" + b", ".join(json.dumps(event).encode() for event in events) + b"]",
        json.dumps(events, indent=2).encode(),
        table.getvalue().encode(),
    ]
    first, stats = reading(layouts[0])
    assert stats.records == len(events)
    assert int(first["bytes"].sum()) == sum(event["packet_size"] for event in events)
    for layout in layouts[1:]:
        rows, other = reading(layout)
        assert other.parse_errors.total == 0
        assert _sums(rows) == _sums(first)


def _sums(rows: Batch) -> dict[tuple[int, ...], tuple[int, int]]:
    """Packets and bytes by flow, however the rows cut them up."""
    sums: dict[tuple[int, ...], tuple[int, int]] = {}
    keys = ["src_hi", "src_lo", "dst_hi", "dst_lo", "sport", "dport", "proto", "family", "direction", "vlan", "verdict"]
    for row in rows:
        key = tuple(int(row[name]) for name in keys)
        packets, octets = sums.get(key, (0, 0))
        sums[key] = (packets + int(row["packets"]), octets + int(row["bytes"]))
    return sums


def test_fields_arrive_as_written(reading: Reading) -> None:
    event = {
        **EVENT,
        "src_ip": "2001:db8::5",
        "dst_ip": "2001:db8::6",
        "action": "DROP",
        "direction": "egress",
        "vlan": 7,
    }
    rows, stats = reading(_lines(event))
    (row,) = rows
    assert address_text(int(row["src_hi"]), int(row["src_lo"]), int(row["family"])) == "2001:db8::5"
    assert (row["sport"], row["dport"], row["proto"], row["vlan"], row["direction"]) == (12345, 22, 6, 7, 1)
    assert row["verdict"] >> 28 == Action.DROP
    assert (row["packets"], row["bytes"], row["first_len"], row["last"]) == (1, 64, 64, 1732834800.0)
    assert stats.interfaces[int(row["ifindex"])] == "eth0"


def test_ipv4_mapped_addresses_are_ipv4(reading: Reading) -> None:
    rows, _ = reading(_lines({**EVENT, "src_ip": "::ffff:203.0.113.5"}, EVENT))
    assert rows["family"].tolist() == [4]


@pytest.mark.parametrize(
    "odd",
    [{"event": 'a"b\\'}, {"src_ip": "fe80::1%eth0", "dst_ip": "fe80::2"}, {"src_ip": 'fe80::1%"', "dst_ip": "::2"}],
)
def test_what_the_plain_form_cannot_have_is_left_out(odd: dict[str, Any], reading: Reading) -> None:
    rows, stats = reading(_lines({**EVENT, **odd}))
    assert (len(rows), stats.parse_errors.total) == (1, 0)


def test_only_the_iso_time(reading: Reading) -> None:
    rows, _ = reading(_lines({**EVENT, "timestamp": "2024-11-28T23:00:00.250Z"}))
    assert rows["last"].tolist() == [1732834800.25]


def test_a_protocol_by_its_name_alone(reading: Reading) -> None:
    event = {**EVENT, "protocol": "ICMPv6"}
    del event["protocol_num"]
    rows, _ = reading(_lines(event))
    assert rows["proto"].tolist() == [58]


def test_a_threat_in_the_log_is_no_event_and_no_damage(reading: Reading) -> None:
    threat = {"timestamp": 1, "event": "threat", "id": "x", "detector": "port_scan", "evidence": {"ports": [1, 2]}}
    rows, stats = reading(_lines(threat, EVENT))
    assert len(rows) == 1
    assert stats.parse_errors.total == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timestamp", -1),
        ("timestamp", "yesterday"),
        ("timestamp", None),
        ("src_ip", "203.0.113.256"),
        ("src_ip", "203.0.113"),
        ("src_ip", ""),
        ("dst_ip", "2001:db8::g"),
        ("src_port", 65536),
        ("dst_port", -1),
        ("protocol_num", 256),
        ("packet_size", -5),
        ("packet_size", "big"),
        ("packet_size", 1 << 40),
        ("action", "MAYBE"),
        ("vlan", 4096),
        ("timestamp", [1]),
        ("timestamp", 1e300),
    ],
)
def test_an_impossible_field_is_damage_with_its_line(field: str, value: Any, reading: Reading) -> None:
    rows, stats = reading(_lines(EVENT, {**EVENT, field: value}, EVENT))
    assert int(rows["packets"].sum()) == 2
    (place,) = stats.parse_errors.places
    assert place.where == "line 2"


@pytest.mark.parametrize(
    "line",
    [b"{", b"nonsense", b"\x00" * 50, b'{"timestamp": 17', b"[[[[", b"{}", b"17", b'"text"', b"\xff\xfe", b"[" * 50000],
)
def test_a_damaged_line_is_counted_and_the_rest_is_read(line: bytes, reading: Reading) -> None:
    rows, stats = reading(_lines(EVENT) * 3 + line + b"\n" + _lines(EVENT) * 2)
    assert int(rows["packets"].sum()) == 5
    assert stats.parse_errors.total == 1
    assert stats.parse_errors.places[0].where == "line 4"


def test_the_last_line_may_lack_its_newline_or_its_end(reading: Reading) -> None:
    text = _lines(EVENT, EVENT)
    assert reading(text[:-1])[1].records == 2
    _, stats = reading(text[:-20])
    assert stats.records == 1
    assert stats.parse_errors.total == 1


def test_blank_lines_and_carriage_returns_do_not_matter(reading: Reading) -> None:
    _, stats = reading(b"\n" + _lines(EVENT, EVENT).replace(b"\n", b"\r\n\r\n"))
    assert (stats.records, stats.parse_errors.total) == (2, 0)


def test_an_endless_line_does_not_fill_the_memory(reading: Reading) -> None:
    _, stats = reading(_lines(EVENT) + b"x" * (3 << 20) + b"\n" + _lines(EVENT))
    assert stats.records == 2
    assert stats.parse_errors.total >= 1


def test_more_interfaces_than_are_named_share_one_name(reading: Reading) -> None:
    rows, stats = reading(_lines(*({**EVENT, "interface": f"tap{n}"} for n in range(80))))
    assert int(rows["packets"].sum()) == 80
    assert len(stats.interfaces) == 64
    assert "(other)" in stats.interfaces.values()


def test_a_csv_line_of_another_length_is_damage(reading: Reading, data: Path) -> None:
    text = (data / "original/sample_traffic.csv").read_bytes()
    _, stats = reading(text + b"\n1732834810,short\n")
    assert stats.records == 10
    assert stats.parse_errors.places[0].where == "line 12"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.one_of(st.just(json.dumps(EVENT).encode()), st.binary(max_size=60)), max_size=12))
def test_any_bytes_between_the_lines(lines: list[bytes], reading: Reading) -> None:
    good = json.dumps(EVENT).encode()
    content = good + b"\n" + b"\n".join(lines)
    whole = content.split(b"\n").count(good)
    _, stats = reading(content)
    assert stats.records >= whole

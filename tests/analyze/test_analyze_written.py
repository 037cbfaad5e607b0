"""A record whose values another program wrote again, in its own way: the same flow comes out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from one_flow import CONN, EVE
from readings import Reading

from trafficmond.analyze.run import analyze
from trafficmond.config.settings import Settings

_EVENT = {
    **{"timestamp": 1700000000.25, "src_ip": "192.0.2.10", "src_port": 40000, "dst_ip": "198.51.100.7"},
    **{"dst_port": 443, "protocol": "TCP", "packet_size": 1460, "action": "LOG", "interface": "eth0"},
}
_HEADER = "srcaddr dstaddr srcport dstport protocol packets bytes start end tcp-flags"
_ASKED = "192.0.2.10 198.51.100.7 40000 443 6 6 420 1700000000 1700000060"
_ANSWERED = "198.51.100.7 192.0.2.10 443 40000 6 5 4600 1700000000 1700000060"
_AWS = f"2 123456789012 eni-0aa {_ASKED} ACCEPT OK"


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(
            {**CONN, "id.orig_p": "40000/tcp", "id.resp_p": "443/tcp"}, id="ports as Zeek's scripts show them"
        ),
        pytest.param({**CONN, "duration": "P0DT0H0M1.5S"}, id="an interval as pandas writes it in JSON"),
        pytest.param({"conn": CONN, "host": "x"}, id="below conn, beside what a shipper adds"),
        pytest.param({**CONN, "ts": "2023-11-14 23:13:20.25 +01:00"}, id="a zone apart"),
    ],
)
def test_the_same_connection_of_zeek(record: Mapping[str, Any], reading: Reading) -> None:
    usual, _ = reading(json.dumps(CONN).encode())
    rows, stats = reading(json.dumps(record).encode())
    assert rows.tolist() == usual.tolist()
    assert stats.parse_errors.total == 0


def test_a_protocol_that_zeek_does_not_know_may_have_no_number(reading: Reading) -> None:
    rows, _ = reading(json.dumps({**CONN, "proto": "unknown_transport", "ip_proto": "-"}).encode())
    assert set(rows["proto"]) == {255}


def test_a_side_that_was_not_counted_is_estimated_with_a_note(tmp_path: Path) -> None:
    found = _report(tmp_path, json.dumps({**CONN, "resp_pkts": None, "resp_ip_bytes": None}))
    assert found["summary"]["total_packets"] > CONN["orig_pkts"]
    assert "estimated" in str(found["summary"]["sources"][0]["notes"])


@pytest.mark.parametrize("number", ["1", 1.0, "1.0"])
def test_the_number_of_a_flow_of_suricata_in_any_form(number: object, tmp_path: Path) -> None:
    events = (EVE, {**EVE, "event_type": "alert", "flow_id": number})
    assert _report(tmp_path, *map(json.dumps, events))["summary"]["total_packets"] == 11


@pytest.mark.parametrize("before", ["$metadata", "ResponseMetadata", "statistics"])
def test_an_answer_of_aws_as_each_of_its_libraries_writes_it(before: str, tmp_path: Path) -> None:
    answer = {before: {"x": 200}, "events": [{"timestamp": 1, "message": _AWS}]}
    assert _report(tmp_path, json.dumps(answer))["summary"]["total_packets"] == 6


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("flags", [18, 19, 22, 27])
def test_of_two_sides_with_syn_and_ack_the_service_answers(flags: int, turned: bool, tmp_path: Path) -> None:
    records = [f"{_ASKED} {flags}", f"{_ANSWERED} {flags}"]
    (flow,) = _report(tmp_path, _HEADER, *(records[::-1] if turned else records))["flow_analysis"]["top_flows"]
    assert (flow["src_ip"], flow["dst_port"]) == ("192.0.2.10", 443)


@pytest.mark.parametrize(
    "fields",
    [
        *({"packet_size": "1460.0"}, {"packet_size": "1,460"}, {"vlan": "nan"}, {"protocol_num": "6.0"}),
        *({"protocol_num": "nan"}, {"protocol_num": float("nan"), "vlan": float("nan")}, {"vlan": False}),
    ],
    ids=str,
)
def test_an_event_of_the_log_after_a_table_had_it(fields: Mapping[str, Any], tmp_path: Path) -> None:
    found = _report(tmp_path, json.dumps({**_EVENT, **fields}))
    assert found["summary"]["total_bytes"] == 1460
    assert found["flow_analysis"]["top_flows"][0]["protocol"] == "TCP"


def _report(folder: Path, *lines: str) -> dict[str, Any]:
    path = folder / "input"
    path.write_text("\n".join(lines) + "\n")
    return analyze([str(path)], Settings(), 0.0)

"""Records beside those of connections: Zeek's other logs, Packetbeat's transactions, empty files among others; and
connections in what looks like one of these."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_flow import CONN, EVE, OCSF
from readings import Reading
from test_analyze_ecs import EVENT, TOLD, flows, report, without
from test_analyze_forms import LINE, VPC_TOLD, ZEEK_TOLD, _several, told

from trafficmond.analyze.run import analyze
from trafficmond.analyze.source import InputError
from trafficmond.config.settings import Settings

Record = dict[str, Any]

ENDS = {name: CONN[name] for name in ("ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p")}
OTHER_LOGS: list[Record] = [
    {**ENDS, "proto": "udp", "query": "example.net", "rtt": 0.1},
    {**ENDS, "fuid": "F1", "source": "HTTP", "duration": 0.5},  # files.log since Zeek 5.1
    {"ts": CONN["ts"], "uids": ["C1"], "client_addr": "192.0.2.10", "duration": 0.5},  # dhcp.log
    {"ts": CONN["ts"], "peer": "zeek", "mem": 70, "pkts_proc": 12},
]


def lines(*records: Record) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def tsv(record: Record, path: str = "") -> str:
    named = f"#path\t{path}\n" if path else ""
    return named + "\t".join(["#fields", *record]) + "\n" + "\t".join(map(str, record.values())) + "\n"


# ---- Zeek ----


@_several
@given(
    before=st.lists(st.sampled_from(OTHER_LOGS), max_size=3),
    behind=st.lists(st.sampled_from(OTHER_LOGS), max_size=3),
    wrapper=st.sampled_from([None, "conn", "zeek", "event", "data", "message"]),
)
def test_zeeks_logs_in_one_stream_that_names_none(
    before: list[Record], behind: list[Record], wrapper: str | None, reading: Reading
) -> None:
    assert told("".join(map(tsv, [*before, CONN, *behind])), reading) == ZEEK_TOLD
    found = [*before, CONN if wrapper is None else {wrapper: CONN}, *behind]
    assert told(lines(*found), reading) == ZEEK_TOLD


@pytest.mark.parametrize("path", ["conn-local", "conn_remote", "conn_long"])
def test_a_part_of_conn_log_that_a_filter_writes_is_read_once(path: str, tmp_path: Path) -> None:
    assert flows(report(tmp_path, tsv(CONN, path))) == [TOLD]
    assert flows(report(tmp_path, tsv(CONN, path), tsv(CONN, "conn"), lines({**CONN, "_path": path}))) == [TOLD]


@pytest.mark.parametrize("unset", ["nan", "NaN", "NULL", "None", "NA", "\\N", "", "-"])
def test_a_table_writes_nothing_in_many_ways(unset: str, reading: Reading) -> None:
    cells = {**CONN, "duration": unset, "orig_bytes": unset, "service": unset, "resp_bytes": unset}
    content = ",".join(cells) + "\n" + ",".join(map(str, cells.values())) + "\n"
    assert told(content, reading) == ZEEK_TOLD
    assert told(lines(cells), reading) == ZEEK_TOLD


SILENT = {"resp_pkts": 0, "resp_ip_bytes": 0, "resp_bytes": 0}


@pytest.mark.parametrize(
    ("ends", "ports", "code"),
    [
        *((("192.0.2.1", "192.0.2.2"), ports, 0) for ports in [(8, 0), (13, 14), (17, 18), (10, 9)]),
        *((("2001:db8::1", "2001:db8::2"), ports, 0) for ports in [(128, 129), (135, 136), (133, 134)]),
        (("192.0.2.1", "192.0.2.2"), (3, 3), 3),
        (("2001:db8::1", "2001:db8::2"), (1, 4), 4),
    ],
)
def test_the_type_that_answers_is_no_code(
    ends: tuple[str, str], ports: tuple[int, int], code: int, tmp_path: Path
) -> None:
    """Zeek has either as the responder's port."""
    both = {"id.orig_h": ends[0], "id.resp_h": ends[1], "id.orig_p": ports[0], "id.resp_p": ports[1]}
    ((src, kind, dst, found, *_),) = flows(report(tmp_path, lines({**CONN, **SILENT, "proto": "icmp", **both})))
    assert (src, kind, dst, found) == (ends[0], ports[0], ends[1], code)


# ---- ECS, EVE, OCSF ----


def test_packetbeats_transactions_are_in_its_flows(tmp_path: Path) -> None:
    beat = {**EVENT, "agent": {"type": "packetbeat"}}
    dns = {**without(beat, "source.packets", "destination.packets"), "type": "dns", "dns": {"id": 1}}
    found = report(tmp_path, lines(dns, {**beat, "type": "flow", "flow": {"id": "x", "final": True}}, dns))
    assert flows(found) == [TOLD]
    (note,) = found["summary"]["sources"][0]["notes"]
    assert "type dns" in note


@pytest.mark.parametrize(
    "more", [{"event": {**EVENT["event"], "id": "C1"}}, {"log": {"id": {"uid": "C1"}}}], ids=["Filebeat", "Corelight"]
)
def test_ids_of_events_and_logs_are_no_records_inside(more: Record, tmp_path: Path) -> None:
    assert flows(report(tmp_path, lines({**EVENT, **more}))) == [TOLD]


def test_eves_events_inside_those_of_filebeat(tmp_path: Path) -> None:
    eve = {**EVE, "event_type": "alert"}
    whole = [{"@timestamp": "2023-11-14T22:13:31Z", "suricata": {"eve": event}} for event in (eve, EVE)]
    assert flows(report(tmp_path, lines(*whole))) == [TOLD]
    whole[1] = {**whole[1], "suricata": {"eve": {name: value for name, value in EVE.items() if name != "timestamp"}}}
    assert flows(report(tmp_path, lines(*whole), lines(EVE))) == [TOLD]
    ends = {name: value for name, value in EVE.items() if name != "flow"}  # what it counts is in ECS' fields only
    assert flows(report(tmp_path, lines({**EVENT, "suricata": {"eve": ends}}))) == [TOLD]


@pytest.mark.parametrize(
    ("traffic", "sums"),
    [
        ({"bytes": 420}, (1, 420, 0, 0)),
        ({"bytes_out": 420, "bytes_in": 4600}, (1, 420, 4, 4600)),
        ({"bytes": 5020, "packets": None, "bytes_out": 420, "packets_out": 6}, (6, 420, 0, 0)),
    ],
)
def test_ocsf_that_counts_bytes_alone(traffic: Record, sums: tuple[int, ...], reading: Reading) -> None:
    content = lines({**OCSF, "traffic": traffic})
    assert told(content, reading)[6:] == sums
    with pytest.raises(AssertionError, match="packets missing"):
        told(lines({**OCSF, "traffic": {}}), reading)


# ---- AWS ----

ROW = dict(
    zip(("srcaddr", "dstaddr", "srcport", "dstport", "protocol", "packets", "bytes"), LINE.split()[3:10], strict=True)
)


@pytest.mark.parametrize(
    "content",
    [
        ",".join(["@timestamp", *ROW]) + "\n" + ",".join(["2023-11-14 22:13:20.000", *ROW.values()]),
        json.dumps(
            {
                "results": [
                    [
                        {"field": n, "value": v}
                        for n, v in {"@timestamp": "2023-11-14 22:13:20.000", **ROW, "@ptr": "C"}.items()
                    ]
                ]
            }
        ),
        " | ".join([*ROW, "start"]) + "\n---+---\n" + " | ".join([*ROW.values(), "1700000000"]) + "\n(1 row)\n",
    ],
    ids=["Insights as CSV", "Insights", "psql"],
)
def test_vpc_records_as_their_searches_print_them(content: str, reading: Reading) -> None:
    assert told(content, reading) == VPC_TOLD


# ---- the journal ----

ENTRY = {
    f"TRAFFICMON_{name}": value
    for name, value in {
        **{"SRC_IP": "192.0.2.10", "DST_IP": "198.51.100.7", "SRC_PORT": "40000", "DST_PORT": "443", "VLAN": "0"},
        **{"PROTOCOL": "TCP", "PROTOCOL_NUM": "6", "TIMESTAMP": "1700000000", "PACKET_SIZE": "60", "ACTION": "LOG"},
    }.items()
}


@pytest.mark.parametrize("always", [{"__CURSOR": "s=1", "__REALTIME_TIMESTAMP": "1700000000250000"}, {}])
def test_fields_that_journalctl_was_asked_for(always: Record, reading: Reading) -> None:
    """`--output-fields` leaves out MESSAGE_ID; jq also the cursor."""
    content = lines({**always, "MESSAGE": "started", "__CURSOR": "s=0"}, {**always, **ENTRY})
    assert told(content, reading)[:5] == VPC_TOLD[:5]


@pytest.mark.parametrize(
    "first", ["__REALTIME_TIMESTAMP=1\n", "_BOOT_ID=0\n", "MESSAGE\n\1\0\0\0\0\0\0\0x\n", "__CURSOR=s\n"]
)
def test_the_export_format_in_any_order_is_refused_by_its_name(first: str, reading: Reading) -> None:
    with pytest.raises(InputError, match=r"export format.*journalctl -u trafficmond -o json"):
        reading((first + "PRIORITY=6\n\n").encode())


# ---- empty files ----


def test_an_empty_file_beside_others_is_named_and_no_reason_to_stop(tmp_path: Path) -> None:
    found = report(tmp_path, "", lines(CONN), "\n\n")
    assert flows(found) == [TOLD]
    assert [source["format"] for source in found["summary"]["sources"]] == ["Zeek conn.log", "empty", "empty"]
    with pytest.raises(InputError, match="is empty"):
        analyze([str(tmp_path / "in0"), str(tmp_path / "in2")], Settings(), 0.0)


@pytest.mark.parametrize(
    "beside", [{"host": {"name": "x"}}, {"host": {"name": "x"}, "agent": {"id": "1"}, "tags": ["a", "b"]}]
)
def test_a_connection_beside_objects_of_a_shipper(beside: Record, reading: Reading) -> None:
    """Only objects: not the columns of a table."""
    _, stats = reading(lines({"conn": CONN, **beside}).encode())
    assert (stats.seen.packets, stats.parse_errors.total) == (11, 0)


@pytest.mark.parametrize(
    "more", [{"event_type": "drop"}, {"event_type": "alert", "verdict": {"action": "drop"}}, {"verdict": "odd"}]
)
def test_what_suricata_dropped(more: Record, tmp_path: Path) -> None:
    path = tmp_path / "eve.json"
    path.write_text(lines({**EVE, **more}))
    actions = analyze([str(path)], Settings(), 0.0)["action_distribution"]
    assert list(actions) == (["LOG"] if "odd" in more.values() else ["DROP"])


def test_the_journal_as_filebeat_ships_it(reading: Reading) -> None:
    """Its input for the journal has the fields that it does not know in small letters in an object."""
    custom = {
        **{"trafficmon_timestamp": "1700000000.25", "trafficmon_src_ip": "192.0.2.10", "trafficmon_src_port": "40000"},
        **{"trafficmon_dst_ip": "198.51.100.7", "trafficmon_dst_port": "443", "trafficmon_protocol": "TCP"},
        **{"trafficmon_packet_size": "100", "trafficmon_action": "LOG"},
    }
    event = {"@timestamp": "2023-11-14T22:13:20.251Z", "message": "LOG", "journald": {"custom": custom, "pid": 1}}
    other = {"@timestamp": "2023-11-14T22:13:20.251Z", "message": "Started.", "journald": {"pid": 1}}
    entry = {"MESSAGE": "LOG", **{name.upper(): value for name, value in custom.items()}}
    for shipped in (  # Elasticsearch's names with points, Fluentd, Splunk's HEC, syslog-ng
        *(lines(other, event), lines({f"journald.custom.{name}": value for name, value in custom.items()})),
        *("2023-11-14T22:13:20Z\tjournal\t" + lines({"message": "LOG", **custom}), lines({"event": entry})),
        lines({"_journald": entry, "HOST": "x"}),
    ):
        _, stats = reading(shipped.encode())
        assert (stats.seen.packets, stats.seen.bytes, stats.parse_errors.total) == (1, 100, 0), shipped

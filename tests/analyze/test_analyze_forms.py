"""A record in every form that its format allows is the same flow: properties of each reader of other programs' logs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from one_flow import CONN, EVE, FIELDS, OCSF, START
from readings import Reading

from trafficmond.analyze.readers import journal
from trafficmond.flows.batch import address_text
from trafficmond.model import Action
from trafficmond.sinks.messages import EVENT
from trafficmond.sinks.record import NUMBERS

Told = tuple[Any, ...]

_several = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def told(content: str, reading: Reading) -> Told:
    """What was read of the one flow: its ends, protocol, start, and what each side sent."""
    rows, stats = reading(content.encode())
    assert stats.parse_errors.total == 0, stats.parse_errors.places
    first = rows[rows["first"].argmin()]
    ends = [
        address_text(int(first[side + "_hi"]), int(first[side + "_lo"]), int(first["family"]))
        for side in ("src", "dst")
    ]
    mine = rows["src_lo"] == first["src_lo"]
    sums = [int(rows[name][which].sum()) for which in (mine, ~mine) for name in ("packets", "bytes")]
    return (*ends, int(first["sport"]), int(first["dport"]), int(first["proto"]), float(first["first"]), *sums)


# ---- Zeek ----

ZEEK_TOLD = ("192.0.2.10", "198.51.100.7", 40000, 443, 6, START, 6, 420, 5, 4600)
_PASSED = ["uid", "service", "duration", "orig_bytes", "resp_bytes", "history", "conn_state"]


@_several
@given(
    order=st.permutations(list(CONN)),
    dropped=st.sets(st.sampled_from(_PASSED[:6])),
    separator=st.sampled_from(["\t", ",", "|", ";", "^"]),
    unset=st.sampled_from(["-", "", "NULL", "(unset)"]),
    scope=st.sampled_from([".", "_", "__", "::", "-"]),
    ending=st.sampled_from(["\n", "\r\n"]),
    head=st.booleans(),
)
def test_zeek_as_its_header_declares_it(
    order: list[str],
    dropped: set[str],
    separator: str,
    unset: str,
    scope: str,
    ending: str,
    head: bool,
    reading: Reading,
) -> None:
    names = [name for name in order if name not in dropped or name == "conn_state"]
    plain = [name.replace("id.", "id" + scope) for name in names]
    lines = [f"#separator \\x{ord(separator):02x}"]
    if head:
        lines += [f"#unset_field{separator}{unset}", f"#path{separator}conn"]
    lines.append(separator.join(["#fields", *plain]))
    lines.append(separator.join(str(CONN[name]) for name in names))
    assert told(ending.join(lines) + ending, reading) == ZEEK_TOLD


def _nested(record: dict[str, Any]) -> dict[str, Any]:
    ids = {name[3:]: value for name, value in record.items() if name.startswith("id.")}
    return {**{name: value for name, value in record.items() if not name.startswith("id.")}, "id": ids}


_SHAPES: list[Callable[[dict[str, Any]], dict[str, Any]]] = [
    dict,
    _nested,
    lambda record: {name.replace("id.", "id_"): value for name, value in record.items()},
    lambda record: {"_path": "conn", "_system_name": "x", **record},
    lambda record: {"conn": record},
    lambda record: {"conn": _nested(record)},
]


@_several
@given(
    order=st.permutations(list(CONN)),
    unset=st.sets(st.sampled_from(_PASSED[:6])),
    null=st.booleans(),
    numbers=st.sampled_from([lambda value: value, float, str, lambda value: f"{value}.0"]),
    unit=st.sampled_from([1, 1e3, 1e6, "iso"]),
    shape=st.sampled_from(_SHAPES),
    layout=st.sampled_from([None, 2]),
)
def test_zeek_as_shippers_write_it(
    order: list[str],
    unset: set[str],
    null: bool,
    numbers: Callable[[Any], Any],
    unit: Any,
    shape: Callable[[dict[str, Any]], dict[str, Any]],
    layout: int | None,
    reading: Reading,
) -> None:
    record: dict[str, Any] = {name: CONN[name] for name in order}
    record = {name: numbers(value) if isinstance(value, int) else value for name, value in record.items()}
    for name in unset:
        record[name] = None
        if not null:
            del record[name]
    iso = datetime.fromtimestamp(START, UTC).isoformat().replace("+00:00", "Z")
    record["ts"] = iso if unit == "iso" else START * unit
    assert told(json.dumps(shape(record), indent=layout), reading) == ZEEK_TOLD


@pytest.mark.parametrize("form", ["json", "tsv"])
@pytest.mark.parametrize(
    ("kept", "packets", "octets"),
    [
        (("orig_bytes", "resp_bytes", "conn_state"), (6, 6), (100 + 6 * 40, 4000 + 6 * 40)),
        (("orig_bytes", "resp_bytes"), (1, 3), (140, 4120)),
        (("conn_state",), (3, 3), (120, 120)),
    ],
)
def test_what_zeek_was_not_asked_to_count_is_estimated_and_said(
    form: str, kept: tuple[str, ...], packets: tuple[int, int], octets: tuple[int, int], reading: Reading
) -> None:
    names = ["ts", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", *kept]
    content = json.dumps({name: CONN[name] for name in names})
    if form == "tsv":
        content = "\t".join(["#fields", *names]) + "\n" + "\t".join(str(CONN[name]) for name in names)
    found = told(content, reading)
    assert all(value > 0 for value in found[6:])
    assert found[7] >= 20 * found[6]
    assert found[7] + found[9] >= (4100 if "orig_bytes" in kept else 80)
    assert packets[0] >= 1
    assert octets[0] >= 40


# ---- VPC ----

VPC_TOLD = ("192.0.2.10", "198.51.100.7", 40000, 443, 6, 1700000000.0, 6, 420, 0, 0)
_ATHENA = {
    **{"account-id": "account", "interface-id": "interfaceid", "srcaddr": "sourceaddress"},
    **{"dstaddr": "destinationaddress", "srcport": "sourceport", "dstport": "destinationport"},
    **{"packets": "numpackets", "bytes": "numbytes", "start": "starttime", "end": "endtime"},
    "log-status": "logstatus",
}
_NAMES: list[Callable[[str], str]] = [
    str,
    lambda name: name.replace("-", "_"),
    lambda name: f"${{{name}}}",
    lambda name: f'"{name}"',
    lambda name: _ATHENA.get(name, name.replace("-", "")),
    str.upper,
]


@_several
@given(
    order=st.permutations(list(FIELDS)),
    dropped=st.sets(st.sampled_from(["version", "vpc-id", "end", "tcp-flags", "log-status", "pkt-srcaddr"])),
    separator=st.sampled_from([" ", "\t", ",", ";", "|", " | "]),
    name=st.sampled_from(_NAMES),
    packet_address=st.booleans(),
)
def test_vpc_as_a_header_names_it(
    order: list[str],
    dropped: set[str],
    separator: str,
    name: Callable[[str], str],
    packet_address: bool,
    reading: Reading,
) -> None:
    names = [one for one in order if one not in dropped]
    if packet_address and "pkt-srcaddr" in names:
        names.remove("srcaddr")
    content = separator.join(map(name, names)) + "\n" + separator.join(FIELDS[one] for one in names) + "\n"
    assert told(content, reading) == VPC_TOLD
    rows, _ = reading(content.encode())
    assert rows[0]["verdict"] >> 28 == Action.DROP


LINE = "2 123456789012 eni-0aa 192.0.2.10 198.51.100.7 40000 443 6 6 420 1700000000 1700000060 REJECT OK"
_ROWS = [{"Data": [{"VarCharValue": cell} if cell else {} for cell in row]} for row in (
    ["version", "srcaddr", "dstaddr", "srcport", "dstport", "protocol", "packets", "bytes", "start", "vpc_id"],
    ["2", "192.0.2.10", "198.51.100.7", "40000", "443", "6", "6", "420", "1700000000", ""],
)]  # fmt: skip


def _athena(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What `aws athena get-query-results` answers."""
    column = {"CatalogName": "hive", "TableName": "", "Name": "srcaddr", "Label": "srcaddr", "Type": "varchar"}
    return {"UpdateCount": 0, "ResultSet": {"Rows": rows, "ResultSetMetadata": {"ColumnInfo": [column]}}}


_EVENT = {"logStreamName": "eni-0aa-all", "timestamp": 1700000000000, "message": LINE, "ingestionTime": 1700000001000}
_CLOUDWATCH = {
    "default": LINE,
    "default with commas": LINE.replace(" ", ","),
    "default with semicolons": LINE.replace(" ", ";"),
    "tabs": LINE.replace(" ", "\t"),
    "export to S3": "2023-11-14T22:13:20.000Z " + LINE,
    "aws logs tail": "2023-11-14T22:13:20+00:00 eni-0aa-all " + LINE,
    "output text of get": f"b/3\tf/3\nEVENTS\t1700000001000\t{LINE}\t1700000000000\nSEARCHEDLOGSTREAMS\teni\tTrue",
    "output text": f"EVENTS\t361\t1700000001000\teni-0aa-all\t{LINE}\t1700000000000",
    "filter-log-events": json.dumps({"events": [_EVENT], "searchedLogStreams": []}, indent=4),
    "get-log-events": json.dumps({"events": [_EVENT], "nextForwardToken": "f/3", "nextBackwardToken": "b/3"}),
    "events alone": json.dumps(_EVENT),
    "array of events": json.dumps([_EVENT], indent=2),
    "subscription": json.dumps({"messageType": "DATA_MESSAGE", "logEvents": [{"id": "3", "message": LINE}]}),
    "get-query-results": json.dumps(
        {"results": [[{"field": "@ptr", "value": "C"}, {"field": "@message", "value": LINE}]], "status": "Complete"}
    ),
    "athena json": json.dumps({"srcaddr": "192.0.2.10", "dstaddr": "198.51.100.7", "srcport": 40000, "dstport": 443.0,
                               "protocol": 6, "packets": 6, "bytes": 420, "start": 1700000000, "end": None}),
    "athena": json.dumps(_athena(_ROWS), indent=4),
    "athena in two answers": json.dumps(_athena(_ROWS[:1])) + "\n" + json.dumps(_athena(_ROWS[1:])),
    "athena's rows": json.dumps(_athena(_ROWS)["ResultSet"]["Rows"]),
    "athena csv": 'srcaddr,dstaddr,srcport,dstport,protocol,packets,bytes,start\n'
                  '192.0.2.10,198.51.100.7,40000,443,6,6,420,"2023-11-14 22:13:20.000 UTC"',
    "opensearch": json.dumps({"_index": "cwl", "_source": {"@id": "3", "@message": LINE, "@log_group": "x"}}),
    "filebeat": json.dumps({"@timestamp": "x", "event": {"original": LINE}}),
    "splunk": json.dumps({"preview": False, "result": {"_raw": LINE}}),
    "insights fields": json.dumps({"srcAddr": "192.0.2.10", "dstAddr": "198.51.100.7", "srcPort": "40000",
                                   "dstPort": "443", "protocol": "6", "packets": "6", "bytes": "420",
                                   "start": "1700000000", "logStatus": "OK"}),
}  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        f"{LINE}\t{LINE}\t{LINE}\n",  # --query 'events[].message' --output text
        f"[{LINE!r}, {LINE!r}, {LINE!r}]\n".replace("'", '"'),
        "@timestamp,@message\n" + f'"2023-11-14 22:13:20.000","{LINE}"\n' * 3,
    ],
)
def test_many_vpc_records_of_one_line_or_under_a_line_of_names(content: str, reading: Reading) -> None:
    rows, stats = reading(content.encode())
    assert (int(rows["packets"].sum()), stats.records, stats.parse_errors.total) == (18, 3, 0)


@pytest.mark.parametrize("form", _CLOUDWATCH)
def test_vpc_as_cloudwatch_and_athena_hand_it_out(form: str, reading: Reading) -> None:
    assert told(_CLOUDWATCH[form] + "\n", reading) == VPC_TOLD


# ---- Argus ----

RA = {
    **{"StartTime": "2023/11/14 22:13:20.250000", "Flgs": " e      ", "Proto": "tcp", "SrcAddr": "192.0.2.10"},
    **{"Sport": "40000", "Dir": "   ->", "DstAddr": "198.51.100.7", "Dport": "443", "State": "FSPA_FSPA"},
    **{"TotPkts": "11", "TotBytes": "5020", "SrcPkts": "6", "SrcBytes": "420", "Dur": "1.5", "sTos": "0"},
}
_SHORT = {
    **{"StartTime": "stime", "SrcAddr": "saddr", "DstAddr": "daddr", "TotPkts": "pkts", "TotBytes": "bytes"},
    **{"SrcPkts": "spkts", "SrcBytes": "sbytes"},
}
_CLOCKS = [
    *("14.11.2023 22:13:20.250", "Tue 11/14/2023 22:13:20.250", "14-Nov-23 22:13:20.25", "Nov 14, 2023 22:13:20.25"),
    *("14 Nov 2023 22:13:20.25", "Tue, 14 Nov 2023 22:13:20.25"),
    "2023/11/14 22:13:20.250000",
    "1700000000.250000",
    "11/14/2023 22:13:20.250",
    "2023-11-14T22:13:20.250Z",
    *("2023/318 22:13:20.250", "2023-318T22:13:20.250Z", "2023.318.22:13:20.250", "Tue 14/Nov/2023 22:13:20.250"),
    *("11/14/2023 10:13:20.250 PM", "14.11.2023 10:13:20.250pm"),
]
_RA_NAMES: list[Callable[[str], str]] = [str, str.lower, lambda name: _SHORT.get(name, name.lower())]


@_several
@given(
    order=st.permutations(list(RA)),
    dropped=st.sets(st.sampled_from(["Flgs", "Dur", "sTos"])),
    separator=st.sampled_from([",", "\t", ";", "|"]),
    name=st.sampled_from(_RA_NAMES),
    clock=st.sampled_from(_CLOCKS),
    port=st.sampled_from(["443", "0x01bb", "https"]),
)
def test_argus_as_ra_writes_it(
    order: list[str],
    dropped: set[str],
    separator: str,
    name: Callable[[str], str],
    clock: str,
    port: str,
    reading: Reading,
) -> None:
    assume(separator not in clock)
    values = {**RA, "StartTime": clock, "Dport": port}
    names = [one for one in order if one not in dropped]
    content = separator.join(map(name, names)) + "\n" + separator.join(values[one] for one in names) + "\n"
    assert told(content, reading) == ZEEK_TOLD


# ---- Suricata and OCSF ----

_ZONES = ["22:13:20.250000+0000", "23:13:20.250000+0100", "22:13:20.250000Z", "22:13:20.25z", "22:13:20.25 UTC"]
_PROTOS = ["TCP", "tcp", "6", "006"]


@_several
@given(
    order=st.permutations(list(EVE)),
    zone=st.sampled_from(_ZONES),
    proto=st.sampled_from(_PROTOS),
    extra=st.dictionaries(st.sampled_from(["vlan", "in_iface", "host", "tcp", "community_id"]), st.none()),
    layout=st.sampled_from([None, 2]),
    number=st.sampled_from([1, 2**63 + 5, -1, 0, 1.5, True, "abc", "\ud800", None]),
)
def test_eve_flows(
    order: list[str],
    zone: str,
    proto: str,
    extra: dict[str, None],
    layout: int | None,
    number: Any,
    reading: Reading,
) -> None:
    flow: dict[str, Any] = {**{name: EVE[name] for name in order}, **extra, "proto": proto, "flow_id": number}
    flow["flow"] = {**flow["flow"], "start": f"2023-11-14T{zone}"}
    assert told(json.dumps(flow, indent=layout), reading) == ZEEK_TOLD


@pytest.mark.parametrize(
    ("name", "number"),
    [("IP-in-IP", 4), ("IPv6-ICMP", 58), ("ETHERIP", 97), ("IPv6", 41), ("OSPF", 89), ("ipnip", 4), ("AX.25", 93)],
)
def test_names_of_protocols_as_others_write_them(name: str, number: int, reading: Reading) -> None:
    assert told(json.dumps({**EVE, "proto": name}), reading)[4] == number


@_several
@given(
    order=st.permutations(list(OCSF)),
    time=st.sampled_from(
        [
            {"time": 1700000000000},
            {"time": 1700000000},
            {"time_dt": "2023-11-14T22:13:20Z"},
            {"start_time": 1700000000000000},
        ]
    ),
    port=st.sampled_from([443, "443", 443.0]),
    wrap=st.sampled_from(["{}", "[{}]", '{{"Records": [{}]}}', '{{"events": [{}], "nextToken": "x"}}']),
)
def test_ocsf(order: list[str], time: dict[str, Any], port: Any, wrap: str, reading: Reading) -> None:
    record: dict[str, Any] = {name: OCSF[name] for name in order if name != "time"} | time
    record["dst_endpoint"] = {"ip": "198.51.100.7", "port": port}
    assert told(wrap.format(json.dumps(record)), reading) == VPC_TOLD


# ---- the journal ----


def test_the_journal_is_known_by_what_the_daemon_writes() -> None:
    assert (EVENT.id, NUMBERS) == (journal.EVENT_ID, journal.NUMBERS)


def test_the_journals_export(reading: Reading) -> None:
    entry = {
        **{"__CURSOR": "s=1", "__REALTIME_TIMESTAMP": "1700000000250000", "MESSAGE": "LOG eth0 TCP"},
        **{"MESSAGE_ID": "30fb56ddb22d4063812a297a1c61dd63", "TRAFFICMON_TIMESTAMP": "1700000000"},
        **{"TRAFFICMON_TIMESTAMP_ISO": "2023-11-14T22:13:20.250Z", "TRAFFICMON_SRC_IP": "192.0.2.10"},
        **{"TRAFFICMON_DST_IP": "198.51.100.7", "TRAFFICMON_SRC_PORT": "40000", "TRAFFICMON_DST_PORT": "443"},
        **{"TRAFFICMON_PROTOCOL": "TCP", "TRAFFICMON_PROTOCOL_NUM": "6", "TRAFFICMON_PACKET_SIZE": "60"},
        **{"TRAFFICMON_ACTION": "LOG", "TRAFFICMON_INTERFACE": [101, 116, 104, 48, 255], "TRAFFICMON_EVENT": "new"},
    }
    other = {"__CURSOR": "s=2", "__REALTIME_TIMESTAMP": "1700000000250001", "MESSAGE": "trafficmond has started"}
    content = json.dumps(other) + "\n" + json.dumps(entry) + "\n"
    assert told(content, reading) == ("192.0.2.10", "198.51.100.7", 40000, 443, 6, START, 1, 60, 0, 0)

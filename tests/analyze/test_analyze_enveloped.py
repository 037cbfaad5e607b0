"""Records inside those of a shipper or behind what syslog wrote, and formats that are refused by their names."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from typing import Any

import pytest
from readings import Reading

from trafficmond.analyze.source import InputError

EVE: dict[str, Any] = {
    **{"timestamp": "2023-11-14T22:13:30.000000+0000", "event_type": "flow", "flow_id": 5, "src_ip": "192.0.2.10"},
    **{"src_port": 40000, "dest_ip": "198.51.100.7", "dest_port": 443, "proto": "TCP"},
    "flow": {
        **{"pkts_toserver": 6, "bytes_toserver": 420, "pkts_toclient": 5, "bytes_toclient": 4600},
        **{"start": "2023-11-14T22:13:20.250000+0000", "end": "2023-11-14T22:13:22.000000+0000"},
    },
}
ZEEK = {
    **{"ts": 1700000000.25, "uid": "C1", "id.orig_h": "192.0.2.10", "id.orig_p": 40000, "id.resp_h": "198.51.100.7"},
    **{"id.resp_p": 443, "proto": "tcp", "duration": 1.75, "orig_pkts": 6, "orig_ip_bytes": 420, "resp_pkts": 5},
    **{"resp_ip_bytes": 4600, "conn_state": "SF", "history": "ShADadFf"},
}
OWN = {
    **{"timestamp": 1700000000.25, "src_ip": "192.0.2.10", "src_port": 40000, "dst_ip": "198.51.100.7"},
    **{"dst_port": 443, "protocol": "TCP", "packet_size": 420, "action": "LOG"},
}
AT = "2023-11-14T22:13:31.000Z"


def _listed(record: dict[str, Any], before: str = "") -> dict[str, list[Any]]:
    """Each field with a list of its values, by its whole name, as a search for fields answers."""
    found: dict[str, list[Any]] = {}
    for name, value in record.items():
        found |= _listed(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: [value]}
    return found


def _csv(**row: Any) -> str:
    out = io.StringIO()
    table = csv.DictWriter(out, row, quoting=csv.QUOTE_ALL)
    table.writeheader()
    table.writerow(row)
    return out.getvalue()


SHAPES = {
    "Filebeat": lambda text: json.dumps({"@timestamp": AT, "log": {"file": {"path": "x"}}, "message": text}),
    "Docker": lambda text: json.dumps({"log": text + "\n", "stream": "stdout", "time": AT}),
    "ECS": lambda text: json.dumps({"@timestamp": AT, "event": {"kind": "event", "original": text}}),
    "Splunk": lambda text: json.dumps({"preview": False, "result": {"_raw": text, "host": "x"}}),
    "Splunk's HEC": lambda text: json.dumps({"time": 1, "sourcetype": "x", "event": json.loads(text)}),
    "Elasticsearch": lambda text: json.dumps({"_index": "x", "_source": json.loads(text)}),
    "rsyslog": lambda text: json.dumps({"msg": " " + text, "host": "x", "timereported": AT}),
    "Kafka's connectors": lambda text: json.dumps({"schema": None, "payload": text}),
    "Kibana": lambda text: json.dumps(
        {"_id": "x", "fields": {"@timestamp": [AT], "event.dataset": ["x"], "message": [text]}}
    ),
    "Kibana's fields": lambda text: json.dumps({"_id": "x", "fields": _listed(json.loads(text))}),
    "Kafka's REST": lambda text: json.dumps({"topic": "x", "offset": 1, "value": json.loads(text)}),
    "Kafka's text": lambda text: json.dumps({"topic": "x", "offset": 1, "value": text}),
    "NXLog": lambda text: json.dumps({"EventReceivedTime": AT, "raw_event": text}),
    "Fluent Bit": lambda text: json.dumps([[1700000011.0, {}], {"log": text}]),
    "OpenTelemetry": lambda text: json.dumps(
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": "1", "body": {"stringValue": text}}]}]}]}
    ),
    "Datadog": lambda text: json.dumps({"id": "x", "content": {"message": text, "attributes": {}}}),
    "ClickHouse": lambda text: json.dumps({"meta": [{"name": "x"}], "data": [json.loads(text)], "rows": 1}),
    "Azure": lambda text: json.dumps({"value": [{"TimeGenerated": AT, "RawData": text}]}),
    "Splunk's CSV": lambda text: _csv(_raw=text, _time=AT),
    "Graylog's CSV": lambda text: _csv(timestamp=AT, source="x", message=text),
    "CSV with backslashes": lambda text: '"at","message"\n"x","' + text.replace('"', '\\"') + '"',
    "fields as CSV": lambda text: _csv(**{name: value for name, (value,) in _listed(json.loads(text)).items()}),
    "names with points": lambda text: json.dumps({name: one for name, (one,) in _listed(json.loads(text)).items()}),
    "syslog": lambda text: "Nov 14 22:13:31 host suricata[77]: " + text,
    "a list of texts": lambda text: json.dumps([text]),
    "Redis": lambda text: f"1) {json.dumps(text)}",
    "logfmt": lambda text: f"level=info msg={json.dumps(text)}",
    "Splunk's rows": lambda text: json.dumps({"preview": False, "fields": ["_raw"], "rows": [[text]]}),
    "Loki's text": lambda text: f'{AT} {{job="x", host="y"}} {text}',
    "CEE": lambda text: "<142>Nov 14 22:13:31 host suricata: @cee: " + text,
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("record", [EVE, ZEEK, OWN], ids=["EVE", "Zeek", "own"])
def test_a_record_is_taken_out_of_its_envelope(record: dict[str, Any], shape: Any, reading: Reading) -> None:
    plain, _ = reading((json.dumps(record) + "\n").encode())
    rows, stats = reading((shape(json.dumps(record)) + "\n").encode())
    assert stats.parse_errors.total == 0
    assert len(plain)
    assert rows.tolist() == plain.tolist()


@pytest.mark.parametrize("record", [EVE, ZEEK], ids=["EVE", "Zeek"])
def test_fields_of_gelf_are_those_of_the_record(record: dict[str, Any], reading: Reading) -> None:
    """GELF has underscores before all but its own fields; Fluent Bit and Graylog put one between nested names, too."""
    fields = {f"_{name.replace('.', '_')}": value for name, (value,) in _listed(record).items()}
    plain, _ = reading(json.dumps(record).encode())
    own = {"version": "1.1", "host": "x", "short_message": "-", "timestamp": 1700000011.5}
    rows, stats = reading(json.dumps(own | fields).encode())
    assert stats.parse_errors.total == 0
    assert len(plain)
    assert rows.tolist() == plain.tolist()


def test_every_record_of_a_list_is_taken_out(reading: Reading) -> None:
    streams = {
        "streams": [{"labels": {}, "entries": [{"line": json.dumps({**EVE, "flow_id": at})} for at in (1, 2, 3)]}]
    }
    of_text = {"kind": "x", "lines": json.dumps([{**EVE, "flow_id": at} for at in (1, 2, 3)])}
    for content in (streams, of_text):
        rows, stats = reading(json.dumps(content).encode())
        assert (int(rows["packets"].sum()), stats.parse_errors.total) == (33, 0)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param({f"suricata.eve.{name}": one for name, (one,) in _listed(EVE).items()} | {"a": 1}, id="Filebeat"),
        pytest.param({name.replace(".", "_"): one for name, (one,) in _listed(EVE).items()}, id="Graylog"),
        pytest.param({**EVE, "flow": {**EVE["flow"], "start": {"$date": "2023-11-14T22:13:20.250Z"},
                                      "bytes_toserver": {"$numberLong": "420"}}}, id="MongoDB"),
        pytest.param({**ZEEK, "ts": {"$date": 1700000000250}, "duration": {"$numberDouble": "1.75"},
                      "orig_pkts": {"$numberLong": "6"}}, id="MongoDB, Zeek"),
    ],
)  # fmt: skip
def test_programs_that_store_records_change_their_form(event: dict[str, Any], reading: Reading) -> None:
    plain, _ = reading(json.dumps(ZEEK if "ts" in event else EVE).encode())
    rows, stats = reading(json.dumps(event).encode())
    assert (rows.tolist(), stats.parse_errors.total) == (plain.tolist(), 0)


def test_a_table_of_kibana_has_numbers_and_times_as_it_shows_them(reading: Reading) -> None:
    rows, stats = reading(
        b'"@timestamp","source.ip","source.port","source.bytes","source.packets","destination.ip","destination.port",'
        b'"network.transport"\n"Nov 14, 2023 @ 22:13:20.250","192.0.2.10","40,000","1,420",6,"198.51.100.7",443,tcp\n'
        b'"Nov 14, 2023 @ 22:13:20.250","192.0.2.10"\n'
        b'"Nov 31, 2023 @ 22:13:20.250","192.0.2.10","40,000","1,420",6,"198.51.100.7",443,tcp\n'
    )
    assert [(row["sport"], row["bytes"], row["first"]) for row in rows] == [(40000, 1420, 1700000000.25)]
    assert stats.parse_errors.kinds == {"2 cells instead of 8": 1, "no flow": 1}


def test_lines_without_a_record_among_those_with_one_are_damage(reading: Reading) -> None:
    wrapped = SHAPES["syslog"](json.dumps(EVE))
    again = SHAPES["syslog"](json.dumps({**EVE, "flow_id": 6}))
    rows, stats = reading(f"{wrapped}\nNov 14 host kernel: no record\n{again}\n".encode())
    assert int(rows["packets"].sum()) == 22
    assert stats.parse_errors.kinds == {"not JSON": 1}


def test_envelopes_that_lie_in_each_other_end(reading: Reading) -> None:
    deep = json.dumps(EVE)
    for _ in range(50):
        deep = '{"event": ' + deep + "}"
    with pytest.raises(InputError, match="unknown format"):
        reading(deep.encode())


@pytest.mark.parametrize("kind", ["flow", "netflow"])
def test_names_with_points_are_objects(kind: str, reading: Reading) -> None:
    event: dict[str, Any] = {**EVE, "event_type": kind}
    if kind == "netflow":
        event["netflow"] = {"pkts": 6, "bytes": 420, "start": EVE["flow"]["start"], "end": EVE["flow"]["end"]}
        del event["flow"]
    inner = event[kind]
    pointed = {name: value for name, value in event.items() if name != kind}
    pointed |= {f"{kind}.{name}": value for name, value in inner.items()}
    plain, _ = reading(json.dumps(event).encode())
    rows, stats = reading(json.dumps(pointed).encode())
    assert (rows.tolist(), stats.parse_errors.total) == (plain.tolist(), 0)


@pytest.mark.parametrize("scale", [10**3, 10**6, 10**9])
def test_times_of_our_own_log_in_smaller_units(scale: int, reading: Reading) -> None:
    rows, stats = reading(json.dumps({**OWN, "timestamp": round(1700000000.25 * scale)}).encode())
    assert (rows["first"].tolist(), stats.parse_errors.total) == ([1700000000.25], 0)


def test_a_class_in_quotes_is_the_same_class(reading: Reading) -> None:
    event = {
        **{"class_uid": "4001", "start_time": 1700000000250, "end_time": 1700000001000},
        **{"src_endpoint": {"ip": "192.0.2.10", "port": 1}, "dst_endpoint": {"ip": "198.51.100.7", "port": 2}},
        **{"connection_info": {"protocol_num": 6}, "traffic": {"packets": 6, "bytes": 420}},
    }
    rows, stats = reading(json.dumps(event).encode())
    assert (int(rows["packets"].sum()), dict(stats.parse_errors.kinds)) == (6, {})


def _tar() -> bytes:
    content, out = json.dumps(EVE).encode(), io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("eve.json")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:  # not compressed: the record can be seen in it
        archive.writestr("eve.json", json.dumps(EVE) + "\n")
    return out.getvalue()


AZURE = '{"records": [{"category": "x", "properties": {"flows": [{"flows": [{"flowTuples": ["1,192.0.2.1"]}]}]}}]}'


@pytest.mark.parametrize(
    ("content", "name", "step"),
    [
        pytest.param(_tar(), "a tar archive", "tar -xOf", id="tar"),
        pytest.param(_zip(), "a zip archive", "unzip -p", id="zip"),
        pytest.param(b"PAR1" + bytes(50), "a Parquet file", "duckdb", id="Parquet"),
        pytest.param(b"Obj\x01" + bytes(50), "an Avro file", "avro", id="Avro"),
        pytest.param(json.dumps(EVE).encode("utf-16-le"), "text in UTF-16", "iconv", id="UTF-16 without a mark"),
        pytest.param(b'{"jsonPayload": {}, "logName": "x"}', "Google Cloud", "srcaddr", id="Google"),
        pytest.param(AZURE.encode(), "Azure", "srcaddr", id="Azure"),
        pytest.param(b"ts,te,td,sa,da,sp,dp,pr,flg\n", "records of nfdump", "srcaddr", id="nfdump"),
        pytest.param(b"firstSeen,duration,proto,srcAddr\n", "records of nfdump", "srcaddr", id="nfdump 1.7.5"),
        pytest.param(b"PROTOCOL,IPV4_SRC_ADDR,IN_BYTES\n", "records of nProbe", "StartTime", id="nProbe"),
        pytest.param(b'{"1":420,"8":"192.0.2.1","12":"192.0.2.2"}', "records of nProbe", "StartTime", id="by number"),
        pytest.param(b"  sIP|  dIP|sPort|\n", "SiLK", "srcaddr", id="SiLK"),
        pytest.param(
            b'{"@timestamp": "x", "source": {"ip": "192.0.2.1"}, "destination": {}}', "Elastic", "StartTime", id="ECS"
        ),
        pytest.param(b"22:13:20.250000 IP 192.0.2.1.1 > 192.0.2.2.2: x\n", "text of tcpdump", "capture", id="tcpdump"),
        pytest.param(b"Nov 14 h kernel: IN=e0 OUT= SRC=192.0.2.1 DST=192.0.2.2 x\n", "iptables", "srcaddr", id="ufw"),
    ],
)
def test_what_is_not_read_is_refused_by_its_name(content: bytes, name: str, step: str, reading: Reading) -> None:
    with pytest.raises(InputError, match=name) as caught:
        reading(content)
    assert step in caught.value.hint


def test_what_the_refusal_asks_for_is_read(reading: Reading) -> None:
    vpc = "srcaddr dstaddr srcport dstport protocol packets bytes start end\n"
    argus = "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,SrcPkts,DstPkts,SrcBytes,DstBytes\n"
    for content in (
        vpc + "192.0.2.10 198.51.100.7 40000 443 6 6 420 1700000000 1700000001\n",
        argus + "1700000000.25,1.5,tcp,192.0.2.10,40000,->,198.51.100.7,443,6,5,420,4600\n",
    ):
        rows, stats = reading(content.encode())
        assert int(rows["packets"].sum()) in (6, 11)
        assert stats.parse_errors.total == 0

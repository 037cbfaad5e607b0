"""Records in the answers of what they were searched in: Elasticsearch, Splunk, AWS; one answer after another."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from readings import Reading
from test_analyze_enveloped import EVE, ZEEK
from test_analyze_forms import LINE

from trafficmond.abi import ACTION_SHIFT
from trafficmond.analyze import source
from trafficmond.model import Action, Direction

Record = dict[str, Any]
MORE = {
    "EVE": [EVE, {**EVE, "flow_id": 6, "src_port": 40001}],
    "Zeek": [ZEEK, {**ZEEK, "uid": "C2", "id.orig_p": 40001}],
}


def hits(*records: Record, **before: Any) -> Record:
    found = [{"_index": "x", "_id": str(at), "_score": 1.0, "_source": record} for at, record in enumerate(records)]
    total = {"value": len(records), "relation": "eq"}
    shards = {"total": 1, "successful": 1, "skipped": 0, "failed": 0}
    return {**before, "took": 3, "_shards": shards, "hits": {"total": total, "max_score": 1.0, "hits": found}}


def beat(record: Record) -> Record:
    """As Filebeat with a JSON parser writes a record beside its own fields."""
    return {"@timestamp": "2023-11-14T22:13:31Z", "log": {"offset": 7}, "event": {"module": "x"}, **record}


ANSWERS = {
    "a search": lambda one, two: json.dumps(hits(one, two)),
    "a search, laid out": lambda one, two: json.dumps(hits(one, two), indent=2),
    "pages of a scroll": lambda *records: "\n".join(json.dumps(hits(one, _scroll_id="a=")) for one in records),
    "pages of OpenSearch": lambda *records: "".join(json.dumps(hits(one, pit_id="a")) for one in records),
    "with nothing between": lambda one, two: json.dumps(hits(one)) + json.dumps(hits()) + json.dumps(hits(two)),
    "with sums behind": lambda *records: "\n".join(
        json.dumps({**hits(one), "aggregations": {"x": {"buckets": [{"key": 1}]}}}) for one in records
    ),
    "many searches": lambda *records: json.dumps({"took": 1, "responses": [hits(one) for one in records]}),
    "of Filebeat": lambda *records: json.dumps(hits(*map(beat, records))),
    "of Filebeat, the lines": lambda *records: json.dumps(
        hits(*({"log": {"offset": 7}, "event": {"original": json.dumps(one)}} for one in records))
    ),
    "Splunk's": lambda *records: json.dumps(
        {"preview": False, "messages": [], "results": [{"_raw": json.dumps(one)} for one in records]}
    ),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("records", MORE.values(), ids=MORE)
@pytest.mark.parametrize("padding", [0, 1000, 4000, 4321, 9000])
def test_the_records_of_an_answer_are_read(
    records: list[Record], answer: Any, padding: int, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever of it is read at a time: an answer that goes on behind what was read, and lists that end there."""
    monkeypatch.setattr(source, "HEAD", 4096)
    monkeypatch.setattr(source.Source.read, "__defaults__", (4096,))
    rows, stats = reading(answer(*({**record, "payload": "x" * padding} for record in records)).encode())
    assert (int(rows["packets"].sum()), stats.parse_errors.kinds) == (22, {})
    assert {40000, 40001} <= set(rows["sport"].tolist())


def test_an_answer_larger_than_an_object_may_be(reading: Reading) -> None:
    records = [{**EVE, "flow_id": number + 1, "payload": "x" * 2000} for number in range(1000)]
    _, stats = reading(json.dumps(hits(*records)).encode())
    assert (stats.seen.packets, stats.parse_errors.kinds) == (11000, {})


@pytest.mark.parametrize("layout", [None, 4])
@pytest.mark.parametrize(
    "behind", [{}, {"nextForwardToken": "f/1"}, {"searchedLogStreams": [{"logStreamName": "x", "done": True}]}]
)
def test_pages_of_aws_are_read_one_after_the_other(layout: int | None, behind: Record, reading: Reading) -> None:
    pages = [
        {"events": [{"timestamp": 1, "message": LINE.replace("40000", str(port))}], **behind} for port in (1, 2, 3)
    ]
    rows, stats = reading("\n".join(json.dumps(page, indent=layout) for page in pages).encode())
    assert (set(rows["sport"].tolist()), stats.records, stats.parse_errors.kinds) == ({1, 2, 3}, 3, {})


def test_results_behind_the_language_of_the_query(reading: Reading) -> None:
    answer = {"queryLanguage": "CWLI", "results": [[{"field": "@message", "value": LINE}]], "status": "Complete"}
    _, stats = reading(json.dumps(answer).encode())
    assert (stats.records, stats.parse_errors.kinds) == (1, {})


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(lambda text: {"version": "1.1", "short_message": text, "timestamp": 1.5}, id="Graylog"),
        pytest.param(lambda text: {"labels": {"job": "x"}, "line": text, "timestamp": "x"}, id="Loki's logcli"),
        pytest.param(lambda text: {"logName": "x", "jsonPayload": json.loads(text)}, id="Google Cloud"),
        pytest.param(lambda text: {"@timestamp": "x", "log": {"offset": 1}, "json": json.loads(text)}, id="Filebeat"),
        pytest.param(lambda text: {"__CURSOR": "s=1", "MESSAGE": "@cee: " + text}, id="the journal"),
        pytest.param(lambda text: {"rule": {"level": 3}, "id": "1.2", "data": json.loads(text)}, id="Wazuh"),
    ],
)
@pytest.mark.parametrize("records", MORE.values(), ids=MORE)
def test_other_envelopes(records: list[Record], shape: Any, reading: Reading) -> None:
    _, stats = reading("\n".join(json.dumps(shape(json.dumps(record))) for record in records).encode())
    assert (stats.seen.packets, stats.parse_errors.kinds) == (22, {})


GATEWAY = (
    "6 TransitGateway 123456789012 tgw-1 tgw-attach-1 123456789012 123456789012 vpc-1 vpc-2 subnet-1 subnet-2 eni-1 "
    "eni-2 use1-az1 use1-az2 tgw-attach-2 192.0.2.10 198.51.100.7 40000 443 6 6 420 1700000000 1700000060 OK IPv4 0 0 "
    "0 0 2 us-east-1 ingress - -"
)


@pytest.mark.parametrize(
    "text",
    [
        GATEWAY,
        "2023-11-14T22:13:20.000Z " + GATEWAY,
        GATEWAY.replace(" ", "\t"),
        json.dumps({"events": [{"timestamp": 1, "message": GATEWAY}]}),
        json.dumps({"messageType": "DATA_MESSAGE", "logEvents": [{"id": "1", "message": GATEWAY}]}),
    ],
)
def test_a_transit_gateway_without_the_names_of_its_fields(text: str, reading: Reading) -> None:
    rows, stats = reading((text + "\n").encode())
    assert (stats.seen.packets, stats.seen.bytes, stats.parse_errors.kinds) == (6, 420, {})
    assert {(row["sport"], row["dport"], row["proto"], row["first_flags"]) for row in rows} == {(40000, 443, 6, 2)}
    assert stats.ifindex("tgw-attach-1") == rows[0]["ifindex"]


def test_the_fields_that_a_subscription_found_are_read_if_they_have_awss_names(reading: Reading) -> None:
    named = {"dstaddr": "198.51.100.7", "srcaddr": "192.0.2.10", "srcport": "40000", "dstport": "443", "bytes": "420"}
    named |= {"protocol": "6", "packets": "6", "start": "1700000000", "tcp_flags": "2"}
    own = {"source": "192.0.2.10", "destination": "198.51.100.7"}
    events = [{"id": "1", "message": "a format of its own", "extractedFields": named}]
    events += [{"id": "2", "message": LINE, "extractedFields": own}]
    _, stats = reading(json.dumps({"messageType": "DATA_MESSAGE", "logEvents": events}).encode())
    assert (stats.records, stats.parse_errors.kinds) == (2, {})


def test_cloudwatch_trying_the_way_is_no_damage(reading: Reading) -> None:
    trial = {"messageType": "CONTROL_MESSAGE", "logEvents": [{"id": "", "message": "CWL CONTROL MESSAGE: Checking."}]}
    real = {"messageType": "DATA_MESSAGE", "logEvents": [{"id": "1", "message": LINE}]}
    _, stats = reading((json.dumps(trial) + json.dumps(real)).encode())
    assert (stats.records, stats.parse_errors.kinds) == (1, {})


_EVENT = {
    "class_uid": "4001", "time": "1700000000250", "action_id": "2",
    "src_endpoint": {"ip": "192.0.2.10", "port": "40000"}, "dst_endpoint": {"ip": "2001:db8::7", "port": "443"},
    "traffic": {"packets": "6", "bytes": "420"}, "connection_info": {"protocol_num": "6", "direction_id": "2"},
}  # fmt: skip


def _table(cells: dict[str, str]) -> str:
    return ",".join(cells) + "\n" + ",".join(f'"{cell}"' for cell in cells.values()) + "\n"


def _flat(joint: str) -> dict[str, str]:
    parts = {name: part if isinstance(part, dict) else {"": part} for name, part in _EVENT.items()}
    return {
        name + (joint + inner if inner else ""): value for name, part in parts.items() for inner, value in part.items()
    }


def _cells(written: Callable[[dict[str, str]], str]) -> dict[str, str]:
    return {name: written(part) if isinstance(part, dict) else part for name, part in _EVENT.items()}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(_table(_flat(".")), id="names with points"),
        pytest.param(_table(_flat("_")), id="names with underscores"),
        pytest.param(json.dumps(_flat(".")), id="JSON, names with points"),
        pytest.param(_table(_cells(lambda part: json.dumps(part).replace('"', '""'))), id="JSON in cells"),
        pytest.param(_table(_cells(str)), id="pandas"),
        pytest.param(_table(_cells(lambda part: str(part).replace("'", "").replace(": ", "="))), id="Athena"),
    ],
)
def test_ocsf_in_tables(content: str, reading: Reading) -> None:
    rows, stats = reading(content.encode())
    assert stats.parse_errors.total == 0
    assert [(row["sport"], row["dport"], row["packets"], row["bytes"], row["direction"]) for row in rows] == [
        (40000, 443, 6, 420, Direction.EGRESS)
    ]
    assert [int(row["verdict"]) >> ACTION_SHIFT for row in rows] == [Action.DROP]


def test_a_flow_in_a_cell_of_pandas(reading: Reading) -> None:
    cells = {name: str(value) for name, value in EVE.items()}
    rows, stats = reading(_table(cells).encode())
    expected, _ = reading(json.dumps(EVE).encode())
    assert stats.parse_errors.total == 0
    assert (
        rows[["sport", "dport", "packets", "bytes", "first"]].tolist()
        == expected[["sport", "dport", "packets", "bytes", "first"]].tolist()
    )


def test_the_default_question_to_cloudwatch_is_answered_with_its_own_time(reading: Reading) -> None:
    result = [{"field": "@timestamp", "value": "2023-11-14 22:13:20.000"}, {"field": "@message", "value": LINE}]
    _, stats = reading(json.dumps({"results": [[*result, {"field": "@ptr", "value": "x"}]]}).encode())
    assert (stats.parse_errors.total, stats.records) == (0, 1)


def test_the_names_of_a_table_of_whole_messages_are_no_damage(reading: Reading) -> None:
    _, stats = reading(f'"_time","_raw"\n"2023-11-14T22:13:20","{LINE}"\n'.encode())
    assert (stats.parse_errors.total, stats.records) == (0, 1)

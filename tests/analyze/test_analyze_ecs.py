"""Events in the Elastic Common Schema: one connection each, however it is told and however often."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from readings import Reading

from trafficmond.analyze.run import analyze
from trafficmond.analyze.source import InputError
from trafficmond.config.settings import Settings

Event = dict[str, Any]
EVENT: Event = {
    "@timestamp": "2023-11-14T22:13:30.000Z",
    "event": {"start": "2023-11-14T22:13:20.250Z", "end": "2023-11-14T22:13:22.000Z", "duration": 1750000000},
    "source": {"ip": "192.0.2.10", "port": 40000, "packets": 6, "bytes": 420},
    "destination": {"ip": "198.51.100.7", "port": 443, "packets": 5, "bytes": 4600},
    "network": {"transport": "tcp", "bytes": 5020, "packets": 11},
    "log": {"offset": 7},
    "agent": {"type": "filebeat"},
}
TOLD = ("192.0.2.10", 40000, "198.51.100.7", 443, "TCP", 11, 5020)


def pointed(event: Event) -> Event:
    return {
        f"{outer}.{name}" if isinstance(value, dict) else outer: inner
        for outer, value in event.items()
        for name, inner in (value.items() if isinstance(value, dict) else [("", value)])
    }


def report(path: Path, *texts: str) -> dict[str, Any]:
    paths = []
    for number, text in enumerate(texts):
        paths.append(str(path / f"in{number}"))
        Path(paths[-1]).write_text(text)
    found = analyze(paths, Settings(), 0.0)
    assert found["damage"]["total"] == 0, found["damage"]
    return dict(found)


def flows(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    names = ("src_ip", "src_port", "dst_ip", "dst_port", "protocol", "packets", "bytes")
    return [tuple(flow[name] for name in names) for flow in found["flow_analysis"]["top_flows"]]


def without(event: Event, *names: str) -> Event:
    return {
        outer: {name: inner for name, inner in value.items() if f"{outer}.{name}" not in names}
        if isinstance(value, dict)
        else value
        for outer, value in event.items()
    }


ZEEK = without(
    {**EVENT, "@timestamp": "2023-11-14T22:13:20.250Z", "zeek": {"session_id": "C1"}}, "event.start", "event.end"
)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(EVENT, id="nested"),
        pytest.param(pointed(EVENT), id="with points"),
        pytest.param(without(EVENT, "event.start"), id="end and duration"),
        pytest.param(without(EVENT, "event.end"), id="start and duration"),
        pytest.param(ZEEK, id="Filebeat's Zeek"),
        pytest.param(
            {**pointed(ZEEK), "@timestamp": 1700000000250, "event.type": ["connection"]}, id="its expected files"
        ),
        pytest.param({"_id": "x", "fields": {n: [v] for n, v in pointed(EVENT).items()}}, id="Kibana's fields"),
        pytest.param({**EVENT, "network": {"iana_number": "6"}}, id="number of the protocol"),
        pytest.param({name: [value] for name, value in pointed(EVENT).items()}, id="lists"),
        pytest.param({"_index": "x", "_source": EVENT}, id="a hit"),
        pytest.param({"took": 1, "hits": {"hits": [{"_id": "1", "_source": EVENT}]}}, id="an answer"),
    ],
)
def test_an_event_is_the_connection_it_tells_of(event: Event, tmp_path: Path) -> None:
    found = report(tmp_path, json.dumps(event))
    assert flows(found) == [TOLD]
    times = [found["summary"][name] for name in ("start_time", "end_time")]
    assert times == ["2023-11-14T22:13:20.250Z", "2023-11-14T22:13:22.000Z"]


def test_a_connection_is_counted_once(tmp_path: Path) -> None:
    """Packetbeat tells of it again and again, of all of it; Suricata's module with each alert, in any file."""
    half = {
        "source": {**EVENT["source"], "packets": 3, "bytes": 200},
        "destination": {**EVENT["destination"], "packets": 1},
    }
    beats = [
        {**EVENT, **half, "flow": {"id": "EAT", "final": False}},
        {**EVENT, "flow": {"id": "EAT", "final": True}},
    ]
    suricata = [
        {**EVENT, **half, "suricata": {"eve": {"flow_id": "7", "event_type": "alert"}}},
        {**EVENT, "suricata": {"eve": {"flow_id": "7", "event_type": "flow"}}},
    ]
    for events in (beats, suricata):
        assert flows(report(tmp_path, "\n".join(map(json.dumps, events)))) == [TOLD]
        assert flows(report(tmp_path, *map(json.dumps, reversed(events)))) == [TOLD]


@pytest.mark.parametrize("order", [1, -1])
def test_netflow_has_one_id_for_both_directions(order: int, tmp_path: Path) -> None:
    """Filebeat's input for NetFlow: each event is one direction; both may begin in one millisecond."""
    told = {
        **without(EVENT, "destination.packets", "destination.bytes"),
        "flow": {"id": "x"},
        "input": {"type": "netflow"},
    }
    back = {**told, "source": {**EVENT["destination"]}, "destination": {"ip": "192.0.2.10", "port": 40000}}
    assert flows(report(tmp_path, "\n".join(map(json.dumps, (told, back)[::order])))) == [TOLD]
    assert flows(report(tmp_path, *map(json.dumps, (told, back, told, back)[::order]))) == [TOLD]


def test_an_end_may_have_its_address_only(reading: Reading) -> None:
    """Which may also be a name; ECS has IPs in another field."""
    told = json.loads(json.dumps(EVENT).replace('"ip"', '"address"'))
    named = json.loads(json.dumps(told).replace("192.0.2.10", "host.example"))
    _, stats = reading("\n".join(map(json.dumps, (told, named))).encode())
    assert (stats.seen.packets, stats.parse_errors.total) == (11, 1)


def test_what_was_not_counted_is_estimated_or_said(reading: Reading) -> None:
    bare = without(EVENT, "source.packets", "destination.packets", "network.packets")
    other = {
        **EVENT,
        "source": {"ip": "192.0.2.10"},
        "destination": {"ip": "192.0.2.11"},
        "network": {"transport": "udp"},
    }
    rows, stats = reading("\n".join(map(json.dumps, (bare, other))).encode())
    assert (stats.seen.packets, stats.seen.bytes, stats.parse_errors.kinds) == (1 + 4, 5020, {})
    assert set(rows["proto"].tolist()) == {6}


@pytest.mark.parametrize(
    "told",
    [{"type": ["connection", "denied"]}, {"type": "denied"}, {"action": "flow_denied"}, {"outcome": "REJECT"}],
    ids=repr,
)
def test_one_direction_that_only_the_network_counts(told: Event, tmp_path: Path) -> None:
    """Filebeat's modules say in several places that it was denied."""
    event = without(EVENT, *(f"{side}.{unit}" for side in ("source", "destination") for unit in ("packets", "bytes")))
    event["event"] = {**event["event"], **told}
    found = report(tmp_path, json.dumps(event))
    assert flows(found) == [TOLD]
    assert found["action_distribution"]["DROP"]["packets"] == 11


@pytest.mark.parametrize(("kind", "family"), [("icmp", 4), ("ipv6-icmp", 6), ("icmp", 6)])
def test_icmp_of_unknown_type(kind: str, family: int, tmp_path: Path) -> None:
    ends = ("192.0.2.10", "192.0.2.11") if family == 4 else ("2001:db8::1", "2001:db8::2")
    event = {**EVENT, "network": {"transport": kind}}
    event |= {
        side: {"ip": ip, "packets": 1, "bytes": 98} for side, ip in zip(("source", "destination"), ends, strict=True)
    }
    ((src, sport, dst, _, name, packets, _),) = flows(report(tmp_path, json.dumps(event)))
    assert (src, sport, dst, packets) == (ends[0], None, ends[1], 2)
    assert name == ("ICMP" if family == 4 else "ICMPv6")


def test_an_original_is_read_instead(reading: Reading) -> None:
    own = {"timestamp": 1700000000.25, "src_ip": "192.0.2.1", "dst_ip": "192.0.2.2", "protocol": "UDP"}
    line = json.dumps({**own, "packet_size": 60, "action": "LOG"})
    _, stats = reading(json.dumps({**EVENT, "event": {"original": line}}).encode())
    assert (stats.seen.packets, stats.seen.bytes) == (1, 60)


def test_events_without_counts_are_refused_by_name(reading: Reading) -> None:
    names = (
        "source.packets",
        "source.bytes",
        "destination.packets",
        "destination.bytes",
        "network.bytes",
        "network.packets",
    )
    with pytest.raises(InputError, match="Elastic Common Schema"):
        reading(json.dumps(without(EVENT, *names)).encode())


@pytest.mark.parametrize(
    "spoiled", [{"source.ip": "x"}, {"network.transport": "x"}, {"source.bytes": -1}, {"event.start": "x"}]
)
def test_what_is_none_is_damage(spoiled: Event, reading: Reading) -> None:
    good = pointed(EVENT)
    _, stats = reading("\n".join(map(json.dumps, (good, {**good, **spoiled}))).encode())
    assert (stats.seen.packets, stats.parse_errors.kinds) == (11, {"no flow": 1})

from __future__ import annotations

from typing import Any

import pytest
from detect_traffic import ACK, FIN, SYN, datagram, flow, many, refused, talk, watch

from trafficmond.detect.detectors.syn_flood import SynFlood
from trafficmond.model import Severity

V = "192.0.2.80"


def flood(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [flow(source, V, 443, **fields) for source in many(count)]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"first_flags": SYN | 0xC0, "tcp_flags": SYN | 0xC0},
        {"reply_packets": 1, "reply_tcp_flags": SYN | ACK},  # the victim answers, nobody goes on
        {"packets": 2, "tcp_flags": SYN | 4, "reply_packets": 1, "reply_tcp_flags": SYN | ACK},  # the forged ones reset
    ],
    ids=["silent", "ecn", "half open", "reset"],
)
def test_forged_sources_are_one_threat_that_names_the_victim(fields: dict[str, Any]) -> None:
    (threat,) = watch(SynFlood).see(flood(3000, **fields))
    assert (threat.src_ip, threat.dst_ip) == (None, V)
    assert threat.severity >= Severity.HIGH
    assert threat.evidence["unfinished"] > 2500


def test_a_single_source_is_named() -> None:
    (threat,) = watch(SynFlood).see(flow("203.0.113.4", V, 80, sport=port) for port in range(1024, 3000))
    assert threat.src_ip == "203.0.113.4"


def test_one_tuple_over_and_over_counts_by_packets() -> None:
    hping = watch(SynFlood)
    row = flow("203.0.113.4", V, 80, id=5)
    hping.see([row])
    found = hping.see([{**row, "new": False, "packets": 9001, "d_packets": 9000}])
    assert [threat.dst_ip for threat in found] == [V]


def test_random_ports_of_one_victim() -> None:
    found = watch(SynFlood).see(flow(source, V, 1 + n) for n, source in enumerate(many(4000)))
    assert [(threat.dst_ip, threat.evidence["ports"]) for threat in found] == [(V, [])]


@pytest.mark.parametrize(
    "rows",
    [
        [talk(flow(source, V, 443)) for source in many(3000)],  # a load test
        flood(250),
        [*flood(400), *(talk(flow(source, V, 443)) for source in many(2000, "11.0.0.0/8"))],  # a server that copes
        [refused(flow("10.0.0.1", V, 80, sport=port)) for port in range(2000, 2900)],  # a client of a stopped service
        [flow("10.0.0.1", V, port) for port in range(1, 3000)],  # a port scan
        [flow("10.0.0.1", host, 80) for host in many(3000, "11.0.0.0/8")],  # a sweep
    ],
    ids=["load test", "few", "copes", "refused", "scan", "sweep"],
)
def test_ordinary_openings_are_no_flood(rows: list[dict[str, Any]]) -> None:
    assert watch(SynFlood).see(rows) == []


def test_a_trickle_never_adds_up() -> None:
    detector = watch(SynFlood)
    assert [detector.see(flood(20), after=9) for _ in range(40)] == [[]] * 40


def test_a_client_that_is_refused_hundreds_of_times_a_second_is_a_note() -> None:
    rows = [refused(flow("203.0.113.4", V, 80, sport=port)) for port in range(2000, 5000)]
    (threat,) = watch(SynFlood).see(rows)
    assert (threat.src_ip, threat.severity) == ("203.0.113.4", Severity.LOW)


@pytest.mark.parametrize(("each", "severity"), [(1, Severity.LOW), (20, Severity.CRITICAL)])
def test_clients_of_a_stopped_service_come_back_at_their_pace_and_bots_at_theirs(each: int, severity: Severity) -> None:
    watching, found = watch(SynFlood), []
    for turn in range(15):  # no answer was seen
        clients = many(100)[turn % 2 :: 2] * each
        found += watching.see([flow(source, V, 443, first=watching.now, sport=sport) for sport, source in
                               enumerate(clients, 1024)])  # fmt: skip
    assert max(threat.severity for threat in found) == severity


OUTSIDE = many(400, "11.0.0.0/8")
OPEN = {"packets": 2, "tcp_flags": SYN | ACK, "reply_packets": 1, "reply_tcp_flags": SYN | ACK}
INITIAL = {"first_len": 1242, "bytes": 1242, "reply_packets": 3, "reply_bytes": 3700}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([flow("203.0.113.4", V, 443, sport=2000 + n, **OPEN) for n in range(400)], True),
        ([flow(source, V, 80, **OPEN) for source in OUTSIDE], True),
        ([datagram(source, V, 443, **INITIAL) for source in OUTSIDE], True),
        ([flow(source, V, 443, **OPEN) for source in many(400)], False),  # of ours: a balancer's pool
        ([flow(source, V, 25, **OPEN) for source in OUTSIDE], False),  # they wait for the server's greeting
        ([flow(source, V, 443, **{**OPEN, "tcp_flags": SYN | ACK | FIN}) for source in OUTSIDE], False),  # checks
        ([*(flow(source, V, 443, **OPEN) for source in OUTSIDE),
          *(talk(flow(source, V, 443)) for source in many(200, "12.0.0.0/8"))], False),  # browsers connect in advance
        ([datagram(source, V, 443, **{**INITIAL, "packets": 3}) for source in OUTSIDE], False),  # they go on
        ([datagram(source, V, 443, **{**INITIAL, "reply_packets": 0}) for source in OUTSIDE], False),  # no server
        ([datagram(source, V, 443, **{**INITIAL, "first_len": 300}) for source in OUTSIDE], False),
    ],
    ids=["one", "many", "quic", "ours", "greeting", "checks", "visitors", "clients", "dead", "small"],
)  # fmt: skip
def test_strangers_who_are_answered_and_say_nothing_are_a_note(rows: list[dict[str, Any]], found: bool) -> None:
    threats = watch(SynFlood).see(rows)
    assert [(threat.dst_ip, threat.severity) for threat in threats] == [(V, Severity.LOW)] * found


def test_a_flood_stays_one_beside_strangers_who_say_nothing() -> None:
    (threat,) = watch(SynFlood).see([*flood(300), *(flow(source, V, 443, **OPEN) for source in OUTSIDE)])
    assert threat.severity == Severity.HIGH


def test_strangers_who_say_nothing_change_neither_source_nor_severity_of_a_flood() -> None:
    alone = [flow("203.0.113.4", V, 443, sport=port) for port in range(1024, 1524)]
    silent = [flow(source, V, 443, **OPEN) for source in many(4000, "11.0.0.0/8")]
    (one,), (both,) = (watch(SynFlood).see(rows) for rows in (alone, [*alone, *silent]))
    assert (both.src_ip, both.severity, both.summary) == (one.src_ip, one.severity, one.summary)
    assert both.src_ip == "203.0.113.4"


def test_strangers_who_say_nothing_make_no_flood_of_a_port_scan() -> None:
    scan = [flow("203.0.113.7", V, port) for port in range(1024, 3800)]
    browsers = [flow(source, V, 443, **OPEN) for source in many(100, "11.0.0.0/8")]
    assert not watch(SynFlood).see([*scan, *browsers, *(talk(flow(source, V, 443)) for source in many(400))])


def test_notes_about_strangers_do_not_crowd_out_a_flood() -> None:
    rows = [flow(source, host, 443, **OPEN) for host in many(40, "192.0.3.0/24") for source in OUTSIDE]
    assert V in {threat.dst_ip for threat in watch(SynFlood).see([*flood(300), *rows])}

"""Connections held open: within TLS, seen from one side, or by devices that report."""

from __future__ import annotations

from typing import Any

import pytest
from detect_traffic import ACK, FIN, PSH, RST, SYN, T0, flow, flows, watch

from trafficmond.detect.detectors.slow_http import SlowHttp
from trafficmond.detect.engine import Engine
from trafficmond.model import Severity

HANDSHAKE = 3  # segments in which a server sends its certificates


@pytest.mark.parametrize(("answers", "found"), [(HANDSHAKE, [Severity.LOW]), (8, [])])
def test_header_lines_that_get_no_answer_are_found_and_questions_with_answers_are_not(
    answers: int, found: list[Severity]
) -> None:
    watching, told = watch(SlowHttp), []
    for turn in range(1, 7):
        pieces, segments = 3 + turn, min(answers, HANDSHAKE + turn)
        told += watching.see(
            [
                flow(
                    "203.0.113.7", "192.0.2.80", 443, id=number, new=turn == 1, last=T0 + 8 * turn,
                    tcp_flags=SYN | ACK | PSH, reply_tcp_flags=SYN | ACK | PSH, reply_first_flags=SYN | ACK,
                    packets=2 * pieces, payload_packets=pieces, payload_bytes=850 + 40 * turn, bytes=2500, d_packets=1,
                    reply_packets=2 * pieces, reply_payload_packets=segments, reply_payload_bytes=800 * segments,
                    d_reply_packets=1, d_reply_bytes=66, first=T0,
                )
                for number in range(1, 151)
            ],
            after=8.0,
        )  # fmt: skip
    assert [threat.severity for threat in told][-1:] == found


def held(port: int, source: str = "203.0.113.7", **fields: Any) -> list[Severity]:
    """What is said of 150 connections that each sent five pieces and got nothing but acknowledgements."""
    seen = {
        "tcp_flags": SYN | ACK | PSH, "reply_tcp_flags": SYN | ACK, "reply_first_flags": SYN | ACK, "reply_packets": 6,
        "packets": 7, "payload_packets": 5, "payload_bytes": 260, "bytes": 800, "first": T0, "last": T0 + 20,
    }  # fmt: skip
    rows = [flow(source, "192.168.0.80", port, id=number, **{**seen, **fields}) for number in range(150)]
    return [threat.severity for threat in watch(SlowHttp).see(rows, after=20.0)]


ONE_SIDE = {"reply_tcp_flags": 0, "reply_first_flags": 0, "reply_packets": 0}


@pytest.mark.parametrize(
    ("fields", "found"),
    [({}, [Severity.MEDIUM]), (ONE_SIDE, [Severity.LOW]), ({**ONE_SIDE, "packets": 12, "payload_bytes": 300}, [])],
    ids=["both sides", "one side", "one side, and it acknowledges answers"],
)
def test_of_one_side_a_client_with_nothing_to_acknowledge_is_a_note(
    fields: dict[str, Any], found: list[Severity]
) -> None:
    assert held(80, **fields) == found


@pytest.mark.parametrize(
    ("port", "source", "severity"),
    [
        (2003, "192.168.0.5", Severity.LOW),  # a relay of metrics
        (2003, "203.0.113.7", Severity.MEDIUM),
        (80, "192.168.0.5", Severity.MEDIUM),
    ],
)
def test_one_of_our_hosts_may_report_over_many_connections(port: int, source: str, severity: Severity) -> None:
    assert held(port, source) == [severity]


SILENT = {"payload_packets": 0, "payload_bytes": 0, "packets": 3, "ended": True, "tcp_flags": SYN | ACK | FIN}


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, [Severity.LOW]),  # the server closed it after 20 seconds
        ({"reply_tcp_flags": SYN | ACK | RST, "tcp_flags": SYN | ACK}, [Severity.LOW]),
        ({"last": T0 + 5}, []),  # a health check
        ({"tcp_flags": SYN | FIN, "reply_tcp_flags": ACK}, []),  # never opened
        ({"ended": False, "tcp_flags": SYN | ACK}, [Severity.LOW]),  # after 20 seconds
        ({"ended": False, "tcp_flags": SYN | ACK, "first": T0 + 15}, []),  # it may speak yet
        ({"reply_payload_bytes": 900, "reply_payload_packets": 2}, []),
    ],
    ids=["closed late", "reset late", "closed at once", "half open", "open", "opened", "the server spoke"],
)
def test_connections_on_which_nobody_spoke_until_they_were_closed_are_a_note(
    fields: dict[str, Any], found: list[Severity]
) -> None:
    assert held(80, **{**SILENT, **fields}) == found


def test_browsers_that_close_connections_they_did_not_need_are_nothing() -> None:
    rows = [
        flow(
            f"203.0.{number // 6}.7", "192.168.0.80", 443, id=number, reply_tcp_flags=SYN | ACK,
            reply_first_flags=SYN | ACK, reply_packets=2, first=T0, last=T0 + 20, **SILENT,
        )
        for number in range(180)
    ]  # fmt: skip
    assert watch(SlowHttp).see(rows, after=20.0) == []


def opened(number: int, port: int, each: int, **fields: Any) -> dict[str, Any]:
    """A connection without a byte of payload, `each` of a source."""
    return flow(
        f"203.0.{number // each}.7", "192.168.0.80", port, id=number, first=T0, last=T0, tcp_flags=SYN | ACK,
        reply_tcp_flags=SYN | ACK, reply_first_flags=SYN | ACK, packets=2, reply_packets=1, **fields,
    )  # fmt: skip


HELLO = {"payload_bytes": 200, "payload_packets": 1}
GREETED = {"reply_payload_bytes": 41, "reply_payload_packets": 1}


@pytest.mark.parametrize(
    ("port", "each", "fields", "going_on", "found"),
    [
        (80, 50, {}, 20, [Severity.LOW]),
        (80, 50, {}, 60, []),  # most of them said something
        (80, 6, {}, 0, []),  # browsers open some ahead
        (443, 50, HELLO, 0, [Severity.LOW]),  # half of a hello
        (80, 50, HELLO, 0, []),  # long polling
        (22, 50, GREETED, 0, [Severity.LOW]),
        (22, 50, {**HELLO, **GREETED}, 0, []),
    ],
)
def test_open_connections_without_a_question_are_counted_after_ten_seconds(
    port: int, each: int, fields: dict[str, Any], going_on: int, found: list[Severity]
) -> None:
    watching, rows = watch(SlowHttp), [opened(number, port, each, **fields) for number in range(150)]
    assert watching.see(rows, after=1.0) == []
    more = [{**row, "new": False, "last": T0 + 5, "payload_bytes": 400} for row in rows[:going_on]]
    assert watching.see([*more, flow("192.168.0.9", "192.168.0.1", 9)], after=5.0) == []
    told = watching.see([flow("192.168.0.9", "192.168.0.1", 9)], after=5.0)
    assert [threat.severity for threat in told] == found


def slowloris(number: int, turn: int) -> dict[str, Any]:
    """One of its connections, after a piece each five seconds."""
    return flow(
        "198.51.100.7", "192.168.0.80", 80, id=number, new=turn == 1, first=T0, last=T0 + 5 * turn, packets=2 + turn,
        tcp_flags=SYN | ACK | PSH, reply_tcp_flags=SYN | ACK, reply_first_flags=SYN | ACK, payload_packets=turn,
        payload_bytes=200 + 20 * turn, bytes=900, reply_packets=1 + turn, d_packets=1, d_reply_packets=1,
        d_reply_bytes=66,
    )  # fmt: skip


def reader(number: int, turn: int) -> dict[str, Any]:
    """One of the connections of a client whose window stays closed."""
    answer = {"payload_packets": 1, "payload_bytes": 300, "reply_payload_packets": 1, "reply_payload_bytes": 512}
    return {**slowloris(number, turn), **answer, "reply_packets": 6 + turn}


@pytest.mark.parametrize(("attack", "severity"), [(slowloris, Severity.MEDIUM), (reader, Severity.LOW)])
@pytest.mark.parametrize(("idle", "each"), [(0, 1), (20, 1), (100, 1), (200, 200)])
def test_silent_connections_hide_neither_an_attack_nor_its_source(
    attack: Any, severity: Severity, idle: int, each: int
) -> None:
    engine, browsers = Engine(), 0
    for turn in range(1, 9):
        rows = [attack(number, turn) for number in range(150)]
        for _ in range(idle):
            browsers += 1
            source = "198.51.100.7" if each > 1 else f"203.0.{113 + browsers // 250}.{browsers % 250}"
            rows.append({**opened(1000 + browsers, 80, 1), "src": source, "first": T0 + 5 * turn - 5})
            rows[-1]["last"] = rows[-1]["first"]
        engine.feed(flows(rows), T0 + 5 * turn, 5.0)
    told = [threat for threat in engine.threats() if threat.detector == "slow_http"]
    assert [(threat.severity, threat.src_ip) for threat in told] == [(severity, "198.51.100.7")]


@pytest.mark.parametrize("silent_first", [False, True])
def test_a_note_about_another_source_takes_no_name_from_a_threat(silent_first: bool) -> None:
    engine, begins = Engine(), T0 if silent_first else T0 + 30
    for turn in range(1, 12):
        rows = [slowloris(number, turn) for number in range(150)] if turn > 4 or not silent_first else []
        if turn == (1 if silent_first else 7):
            silent = {"src": "198.51.100.99", "first": begins, "last": begins}
            rows += [{**opened(1000 + number, 80, 1), **silent} for number in range(150)]
        engine.feed(flows(rows or [flow("192.168.0.9", "192.168.0.1", 9)]), T0 + 5 * turn, 5.0)
    (told,) = [threat for threat in engine.threats() if threat.detector == "slow_http"]
    assert (told.severity, told.src_ip) == (Severity.MEDIUM, "198.51.100.7")


@pytest.mark.parametrize(("fields", "port"), [({}, 80), (GREETED, 22)])
def test_a_handshake_may_take_longer_than_one_reading(fields: dict[str, Any], port: int) -> None:
    rows = [opened(number, port, 50) for number in range(150)]
    begun = {"tcp_flags": SYN, "reply_tcp_flags": 0, "reply_first_flags": 0, "packets": 1, "reply_packets": 0}
    watching, told = watch(SlowHttp), []
    for batch in ([{**row, **begun} for row in rows], [{**row, **fields, "new": False} for row in rows], [], []):
        told += watching.see([*batch, flow("192.168.0.9", "192.168.0.1", 9)], after=3.0)
    assert [threat.severity for threat in told] == [Severity.LOW]


def test_after_the_clock_was_set_back_silent_connections_are_counted_and_what_finds_no_room_is_told() -> None:
    watching = watch(SlowHttp)
    watching.see([opened(number, 80, 9999) for number in range(5000)], after=1.0)
    assert watching.detector.counters()["refused"] == 5000 - 4096
    watching.now -= 3600.0
    watching.see([flow("192.168.0.9", "192.168.0.1", 9)], after=1.0)
    rows = [{**opened(5000 + number, 81, 50), "first": watching.now, "last": watching.now} for number in range(150)]
    assert watching.see(rows, after=1.0) == []
    assert len(watching.see([flow("192.168.0.9", "192.168.0.1", 9)], after=10.0)) == 1


def reading(answer: int, segments: int, family: int, probes: int, length: int = 0) -> list[Severity]:
    """What is said of 150 connections of two sources, whose server sends that answer, and then probes."""
    source, server, frame = ("2001:db8::%d", "2001:db8:1::80", 86) if family == 6 else ("203.0.113.%d", "10.0.0.80", 66)
    watching, told = watch(SlowHttp), []
    for turn in range(1, probes + 1):
        told += watching.see(
            [
                flow(
                    source % (1 + number % 2), server, 80, id=number, new=turn == 1, first=T0, last=T0 + 5 * turn,
                    packets=4 + turn, payload_packets=1, payload_bytes=300, d_packets=1, tcp_flags=SYN | ACK | PSH,
                    reply_tcp_flags=SYN | ACK | PSH, reply_first_flags=SYN | ACK, reply_packets=2 + segments + turn,
                    reply_payload_packets=segments + bool(length) * turn, reply_payload_bytes=answer + length * turn,
                    d_reply_packets=1, d_reply_bytes=frame + length,
                )
                for number in range(150)
            ],
            after=5.0,
        )  # fmt: skip
    return [threat.severity for threat in told][-1:]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("answer", "segments", "probes", "length", "found"),
    [
        (512, 1, 6, 0, [Severity.LOW]),  # all that the window took was one segment
        (4344, 3, 6, 0, [Severity.LOW]),
        (512, 1, 4, 0, []),  # keep-alives of an idle connection
        (1, 1, 9, 1, [Severity.LOW]),  # a byte each time
    ],
)
def test_a_window_that_opens_for_a_byte_or_not_at_all_is_a_note(
    family: int, answer: int, segments: int, probes: int, length: int, found: list[Severity]
) -> None:
    assert reading(answer, segments, family, probes, length) == found

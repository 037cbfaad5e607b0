from __future__ import annotations

from typing import Any

import pytest
from detect_traffic import ACK, FIN, FIRST_PAYLOAD, PSH, RST, SYN, T0, URG, datagram, flow, flows, ping, refused, talk

from trafficmond.detect.attempts import Attempts, Kind, Outcome, kinds, proven
from trafficmond.detect.windows import Columns

A, B = "192.0.2.1", "198.51.100.7"
ACCEPTED = {"reply_packets": 1, "reply_tcp_flags": SYN | ACK}
XMAS = FIN | PSH | URG


def judged(*rows: dict[str, Any], later: tuple[dict[str, Any], ...] = ()) -> list[tuple[Kind, Outcome]]:
    attempts = Attempts()
    out = [*attempts.feed(Columns(flows(rows)), T0 + 0.5)]
    out += [*attempts.feed(Columns(flows(later)), T0 + 0.9), *attempts.feed(Columns(flows([])), T0 + 2)]
    return [(Kind(row["kind"]), Outcome(row["outcome"])) for row in out]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (flow(A, B, 80), (Kind.SYN, Outcome.SILENT)),
        (flow(A, B, 80, first_flags=SYN | 0xC0, tcp_flags=SYN | 0xC0), (Kind.SYN, Outcome.SILENT)),  # with ECN
        (refused(flow(A, B, 80)), (Kind.SYN, Outcome.REFUSED)),
        (talk(flow(A, B, 80)), (Kind.SYN, Outcome.ANSWERED)),
        (flow(A, B, 80, packets=3, tcp_flags=SYN | ACK), (Kind.SYN, Outcome.ANSWERED)),  # only one direction is seen
        (talk(flow(A, B, 80, first_flags=ACK)), (Kind.SYN, Outcome.ANSWERED)),  # its SYN was lost, not the SYN-ACK
        (flow(A, B, 80, **ACCEPTED), (Kind.SYN, Outcome.HALF_OPEN)),
        (flow(A, B, 80, tcp_flags=SYN | RST, **ACCEPTED), (Kind.SYN, Outcome.ABANDONED)),
        (flow(A, B, 80, tcp_flags=SYN | ACK | RST, **ACCEPTED), (Kind.SYN, Outcome.ABANDONED)),
        (flow(A, B, 80, first_flags=0, tcp_flags=0), (Kind.STEALTH, Outcome.SILENT)),
        (refused(flow(A, B, 80, first_flags=FIN, tcp_flags=FIN)), (Kind.STEALTH, Outcome.REFUSED)),
        (refused(flow(A, B, 80, first_flags=XMAS, tcp_flags=XMAS)), (Kind.STEALTH, Outcome.REFUSED)),
        (refused(flow(A, B, 80, first_flags=ACK, tcp_flags=ACK)), (Kind.STRAY, Outcome.REFUSED)),
        (flow(A, B, 80, first_flags=FIN | ACK, tcp_flags=FIN | ACK), (Kind.STRAY, Outcome.SILENT)),
        # No answer begins so, from whatever port.
        (refused(flow(A, B, 50000, sport=20, first_flags=FIN, tcp_flags=FIN)), (Kind.STEALTH, Outcome.REFUSED)),
        (datagram(A, B, 50000, sport=53, bits=0), (Kind.DATAGRAM, Outcome.SILENT)),
        (datagram(A, B, 53), (Kind.DATAGRAM, Outcome.SILENT)),
        (talk(datagram(A, B, 53)), (Kind.DATAGRAM, Outcome.ANSWERED)),
        (ping(A, B), (Kind.ICMP, Outcome.SILENT)),
        (ping("2001:db8::1", "2001:db8::2", proto=58, sport=128), (Kind.ICMP, Outcome.SILENT)),
        (flow(A, B, 0, proto=99, sport=0, first_flags=0, tcp_flags=0), (Kind.PROTOCOL, Outcome.SILENT)),
        # An SCTP scan is answered by INIT-ACK or ABORT alike; only an association goes on.
        (flow(A, B, 80, proto=132, first_flags=0, tcp_flags=0, reply_packets=1), (Kind.DATAGRAM, Outcome.SILENT)),
    ],
)  # fmt: skip
def test_what_asks_is_a_dial_judged_by_what_became_of_it(row: dict[str, Any], expected: tuple[Kind, Outcome]) -> None:
    assert judged(row) == [expected]


@pytest.mark.parametrize(
    "row",
    [
        flow(A, B, 50000, sport=80, first_flags=SYN | ACK, tcp_flags=SYN | ACK),  # back-scatter
        flow(A, B, 50000, sport=80, first_flags=RST | ACK, tcp_flags=RST | ACK),
        flow(A, B, 80, first_flags=PSH | ACK, tcp_flags=PSH | ACK, bits=FIRST_PAYLOAD, payload_bytes=9),  # midstream
        flow(A, B, 50000, sport=443, first_flags=ACK, tcp_flags=ACK),  # a server's answer
        flow(A, B, 80, first_flags=ACK, tcp_flags=ACK, packets=40),  # an upload seen from one side
        talk(flow(A, B, 80, first_flags=ACK), tcp_flags=ACK | PSH, reply_first_flags=ACK, reply_tcp_flags=ACK | PSH),
        datagram(A, B, 50000, sport=53),
        datagram(A, B, 50000, sport=53, bits=0, first_len=1500),  # of a format that does not tell payload
        flow(A, B, 50000, sport=20, first_flags=0, tcp_flags=0),  # ... or flags
        datagram(A, "239.255.255.250", 1900),
        datagram(A, "255.255.255.255", 67),
        datagram("2001:db8::1", "ff02::fb", 5353),
        datagram(A, B, 4789),  # a tunnel, whose answers come on other ports
        ping(A, B, sport=3),  # unreachable
        ping(A, B, packets=0, reply_packets=5),  # answers that nobody asked for
        flow(A, B, 0, proto=17, sport=0, first_flags=0, tcp_flags=0),  # later fragments
    ],
)
def test_answers_errors_and_announcements_are_no_dials(row: dict[str, Any]) -> None:
    assert judged(row) == []


def test_an_answer_within_the_grace_counts() -> None:
    row = flow(A, B, 80, id=77)
    assert judged(row, later=({**talk(row), "new": False},)) == [(Kind.SYN, Outcome.ANSWERED)]


def test_a_flow_that_was_turned_round_was_no_dial() -> None:
    row = datagram(A, B, 700, sport=40000, id=77)
    turned = datagram(B, A, 40000, sport=700, id=77, new=False)
    assert judged(row, later=(turned,)) == []


def test_retransmissions_are_one_dial() -> None:
    row = flow(A, B, 80, id=77)
    assert len(judged(row, later=({**row, "packets": 2, "new": False},))) == 1


def test_a_bare_ack_that_turns_into_a_conversation_is_explained() -> None:
    row = flow(A, B, 80, id=77, first_flags=ACK, tcp_flags=ACK)
    assert judged(row, later=({**row, "packets": 9, "payload_bytes": 500, "new": False},)) == []


def test_more_dials_than_fit_are_judged_at_once_and_counted() -> None:
    attempts = Attempts(capacity=10)
    early = attempts.feed(Columns(flows(flow(A, B, port) for port in range(1, 31))), T0 + 0.1)
    assert (len(early), attempts.early, len(attempts)) == (20, 20, 10)
    assert len(attempts.feed(Columns(flows([])), T0 + 2)) == 10
    assert len(attempts) == 0


@pytest.mark.parametrize("now", [T0 - 3600, T0 + 3600])
def test_a_clock_that_steps_leaves_no_dial_waiting(now: float) -> None:
    attempts = Attempts()
    attempts.feed(Columns(flows([flow(A, B, 80)])), T0 + 0.1)
    assert len(attempts.feed(Columns(flows([])), now)) == 1
    assert len(attempts) == 0


def test_only_a_server_that_spoke_over_tcp_proves_a_source() -> None:
    rows = [
        talk(flow(A, B, 22)),
        refused(flow(A, B, 22)),
        talk(datagram(A, B, 53)),
        flow(A, B, 22, tcp_flags=SYN | ACK),
    ]
    attempts = Attempts().feed(Columns(flows(rows)), T0 + 5)
    assert sorted(proven(Columns(attempts)).tolist()) == [False, False, False, True]


def test_kinds_of_an_empty_batch() -> None:
    assert kinds(Columns(flows([]))).tolist() == []


def test_a_datagram_to_a_port_of_traceroute_is_an_attempt_if_it_is_answered() -> None:
    rows = [datagram(A, B, 33500), talk(datagram(A, B, 33501), 120, 200)]
    assert Attempts().feed(Columns(flows(rows)), T0 + 5)["dport"].tolist() == [33501]

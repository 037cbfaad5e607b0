"""Tunnels: what is counted as a question of a connection, live and where only sums are known."""

from __future__ import annotations

from typing import Any

import pytest
from detect_traffic import T0, flow, talk, watch

from trafficmond.detect.detectors.tunnel import Tunnel
from trafficmond.model import Severity


def asked(questions: int, size: int, port: int = 53, **fields: Any) -> dict[str, Any]:
    """A connection in which each question is followed by a bare acknowledgement of its answer."""
    packets = 3 + 2 * questions
    row = talk(flow("192.168.0.9", "192.168.0.1", port), questions * size, questions * 300)
    return {
        **row, "packets": packets, "bytes": questions * size + 66 * packets, "payload_packets": questions,
        "reply_packets": packets, "reply_bytes": questions * 300 + 66 * packets, "last": T0 + 60, **fields,
    }  # fmt: skip


@pytest.mark.parametrize(("port", "size"), [(53, 100), (853, 210)])
def test_segments_that_carry_nothing_are_no_questions(port: int, size: int) -> None:
    (threat,) = watch(Tunnel).see([asked(500, size, port)])
    assert threat.severity == Severity.LOW
    assert threat.evidence["mean_sent_bytes"] == pytest.approx(size, rel=0.05)


@pytest.mark.parametrize(("port", "size"), [(53, 75), (853, 180)])
def test_shorter_ones_are_names(port: int, size: int) -> None:
    assert watch(Tunnel).see([asked(500, size, port)]) == []


def test_where_only_the_sum_is_known_every_packet_counts() -> None:
    guessed = {"payload_packets": -(-500 * 100 // 1448)}
    assert watch(Tunnel).see([asked(500, 100, **guessed)]) == []
    assert len(watch(Tunnel).see([asked(500, 250, **guessed)])) == 1


def test_a_connection_for_each_question_in_tls_is_not_judged_by_its_hello() -> None:
    rows = [asked(4, (517 + 80 + 152 + 24) // 4, 853, id=number) for number in range(1, 300)]
    assert watch(Tunnel).see(rows) == []


@pytest.mark.parametrize(("hello", "size", "found"), [(1790, 225, 0), (600, 225, 0), (1790, 420, 1)])
def test_a_browser_with_a_large_key_in_its_hello_asks_ordinary_questions(hello: int, size: int, found: int) -> None:
    watching, told = watch(Tunnel), []
    for number in range(1, 60):  # connections of ten questions, one a minute
        row = asked(12, size, 443, dst="1.1.1.1", id=number, payload_bytes=hello + 80 + 10 * size)
        told += watching.see([{**row, "bytes": row["payload_bytes"] + 66 * row["packets"]}], after=58.0)
    assert len(told[-1:]) == found


@pytest.mark.parametrize(("size", "found"), [(200, 1), (75, 0)])
def test_a_connection_for_each_question_over_tcp_counts_as_one(size: int, found: int) -> None:
    rows = [asked(1, size, id=number, packets=6, bytes=size + 66 * 6) for number in range(1, 300)]
    assert len(watch(Tunnel).see(rows)) == found


def pings(sizes: list[tuple[int, int]], asks: int = 10, replies: int = 10) -> list[Severity]:
    """What is said of batches of so many pings and replies each, with their sizes."""
    watching = watch(Tunnel)
    told = []
    for sent, got in sizes:
        counts = {
            "packets": asks,
            "bytes": asks * (42 + sent),
            "reply_packets": replies,
            "reply_bytes": replies * (42 + got),
        }
        row = flow("192.168.0.9", "203.0.113.7", 0, id=1, proto=1, sport=8, tcp_flags=0, first_flags=0, **counts)
        told += watching.see([row])
    return [threat.severity for threat in told][-1:]


@pytest.mark.parametrize(
    ("sizes", "severity"),
    [
        ([(40 + n % 20, 55 - n % 15) for n in range(30)], [Severity.MEDIUM]),  # replies that are no echo, however small
        ([(200 + 90 * (n % 7),) * 2 for n in range(30)], [Severity.LOW]),  # all sizes, each echoed: measures a path
        ([(1000, 64)] * 30, [Severity.LOW]),  # replies that are cut off
        ([(56, 56)] * 30, []),
        ([(1, 18)] * 30, []),  # padded on the wire, not where it was sent
    ],
)
def test_a_reply_has_what_its_ping_had(sizes: list[tuple[int, int]], severity: list[Severity]) -> None:
    assert pings(sizes) == severity


@pytest.mark.parametrize(("size", "got", "severity"), [(100, 900, [Severity.MEDIUM]), (56, 56, [])])
def test_more_replies_than_pings_are_data_unless_they_are_sent_twice(
    size: int, got: int, severity: list[Severity]
) -> None:
    assert pings([(size, got)] * 30, replies=20) == severity


def questions(size: int, count: int, every: float = 0.5, one_socket: bool = False) -> list[Severity]:
    """What is said of so many questions by UDP of that payload, a port each or all from one."""
    watching, told = watch(Tunnel), []
    for number in range(count):
        row = flow("192.168.0.9", "203.0.113.53", 53, proto=17, tcp_flags=0, first_flags=0, id=1 + number)
        row |= {"bytes": 42 + size, "payload_bytes": size, "reply_packets": 1, "reply_bytes": 150}
        if one_socket:
            row |= {"id": 1, "new": not number, "packets": 1 + number, "payload_bytes": size * (1 + number)}
            row |= {"d_packets": 1, "d_bytes": 42 + size, "d_reply_packets": 1, "d_reply_bytes": 150}
        told += watching.see([row], after=every)
    return [threat.severity for threat in told][-1:]


@pytest.mark.parametrize(
    ("size", "one_socket", "found"),
    [
        (120, False, [Severity.LOW]),  # a mail server looks up hashes at a list, by its own resolver
        (180, False, [Severity.MEDIUM]),
        (70, True, [Severity.LOW]),  # a forwarder that keeps its socket, with the search path of a cluster
        (100, True, [Severity.MEDIUM]),
        (45, True, []),
    ],
)
def test_questions_as_long_as_those_of_reputation_lists_and_forwarders_are_a_note(
    size: int, one_socket: bool, found: list[Severity]
) -> None:
    assert questions(size, 400, one_socket=one_socket) == found


@pytest.mark.parametrize(("size", "every", "found"), [(190, 14.0, [Severity.LOW]), (60, 14.0, []), (190, 60.0, [])])
def test_a_slow_tunnel_is_found_over_an_hour(size: int, every: float, found: list[Severity]) -> None:
    assert questions(size, 260, every) == found


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ([(1400, 1400)], []),  # a monitor measures a path
        ([(1000, 64)], []),  # ... to a host that cuts its replies off
        ([(56, 56), (1400, 1400)], []),  # with pings of two sizes
        ([(40 + 7 * number, 90 - 5 * number) for number in range(9)], [Severity.LOW]),
    ],
)
def test_of_slow_pings_only_data_is_a_note(sizes: list[tuple[int, int]], found: list[Severity]) -> None:
    watching, told = watch(Tunnel), []
    for number in range(260):
        sent, got = sizes[number % len(sizes)]
        row = flow("192.168.0.9", "203.0.113.7", 0, id=1, proto=1, sport=8, tcp_flags=0, first_flags=0)
        told += watching.see([{**row, "bytes": 42 + sent, "reply_packets": 1, "reply_bytes": 42 + got}], after=14.0)
    assert [threat.severity for threat in told][-1:] == found


@pytest.mark.parametrize(("sizes", "found"), [((100, 1200), [Severity.LOW]), ((56, 56), [])])
def test_replies_to_pings_that_are_not_seen_count_as_those(sizes: tuple[int, int], found: list[Severity]) -> None:
    watching, told = watch(Tunnel), []
    for number in range(200):
        size = 42 + sizes[number % 2]
        row = flow("203.0.113.7", "192.168.0.9", 0, id=1, proto=1, sport=8, tcp_flags=0, first_flags=0, packets=0)
        told += watching.see([{**row, "bytes": 0, "reply_packets": 1, "reply_bytes": size}], after=0.5)
    assert [threat.severity for threat in told][-1:] == found

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from detect_traffic import datagram, flow, talk, watch

from trafficmond.detect.detectors.beacon import Beacon
from trafficmond.model import Severity, Threat

A, C2 = "192.168.1.5", "203.0.113.50"


def calls(gap: Callable[[], float], count: int = 40, make: Any = flow, **fields: Any) -> list[Threat]:
    watched, found = watch(Beacon), []
    for n in range(count):
        pause = gap()
        row = {"sport": 30000 + n, **fields}
        dst, dport = row.pop("dst", C2), row.pop("dport", 8444)
        found += watched.see([talk(make(A, dst, dport, first=watched.now + pause, **row), ended=False)], after=pause)
    return found


@pytest.mark.parametrize(("gap", "jitter"), [(3.0, 0.2), (60.0, 0.0), (60.0, 0.3), (600.0, 0.1)])
def test_regular_calls_are_found(gap: float, jitter: float) -> None:
    source = random.Random(1)
    found = calls(lambda: gap * source.uniform(1 - jitter, 1 + jitter))
    lasted = 41 * (gap + 1) >= 1800
    assert {(threat.src_ip, threat.dst_ip) for threat in found} == {(A, C2)}
    assert max(threat.severity for threat in found) == (Severity.MEDIUM if lasted else Severity.LOW)
    assert found[-1].evidence["mean_gap_s"] == pytest.approx(gap + 1, rel=0.1)


def test_bursts_are_one_beat() -> None:
    watched, found = watch(Beacon), []
    for n in range(30):
        rows = [talk(flow(A, C2, 443, sport=30000 + 3 * n + k, first=watched.now + 9 + k * 0.1)) for k in range(3)]
        found += watched.see(rows, after=10)
    assert found
    assert found[-1].count == 30


def test_inside_the_house_it_is_a_note() -> None:
    assert {threat.severity for threat in calls(lambda: 30.0, dst="192.168.1.9", dport=8080)} == {Severity.LOW}


@pytest.mark.parametrize("port", [10051, 5666, 8140, 873, 3306, 5432, 389, 21, 1514], ids=str)
def test_agents_and_checks_that_poll_by_default_are_a_note(port: int) -> None:
    assert {threat.severity for threat in calls(lambda: 300.0, dport=port)} == {Severity.LOW}


def test_people_and_queues_are_irregular() -> None:
    source = random.Random(1)
    assert calls(lambda: source.expovariate(1 / 30) + 1) == []
    assert calls(lambda: source.expovariate(1 / 30), 1000) == []
    assert calls(lambda: source.gammavariate(2, 15), 400) == []


@pytest.mark.parametrize(("least", "most"), [(12, 60), (18, 102)], ids=["Cobalt Strike, 80 %", "Empire, 70 %"])
def test_a_random_pause_with_a_limit_is_a_rhythm_if_there_are_many_beats(least: float, most: float) -> None:
    source = random.Random(1)
    assert {threat.severity for threat in calls(lambda: source.uniform(least, most), 90)} == {Severity.LOW}
    assert calls(lambda: source.uniform(least, most), 31) == []


def test_one_longer_pause_begins_the_count_anew() -> None:
    source = random.Random(1)
    gaps = iter([source.uniform(12, 60) if n != 50 else 180 for n in range(90)])
    assert calls(lambda: next(gaps), 90) == []


def test_a_beacon_of_three_hours_is_found() -> None:
    source = random.Random(1)
    assert calls(lambda: source.uniform(9720, 11880), 22)


@pytest.mark.parametrize(
    "fields",
    [
        {"make": datagram, "dport": 123},  # clocks
        {"make": datagram, "dport": 53, "dst": "9.9.9.9"},
        {"make": datagram, "dport": 53, "dst": "192.168.1.1"},
        {"make": datagram, "dport": 51820, "sport": 51820},  # a tunnel kept alive
        {"make": datagram, "dport": 3478, "sport": 40000},  # a session kept alive
        {"count": 9},
    ],
    ids=["ntp", "dns", "own dns", "vpn", "stun", "few"],
)
def test_clocks_names_and_sessions_are_no_beacons(fields: dict[str, Any]) -> None:
    assert calls(lambda: 60.0, **fields) == []


def test_requests_of_all_sizes_are_work() -> None:
    watched = watch(Beacon)
    for n in range(40):
        row = talk(flow(A, C2, 443, sport=30000 + n, first=watched.now + 29), sent=200 + 977 * n % 20000)
        assert watched.see([row], after=30) == []


def test_a_chain_of_requests_is_a_conversation() -> None:
    assert calls(lambda: 0.1) == []


@pytest.mark.parametrize(
    ("jitter", "count", "found"),
    [(0.0, 10, True), (0.0, 9, False), (0.1, 15, True), (0.1, 11, False), (0.4, 15, False)],
)
def test_the_more_even_the_fewer_beats_are_needed(jitter: float, count: int, found: bool) -> None:
    source = random.Random(2)
    threats = calls(lambda: 300 * source.uniform(1 - jitter, 1 + jitter), count)
    assert {threat.severity for threat in threats} == ({Severity.LOW} if found else set())

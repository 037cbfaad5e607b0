"""Where packets are lost, hosts are off or one side is not seen: nobody is accused for it, and attacks are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_one_side import GOT, SENT, told
from world_attacks import STRANGER, text
from world_book import HOUR, Book, host
from world_house import LAPTOP, MONITOR, WEB
from world_judging import judge, of

from trafficmond.model import Severity

HOSTS = host("192.168.20.1") + np.arange(240)


def severities(book: Book, detector: str) -> set[Severity]:
    return {threat.severity for threat in of(judge(book.rows(), 1.0), detector)}


# ---- monitors whose hosts are partly off ----


@pytest.mark.parametrize("up", [0.2, 0.6])
@pytest.mark.parametrize(("every", "hosts"), [(30, 120), (60, 240), (300, 150)])
def test_a_monitor_that_comes_back_is_a_note_at_most(every: int, hosts: int, up: float) -> None:
    book = Book(1)
    answered = np.arange(hosts) < up * hosts
    for begin in range(0, 1500, every):  # spread over the interval, as Nagios does
        at = begin + np.arange(hosts) * every / hosts
        book.ping(at, MONITOR, HOSTS[:hosts], answered=answered & (book.rng.random(hosts) < 0.9))
    assert severities(book, "host_sweep") <= {Severity.LOW}


def test_a_sweep_that_nobody_repeats_is_told() -> None:
    book = Book(1)
    book.ping(np.arange(240) * 0.1, MONITOR, HOSTS, answered=np.arange(240) % 2 == 0)
    assert severities(book, "host_sweep") == {Severity.HIGH}


# ---- programs that try again ----


@pytest.mark.parametrize("seed", range(6))
def test_a_program_that_waits_longer_each_time_is_a_note_where_some_of_it_is_lost(seed: int) -> None:
    book = Book(seed)
    at = np.cumsum(np.minimum(10 + 0.6 * np.arange(60.0) ** 2, 600))  # autossh: by the square of its failures
    at = at[book.rng.random(60) > 0.1]
    book.tcp(at, STRANGER, WEB, 22, 2929, 2813, 0.4, greets=True)
    assert severities(book, "brute_force") <= {Severity.LOW}


@pytest.mark.parametrize("clients", [200, 500])
def test_clients_of_a_stopped_service_whose_resets_are_not_seen_are_a_note(clients: int) -> None:
    book = Book(1)
    begin, who = book.rng.uniform(0, 20, clients), book.public(clients)
    for again in range(4):
        book.silent(begin + again * 5, who, WEB, 443)
    assert severities(book, "syn_flood") <= {Severity.LOW}
    book = Book(1)
    book.silent(np.arange(0, 30, 1 / 60), book.public(1800), WEB, 443)  # forged addresses do not come back
    assert severities(book, "syn_flood") == {Severity.HIGH}


# ---- one direction only ----


@pytest.mark.parametrize("port", [21, 143, 587, 990, 992, 995, 1433, 9042])
def test_guesses_at_any_service_with_passwords_of_which_the_answers_are_not_seen_are_a_note(
    port: int, tmp_path: Path
) -> None:
    book = Book(1)
    book.tcp(np.arange(200) * 0.2, STRANGER, WEB, port, 300 + book.rng.integers(0, 20, 200), 400, 2.5)
    assert told(book, WEB, GOT, tmp_path) == {("brute_force", "low")}


def test_calls_by_datagram_of_which_the_answers_are_not_seen_are_noted(tmp_path: Path) -> None:
    book = Book(1)
    book.udp(book.rhythm(0, HOUR, 60, 0.1), LAPTOP, STRANGER, 7777, 60, 90, 0.05)
    assert told(book, LAPTOP, SENT, tmp_path) == {("beacon", "low")}


@pytest.mark.parametrize("seed", range(4))
def test_a_rhythm_of_which_one_call_in_eight_is_missing_is_one(seed: int) -> None:
    book = Book(seed)
    at = np.arange(60) * 60.0 + book.rng.uniform(-6, 6, 60)
    book.tcp(at[book.rng.random(60) > 0.12], LAPTOP, STRANGER, 8443, 700, 900, 0.3)
    (threat,) = of(judge(book.rows(), 1.0), "beacon")
    assert threat.src_ip == text(LAPTOP)
    assert threat.evidence["mean_gap_s"] == pytest.approx(60, rel=0.05)


# ---- streams ----


@pytest.mark.parametrize(
    ("flows", "a_second", "port", "severities"),
    [
        (1, 1000, 14336, {Severity.LOW}),  # AES67: a packet each millisecond
        (8, 250, 2222, {Severity.LOW}),  # EtherNet/IP: cyclic data of machines
        (1, 1000, 80, {Severity.MEDIUM}),  # a service's port
        (1, 4000, 14336, {Severity.MEDIUM}),
        (12, 1000, 14336, {Severity.HIGH}),
    ],
)
def test_a_steady_stream_between_our_hosts_is_a_note(
    flows: int, a_second: int, port: int, severities: set[Severity]
) -> None:
    for source, expected in ((HOSTS[:flows], severities), (Book(9).public(flows), severities - {Severity.LOW})):
        book, packets = Book(1), a_second * 60
        book.udp(0.0, source, MONITOR, port, 300 * packets, lasts=60.0, packets=packets, sport=port)
        found = {threat.severity for threat in judge(book.rows(), 1.0)}
        assert found == expected if expected else max(found) >= Severity.MEDIUM


@pytest.mark.parametrize(("cameras", "loud"), [(16, Severity.MEDIUM), (64, Severity.MEDIUM)])
def test_cameras_of_ours_are_a_note_and_a_flood_from_outside_is_told(cameras: int, loud: Severity) -> None:
    for senders, severity in ((HOSTS[:cameras], {Severity.LOW}), (Book(9).public(cameras), {loud})):
        book = Book(1)
        book.udp(0.0, senders, MONITOR, 5004 + 2 * np.arange(cameras), 1400 * 350 * 60, lasts=60.0, packets=350 * 60)
        assert severities(book, "volume") == severity

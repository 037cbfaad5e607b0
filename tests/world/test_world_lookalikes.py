"""What looks like an attack and is none, beside the attack that it looks like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_one_side import SENT
from test_one_side import told as seen_one_way
from world_attacks import STRANGER, found_in, host_sweep, syn_flood
from world_book import Book, host
from world_house import LAPTOP, MAIL, MONITOR, RESOLVER, SERVERS, WEB
from world_judging import judge, of
from world_packets import packets, pcap

from trafficmond.analyze.run import analyze
from trafficmond.config.load import load_settings
from trafficmond.detect.registry import settings_classes
from trafficmond.model import Severity

OUTSIDE = host("203.0.113.7")


def worst(book: Book, detector: str) -> Severity | None:
    return max((threat.severity for threat in of(judge(book.rows(), 1.0), detector)), default=None)


# ---- lists of peers ----


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("port", [8333, 30303])  # Bitcoin, Ethereum
def test_a_node_whose_peers_are_mostly_gone_sweeps_nothing(port: int, seed: int) -> None:
    book = Book(seed)
    peers, at = book.public(150), np.sort(book.rng.uniform(0, 600, 150))
    alive = book.rng.random(150) < 0.3
    book.silent(at[~alive], LAPTOP, peers[~alive], port, 2)
    book.tcp(at[alive], LAPTOP, peers[alive], port, 5000, book.heavy(int(alive.sum()), 100_000), 60.0)
    assert worst(book, "host_sweep") in (None, Severity.LOW)
    worm = host_sweep(book, 700.0, LAPTOP, dport=23)
    assert found_in(judge(book.rows(), 1.0), worm)


@pytest.mark.parametrize("dport", [8333, 2323])
def test_a_worm_that_finds_one_in_twenty_is_a_sweep(dport: int) -> None:
    book = Book(1)
    found = host_sweep(book, 0.0, LAPTOP, 200, dport=dport)
    book.tcp(np.arange(10) + 0.5, LAPTOP, book.public(10), dport, 200, 300, 2.0)
    (threat,) = of(judge(book.rows(), 1.0), "host_sweep")
    assert found_in([threat], found)
    assert threat.severity == Severity.HIGH


def gossip(book: Book) -> None:
    ports = np.where(book.rng.random(900) < 0.3, 6881, book.rng.integers(1025, 65535, 900))
    answers = np.where(book.rng.random(900) < 0.3, 300, 0)
    book.udp(np.sort(book.rng.uniform(0, 400, 900)), LAPTOP, book.public(900), ports, 108, answers, 0.2, sport=51413)


def watched(book: Book) -> None:
    for minute in range(10):
        book.ping(minute * 60 + np.arange(200) * 0.01, LAPTOP, host("10.20.0.1") + np.arange(200))


@pytest.mark.parametrize("asks", [gossip, watched])
def test_who_is_never_seen_to_get_anything_back_is_a_note_and_who_is_a_sweep(
    asks: Callable[[Book], None], tmp_path: Path
) -> None:
    book = Book(1)
    asks(book)
    assert {severity for _, severity in seen_one_way(book, LAPTOP, SENT, tmp_path)} <= {"low"}
    book = Book(1)
    book.udp(np.arange(20), LAPTOP, RESOLVER, 53, 40, 90)
    book.ping(30 + np.arange(150) * 0.1, LAPTOP, book.public(150), answered=False)
    assert worst(book, "host_sweep") == Severity.HIGH


@pytest.mark.parametrize("sport", [1025, 1433, 40000])
def test_a_worm_may_send_from_a_port_below_that_of_the_service(sport: int) -> None:
    book = Book(1)
    book.udp(np.arange(20), LAPTOP, RESOLVER, 53, 40, 90)
    book.udp(np.arange(400) * 0.01, LAPTOP, book.public(400), 1434, 376, sport=sport)
    assert worst(book, "host_sweep") == Severity.HIGH


# ---- names ----


def test_names_of_ipv6_addresses_carry_nothing_and_a_tunnel_of_few_long_names_does() -> None:
    for edns, tag in ((0, 0), (11, 0), (23, 0), (39, 0), (11, 4)):
        book = Book(1)
        at = np.sort(book.rng.uniform(0, 300, 600))
        book.udp(at, MAIL, RESOLVER, 53, 90 + edns, book.rng.integers(110, 200, 600))
        book.rows()["bytes"] += tag  # of a VLAN
        assert worst(book, "tunnel") is None
    book = Book(1)
    book.udp(np.sort(book.rng.uniform(0, 1800, 700)), LAPTOP, RESOLVER, 53, book.rng.integers(150, 250, 700), 200)
    assert worst(book, "tunnel") == Severity.MEDIUM


# ---- floods ----


def test_clients_of_a_stopped_service_that_refuses_them_are_a_note_and_a_forged_flood_is_none() -> None:
    book = Book(1)
    clients = book.public(2000)
    for again in range(8):
        book.refused(again * 5 + np.sort(book.rng.uniform(0, 5, 2000)), clients, WEB, 8883)
    assert worst(book, "syn_flood") == Severity.LOW
    book = Book(1)
    syn_flood(book, 0.0, WEB)
    assert worst(book, "syn_flood") >= Severity.HIGH  # type: ignore[operator]
    book = Book(1)
    forged = book.public(20_000)
    book.refused(np.sort(book.rng.uniform(0, 5, 20_000)), forged, WEB, book.rng.integers(1, 65535, len(forged)))
    assert worst(book, "syn_flood") >= Severity.HIGH  # type: ignore[operator]


@pytest.mark.parametrize("port", [514, 2055, 4789])
def test_what_our_devices_report_is_a_note_however_much_and_from_outside_a_flood(port: int) -> None:
    for senders, severity in ((SERVERS, Severity.LOW), (OUTSIDE + np.arange(40), Severity.MEDIUM)):
        book = Book(1)
        book.udp(0.0, senders, MONITOR, port, 200 * 900 * 15, lasts=15.0, packets=900 * 15)
        assert worst(book, "volume") == severity


# ---- logins ----


@pytest.mark.parametrize(("port", "greets"), [(3306, True), (5432, False), (1433, False)])
def test_a_program_outside_that_opens_a_session_for_each_question_is_a_note_and_a_guesser_is_told(
    port: int, greets: bool
) -> None:
    book = Book(1)
    at = np.cumsum(book.rng.exponential(1.0, 900))
    book.tcp(at, STRANGER, WEB, port, 340 + book.rng.integers(0, 10, 900), 410, 0.08, greets=greets)
    assert worst(book, "brute_force") in (None, Severity.LOW)
    book = Book(1)
    for thread in range(4):
        lasts = book.rng.uniform(0.1, 0.3, 150)
        book.tcp(thread * 0.1 + np.cumsum(lasts), STRANGER, WEB, port, 115, 160, lasts * 0.95, greets=greets)
    assert worst(book, "brute_force") == Severity.HIGH


def test_files_stored_by_ftp_one_after_the_other_are_a_note_and_guesses_are_told() -> None:
    for messages, lasts, expected in (
        (7, 0.6, {None, Severity.LOW}),
        (3, 0.6, {Severity.HIGH}),
        (7, 6, {Severity.HIGH}),
    ):
        book = Book(1)
        at = np.cumsum(book.rng.uniform(0.5, 2.5, 200))
        book.tcp(at, STRANGER, WEB, 21, 75 + book.rng.integers(0, 8, 200), 325, lasts, greets=True)
        rows = book.rows()
        rows["packets"], rows["reply_packets"] = 2 * messages, 2 * messages  # each is acknowledged
        found = of(judge(rows, 1.0), "brute_force")
        assert max((threat.severity for threat in found), default=None) in expected


def test_guesses_at_a_form_are_told_where_nobody_knows_whose_side_it_is(tmp_path: Path) -> None:
    book = Book(1)
    at = np.cumsum(book.rng.uniform(0.1, 0.3, 400))
    book.tcp(at, STRANGER, OUTSIDE, 80, book.rng.integers(170, 200, 400), 401, 0.08)
    (tmp_path / "capture").write_bytes(pcap(packets(book.rows())))
    settings = load_settings(None, detectors=settings_classes())
    threats = analyze([str(tmp_path / "capture")], settings, 0.0)["threats"]
    assert [(threat["detector"], threat["severity"]) for threat in threats] == [("brute_force", "low")]


@pytest.mark.parametrize("a_second", [0.3, 1.0, 2.0])
def test_who_calls_at_random_has_no_rhythm_and_a_timer_of_two_seconds_has(a_second: float) -> None:
    """Attempts within a second are one, so that even those without memory have gaps that vary less than their mean."""
    book, calls = Book(1), int(1800 * a_second)
    at = np.cumsum(book.rng.exponential(1 / a_second, calls))
    book.tcp(at, LAPTOP, OUTSIDE, 8443, 600 + book.rng.integers(0, 40, calls), 700, 0.3)
    assert worst(book, "beacon") is None
    book = Book(1)
    book.tcp(book.rhythm(0, 100, 2.2, 0.1), LAPTOP, OUTSIDE, 8443, 600, 700, 0.3)
    assert worst(book, "beacon") == Severity.LOW


def test_who_gets_tickets_over_tcp_sprays_no_passwords() -> None:
    book, server = Book(1), host("192.168.20.5")
    for login in np.arange(6) * 5.0:  # a desktop of Windows starts: tickets with many groups are too long for UDP
        book.udp(login, LAPTOP, server, 88, 200, 190)
        book.tcp(login + 0.02 + 0.05 * np.arange(5), LAPTOP, server, 88, [280, *[1500] * 4], 1600, 0.02)
    assert worst(book, "brute_force") is None
    book.udp(60 + np.arange(12) * 0.2, LAPTOP, host("192.168.20.6"), 88, 200, 190)
    assert worst(book, "brute_force") == Severity.LOW


@pytest.mark.parametrize("interval_s", [1.0, 10.0, 60.0])  # `analyze` looks at a minute of long records at a time
def test_a_trickle_is_no_flood_however_long_the_time_that_is_looked_at_together(interval_s: float) -> None:
    for a_second, most in ((30, 0), (3000, 3300)):
        book, packets = Book(1), a_second * 20
        book.udp(np.sort(book.rng.uniform(0, 20, packets)), book.public(packets), WEB, 9000, 100)
        peaks = [each.evidence["peak_weighted_packets_s"] for each in of(judge(book.rows(), interval_s), "volume")]
        assert bool(peaks) == bool(most)
        assert max(peaks, default=0) <= most


@pytest.mark.parametrize(("a_second", "found"), [(100, None), (4000, Severity.MEDIUM)])
def test_a_record_of_many_pings_has_the_rate_of_its_own_time(a_second: int, found: Severity | None) -> None:
    """A ping -f whose record a monitor writes when it is over."""
    book = Book(1)
    book.ping(0.0, LAPTOP, OUTSIDE, packets=a_second * 60, lasts=60.0)
    assert worst(book, "volume") == found

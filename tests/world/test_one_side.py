"""What is seen of one direction only: nobody is accused for what is missing, and attacks are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from world_attacks import STRANGER, text
from world_book import HOUR, Book, host
from world_house import LAPTOP, MONITOR, RESOLVER, WEB
from world_judging import judge, of
from world_packets import packets, pcap

from trafficmond.analyze.run import analyze
from trafficmond.config.load import load_settings
from trafficmond.detect.registry import settings_classes
from trafficmond.model import Severity

HOSTS = np.array([host(f"192.168.20.{last}") for last in range(10, 70)])
GAMES, MEMCACHED = 27015, 11211
SENT, GOT = "sent", "got"


def told(book: Book, who: int, seen: str, path: Path) -> set[tuple[str, str]]:
    """(detector, severity) of what is said where a capture holds what `who` sent, or what it got."""
    every = packets(book.rows())
    own = every["src_lo"] & np.uint64(0xFFFFFFFF) == who
    kept = {SENT: own, GOT: ~own}[seen]
    file = path / "world"
    file.write_bytes(pcap(every[kept]))
    report = analyze([str(file)], load_settings(None, detectors=settings_classes()), 0.0)
    assert report["damage"]["total"] == 0
    return {(each["detector"], each["severity"]) for each in report["threats"]}


# ---- who asks many, by right ----


def smokeping(book: Book) -> None:
    for begin in np.arange(0, HOUR, 300.0):  # 20 pings to each of its targets each five minutes, its defaults
        book.ping(begin + np.arange(80) * 0.5, MONITOR, np.concatenate([HOSTS, book.public(20)]), packets=20, lasts=20)


def nagios(book: Book) -> None:
    for one in HOSTS.tolist():  # check_host_alive: five pings; check_snmp
        book.ping(book.rhythm(0, HOUR, 300, 0.01), MONITOR, one, packets=5, lasts=4.0)
        book.udp(book.rhythm(0, HOUR, 300, 0.01), MONITOR, one, 161, 135, 180, 0.1, packets=3)


def icmp_monitor(book: Book) -> None:
    for begin in np.arange(0, HOUR, 10.0):
        book.ping(begin + np.arange(50) * 0.01, MONITOR, HOSTS[:50])


@pytest.mark.parametrize("seen", [SENT, GOT])
@pytest.mark.parametrize("monitor", [smokeping, nagios, icmp_monitor])
def test_a_monitor_of_ours_is_a_note_at_most(monitor: Callable[[Book], None], seen: str, tmp_path: Path) -> None:
    book = Book(1)
    monitor(book)
    assert told(book, MONITOR, seen, tmp_path) <= {("host_sweep", "low")}


@pytest.mark.parametrize("dport", [161, 0])
@pytest.mark.parametrize(("source", "severity"), [(STRANGER, Severity.MEDIUM), (MONITOR, Severity.LOW)])
def test_a_sweep_of_fifty_that_nobody_answers_is_a_strangers_or_a_note(
    source: int, severity: Severity, dport: int
) -> None:
    book, at = Book(1), np.arange(50) * 0.2
    if dport:
        book.udp(at, source, HOSTS[:50], dport, 43)
    else:
        book.ping(at, source, HOSTS[:50], answered=False)
    assert [threat.severity for threat in of(judge(book.rows(), 1.0), "host_sweep")] == [severity]


@pytest.mark.parametrize(("hosts", "severity"), [(80, Severity.LOW), (150, Severity.HIGH)])
def test_who_pings_hosts_that_are_mostly_off_may_monitor_them_unless_they_are_many(
    hosts: int, severity: Severity
) -> None:
    book, number = Book(1), np.arange(hosts)
    book.ping(number * 0.2, MONITOR, host("192.168.20.1") + number, answered=number % 4 == 0)
    (threat,) = of(judge(book.rows(), 1.0), "host_sweep")
    assert threat.severity == severity


def test_a_sweep_of_ours_is_found_where_many_are_tried() -> None:
    book = Book(1)
    book.udp(0, MONITOR, RESOLVER, 53, 40, 90)  # what it gets back is seen
    book.udp(2 + np.arange(150) * 0.1, MONITOR, host("192.168.20.1") + np.arange(150), 161, 43)
    (threat,) = of(judge(book.rows(), 1.0), "host_sweep")
    assert threat.severity == Severity.HIGH


# ---- who guesses ----


@pytest.mark.parametrize("port", [22, 445])
@pytest.mark.parametrize("sources", [1, 40])
def test_guesses_of_which_the_servers_side_is_missing_are_a_note(sources: int, port: int, tmp_path: Path) -> None:
    book = Book(1)
    book.tcp(np.arange(80) * 0.3, np.resize(book.public(sources), 80), WEB, port, 1200, 1500, 2.5)
    assert told(book, WEB, GOT, tmp_path) == {("brute_force", "low")}


def test_one_password_at_many_hosts_is_no_proof_of_an_address_where_one_side_is_missing(tmp_path: Path) -> None:
    book = Book(1)
    book.tcp(np.arange(130) * 0.5, STRANGER, host("203.0.113.1") + np.arange(130), 22, 1200, 1500, 2.5)
    book.tcp(np.arange(30) * 2.0, WEB, book.public(30), 443, 500, 9000, 0.5)  # a capture that is not the stranger's own
    every = packets(book.rows())
    file = tmp_path / "world"
    file.write_bytes(pcap(every[every["sport"] != 22]))
    (threat,) = analyze([str(file)], load_settings(None, detectors=settings_classes()), 0.0)["threats"]
    assert (threat["src_ip"], threat["severity"], threat["evidence"]["proven"]) == (text(STRANGER), "low", False)


# ---- answers ----


def reflected(book: Book, port: int, each: int = 120, hosts: int = 60) -> None:
    for reflector in book.public(hosts).tolist():
        at = np.sort(book.rng.uniform(0, 120, each))
        book.udp(at, reflector, WEB, book.rng.integers(1025, 65535, each), 900, sport=port)


@pytest.mark.parametrize("hosts", [1, 3, 60])
@pytest.mark.parametrize("port", [MEMCACHED, 1900, 3702])
def test_answers_of_reflectors_are_no_scan(port: int, hosts: int) -> None:
    book = Book(1)
    reflected(book, port, hosts=hosts)
    assert {threat.detector for threat in judge(book.rows(), 1.0)} <= {"amplification"}


def test_a_scan_from_a_port_of_no_such_service_is_found() -> None:
    book = Book(1)
    book.udp(np.arange(100) * 0.1, STRANGER, WEB, np.arange(2000, 2100), 20, sport=40_000)
    (threat,) = of(judge(book.rows(), 1.0), "port_scan")
    assert threat.src_ip == text(STRANGER)


@pytest.mark.parametrize("port", [53, 123, MEMCACHED])
def test_reflection_at_a_host_that_is_alive_is_found_however_small(port: int) -> None:
    book = Book(1)
    book.tcp(book.rng.uniform(0, 60, 20), book.public(20), WEB, 443, 800, 20_000, 1.0)
    reflected(book, port)
    (threat,) = of(judge(book.rows(), 1.0), "amplification")
    assert (threat.dst_ip, threat.severity) == (text(WEB), Severity.HIGH)


@pytest.mark.parametrize(("each", "severity"), [(60, "low"), (400, "high")])
def test_of_reflection_that_only_the_victims_side_shows_a_trickle_is_a_note(
    each: int, severity: str, tmp_path: Path
) -> None:
    book = Book(1)
    reflected(book, 123, each)
    assert told(book, WEB, GOT, tmp_path) == {("amplification", severity)}


def resolvers(book: Book, count: int, a_second: int, seconds: int) -> None:
    """They ask servers all over the world, some of these more often than others."""
    servers = book.public(2000)
    ranks = np.arange(1, len(servers) + 1) ** -0.8
    for resolver in range(count):
        asked = a_second * seconds
        book.udp(
            np.sort(book.rng.uniform(0, seconds, asked)),
            WEB + resolver,
            book.rng.choice(servers, asked, p=ranks / ranks.sum()),
            53,
            45,
            book.rng.integers(80, 900, asked),
            sport=book.rng.integers(1024, 65535, asked),
        )


def test_busy_resolvers_of_which_only_the_answers_are_seen_are_a_note_at_most() -> None:
    book = Book(1)
    resolvers(book, 8, 900, 40)
    rows = book.rows()
    for name in ("packets", "bytes", "payload_bytes"):
        rows[name] = 0
    assert {(threat.detector, threat.severity) for threat in judge(rows, 1.0)} <= {("amplification", Severity.LOW)}


def sampled(book: Book, share: float, path: Path) -> set[tuple[str, str]]:
    """(detector, severity) of what is said where a capture holds such a share of the packets."""
    every = packets(book.rows())
    file = path / "world"
    file.write_bytes(pcap(every[book.rng.random(len(every)) < share]))
    report = analyze([str(file)], load_settings(None, detectors=settings_classes()), 0.0)
    return {(each["detector"], each["severity"]) for each in report["threats"]}


def time_server(book: Book) -> None:
    at, clients = np.sort(book.rng.uniform(0, 300, 30_000)), book.rng.choice(book.public(9000), 30_000)
    sport = np.where(book.rng.random(30_000) < 0.4, 123, book.rng.integers(1024, 65535, 30_000))
    book.udp(at, clients, WEB, 123, 48, 48, 0.001, sport=sport)


def peers(book: Book) -> None:
    dialled, at = book.public(600), np.sort(book.rng.uniform(0, 1400, 600))
    ports = np.where(book.rng.random(600) < 0.5, 6881, book.rng.integers(1025, 65535, 600))
    home = book.rng.random(600) < 0.3
    book.silent(at[~home], LAPTOP, dialled[~home], ports[~home], 3)
    book.tcp(at[home], LAPTOP, dialled[home], ports[home], 5000, 200_000, 120.0)


@pytest.mark.parametrize("share", [0.1, 0.01])
@pytest.mark.parametrize("ordinary", [time_server, peers, lambda book: resolvers(book, 1, 2000, 60)])
def test_of_who_is_asked_and_answered_a_sample_is_seen(
    ordinary: Callable[[Book], None], share: float, tmp_path: Path
) -> None:
    book = Book(1)
    ordinary(book)
    assert {each for each in sampled(book, share, tmp_path) if each[1] != "low"} == set()


def test_a_sweep_of_which_a_sample_is_seen_is_found(tmp_path: Path) -> None:
    book = Book(1)
    peers(book)
    book.silent(np.arange(5000) * 0.2, STRANGER, host("192.168.16.1") + np.arange(5000), 2323)
    assert ("host_sweep", "high") in sampled(book, 0.1, tmp_path)


def test_answers_of_our_own_devices_whose_question_was_not_seen_are_a_note_at_most() -> None:
    book = Book(1)
    for walk in (0, 60):
        book.udp(walk + np.arange(60) * 0.2, HOSTS, MONITOR, book.ports(60), 600 * 400, 0, 2.0, packets=600, sport=161)
    assert {threat.severity for threat in judge(book.rows(), 1.0)} <= {Severity.LOW}


def test_a_browser_of_games_of_which_the_answers_are_seen_is_a_note_at_most(tmp_path: Path) -> None:
    book = Book(1)
    servers = book.public(300)
    for turn in range(4):
        at = turn * 300 + book.rng.uniform(0, 10, len(servers))
        book.udp(at, LAPTOP, servers, GAMES, 50, 600, 0.1, packets=2, sport=27005)
    assert told(book, LAPTOP, GOT, tmp_path) <= {("amplification", "low")}

"""One situation by many, or at many, is one threat; and what looks like it is none."""

from __future__ import annotations

import numpy as np
import pytest
from world_attacks import STRANGER, beacon, port_scan, scan_by_many, text
from world_book import HOUR, Book, host
from world_house import LAPTOP, ROUTER, WEB
from world_judging import judge

from trafficmond.model import Severity, Threat


def told(book: Book, detector: str, interval_s: float = 1.0) -> list[Threat]:
    return [threat for threat in judge(book.rows(), interval_s) if threat.detector == detector]


# ---- scans ----


@pytest.mark.parametrize(("every", "interval_s"), [(0.01, 1.0), (0.4, 1.0), (60.0, 10.0)])
def test_a_scan_behind_decoys_is_one_threat_that_lists_them_all(every: float, interval_s: float) -> None:
    book = Book(1)
    scan_by_many(book, HOUR, WEB, every=every)
    (threat,) = told(book, "port_scan", interval_s)
    assert (threat.src_ip, threat.dst_ip, threat.severity) == (None, text(WEB), Severity.HIGH)
    assert len(threat.evidence["sources"]) == 10
    assert {source["count"] for source in threat.evidence["sources"]} == {400}


@pytest.mark.parametrize(
    ("sources", "ports", "every"), [(4, 200, 0.6), (20, 1000, 0.01), (50, 500, 0.01), (20, 1000, 1.0)]
)
def test_a_scan_shared_out_among_many_is_one_threat(sources: int, ports: int, every: float) -> None:
    book = Book(1)
    scan_by_many(book, HOUR, WEB, sources, ports, every, shared=True)
    (threat,) = told(book, "port_scan")
    assert (threat.src_ip, threat.dst_ip) == (None, text(WEB))
    assert len(threat.evidence["sources"]) == sources
    assert threat.evidence["ports"] == pytest.approx(ports, rel=0.2)


def test_a_scanner_alone_is_named_and_so_is_one_of_many_who_scans_elsewhere_too() -> None:
    book = Book(1)
    port_scan(book, HOUR, WEB)
    assert [threat.src_ip for threat in told(book, "port_scan")] == [text(STRANGER)]
    book, bots = Book(1), Book(2).public(5)
    for turn, victim in enumerate(range(host("192.168.20.10"), host("192.168.20.30"))):
        for bot in bots.tolist():
            book.refused(turn * 5.0 + np.arange(40) * 0.05, bot, victim, np.arange(1, 41))
    found = told(book, "port_scan")
    assert {text(bot) for bot in bots.tolist()} <= {threat.src_ip for threat in found}
    assert len(found) <= 5 + 2


def test_clients_of_a_server_that_is_switched_off_scan_nothing() -> None:
    book, clients = Book(1), np.array([host(f"192.168.10.{last}") for last in range(100, 130)])
    services = np.array([22, 139, 445, 2049, 5000, 8080])
    for turn in np.arange(0, 1800, 60.0):
        at = turn + book.rng.uniform(0, 50, (30, 6))
        book.silent(at.ravel(), np.repeat(clients, 6), host("192.168.20.9"), np.tile(services, 30), 3)
    assert told(book, "port_scan", 10.0) == []


def test_a_sweep_of_a_network_in_which_half_of_the_hosts_are_there_is_noted_and_a_deployment_is_not() -> None:
    hosts = np.array([host(f"192.168.20.{last}") for last in range(1, 255)])
    book = Book(1)
    there = book.rng.random(254) < 0.5
    book.tcp(np.arange(254)[there] * 0.05, LAPTOP, hosts[there], 445, 600, 900, 0.5)
    book.refused(np.arange(254)[~there] * 0.05, LAPTOP, hosts[~there], 445)
    (threat,) = told(book, "host_sweep")
    assert (threat.src_ip, threat.severity) == (text(LAPTOP), Severity.LOW)
    book = Book(1)  # nbtscan
    book.udp(np.arange(254)[there] * 0.05, LAPTOP, hosts[there], 137, 50, 190)
    book.udp(np.arange(254)[~there] * 0.05, LAPTOP, hosts[~there], 137, 50)
    (threat,) = told(book, "host_sweep")
    assert (threat.src_ip, threat.severity) == (text(LAPTOP), Severity.LOW)
    book = Book(1)
    book.udp(np.arange(200) * 0.05, LAPTOP, hosts[:200], 161, 50, 190)
    book.udp(10 + np.arange(50) * 0.05, LAPTOP, hosts[200:250], 161, 50)  # devices that are switched off
    book.tcp(np.arange(200) * 0.05, LAPTOP, hosts[:200], 445, 600, 900, 0.5)
    book.silent(10 + np.arange(50) * 0.05, LAPTOP, hosts[200:250], 445, 3)  # those that are switched off
    assert told(book, "host_sweep") == []


# ---- logins ----


def test_communities_tried_at_an_agent_are_noted_and_polls_of_a_dead_one_are_not() -> None:
    agent = host("192.168.20.9")
    for sport in (None, 40001):  # a socket each, or one for all
        book = Book(1)
        book.udp(np.arange(300) / 20, STRANGER, agent, 161, book.rng.integers(38, 50, 300), sport=sport)
        (threat,) = told(book, "brute_force")
        assert (threat.src_ip, threat.dst_ip, threat.severity) == (text(STRANGER), text(agent), Severity.LOW)
        assert not threat.evidence["proven"]
    book = Book(1)
    for poll in np.arange(0, 3600, 60.0):  # each minute a question, sent again five times (Net-SNMP's default)
        book.udp(poll, LAPTOP, agent, 161, 45 * 6, 0, 6.0, packets=6)
    assert told(book, "brute_force") == []
    book = Book(1)
    book.udp(np.arange(3000) / 50, LAPTOP, agent, 161, 45, 90)  # a walk
    assert told(book, "brute_force") == []


def test_refusals_by_radius_are_guesses_and_logins_of_an_access_point_are_not() -> None:
    server = host("192.168.20.5")
    book = Book(1)
    book.udp(np.arange(100) * 0.5, LAPTOP, server, 1812, book.rng.integers(70, 80, 100), 38)
    (threat,) = told(book, "brute_force")
    assert (threat.src_ip, threat.dst_ip) == (text(LAPTOP), text(server))
    book = Book(1)
    book.udp(np.arange(600) * 0.1, ROUTER, server, 1812, 160, 120)  # EAP: challenges, then who is let in
    book.udp(np.arange(40) * 1.5, ROUTER, server, 1812, 160, 44)  # ... and who mistyped
    assert told(book, "brute_force") == []


# ---- held, and regular ----


def test_slow_reading_is_noted_and_news_to_many_readers_are_not() -> None:
    book = Book(1)
    book.crumbs(np.sort(book.rng.uniform(0, 10, 200)), STRANGER, WEB, 80, 1024, 32, 5.0, 240.0)
    (threat,) = told(book, "slow_http")
    assert (threat.src_ip, threat.dst_ip, threat.severity) == (text(STRANGER), text(WEB), Severity.LOW)
    book = Book(1)
    book.crumbs(np.sort(book.rng.uniform(0, 10, 600)), np.repeat(book.public(300), 2), WEB, 443, 300, 60, 5.0, 240.0)
    assert told(book, "slow_http") == []


@pytest.mark.parametrize("every", [10.0, 600.0])
def test_a_timer_that_is_early_or_late_by_half_is_noted(every: float) -> None:
    book = Book(1)
    beacon(book, 0, LAPTOP, every, 0.5, 60)
    (threat,) = told(book, "beacon", 10.0)
    assert threat.severity == Severity.LOW


def test_a_rhythm_of_questions_to_a_foreign_server_is_noted_and_those_of_a_resolver_are_not() -> None:
    book, server = Book(1), host("203.0.113.99")
    beats = np.cumsum(book.rng.uniform(55, 65, 60))
    book.udp(beats, LAPTOP, server, 53, book.rng.integers(38, 44, 60), 60)
    (threat,) = told(book, "beacon", 10.0)
    assert (threat.src_ip, threat.dst_ip, threat.severity) == (text(LAPTOP), text(server), Severity.LOW)
    for other in book.public(8).tolist():  # a resolver asks again whenever a name's time is over
        book.udp(beats + book.rng.uniform(0, 60), LAPTOP, other, 53, 40, 60)
    assert told(book, "beacon", 10.0) == []
    book = Book(1)
    for resolver in ("9.9.9.9", "192.168.10.2"):  # a thing that asks for its maker's name each minute
        book.udp(beats, LAPTOP, host(resolver), 53, 40, 60)
    assert told(book, "beacon", 10.0) == []

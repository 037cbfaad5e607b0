"""Where nobody answers by right: devices that report, a closed network, a server of which one side is seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import world_doors as doors
from test_one_side import GOT, SENT, told
from world_attacks import STRANGER, text
from world_book import HOUR, MONDAY, Book, host
from world_house import LAPTOP, MONITOR, RESOLVER, WEB
from world_judging import judge, of
from world_packets import PACKET, pcap

from trafficmond.analyze.run import analyze
from trafficmond.config.load import load_settings
from trafficmond.detect.registry import settings_classes
from trafficmond.flows.batch import V4_MAPPED
from trafficmond.model import Severity
from trafficmond.protocols import ACK, SYN, TCP

OUTSIDE = host("203.0.113.7")

# ---- servers of which one side is seen ----


@pytest.mark.parametrize("seen", [SENT, GOT])
@pytest.mark.parametrize("port", [53, 123])
def test_a_busy_server_of_names_or_time_is_a_note_at_most(port: int, seen: str, tmp_path: Path) -> None:
    book = Book(1)
    at, clients = np.sort(book.rng.uniform(0, 20, 40_000)), book.rng.choice(book.public(9000), 40_000)
    sport = np.where(book.rng.random(40_000) < 0.4, port, book.rng.integers(1024, 65535, 40_000))
    book.udp(at, clients, WEB, port, 48, 48, 0.001, sport=sport)
    assert {severity for _, severity in told(book, WEB, seen, tmp_path)} <= {"low"}


def test_a_flood_of_questions_at_a_host_that_sends_is_found_and_at_one_unseen_noted() -> None:
    for alive, severity in ((True, Severity.MEDIUM), (False, Severity.LOW)):
        book = Book(1)
        if alive:
            book.tcp(np.arange(30), book.public(30), WEB, 443, 800, 20_000, 30.0)
        book.udp(np.sort(book.rng.uniform(0, 20, 60_000)), STRANGER, WEB, 53, 48, sport=book.ports(60_000))
        assert [threat.severity for threat in of(judge(book.rows(), 1.0), "volume")] == [severity]


# ---- devices that report and are never answered ----


@pytest.mark.parametrize("port", [514, 2003, 5023])
def test_devices_that_report_over_tcp_are_a_note_at_most(port: int) -> None:
    for devices, server in ((host("10.1.0.1") + np.arange(200), MONITOR), (Book(2).public(200), WEB)):
        book = Book(1)
        book.trickle(book.rng.uniform(0, 60, 200), devices, server, port, 60, 60, 10.0, 1800.0)
        assert {threat.severity for threat in judge(book.rows(), 1.0)} <= {Severity.LOW}


@pytest.mark.parametrize(("sources", "port"), [(1, 5023), (10, 5023), (200, 80), (200, 8443)])
def test_who_holds_many_connections_or_those_of_the_web_is_told(sources: int, port: int) -> None:
    book = Book(1)
    book.trickle(book.rng.uniform(0, 60, 200), np.resize(book.public(sources), 200), WEB, port, 60, 20, 10.0, 240.0)
    assert [threat.severity for threat in of(judge(book.rows(), 1.0), "slow_http")] == [Severity.MEDIUM]


# ---- readers whose window stays closed ----

PERSISTS = 0.2 * (2.0 ** np.arange(1, 9) - 1)  # RFC 9293, 3.8.6.1, as Linux does it
KEEPALIVES = np.arange(15.0, 60.0, 15.0)  # Go's default


def bare_segments(when: np.ndarray, path: Path) -> list[tuple[str, str, str]]:
    """What is said where 150 connections of one source ask, get two short segments, and later bare ones."""
    begin = [(0.0, 0, SYN, 0), (0.001, 1, SYN | ACK, 0), (0.002, 0, ACK, 0), (0.003, 0, ACK, 606), (0.004, 1, ACK, 0)]
    begin += [(0.005, 1, ACK, 576), (0.006, 0, ACK, 0), (0.007, 1, ACK, 576), (0.008, 0, ACK, 0)]
    later = [(float(at) + side / 1e4, 1 - side, ACK, 0) for at in when for side in (0, 1)]
    rows = np.array(begin + later, [("at", "f8"), ("reply", "?"), ("flags", "u1"), ("payload", "u4")])
    sent = np.zeros((150, len(rows)), PACKET)
    for name in ("flags", "payload"):
        sent[name] = rows[name]
    number = np.arange(150)[:, None]
    sent["at"] = MONDAY + rows["at"] + number / 50
    sent["family"], sent["proto"], sent["ip_bytes"] = 4, TCP, rows["payload"] + 40
    sent["ip_bytes"] += np.where(rows["flags"] & SYN, 20, 0).astype(np.uint32)  # options
    client, server = (np.uint64(int(V4_MAPPED) | one) for one in (STRANGER, WEB))
    for mine, theirs, one, other in (("src_lo", "dst_lo", client, server), ("sport", "dport", 40_000 + number, 80)):
        sent[mine] = np.where(rows["reply"], other, one)
        sent[theirs] = np.where(rows["reply"], one, other)
    sent["seq"] = np.where(rows["flags"] & SYN, 1000, 1001)
    every = sent.ravel()
    file = path / "world"
    file.write_bytes(pcap(every[np.argsort(every["at"], kind="stable")]))
    report = analyze([str(file)], load_settings(None, detectors=settings_classes()), 0.0)
    return [(each["detector"], each["severity"], each["src_ip"]) for each in report["threats"]]


def test_who_keeps_his_window_closed_is_noted_and_idle_connections_are_not(tmp_path: Path) -> None:
    assert bare_segments(PERSISTS, tmp_path) == [("slow_http", "low", text(STRANGER))]
    assert bare_segments(KEEPALIVES, tmp_path) == []


# ---- a network that lets nothing through ----


def pages_that_do_not_open(book: Book, hosts: int, *, names: bool, port: int = 443) -> None:
    at = np.sort(book.rng.uniform(0, 1800, hosts))
    if names:
        book.udp(at, LAPTOP, RESOLVER, 53, 40, 90, packets=2)
    book.silent(at + 0.1, LAPTOP, book.public(hosts), port, 4)


@pytest.mark.parametrize(("hosts", "port"), [(80, 443), (300, 443), (40, 25)])
def test_who_asked_for_the_names_of_servers_that_are_out_of_reach_is_a_note_and_a_scanner_asks_for_none(
    hosts: int, port: int
) -> None:
    book = Book(1)
    pages_that_do_not_open(book, hosts, names=True, port=port)
    assert {threat.severity for threat in judge(book.rows(), 1.0)} == {Severity.LOW}
    book = Book(1)
    pages_that_do_not_open(book, hosts, names=False, port=port)
    (threat,) = judge(book.rows(), 1.0)
    assert (threat.detector, threat.severity >= Severity.MEDIUM) == ("host_sweep", True)


def test_who_asks_for_names_and_sweeps_another_port_is_told() -> None:
    book = Book(1)
    book.udp(np.arange(200) * 0.3, LAPTOP, RESOLVER, 53, 40, 90)
    book.silent(np.arange(200) * 0.3, LAPTOP, book.public(200), 2323)
    assert [threat.severity for threat in judge(book.rows(), 1.0)] == [Severity.HIGH]


# ---- greeted and turned away ----


def test_a_client_of_a_chat_server_that_turns_it_away_has_a_rhythm_and_guesses_nothing() -> None:
    book = Book(1)
    at = np.cumsum(30 * book.rng.uniform(0.9, 1.1, 300))
    book.tcp(at, LAPTOP, OUTSIDE, 6667, 60 + book.rng.integers(0, 8, 300), 250, 2.0, greets=True)
    (threat,) = judge(book.rows(), 10.0)
    assert (threat.detector, threat.src_ip, threat.dst_ip) == ("beacon", text(LAPTOP), text(OUTSIDE))


@pytest.mark.parametrize("source", [STRANGER, LAPTOP])
def test_ssh_at_another_port_is_guessed_at_all_the_same(source: int) -> None:
    book = Book(1)
    at = np.cumsum(book.rng.uniform(0.5, 1.5, 100))
    book.tcp(at, source, OUTSIDE if source == LAPTOP else WEB, 2200, 1900, 2300, 3.0, greets=True)
    assert list(of(judge(book.rows(), 1.0), "brute_force", Severity.MEDIUM))


@pytest.mark.parametrize(("source", "severity"), [(LAPTOP, Severity.LOW), (STRANGER, Severity.HIGH)])
def test_a_gateway_that_asks_radius_for_its_users_is_a_note(source: int, severity: Severity) -> None:
    book = Book(1)
    book.udp(np.sort(book.rng.uniform(0, 300, 400)), source, RESOLVER, 1812, 180, 38, sport=book.ports(400))
    assert [threat.severity for threat in judge(book.rows(), 1.0)] == [severity]


# ---- a check in records of whole seconds ----


@pytest.mark.parametrize("every", [1.0, 2.5, 5.0])
def test_a_check_from_outside_is_one_in_records_of_whole_seconds_too(every: float, tmp_path: Path) -> None:
    book, told = Book(1), {}
    at = book.rhythm(0, HOUR / 2, every, 0.005)
    for name, lasts in (("check", np.full(len(at), 0.05)), ("guess", book.rng.uniform(2, 4, len(at)))):
        book = Book(1)
        book.tcp(at, STRANGER, WEB, 22, 2200, 2600, lasts, greets=True)
        path = tmp_path / name
        doors.vpc_with_flags(book.rows(), path)
        report = analyze([str(path)], load_settings(None, detectors=settings_classes()), 0.0)
        told[name] = {each["severity"] for each in report["threats"] if each["detector"] == "brute_force"}
    assert told["check"] <= {"low"}
    assert told["guess"] == {"high"}

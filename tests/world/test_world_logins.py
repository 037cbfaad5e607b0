"""Passwords tried where no single host is tried often: one source at many hosts, many sources at a mailbox."""

from __future__ import annotations

import numpy as np
import pytest
from world_attacks import STRANGER, beacon, named, text
from world_book import DAY, HOUR, Book, Times, host
from world_house import LAPTOP, MAIL, MONITOR, SERVERS, WEB
from world_judging import judge

from trafficmond.model import Severity, Threat

NETWORK = host("198.51.100.0") + np.arange(1, 121)
HOSTS = host("192.168.20.0") + np.arange(10, 110)


def told(book: Book, interval_s: float = 10.0) -> list[Threat]:
    return [threat for threat in judge(book.rows(), interval_s) if threat.detector == "brute_force"]


def refusals(book: Book, at: Times, source: int, hosts: np.ndarray, port: int = 22) -> None:
    count, greets = len(at), port == 22
    book.tcp(at, source, hosts, port, book.rng.integers(1200, 2300, count), book.rng.integers(1500, 2700, count),
             book.rng.uniform(1, 4, count), greets=greets)  # fmt: skip


# ---- one source that also logs in ----


@pytest.mark.parametrize(("logins", "severity"), [(0, Severity.HIGH), (40, Severity.HIGH), (200, Severity.LOW)])
def test_logins_from_the_same_address_hide_a_guesser_only_if_they_are_more(logins: int, severity: Severity) -> None:
    book = Book(1)
    guesses, at = np.arange(80) * 12.0 + book.rng.uniform(0, 4, 80), np.sort(book.rng.uniform(0, 960, logins))
    refusals(book, guesses, STRANGER, np.full(80, WEB))
    sizes = np.minimum(book.heavy(logins, 5000), 60_000)
    book.tcp(at, STRANGER, WEB, 22, book.rng.integers(2500, 6000, logins), sizes, 1.0, greets=True)
    for prefix in ("packets", "reply_packets"):  # many small messages
        book._batches[-1][prefix] += 24
    (threat,) = told(book)
    assert (threat.src_ip, threat.severity) == (text(STRANGER), severity)


def test_users_of_one_address_who_mistype_are_not_banned() -> None:
    book = Book(1)
    refusals(book, np.arange(14) * 1.8, STRANGER, np.full(14, WEB))
    book.tcp(1 + np.arange(10) * 2.0, STRANGER, WEB, 22, 4000, 5000, 1.0, greets=True)
    for prefix in ("packets", "reply_packets"):
        book._batches[-1][prefix] += 24
    assert [threat.severity for threat in told(book)] == [Severity.MEDIUM]


# ---- one source, many hosts ----


@pytest.mark.parametrize(("port", "every"), [(22, 1.0), (22, 300.0), (3389, 30.0)])
def test_one_password_tried_at_a_hundred_hosts_is_one_threat_of_its_source(port: int, every: float) -> None:
    book = Book(1)
    refusals(book, np.arange(120) * every, STRANGER, NETWORK, port)
    (threat,) = told(book)
    assert (threat.src_ip, threat.dst_ip, threat.severity) == (text(STRANGER), None, Severity.MEDIUM)
    assert threat.evidence["hosts"] == pytest.approx(120, rel=0.1)


def test_a_password_after_the_other_at_a_dozen_hosts_is_noted() -> None:
    book = Book(1)
    for turn in range(4):  # an hour later the next one, so that no account is locked
        refusals(book, turn * HOUR + np.arange(12) * 20.0, STRANGER, NETWORK[:12])
    (threat,) = told(book)
    assert (threat.src_ip, threat.severity) == (text(STRANGER), Severity.LOW)


def test_a_host_of_ours_that_is_refused_at_a_hundred_is_noted_and_its_beacon_too() -> None:
    book = Book(1)
    book.tcp(np.arange(100) * 0.5, LAPTOP, HOSTS, 445, 950, 900, 0.02)
    home = beacon(book, 60, LAPTOP)
    found = judge(book.rows(), 10.0)
    assert any(named(threat, home) for threat in found)
    (threat,) = (threat for threat in found if threat.detector == "brute_force")
    assert (threat.src_ip, threat.severity) == (text(LAPTOP), Severity.LOW)


def test_who_is_let_in_at_many_hosts_is_an_administrator() -> None:
    for source in (STRANGER, MONITOR):
        book = Book(1)
        for play in range(6):  # Ansible; and in between a script with a word for each host
            book.tcp(play * HOUR + np.arange(len(SERVERS)), source, SERVERS, 22, 40_000, 60_000, 40, greets=True)
        refusals(book, np.arange(12) * 60.0, source, SERVERS[:12])
        assert told(book) == []


def test_monitors_and_applications_of_ours_spray_nothing() -> None:
    book = Book(1)
    for turn in range(12):  # check_ssh, and a login with the plugin's answer at some hosts; shards of a database
        at = turn * 300.0
        book.tcp(at + np.arange(100) * 0.1, MONITOR, HOSTS, 22, 30, 40, 0.03, greets=True)
        book.tcp(at + np.arange(10) * 0.1, MONITOR, HOSTS[:10], 22, 3300, 4200, 0.6, greets=True)
        book.tcp(at + book.rng.uniform(0, 300, 40), LAPTOP, HOSTS[:40], 3306, 200, 400, 0.01, greets=True)
    assert told(book) == []


# ---- many sources, a mailbox ----


@pytest.mark.parametrize(("port", "greets"), [(993, False), (587, True)])
def test_stolen_passwords_tried_at_mailboxes_by_many_are_noted(port: int, greets: bool) -> None:
    book = Book(1)
    who = np.repeat(book.public(60), 5)
    at = book.rng.uniform(0, 8 * HOUR, len(who))
    book.tcp(at, who, MAIL, port, 850, 3900, book.rng.uniform(2.1, 3, len(who)), greets=greets)
    (threat,) = told(book)
    assert (threat.src_ip, threat.dst_ip, threat.severity) == (None, text(MAIL), Severity.LOW)
    assert len(threat.evidence["sources"]) == 60


@pytest.mark.parametrize(("lasts", "got"), [(0.6, 3900), (1700.0, 9000)])
def test_mailboxes_that_people_read_are_not(lasts: float, got: int) -> None:
    book = Book(1)
    who = np.repeat(book.public(60), 8)
    at = book.rng.uniform(0, 8 * HOUR, len(who))
    book.tcp(at, who, MAIL, 993, 850, got, lasts)  # a poll, or IDLE (RFC 2177)
    late = np.arange(60)  # a bad line, or a password mistyped, now and then
    book.tcp(at[late * 8] + 5, who[late * 8], MAIL, 993, 850, 3900, 3.0)
    assert told(book) == []


@pytest.mark.parametrize(("strangers", "severities"), [(4, []), (6, [Severity.LOW]), (12, [Severity.MEDIUM])])
def test_some_who_guess_at_a_service_are_a_note_and_many_are_a_threat(
    strangers: int, severities: list[Severity]
) -> None:
    book = Book(1)
    who = np.repeat(book.public(strangers), 7)
    refusals(book, np.sort(book.rng.uniform(0, 3 * HOUR, len(who))), book.rng.permutation(who), WEB)
    assert [threat.severity for threat in told(book)] == severities


def test_a_few_strangers_a_day_never_add_up() -> None:
    book = Book(1)
    refusals(book, np.arange(60) * 4 * HOUR, book.public(60), np.full(60, WEB))
    assert told(book) == []


@pytest.mark.parametrize("guessers", [1, 40])
def test_those_who_try_most_are_named_beside_the_many(guessers: int) -> None:
    book, who = Book(1), np.repeat(Book(2).public(12), 4)
    refusals(book, np.sort(book.rng.uniform(0, HOUR, len(who))), who, np.full(len(who), WEB))
    for one in (host("81.2.3.0") + np.arange(guessers)).tolist():
        refusals(book, HOUR + np.cumsum(book.rng.uniform(150, 210, 20)), one, np.full(20, WEB))
    (many,), alone = ([threat for threat in told(book) if (threat.src_ip is None) == gathered] for gathered in (1, 0))
    assert many.severity == Severity.MEDIUM
    assert 1 <= len(alone) <= 8
    assert {threat.severity for threat in alone} == {Severity.HIGH}


# ---- RPC, MQTT ----


def test_who_asks_the_endpoint_mapper_sixty_times_is_noted_and_a_monitor_is_not() -> None:
    for often, found in ((0.3, [Severity.LOW]), (2.4, [])):  # 25 sensors each minute
        book = Book(1)
        at = np.cumsum(book.rng.uniform(0.5, 1.5, 62) * often)
        book.tcp(at, LAPTOP, SERVERS[0], 135, 272, 236, 0.02)
        assert [threat.severity for threat in told(book, 1.0)] == found


@pytest.mark.parametrize(("pause", "port", "handshake"), [(0.1, 1883, 0), (2.0, 1883, 0), (0.1, 8883, 3000)])
def test_devices_that_a_broker_refuses_are_a_note(pause: float, port: int, handshake: int) -> None:
    book = Book(1)
    at = np.cumsum(book.rng.exponential(pause, 600))
    book.tcp(at, STRANGER, WEB, port, 44 + handshake // 5, 4 + handshake, 0.3)
    assert [threat.severity for threat in told(book, 1.0)] == [Severity.LOW]


# ---- web ----


@pytest.mark.parametrize(("port", "step", "got"), [(80, 4, 520), (443, 1, 4500)])
def test_passwords_tried_at_a_form_or_by_basic_are_noted(port: int, step: int, got: int) -> None:
    book = Book(1)
    at, words = np.cumsum(book.rng.exponential(0.2, 1000)), book.rng.integers(5, 12, 1000)
    book.tcp(at, STRANGER, WEB, port, 400 + words // step * step, got + book.rng.integers(0, 3, 1000), 0.1)
    (threat,) = told(book)
    assert (threat.src_ip, threat.dst_ip, threat.severity) == (text(STRANGER), text(WEB), Severity.LOW)
    assert threat.count >= 900


def slowly(book: Book, source: int, often: float) -> None:
    """Guesses at a form, one after the other."""
    at, words = np.cumsum(often * book.rng.uniform(0.6, 1.4, 120)), book.rng.integers(5, 17, 120)
    book.tcp(at, source, WEB, 443, 600 + words, 4500, 0.4)


@pytest.mark.parametrize("often", [2.0, 4.0])
def test_passwords_tried_slowly_are_noted_unless_several_do_the_same(often: float) -> None:
    book = Book(1)
    slowly(book, STRANGER, often)
    (threat,) = told(book, 10.0)
    assert (threat.src_ip, threat.severity, threat.evidence["quick"]) == (text(STRANGER), Severity.LOW, False)
    for source in book.public(3).tolist():  # a program in common
        slowly(book, source, often)
    assert told(book, 10.0) == []


def clients(book: Book) -> dict[str, tuple[Times, np.ndarray | int, np.ndarray | int]]:
    """When, and how much is asked and answered, in 1000 connections of programs."""
    at, varied = np.cumsum(book.rng.exponential(0.2, 1000)), 400 + book.rng.integers(0, 12, 1000)
    return {
        "a load test": (at, 420, 5000),
        "a load test of pages by number": (at, 400 + np.log10(1 + np.arange(1000)).astype(int), 5000),
        "a crawler": (at, varied, book.heavy(1000, 15_000)),
        "a program that calls an interface": (at, varied, 700 + book.rng.integers(0, 400, 1000)),
        "a thing that reports by the clock": (np.arange(1000) * 1.0, varied, 180),
        "a thing that reports now and then": (np.cumsum(book.rng.exponential(3, 1000)), varied, 180),
    }


@pytest.mark.parametrize("client", [*clients(Book(1))])
def test_programs_that_use_the_web_guess_nothing(client: str) -> None:
    book = Book(1)
    at, sent, got = clients(book)[client]
    book.tcp(at, STRANGER, WEB, 443, sent, got, 0.1)
    assert told(book) == []


# ---- by the clock ----


def test_a_host_of_ours_that_is_refused_by_the_clock_is_noted() -> None:
    book = Book(1)
    at = np.arange(400) * 5.0 + book.rng.normal(0, 0.01, 400)
    book.tcp(at, LAPTOP, SERVERS[0], 22, 2000, 2500, book.rng.uniform(1.5, 2.5, 400), greets=True)
    (threat,) = told(book)
    assert (threat.src_ip, threat.severity) == (text(LAPTOP), Severity.LOW)


# ---- one direction ----


@pytest.mark.parametrize("port", [22, 3389])
def test_guessing_of_which_the_answers_are_not_seen_is_noted(port: int) -> None:
    book = Book(1)
    at = np.cumsum(book.rng.uniform(20, 100, 60))
    refusals(book, at, STRANGER, np.resize(SERVERS[:1], 60), port)
    rows = book.rows()
    for name in ("packets", "bytes", "payload_bytes", "tcp_flags", "first_flags"):
        rows[f"reply_{name}"] = 0
    (threat,) = told(book)
    assert (threat.src_ip, threat.dst_ip, threat.severity) == (text(STRANGER), text(int(SERVERS[0])), Severity.LOW)
    assert not threat.evidence["proven"]


def test_those_who_guessed_days_ago_are_still_listed() -> None:
    book = Book(1)
    early, late = book.public(60).reshape(2, 30)
    for day in range(3):
        who = np.repeat(late if day == 2 else early if day == 0 else book.public(30), 4)
        book.tcp(day * DAY + book.rng.uniform(0, DAY, len(who)), who, WEB, 22, 2000, 2500, 3.0, greets=True)
    (threat,) = told(book)
    listed = {each["src_ip"]: each["count"] for each in threat.evidence["sources"]}
    assert all(listed[text(source)] == 4 for source in (*early.tolist(), *late.tolist()))
    assert threat.evidence["hosts"] < len(listed) == 90


@pytest.mark.parametrize(("guesses", "found"), [(0, []), (60, [Severity.HIGH])])
def test_a_terminal_server_that_logs_its_users_in_is_no_spray(guesses: int, found: list[Severity]) -> None:
    book, server = Book(1), host("192.168.1.5")
    login = 1.0 * np.arange(60)
    book.udp(login, LAPTOP, server, 88, 180, 190)  # refused, because a proof is wanted
    book.udp(login + 0.05, LAPTOP, server, 88, 280, 1400)
    for ticket in range(4):  # for services, which are refused to nobody before
        book.udp(login + 0.1 + 0.05 * ticket, LAPTOP, server, 88, 1400, 1450)
    book.udp(login[:guesses] + 0.5, LAPTOP, server, 88, 280, 190)
    assert [threat.severity for threat in told(book, 1.0)] == found


# ---- telephones ----


@pytest.mark.parametrize(("lasts", "severity"), [(300.0, Severity.LOW), (3.0, Severity.HIGH)])
def test_a_record_of_minutes_is_no_burst_of_registrations(lasts: float, severity: Severity) -> None:
    book, phones = Book(1), np.arange(60)
    book.udp(phones * 0.9, STRANGER, WEB, 5060, 10 * 560, 10 * 510, lasts, packets=10, sport=1024 + 7 * phones)
    assert [threat.severity for threat in told(book)] == [severity]

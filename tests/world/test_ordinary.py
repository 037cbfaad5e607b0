"""What ordinary programs do by right, as traffic: nobody is accused of it, and who does nearly the same is found."""

from __future__ import annotations

import numpy as np
import pytest
from world_attacks import STRANGER
from world_book import DAY, HOUR, Book, host
from world_house import LAPTOP, MONITOR, WEB
from world_judging import judge, text

from trafficmond.model import Severity, Threat

SERVER = host("192.168.20.10")
MEDIUM = Severity.MEDIUM


def guessers(book: Book, least: Severity = Severity.LOW, interval_s: float = 1.0) -> list[Threat]:
    found = judge(book.rows(), interval_s)
    return [threat for threat in found if threat.detector == "brute_force" and threat.severity >= least]


# ---- checks of a service ----

CHECKS = {  # port, bytes up and down, whether the server greets
    "MySQL": (3306, 230, 180, True),
    "MySQL, refused": (3306, 120, 160, True),
    "PostgreSQL, refused": (5432, 90, 110, False),
    "Redis": (6379, 14, 7, False),
    "SMTP": (25, 30, 210, True),
    "LDAP": (389, 60, 40, False),
    "IMAP": (143, 30, 160, True),
    "FTP": (21, 40, 150, True),
    "SSH, the greeting": (22, 30, 40, True),
    "SSH, a login": (22, 3300, 4200, True),
}


@pytest.mark.parametrize("every", [1.0, 5.0])
@pytest.mark.parametrize("check", CHECKS)
def test_who_looks_by_the_clock_whether_our_service_is_up_guesses_nothing(check: str, every: float) -> None:
    port, sent, got, greets = CHECKS[check]
    book = Book(1)
    book.tcp(book.rhythm(0, HOUR / 2, every, 0.005), MONITOR, SERVER, port, sent, got, 0.03, greets=greets)
    assert guessers(book) == []


@pytest.mark.parametrize("every", [1.0, 60.0])
@pytest.mark.parametrize("check", CHECKS)
def test_who_does_so_from_outside_is_a_note_at_most(check: str, every: float) -> None:
    port, sent, got, greets = CHECKS[check]
    book = Book(1)
    book.tcp(book.rhythm(0, 60 * every, every, 0.005), STRANGER, WEB, port, sent, got, 0.03, greets=greets)
    assert guessers(book, MEDIUM) == []


def test_a_host_of_ours_that_logs_in_by_rdp_by_the_clock_is_a_note() -> None:
    book = Book(1)
    book.tcp(book.rhythm(0, 60, 1.2, 0.005), MONITOR, SERVER, 3389, 1250, 1600, 0.3)  # more than a check says
    assert [threat.severity for threat in guessers(book)] == [Severity.LOW]


def test_who_guesses_again_as_soon_as_he_is_refused_keeps_no_clock() -> None:
    book = Book(1)
    book.tcp(np.arange(200) * 1.03, STRANGER, WEB, 21, 40, 150, 1.0, greets=True)  # vsftpd's delay_failed_login
    assert [threat.severity for threat in guessers(book)] == [Severity.HIGH]


def test_a_check_that_was_stopped_for_a_while_is_one_all_the_same() -> None:
    book = Book(1)
    for begin in (0, 900, 2000):
        book.tcp(book.rhythm(begin, begin + 700, 5, 0.005), MONITOR, SERVER, 143, 30, 160, 0.03, greets=True)
    assert guessers(book) == []


def test_a_watcher_from_outside_that_reads_the_greeting_of_ssh_knows_no_password() -> None:
    book = Book(1)
    book.tcp(book.rhythm(0, 4 * HOUR, 60, 0.005), STRANGER, WEB, 22, 30, 40, 0.1, greets=True)
    assert guessers(book) == []


def test_a_fetch_by_ssh_each_minute_from_outside_is_a_note_at_most() -> None:
    book = Book(1)
    at = book.rhythm(0, 4 * HOUR, 60, 0.005)
    book.tcp(at, STRANGER, WEB, 22, 3300 + book.rng.integers(0, 40, len(at)), 4300, 0.7, greets=True)
    assert guessers(book, MEDIUM) == []


@pytest.mark.parametrize("pause", [3.0, 60.0, 180.0])
def test_a_slow_guesser_from_outside_keeps_a_clock_in_vain(pause: float) -> None:
    book = Book(1)
    lasts = book.rng.uniform(1.5, 2.5, 60)  # PAM holds a refusal back
    book.tcp(np.cumsum(pause + lasts), STRANGER, WEB, 22, 2000, 2500, lasts, greets=True)
    (threat,) = guessers(book)
    assert (threat.severity, threat.evidence["proven"]) == (Severity.HIGH, True)


@pytest.mark.parametrize(("port", "lasts"), [(22, 2.0), (21, 1.0), (445, 0.02)])
def test_a_host_of_ours_that_guesses_at_full_speed_is_found(port: int, lasts: float) -> None:
    book = Book(1)
    for task in range(4):
        took = lasts * book.rng.uniform(0.75, 1.25, 150)
        book.tcp(task * 0.3 + np.cumsum(took), LAPTOP, STRANGER, port, 2000, 2500, took * 0.9, greets=port != 445)
    assert guessers(book, MEDIUM)


def test_a_host_of_ours_that_guesses_at_a_database_is_found_and_an_application_is_a_note() -> None:
    book = Book(1)
    book.tcp(np.arange(6000) * 0.01, LAPTOP, SERVER, 3306, 120, 160, 0.008, greets=True)
    (threat,) = guessers(book)
    assert threat.severity == MEDIUM  # below what the response bans by default
    book = Book(1)
    book.tcp(np.sort(book.rng.uniform(0, 600, 3000)), LAPTOP, SERVER, 6379, 60, 200, 0.003)
    assert guessers(book, MEDIUM) == []


# ---- services that strangers visit by right ----


@pytest.mark.parametrize("clients", [1, 8])
@pytest.mark.parametrize(("port", "greets"), [(993, False), (995, False), (110, True), (143, True), (21, True)])
def test_mailboxes_are_polled_by_right(port: int, greets: bool, clients: int) -> None:
    book = Book(1)
    for client in range(clients):
        at = book.rhythm(0, 4 * HOUR, 60.0 * (1 + client % 3), 0.05)
        book.tcp(at, STRANGER, WEB, port, 500 + book.rng.integers(0, 60, len(at)), 900, 0.6, greets=greets)
    assert guessers(book) == []


@pytest.mark.parametrize(("port", "greets"), [(993, False), (995, False), (110, True), (587, True)])
def test_an_office_of_a_hundred_mailboxes_behind_one_address_is_a_note_at_most(port: int, greets: bool) -> None:
    book = Book(1)
    for _ in range(100):
        at = book.rhythm(0, HOUR / 6, 60.0, 0.05)
        book.tcp(at, STRANGER, WEB, port, 60 + book.rng.integers(0, 9, len(at)), 200, 0.4, greets=greets)
    assert guessers(book, MEDIUM) == []


def test_passwords_of_mailboxes_that_are_guessed_slowly_are_a_note_and_quickly_a_threat() -> None:
    book = Book(1)
    at = np.cumsum(book.rng.uniform(60, 240, 60))
    book.tcp(at, STRANGER, WEB, 143, 60, 240, 2.2, greets=True)  # Dovecot holds a refusal back for two seconds
    assert [threat.severity for threat in guessers(book)] == [Severity.LOW]
    book = Book(1)
    book.tcp(np.cumsum(book.rng.uniform(0.4, 0.8, 100)), STRANGER, WEB, 143, 60, 240, 2.2, greets=True)
    assert [threat.severity for threat in guessers(book)] == [Severity.HIGH]


def test_mail_that_is_refused_and_sent_again_is_mail() -> None:
    book = Book(1)
    for _ in range(20):  # greylisted or rejected, each letter tried again each five minutes
        book.tcp(book.rng.uniform(0, HOUR) + np.arange(6) * 300.0, STRANGER, WEB, 25, 150, 280, 0.5, greets=True)
    assert guessers(book) == []


def test_telephones_behind_one_address_register_and_a_guesser_is_found() -> None:
    book = Book(1)
    for _ in range(30):
        at = book.rhythm(0, HOUR, 60, 0.02)
        book.udp(np.repeat(at, 2) + np.tile([0, 0.05], len(at)), STRANGER, WEB, 5060, 620, 480, sport=book.ports(1)[0])
    assert guessers(book, MEDIUM) == []
    book = Book(1)
    book.udp(np.arange(400) * 0.05, STRANGER, WEB, 5060, 420, 380, sport=5071)
    assert guessers(book, MEDIUM)


@pytest.mark.parametrize("source", [MONITOR, STRANGER])
def test_automation_that_opens_a_session_for_each_task_is_a_note(source: int) -> None:
    book = Book(1)
    at = np.cumsum(book.rng.uniform(1.5, 4, 150))  # Ansible without ControlPersist, on one host
    book.tcp(at, source, SERVER, 22, book.rng.integers(3500, 30000, 150), book.rng.integers(3500, 12000, 150), 1.5,
             greets=True)  # fmt: skip
    assert guessers(book, MEDIUM) == []


def test_every_day_brings_no_more_notes() -> None:
    book = Book(1)
    book.tcp(book.rhythm(0, DAY, 60, 0.005), MONITOR, SERVER, 5432, 90, 110, 0.03)
    assert [text(threat) for threat in judge(book.rows(), 60.0) if threat.detector == "brute_force"] == []

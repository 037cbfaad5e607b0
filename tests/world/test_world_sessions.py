"""SSH by programs: who is let in each time guesses nothing, from whichever side; who is refused does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import world_doors as doors
from world_attacks import STRANGER, many_guessers, named
from world_book import HOUR, Book, Times, host
from world_house import LAPTOP, WEB
from world_judging import judge, together

from trafficmond.analyze.run import analyze
from trafficmond.config.load import load_settings
from trafficmond.detect.registry import settings_classes
from trafficmond.flows.batch import Batch
from trafficmond.model import Severity

Exchange = tuple[int, int, int, int, float, int]
# Payload up and down, packets up and down, seconds, messages up: as OpenSSH 9.2's own programs have them over a wire.
SESSIONS = {
    "ssh HOST true": (3733, 3577, 24, 21, 0.9, 13),
    "scp of a small file": (5081, 4341, 30, 27, 1.2, 20),
    "rsync of a small file": (4141, 3973, 31, 28, 0.9, 19),
}
REFUSALS = {
    "hydra, a password": (1171, 1849, 13, 14, 4.8, 7),
    "hydra, six passwords": (1551, 2229, 17, 22, 13.8, 12),
    "a server without passwords": (1147, 1773, 12, 10, 0.3, 7),
    "OpenSSH's client": (2929, 2813, 14, 12, 0.4, 6),
}


def ssh(at: Times, source: int, what: Exchange) -> Batch:
    book = Book(len(at))
    sent, got, packets, replies, seconds, _ = what
    lasts = seconds * book.rng.uniform(0.8, 1.3, len(at))
    book.tcp(at, source, WEB, 22, sent + book.rng.integers(0, 60, len(at)), got, lasts, greets=True)
    rows = book.rows()
    rows["packets"], rows["reply_packets"] = packets, replies
    return rows


def guesses(rows: Batch) -> list[Severity]:
    return [threat.severity for threat in judge(rows, 1.0) if threat.detector == "brute_force"]


@pytest.mark.parametrize("pause", [1.0, 40.0, 300.0])
@pytest.mark.parametrize("what", SESSIONS)
def test_a_program_that_is_let_in_each_time_is_a_note_from_outside_and_nothing_from_ours(
    what: str, pause: float
) -> None:
    at = np.cumsum(np.random.default_rng(1).uniform(0.8, 1.4, 120) * (pause + 1))
    assert set(guesses(ssh(at, STRANGER, SESSIONS[what]))) <= {Severity.LOW}
    assert guesses(ssh(at, LAPTOP, SESSIONS[what])) == []


@pytest.mark.parametrize("pause", [1.0, 40.0, 300.0])
@pytest.mark.parametrize("what", REFUSALS)
def test_who_is_refused_each_time_guesses(what: str, pause: float) -> None:
    at = np.cumsum(np.random.default_rng(1).uniform(0.5, 1.8, 80) * (pause + 1))
    assert guesses(ssh(at, STRANGER, REFUSALS[what])) == [Severity.HIGH]


def test_fifteen_connections_of_six_refusals_each_are_enough_although_they_took_some_minutes() -> None:
    at = np.cumsum(np.random.default_rng(1).uniform(15, 35, 15))
    assert guesses(ssh(at, STRANGER, REFUSALS["hydra, six passwords"])) == [Severity.HIGH]
    assert guesses(ssh(at[:14], STRANGER, REFUSALS["hydra, six passwords"])) == [Severity.LOW]


WORK = {
    "a slow command": (3733, 3577, 24, 21, 10.0, 13),
    "a slower one": (3733, 3577, 24, 21, 45.0, 13),
    "some words typed": (4300, 4800, 50, 46, 60.0, 28),
}


@pytest.mark.parametrize("what", WORK)
def test_an_administrator_outside_who_works_by_ssh_is_not_banned(what: str) -> None:
    gaps = np.random.default_rng(1).uniform(120, 500, 60)
    for at, most in ((np.cumsum(gaps), Severity.MEDIUM), (np.arange(60) * 300.0, Severity.LOW)):
        found = guesses(ssh(at, STRANGER, WORK[what]))
        assert max(found, default=Severity.LOW) <= (Severity.LOW if what == "some words typed" else most)


def test_as_many_messages_as_a_login_has_are_a_guesser_if_they_follow_each_other() -> None:
    for pause, severity in ((300.0, Severity.MEDIUM), (25.0, Severity.HIGH)):
        at = np.cumsum(np.random.default_rng(1).uniform(0.5, 1.5, 40) * pause)
        rows = ssh(at, STRANGER, REFUSALS["hydra, six passwords"])
        rows["packets"] = 24
        assert guesses(rows) == [severity]


@pytest.mark.parametrize("pause", [1.0, 200.0])
def test_eight_refusals_of_a_stranger_are_a_note_and_two_people_who_mistype_are_not(pause: float) -> None:
    at = np.cumsum(np.random.default_rng(1).uniform(0.5, 1.5, 9) * pause)
    assert guesses(ssh(at, STRANGER, REFUSALS["hydra, a password"])) == [Severity.LOW]
    assert guesses(ssh(at[:6], STRANGER, REFUSALS["hydra, a password"])) == []
    assert guesses(ssh(at, LAPTOP, REFUSALS["hydra, a password"])) == []
    assert guesses(ssh(at, STRANGER, SESSIONS["rsync of a small file"])) == []


def test_many_who_are_let_in_are_no_crowd_of_guessers_and_do_not_hide_one() -> None:
    rows = [ssh(np.arange(4) * HOUR + at, host("81.2.3.0") + at, SESSIONS["scp of a small file"]) for at in range(60)]
    assert guesses(together(*rows)) == []
    book = Book(1)
    told = many_guessers(book, 0.0, WEB)
    found = judge(together(book.rows(), *rows[:2]), 10.0)
    assert any(named(threat, told) for threat in found)


@pytest.mark.parametrize(("lasts", "expected"), [(2.0, {Severity.LOW}), (0.4, set())])
def test_many_whom_an_ftp_server_refuses_are_a_note_unless_nothing_held_them_back(
    lasts: float, expected: set[Severity]
) -> None:
    book = Book(3)
    for source in range(12):
        at = np.sort(book.rng.uniform(0, 3000, 5))
        book.tcp(at, host("81.2.3.0") + source, WEB, 21, 25, 95, lasts, greets=True)
    assert set(guesses(book.rows())) == expected


@pytest.mark.parametrize(
    "door", [doors.capture, doors.conn_log, doors.eve_log, doors.vpc_with_flags, doors.exporter, doors.flows_db]
)
@pytest.mark.parametrize(("what", "severities"), [(SESSIONS, {"low"}), (REFUSALS, {"high"})])
def test_it_is_the_same_through_each_door(
    door: doors.Door, what: dict[str, Exchange], severities: set[str], tmp_path: Path
) -> None:
    at = np.cumsum(np.random.default_rng(1).uniform(10, 40, 40))
    for name, exchange in what.items():
        path = tmp_path / name.replace(" ", "_")
        rows = ssh(at, STRANGER, exchange)
        if door is doors.capture:  # it lets each packet but those of the handshakes carry something
            rows["packets"] = exchange[-1] + 3
        door(rows, path)
        report = analyze([str(path)], load_settings(None, detectors=settings_classes()), 0.0)
        told = {each["severity"] for each in report["threats"] if each["detector"] == "brute_force"}
        assert told <= severities if what is SESSIONS else told == severities, name

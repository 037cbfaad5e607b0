"""Rules that end: over restarts, steps of the clock and changes."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rulebook_book import DROP, Book

from trafficmond.changes import BY_HAND_NAME
from trafficmond.errors import DatapathError


def test_a_rule_with_an_end_lasts_over_a_restart_and_goes_at_its_end(book: Book) -> None:
    book.guard = [("192.0.2.1/32", "own address")]
    ends = time.time() + 60
    book.run(book.rules.add({**DROP, "expires": ends, "force": True}, keep=False))
    book.run(book.rules.add({**DROP, "cidr": "203.0.113.0/24", "expires": time.time() + 0.5}, keep=False))
    book.run(book.rules.add({**DROP, "cidr": "203.0.114.0/24", "expires": ends}, keep=False))
    book.run(book.rules.remove("203.0.114.0/24", None, saved=False))
    time.sleep(0.6)
    book.rules = book.restarted()
    in_force = book.load()
    assert [rule.expires for rule in in_force.policy.rules if rule.path == "runtime"] == [ends]
    assert book.action("192.0.2.1") == "rule drop", "its force is its own, and is back with it"
    assert book.run(book.rules.expire_rules(ends - 1)) is False


@pytest.mark.parametrize("jump", [-31_536_000.0, 31_536_000.0])
def test_a_stepped_clock_ends_no_rule_by_hand_and_prolongs_none(
    book: Book, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what a file says until a date holds until that date, by the clock as it is now."""
    began = time.time()
    date = datetime.fromtimestamp(began + 500 + max(jump, 0), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    book.write("dated.toml", f'[[rule]]\ncidr = "203.0.115.0/24"\naction = "drop"\nexpires = {date}\n')
    book.run(book.rules.load())
    timed = {**DROP, "since": began, "expires": began + 60}
    book.run(book.rules.add(timed, keep=False))
    book.run(book.rules.add({**timed, "cidr": "203.0.113.0/24"}, keep=True))
    numbers = {
        rule.name: int(book.rules.in_force.numbered.numbers[at])
        for at, rule in enumerate(book.rules.in_force.policy.rules)
    }
    before = book.ends()

    book.ahead = jump
    monkeypatch.setattr("time.time", lambda real=time.time: real() + jump)
    book.guard = [("192.0.2.9/32", "own address")]
    book.run(book.rules.refresh())  # whatever the change is
    after, rules = book.ends(), book.rules.in_force.policy.rules
    for name in ("192.0.2.0/24", "203.0.113.0/24"):
        assert after[numbers[name]] == pytest.approx(before[numbers[name]], abs=0.01)
        (rule,) = [rule for rule in rules if rule.name == name]
        assert rule.expires == pytest.approx(began + 60 + jump, abs=0.01)
    dated = numbers["203.0.115.0/24"]
    assert after[dated] == pytest.approx(before[dated] - jump, abs=0.01)
    book.run(book.rules.apply_clock_step())
    book.rules = book.restarted()
    kept = [rule.expires for rule in book.load().policy.rules if rule.expires]
    assert kept[1:] == pytest.approx([began + 60 + jump] * 2, abs=0.01), "both files say so too"


def test_asking_after_a_step_settles_it(book: Book) -> None:
    book.run(book.rules.add({**DROP, "expires": time.time() + 60}, keep=False))
    generation, book.ahead = book.rules.in_force.generation, 1000.0
    book.calibrate()
    book.run(book.rules.apply_clock_step())
    book.run(book.rules.apply_clock_step())
    in_force = book.rules.in_force
    assert in_force.generation == generation + 1
    assert [rule.expires - time.time() for rule in in_force.policy.rules if rule.expires] == [
        pytest.approx(1060, abs=5)
    ]
    kept = json.loads((book.settings.state_dir / BY_HAND_NAME).read_text().splitlines()[-1])
    assert kept["expires"] == in_force.policy.rules[-1].expires


def test_a_step_that_cannot_be_followed_is_followed_later(book: Book) -> None:
    book.run(book.rules.add({**DROP, "expires": time.time() + 60}, keep=False))
    before, book.refuses = book.rules.in_force, DatapathError("no memory")
    book.ahead = 1000.0
    book.calibrate()
    book.run(book.rules.apply_clock_step())
    assert book.rules.in_force is before
    book.refuses = None
    book.run(book.rules.apply_clock_step())
    assert book.rules.in_force.policy.rules[-1].expires == pytest.approx(time.time() + 1060, abs=5)


def test_a_host_without_a_clock_of_its_own_prolongs_nothing(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes up in the past; what was to last a minute does, from then on."""
    began = time.time()
    timed = {**DROP, "since": began, "expires": began + 60}
    book.run(book.rules.add(timed, keep=False))
    book.run(book.rules.add({**timed, "cidr": "203.0.113.0/24"}, keep=True))
    monkeypatch.setattr("time.time", lambda real=time.time: real() - 31_536_000)
    book.rules = book.restarted()
    ends = [rule.expires for rule in book.load().policy.rules if rule.expires]
    assert ends == pytest.approx([began - 31_536_000 + 60] * 2, abs=5)


def test_what_has_ended_since(book: Book) -> None:
    began = time.time()
    assert not book.load().any_ended(began + 1e9), "nothing ends"
    for number in (30, 10, 20):
        book.run(book.rules.add({**DROP, "cidr": f"192.0.2.{number}", "expires": began + number}, keep=False))
    in_force = book.rules.in_force
    assert in_force
    spans = (0.0, 9.0), (0.0, 10.0), (10.0, 19.0), (10.0, 25.0), (30.0, 99.0)
    ended = [replace(in_force, loaded_at=began + since).any_ended(began + until) for since, until in spans]
    assert ended == [False, True, False, True, False]


@pytest.mark.parametrize("content", [b"\xff\0oops\n", b'{"cidr": 5}\n[]\n', b'{"cidr": "192.0.2.0/24", "act'])
def test_a_start_never_depends_on_the_rules_kept(book: Book, content: bytes) -> None:
    book.run(book.rules.add({**DROP, "cidr": "203.0.113.0/24", "expires": time.time() + 60}, keep=False))
    path = book.settings.state_dir / BY_HAND_NAME
    path.write_bytes(path.read_bytes() + content)
    book.rules = book.restarted()
    book.run(book.rules.load())
    assert book.action("203.0.113.1") == "rule drop"
    assert "cannot be read; the rules made by hand" in book.rules.trouble
    book.run(book.rules.add({**DROP, "expires": time.time() + 60}, keep=False))
    assert book.rules.trouble == ""
    path.unlink()
    path.mkdir()
    book.rules = book.restarted()
    book.run(book.rules.load())
    assert "cannot be read" in book.rules.trouble
    done = book.run(book.rules.add({**DROP, "expires": time.time() + 60}, keep=False))
    assert "only until the next restart" in done.notes[0]
    path.rmdir()
    book.run(book.rules.keep_again())  # as the housekeeping does
    assert book.rules.trouble == ""
    book.rules = book.restarted()
    assert [rule.expires for rule in book.load().policy.rules if rule.path == "runtime"]
    assert book.action("192.0.2.1") == "rule drop"


def test_a_saved_rule_that_has_ended_leaves_the_file(book: Book) -> None:
    ends = time.time() + 3
    book.run(book.rules.add({**DROP, "expires": datetime.fromtimestamp(ends, UTC)}, keep=True))
    book.run(book.rules.add({**DROP, "cidr": "203.0.113.0/24"}, keep=True))
    time.sleep(max(0.0, ends + 0.05 - time.time()))
    assert book.run(book.rules.expire_rules(time.time()))
    assert not book.run(book.rules.is_saved("192.0.2.0/24"))
    assert book.run(book.rules.is_saved("203.0.113.0/24"))
    assert book.run(book.rules.expire_rules(time.time())) is False


def test_a_rule_that_has_ended_goes_at_the_next_change(book: Book) -> None:
    book.run(book.rules.add({**DROP, "expires": time.time() + 0.2}, keep=False))
    in_force = book.rules.in_force
    assert in_force is not None
    assert [rule for rule in in_force.policy.rules if rule.path == "runtime"]
    time.sleep(0.25)
    in_force = book.load()
    assert not [rule for rule in in_force.policy.rules if rule.path == "runtime"]
    assert book.run(book.rules.remove("192.0.2.0/24", None, saved=False)).before == []

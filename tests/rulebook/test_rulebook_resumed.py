"""A daemon that was killed in mid-probation: what the next one knows, and what it finds in place of its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rulebook_book import DROP, Book, actions, restarted

from trafficmond.errors import ConfigError
from trafficmond.standing import Begin

TRY = Begin("ada", "a change", 60.0)
MEANWHILE = {**DROP, "cidr": "192.88.99.0/24"}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_what_was_made_meanwhile_stays_on_probation_and_after_it(started: Book, first: bool, keep: bool) -> None:
    book = started
    book.run(book.rules.add(DROP, keep=first, begin=TRY))
    book.run(book.rules.add(MEANWHILE if keep else {**MEANWHILE, "expires": 3e9}, keep=keep))
    restarted(book, until=book.on_trial_until)
    book.run(book.rules.resume(book.settings))
    assert actions(book) == ["drop", "drop", "drop"]
    book.run(book.rules.confirm())
    assert actions(book) == ["drop", "drop", "drop"]
    restarted(book, until=None)
    assert actions(book) == ["drop" if first else "monitor", "drop", "drop"]


def test_what_was_removed_meanwhile_does_not_come_back(started: Book) -> None:
    book = started
    book.run(book.rules.add({**MEANWHILE, "expires": 3e9}, keep=False))
    book.run(book.rules.add(DROP, keep=False, begin=TRY))
    book.run(book.rules.remove("192.88.99.0/24", None, saved=False))
    restarted(book, until=book.on_trial_until)
    book.run(book.rules.resume(book.settings))
    assert actions(book) == ["drop", "drop", "monitor"]


@pytest.mark.parametrize("jump", [6.0, 86400.0])
def test_a_clock_that_is_set_in_mid_probation(started: Book, jump: float) -> None:
    """Then the kernel's end has another name than the stored one, and is the same."""
    book = started
    book.run(book.rules.add(DROP, keep=False, begin=TRY))
    assert book.on_trial_until
    book.ahead = jump
    book.calibrate()
    restarted(book, until=book.on_trial_until + jump)
    book.run(book.rules.resume(book.settings))
    assert actions(book)[0] == "drop"
    book.run(book.rules.confirm())


def test_a_saved_rule_with_an_end_as_people_write_it(started: Book) -> None:
    book = started
    book.rules.saved_path.write_text(
        '[[rule]]\ncidr = "192.88.99.0/24"\naction = "drop"\nexpires = 2090-01-01T00:00:00Z\n'
    )
    book.run(book.rules.load())
    book.run(book.rules.add(DROP, keep=True, begin=TRY))
    restarted(book, until=book.on_trial_until)
    book.run(book.rules.resume(book.settings))
    assert actions(book) == ["drop", "drop", "drop"]


@pytest.mark.parametrize("wrong", [{"limit": "5/s"}, {"burst": 3}, {"label": "\x1b"}, {"ports": ["tcp/0x16"]}])
def test_a_wrong_rule_to_save_is_refused_before_it_is_on_probation(started: Book, wrong: dict[str, object]) -> None:
    """Otherwise the saved rules fall out, and the file that is written at last is refused by the next start."""
    book = started
    book.run(book.rules.add(MEANWHILE, keep=True))
    before = book.rules.saved_path.read_bytes()
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        book.run(book.rules.add(DROP | wrong, keep=True, begin=TRY))
    assert (actions(book), book.rules.standing.trial) == (["monitor", "drop", "drop"], None)
    assert book.rules.saved_path.read_bytes() == before


@pytest.mark.parametrize("name", ["probation.json", "rules-by-hand.jsonl", "rules.toml"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop"])
def test_what_is_no_file_does_not_hold_up_a_start(started: Book, name: str, kind: str) -> None:
    path: Path = started.settings.state_dir / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    _, untold = restarted(started, until=None)
    assert actions(started)[1] == "drop"
    notes = started.rules.in_force.policy.notes if started.rules.in_force else ()
    assert name in " ".join([untold, started.rules.trouble, *map(str, notes)])

"""The rules that were in force last, kept as a whole for a start whose files have mistakes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rulebook_book import DROP, Book

from trafficmond.config.filtering import Policy
from trafficmond.errors import ConfigError
from trafficmond.policy.trial import last_in_force

BROKEN = '[[rule]]\ncidr = "203.0.113.0/24"\naction = "dorp"\n'
TODAY = '[[rule]]\ncidr = "192.88.99.0/24"\naction = "drop"\n'
YESTERDAY = ["198.51.100.0/24", "203.0.113.0/24"]


def rule(cidr: str) -> str:
    return f'[[rule]]\ncidr = "{cidr}"\naction = "drop"\n'


def in_force(book: Book) -> list[str]:
    """The prefixes of all rules, in order."""
    assert book.rules.in_force is not None
    policy = book.rules.in_force.policy
    return [policy.prefixes.text(row) for row in range(len(policy.prefixes))]


def boots(book: Book) -> None:
    """A new daemon, which finds mistakes in the files."""
    book.rules = book.restarted()
    with pytest.raises(ConfigError):
        book.run(book.rules.load())
    book.run(book.rules.load_confirmed(last_in_force(book.settings)))


@pytest.fixture
def kept(book: Book) -> Book:
    book.write("two.toml", rule("203.0.113.0/24"))
    book.load()
    book.run(book.rules.keep_in_force())
    return book


def test_all_files_are_as_they_were_together(kept: Book) -> None:
    """Of today's files none is in force, however right: not beside yesterday's."""
    kept.write("one.toml", TODAY)
    kept.write("two.toml", BROKEN)
    kept.write("three.toml", TODAY)
    for _ in range(2):
        boots(kept)
        assert in_force(kept) == YESTERDAY
        kept.run(kept.rules.keep_in_force())
    kept.write("two.toml", rule("10.0.0.0/8"))
    kept.load()
    today = ["192.88.99.0/24", "192.88.99.0/24", "10.0.0.0/8"]
    assert (in_force(kept), kept.rules.error) == (today, None)
    kept.run(kept.rules.keep_in_force())
    kept.write("two.toml", BROKEN)
    boots(kept)
    assert in_force(kept) == today


def test_a_reading_that_was_refused_is_no_part_of_it(kept: Book) -> None:
    kept.write("one.toml", TODAY)
    kept.write("two.toml", BROKEN)
    with pytest.raises(ConfigError):
        kept.run(kept.rules.load())
    kept.run(kept.rules.add(DROP, keep=True))
    kept.run(kept.rules.keep_in_force())
    boots(kept)
    assert in_force(kept) == [*YESTERDAY, "192.0.2.0/24"], "with what was saved by hand meanwhile"


def test_what_was_in_force_for_less_than_it_takes_to_keep_it(kept: Book) -> None:
    """A crash between the copies and the one file that names them."""
    kept.write("one.toml", TODAY)
    kept.load()
    kept.write("two.toml", BROKEN)
    boots(kept)
    assert in_force(kept) == YESTERDAY


def test_the_rules_in_the_settings_are_part_of_it(kept: Book) -> None:
    dropping = replace(kept.settings, policy=Policy(default="drop"), permitted_cidrs=("192.88.99.0/24",))
    kept.load(dropping)
    kept.run(kept.rules.keep_in_force())
    kept.write("two.toml", BROKEN)
    boots(kept)
    assert kept.action("192.88.99.1") == "rule allow"
    assert kept.action("10.0.0.1") == "default drop"


@pytest.mark.parametrize("name", ["one.toml", "in-force.json"])
@pytest.mark.parametrize("damaged", [True, False])
def test_what_is_not_whole_is_not_used(kept: Book, name: str, damaged: bool) -> None:
    folder, one = kept.settings.state_dir / "last-good", (kept.cidr_dir / "one.toml").read_bytes()
    wanted = (folder / name).read_bytes() if name == "in-force.json" else one
    copy = next(each for each in folder.iterdir() if each.read_bytes() == wanted)
    if damaged:
        copy.write_bytes(copy.read_bytes()[:-1])
    else:
        copy.unlink()
    with pytest.raises(ValueError, match="damaged" if damaged or name == "one.toml" else "none are kept"):
        last_in_force(kept.settings)
    kept.rules = kept.restarted()
    kept.load()
    kept.run(kept.rules.keep_in_force())
    assert last_in_force(kept.settings) == kept.settings, "the next start that reads all makes it whole"


def test_copies_that_cannot_be_made_are_told_and_made_later(kept: Book) -> None:
    folder = kept.settings.state_dir / "last-good"
    folder.rename(folder.with_name("away"))
    folder.touch()
    kept.write("one.toml", TODAY)
    kept.load()
    kept.run(kept.rules.keep_in_force())
    assert "the rules in force would not be known" in kept.rules.unkept
    folder.unlink()
    kept.run(kept.rules.keep_in_force())
    kept.load()
    kept.run(kept.rules.keep_in_force())
    assert kept.rules.unkept == ""
    kept.write("two.toml", BROKEN)
    boots(kept)
    assert in_force(kept) == ["192.88.99.0/24", "203.0.113.0/24"]

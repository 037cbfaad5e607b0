"""The rules in force: every change is made whole or not at all, and what was right stays."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rulebook_book import DROP, Book

from trafficmond import abi
from trafficmond.config.filtering import Policy as PolicySettings
from trafficmond.errors import ConfigError, DatapathError
from trafficmond.geo.geoip import EMPTY
from trafficmond.model import Direction, Reason
from trafficmond.policy.sources import read_policy


def test_files_are_put_in_force_and_installed_once(book: Book) -> None:
    assert len(book.installed) == 1
    assert book.action("198.51.100.7") == "rule drop"
    assert book.rules.in_force is not None
    assert (book.rules.in_force.generation, book.rules.error) == (1, None)
    number = int(book.rules.in_force.numbered.numbers[0])
    assert book.rules.names()[number] == "198.51.100.0/24"


def test_each_change_is_a_new_generation(book: Book) -> None:
    first = book.rules.in_force
    book.write("two.toml", '[[rule]]\ncidr = "203.0.113.0/24"\naction = "drop"\n')
    second = book.load()
    assert first is not None
    assert second.generation == first.generation + 1
    assert book.installed[-1][abi.HDR_GENERATION] == second.generation


def test_nothing_is_made_anew_of_what_is_as_it_was(book: Book) -> None:
    book.run(book.rules.add(DROP, keep=False))
    book.run(book.rules.add({**DROP, "cidr": "203.0.113.0/24"}, keep=True))
    before = book.rules.in_force
    assert book.load() is before
    assert book.load(replace(book.settings, on_stop="keep")) is before
    book.write(".one.toml.tmp", "half a file")
    assert book.load() is before
    book.write("broken.toml", "nonsense")
    with pytest.raises(ConfigError):
        book.run(book.rules.load())
    (book.cidr_dir / "broken.toml").unlink()
    assert book.load() is before
    assert book.rules.error is None
    book.write("notes.txt", "192.0.2.1")
    noted = book.load()
    assert (noted.generation, len(noted.policy.notes)) == (3, 1), "a note is no other rule"
    book.guard = [("192.0.2.9/32", "own address")]
    assert book.load().generation == 4


def test_a_rule_added_at_run_time_lasts_over_reloads_but_not_over_a_restart(book: Book) -> None:
    book.run(book.rules.add(DROP, keep=False))
    assert book.action("192.0.2.1") == "rule drop"
    book.run(book.rules.load())
    assert book.action("192.0.2.1") == "rule drop"
    assert not book.rules.saved_path.exists()
    book.rules = book.restarted()
    book.run(book.rules.load())
    assert book.action("192.0.2.1") == "default monitor"


def test_a_kept_rule_lasts_over_a_restart(book: Book) -> None:
    book.run(book.rules.add(DROP, keep=True))
    assert book.run(book.rules.is_saved("192.0.2.0/24"))
    book.rules = book.restarted()
    book.run(book.rules.load())
    assert book.action("192.0.2.1") == "rule drop"


def test_a_rule_takes_the_place_of_the_one_on_its_prefix_and_direction(book: Book) -> None:
    book.run(book.rules.add(DROP, keep=False))
    book.run(book.rules.add({**DROP, "direction": "egress"}, keep=False))
    book.run(book.rules.add({**DROP, "action": "allow"}, keep=False))
    assert book.action("192.0.2.1") == "rule allow"
    in_force = book.rules.in_force
    assert in_force is not None
    runtime = [rule for rule in in_force.policy.rules if rule.path == "runtime"]
    assert sorted(str(rule.direction) for rule in runtime) == ["egress", "ingress"]


def test_keeping_a_rule_replaces_the_run_time_one(book: Book) -> None:
    book.run(book.rules.add(DROP, keep=False))
    assert book.run(book.rules.add({**DROP, "action": "allow"}, keep=True)).before == [DROP]
    assert book.action("192.0.2.1") == "rule allow"
    in_force = book.rules.in_force
    assert in_force is not None
    assert not [rule for rule in in_force.policy.rules if rule.path == "runtime"]


def test_removing_names_what_was_removed(book: Book) -> None:
    book.run(book.rules.add(DROP, keep=False))
    assert book.run(book.rules.remove("192.0.2.0/25", None, saved=False)).before == []
    assert book.run(book.rules.remove("192.0.2.0/24", Direction.EGRESS, saved=False)).before == []
    generation = int(book.installed[-1][abi.HDR_GENERATION])
    assert book.run(book.rules.remove("192.0.2.0/24", None, saved=False)).before == [DROP]
    assert book.installed[-1][abi.HDR_GENERATION] == generation + 1
    assert book.action("192.0.2.1") == "default monitor"


def test_a_saved_rule_is_removed_only_when_asked(book: Book) -> None:
    book.run(book.rules.add(DROP, keep=True))
    assert book.run(book.rules.remove("192.0.2.0/24", None, saved=False)).before == []
    assert book.action("192.0.2.1") == "rule drop"
    assert book.run(book.rules.remove("192.0.2.0/24", Direction.INGRESS, saved=True)).before == [DROP]
    assert not book.run(book.rules.is_saved("192.0.2.0/24"))
    assert book.action("192.0.2.1") == "default monitor"


def test_broken_files_change_nothing_and_keep_nobody_from_changing_rules(book: Book) -> None:
    book.write("two.toml", '[[rule]]\ncidr = "192.0.2.0/33"\naction = "drop"\n[[rule]]\ncidr = "x"\naction = "drip"\n')
    with pytest.raises(ConfigError) as raised:
        book.run(book.rules.load())
    assert len(raised.value.mistakes) == 3
    assert book.rules.error is raised.value
    assert len(book.installed) == 1
    book.run(book.rules.add(DROP, keep=False))
    assert book.action("192.0.2.1") == "rule drop"
    assert book.action("198.51.100.7") == "rule drop"
    assert book.rules.error is raised.value  # the files are still broken
    book.run(book.rules.remove("192.0.2.0/24", None, saved=False))
    book.write("two.toml", "")
    book.run(book.rules.load())
    assert book.rules.error is None


def test_settings_of_a_refused_load_are_not_kept(book: Book) -> None:
    book.write("two.toml", "nonsense")
    dropping = replace(book.settings, policy=replace(PolicySettings(), default="drop"))
    with pytest.raises(ConfigError):
        book.run(book.rules.load(dropping))
    book.run(book.rules.add(DROP, keep=False))
    assert book.action("203.0.113.1") == "default monitor"


def test_a_wrong_rule_takes_no_others_with_it(book: Book) -> None:
    lasting = {**DROP, "expires": time.time() + 60}
    for number in range(3):
        book.run(book.rules.add({**lasting, "cidr": f"192.0.2.{number}"}, keep=False))
    book.rules = book.restarted()  # those of the last run are read together with the wrong one
    with pytest.raises(ConfigError):
        book.run(book.rules.add({**DROP, "cidr": "192.0.2.7", "label": "\n"}, keep=False))
    book.run(book.rules.add({**DROP, "cidr": "192.0.2.8"}, keep=False))
    assert [book.action(f"192.0.2.{number}") for number in (0, 1, 2, 8)] == ["rule drop"] * 4
    assert book.action("192.0.2.7") == "default monitor"


def test_a_wrong_rule_is_refused_whole(book: Book) -> None:
    with pytest.raises(ConfigError):
        book.run(book.rules.add({**DROP, "action": "melt"}, keep=True))
    assert not book.run(book.rules.is_saved("192.0.2.0/24"))
    assert len(book.installed) == 1


def test_what_the_kernel_refuses_is_neither_kept_nor_saved(book: Book) -> None:
    book.run(book.rules.add({**DROP, "cidr": "203.0.113.0/24"}, keep=True))
    before, in_force = book.rules.saved_path.read_text(), book.rules.in_force
    book.rules.standing.now = book.rules.standing.now._replace(in_force=in_force.apart())  # not in place
    in_force = book.rules.in_force
    book.refuses = DatapathError("no memory")
    book.write("two.toml", '[[rule]]\ncidr = "198.18.0.0/15"\naction = "drop"\n')
    for change in (
        book.rules.add(DROP, keep=True),
        book.rules.add(DROP, keep=False),
        book.rules.remove("203.0.113.0/24", None, saved=True),
        book.rules.load(),
    ):
        with pytest.raises(DatapathError):
            book.run(change)
        assert book.rules.in_force is in_force
        assert book.rules.saved_path.read_text() == before
    book.refuses = None
    book.run(book.rules.load())
    assert book.action("192.0.2.1") == "default monitor"
    assert book.action("203.0.113.1") == book.action("198.18.0.1") == "rule drop"


def test_two_changes_at_once_both_count(book: Book) -> None:
    async def both() -> None:
        await asyncio.gather(
            book.rules.add(DROP, keep=True),
            book.rules.add({**DROP, "cidr": "203.0.113.0/24"}, keep=True),
            book.rules.load(),
            book.rules.add({**DROP, "cidr": "203.0.114.0/24"}, keep=False),
        )

    book.run(both())
    for address in ("192.0.2.1", "203.0.113.1", "203.0.114.1", "198.51.100.1"):
        assert book.action(address) == "rule drop"
    assert book.run(book.rules.is_saved("192.0.2.0/24"))
    assert book.run(book.rules.is_saved("203.0.113.0/24"))
    assert book.rules.in_force is not None
    assert book.rules.in_force.generation == 4, "reading the same files again is no change"


def test_a_saved_file_broken_by_hand_is_not_written_over(book: Book) -> None:
    book.run(book.rules.add(DROP, keep=True))
    broken = book.rules.saved_path.read_text() + "oops"
    book.rules.saved_path.write_text(broken)
    for change in (
        book.rules.add({**DROP, "cidr": "203.0.113.0/24"}, keep=True),
        book.rules.remove("192.0.2.0/24", None, saved=True),
    ):
        with pytest.raises(ConfigError, match=str(book.rules.saved_path)):
            book.run(change)
        assert book.rules.saved_path.read_text() == broken
    book.run(book.rules.add({**DROP, "cidr": "203.0.113.0/24"}, keep=False))
    assert book.action("203.0.113.1") == "rule drop", "what is not to be saved goes on"
    assert book.action("192.0.2.1") == "rule drop", "with the saved rules as they were when they were right"


def test_a_disk_that_refuses_changes_nothing(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trafficmond.sources.save", full)
    with pytest.raises(OSError, match="No space"):
        book.run(book.rules.add(DROP, keep=True))
    assert book.action("192.0.2.1") == "default monitor"
    assert len(book.installed) == 1


def test_beginning_empty_leaves_the_kernel_as_it_is(tmp_path: Path) -> None:
    made = Book(tmp_path)
    made.run(made.rules.start_empty())
    assert made.installed == []
    assert made.rules.in_force is not None
    assert made.rules.in_force.policy.rules == ()


def test_more_than_memory_holds_is_a_mistake_and_no_end(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("trafficmond.ruleset.patched", exhausted)
    book.write("more.toml", '[[rule]]\ncidr = "192.0.2.0/24"\naction = "drop"\n')
    with pytest.raises(ConfigError, match="memory"):
        book.run(book.rules.load())
    assert len(book.installed) == 1


def test_a_check_reads_what_the_daemon_would(book: Book) -> None:
    book.run(book.rules.add(DROP, keep=True))
    policy = read_policy(book.settings, EMPTY)
    assert [rule.name for rule in policy.rules if rule.reason is Reason.RULE] == ["198.51.100.0/24", "192.0.2.0/24"]

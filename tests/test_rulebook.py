"""The rules in force: every change is made whole or not at all, and what was right stays."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from trafficmond import abi
from trafficmond.config.settings import Policy as PolicySettings
from trafficmond.config.settings import Settings
from trafficmond.errors import ConfigError, DatapathError
from trafficmond.model import Direction, Reason
from trafficmond.policy.explain import explain
from trafficmond.policy.ids import MAX_ID
from trafficmond.policy.layout import UNIT_WORDS
from trafficmond.rulebook import BY_HAND_NAME, Rulebook, read_policy

DROP = {"cidr": "192.0.2.0/24", "action": "drop", "direction": "ingress"}


class Book:
    """A rulebook and the kernel it installs into."""

    def __init__(self, folder: Path) -> None:
        self.cidr_dir = folder / "cidr.d"
        self.cidr_dir.mkdir()
        (folder / "state").mkdir()
        self.settings = Settings(cidr_dir=self.cidr_dir, state_dir=folder / "state")
        self.installed: list[Any] = []
        self.refuses: DatapathError | None = None
        self.guard: list[tuple[str, str]] = []
        self.ahead = 0.0  # by how much the wall clock was stepped since
        self._told = 0.0
        self.rules = self.restarted()

    def restarted(self) -> Rulebook:
        return Rulebook(self.settings, self._install, self._jiffies, lambda _: list(self.guard), self.calibrate)

    def _jiffies(self, epoch: float) -> int:
        return int((epoch - self._told) * 250)

    def calibrate(self) -> None:
        jump, self._told = self.ahead - self._told, self.ahead
        if jump:
            self.rules.shift(jump)

    def ends(self) -> dict[int, float]:
        """When the kernel lets each record of the latest table end, in seconds of a clock that nobody steps."""
        words = self.installed[-1]
        at = int(words[abi.HDR_RECORDS]) * UNIT_WORDS
        records = words[at:].view(abi.RECORD)[: int(words[abi.HDR_RECORD_COUNT])]
        return {int(each["verdict"]) & MAX_ID: int(each["expires"]) / 250 for each in records}

    def _install(self, words: Any) -> Any:
        if self.refuses:
            raise self.refuses
        self.installed.append(words)
        return words

    def write(self, name: str, text: str) -> None:
        (self.cidr_dir / name).write_text(text)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)

    def action(self, address: str) -> str:
        assert self.rules.in_force is not None
        decided = explain(self.rules.in_force.policy, address, Direction.INGRESS, time.time())[0]
        return f"{decided.reason} {decided.action}"


@pytest.fixture
def book(tmp_path: Path) -> Book:
    made = Book(tmp_path)
    made.write("one.toml", '[[rule]]\ncidr = "198.51.100.0/24"\naction = "drop"\n')
    made.run(made.rules.load())
    return made


def test_files_are_put_in_force_and_installed_once(book: Book) -> None:
    assert len(book.installed) == 1
    assert book.action("198.51.100.7") == "rule drop"
    assert book.rules.in_force is not None
    assert (book.rules.in_force.generation, book.rules.error) == (1, None)
    number = book.rules.rule_number(0)
    assert book.rules.names()[number] == "198.51.100.0/24"


def test_each_change_is_a_new_generation(book: Book) -> None:
    first = book.rules.in_force
    book.write("two.toml", '[[rule]]\ncidr = "203.0.113.0/24"\naction = "drop"\n')
    second = book.run(book.rules.load())
    assert first is not None
    assert second.generation == first.generation + 1
    assert book.installed[-1][abi.HDR_GENERATION] == second.generation


def test_nothing_is_made_anew_of_what_is_as_it_was(book: Book) -> None:
    book.run(book.rules.add(DROP, keep=False))
    book.run(book.rules.add({**DROP, "cidr": "203.0.113.0/24"}, keep=True))
    before = book.rules.in_force
    assert book.run(book.rules.load()) is before
    assert book.run(book.rules.load(replace(book.settings, on_stop="keep"))) is before
    book.write(".one.toml.tmp", "half a file")
    assert book.run(book.rules.load()) is before
    book.write("broken.toml", "nonsense")
    with pytest.raises(ConfigError):
        book.run(book.rules.load())
    (book.cidr_dir / "broken.toml").unlink()
    assert book.run(book.rules.load()) is before
    assert book.rules.error is None
    book.write("notes.txt", "192.0.2.1")
    noted = book.run(book.rules.load())
    assert (noted.generation, len(noted.policy.notes)) == (3, 1), "a note is no other rule"
    book.guard = [("192.0.2.9/32", "own address")]
    assert book.run(book.rules.load()).generation == 4


def test_a_rule_with_an_end_lasts_over_a_restart_and_goes_at_its_end(book: Book) -> None:
    book.guard = [("192.0.2.1/32", "own address")]
    ends = time.time() + 60
    book.run(book.rules.add({**DROP, "expires": ends, "force": True}, keep=False))
    book.run(book.rules.add({**DROP, "cidr": "203.0.113.0/24", "expires": time.time() + 0.5}, keep=False))
    book.run(book.rules.add({**DROP, "cidr": "203.0.114.0/24", "expires": ends}, keep=False))
    book.run(book.rules.remove("203.0.114.0/24", None, saved=False))
    time.sleep(0.6)
    book.rules = book.restarted()
    in_force = book.run(book.rules.load())
    assert [rule.expires for rule in in_force.policy.rules if rule.path == "runtime"] == [ends]
    assert book.action("192.0.2.1") == "rule drop", "its force is its own, and is back with it"
    assert book.run(book.rules.let_end(ends - 1)) is False


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
    numbers = {rule.name: book.rules.rule_number(at) for at, rule in enumerate(book.rules.in_force.policy.rules)}
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
    book.run(book.rules.settle())
    book.rules = book.restarted()
    kept = [rule.expires for rule in book.run(book.rules.load()).policy.rules if rule.expires]
    assert kept[1:] == pytest.approx([began + 60 + jump] * 2, abs=0.01), "both files say so too"


def test_asking_after_a_step_settles_it(book: Book) -> None:
    book.run(book.rules.add({**DROP, "expires": time.time() + 60}, keep=False))
    generation, book.ahead = book.rules.in_force.generation, 1000.0
    book.calibrate()
    book.run(book.rules.settle())
    book.run(book.rules.settle())
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
    book.run(book.rules.settle())
    assert book.rules.in_force is before
    book.refuses = None
    book.run(book.rules.settle())
    assert book.rules.in_force.policy.rules[-1].expires == pytest.approx(time.time() + 1060, abs=5)


def test_a_host_without_a_clock_of_its_own_prolongs_nothing(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes up in the past; what was to last a minute does, from then on."""
    began = time.time()
    timed = {**DROP, "since": began, "expires": began + 60}
    book.run(book.rules.add(timed, keep=False))
    book.run(book.rules.add({**timed, "cidr": "203.0.113.0/24"}, keep=True))
    monkeypatch.setattr("time.time", lambda real=time.time: real() - 31_536_000)
    book.rules = book.restarted()
    ends = [rule.expires for rule in book.run(book.rules.load()).policy.rules if rule.expires]
    assert ends == pytest.approx([began - 31_536_000 + 60] * 2, abs=5)


def test_what_has_ended_since(book: Book) -> None:
    began = time.time()
    assert not book.run(book.rules.load()).any_ended(began + 1e9), "nothing ends"
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
    assert "lines cannot be read" in book.rules.trouble
    book.run(book.rules.add({**DROP, "expires": time.time() + 60}, keep=False))
    assert book.rules.trouble == ""
    path.unlink()
    path.mkdir()
    book.rules = book.restarted()
    book.run(book.rules.load())
    assert "cannot be read" in book.rules.trouble
    done = book.run(book.rules.add({**DROP, "expires": time.time() + 60}, keep=False))
    assert "only until the next restart" in done.notes[0]
    assert book.action("192.0.2.1") == "rule drop"


def test_a_saved_rule_that_has_ended_leaves_the_file(book: Book) -> None:
    ends = datetime.fromtimestamp(time.time() + 0.3, UTC)
    book.run(book.rules.add({**DROP, "expires": ends}, keep=True))
    book.run(book.rules.add({**DROP, "cidr": "203.0.113.0/24"}, keep=True))
    time.sleep(0.35)
    assert book.run(book.rules.let_end(time.time()))
    assert not book.run(book.rules.is_saved("192.0.2.0/24"))
    assert book.run(book.rules.is_saved("203.0.113.0/24"))
    assert book.run(book.rules.let_end(time.time())) is False


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
    in_force = book.rules.in_force = replace(in_force, table=replace(in_force.table, live=False))  # not in place
    book.refuses = DatapathError("no memory")
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
    assert book.action("203.0.113.1") == "rule drop"


def test_a_rule_that_has_ended_goes_at_the_next_change(book: Book) -> None:
    book.run(book.rules.add({**DROP, "expires": time.time() + 0.2}, keep=False))
    in_force = book.rules.in_force
    assert in_force is not None
    assert [rule for rule in in_force.policy.rules if rule.path == "runtime"]
    time.sleep(0.25)
    in_force = book.run(book.rules.load())
    assert not [rule for rule in in_force.policy.rules if rule.path == "runtime"]
    assert book.run(book.rules.remove("192.0.2.0/24", None, saved=False)).before == []


def test_forced_prefixes_leave_the_guard_until_given_back(book: Book) -> None:
    book.guard = [("192.0.2.0/30", "own address")]
    book.run(book.rules.add({"cidr": "192.0.2.0/24", "action": "drop"}, keep=False))
    assert book.action("192.0.2.1") == "guard allow"
    one = ipaddress.ip_network("192.0.2.1/32")
    book.run(book.rules.force_bans([one]))
    assert book.action("192.0.2.1") == "rule drop"
    assert {book.action(f"192.0.2.{host}") for host in (0, 2, 3)} == {"guard allow"}
    generation = book.rules.in_force.generation if book.rules.in_force else None
    book.run(book.rules.force_bans([one]))
    assert book.rules.in_force is not None
    assert book.rules.in_force.generation == generation, "nothing is made anew for what is so already"
    book.run(book.rules.force_bans([]))
    assert book.action("192.0.2.1") == "guard allow"


def test_bans_forced_before_the_start_are_so_from_the_first_rules_on(book: Book) -> None:
    book.guard = [("198.51.100.7/32", "own address")]
    book.rules = book.restarted()
    book.run(book.rules.force_bans([ipaddress.ip_network("198.51.100.7/32")]))
    assert len(book.installed) == 1, "no rules yet"
    book.run(book.rules.load())
    assert book.action("198.51.100.7") == "rule drop"


def test_a_ban_that_ends_gives_nothing_back_that_a_rule_was_forced_on(book: Book) -> None:
    book.guard = [("192.0.2.1/32", "own address")]
    network = ipaddress.ip_network("192.0.2.0/24")
    book.run(book.rules.add({**DROP, "force": True}, keep=False))
    book.run(book.rules.force_bans([network]))
    book.run(book.rules.force_bans([]))
    assert book.action("192.0.2.1") == "rule drop"


def test_each_change_meets_the_lifelines_of_its_moment(book: Book) -> None:
    """Who has logged in since the last change is guarded by the next, whatever that is, and who has left is not."""
    book.run(book.rules.add({"cidr": "203.0.113.9/32", "action": "allow"}, keep=False))
    book.write("two.toml", '[[rule]]\ncidr = "203.0.113.0/24"\naction = "drop"\n')
    book.run(book.rules.load())
    book.guard = [("203.0.113.9/32", "open session (sshd)")]
    book.run(book.rules.remove("203.0.113.9/32", None, saved=False))
    assert book.action("203.0.113.9") == "guard allow"
    assert book.rules.guard == book.guard
    book.guard = []
    assert book.action("203.0.113.9") == "guard allow"
    book.run(book.rules.refresh())
    assert book.action("203.0.113.9") == "rule drop"


def test_lifelines_are_renewed_while_a_file_is_broken(book: Book) -> None:
    book.write("two.toml", "nonsense")
    with pytest.raises(ConfigError):
        book.run(book.rules.load())
    book.guard = [("198.51.100.7/32", "own address")]
    book.run(book.rules.refresh())
    assert (book.action("198.51.100.7"), book.action("198.51.100.8")) == ("guard allow", "rule drop")


def test_rules_of_a_last_run_are_left_alone_by_new_lifelines(book: Book) -> None:
    book.rules = book.restarted()
    book.run(book.rules.start_empty())
    book.run(book.rules.refresh())
    assert len(book.installed) == 1


def test_a_forced_rule_takes_the_allowlist_and_its_removal_gives_it_back(book: Book) -> None:
    allowing = replace(book.settings, policy=replace(PolicySettings(), allowlist=("192.0.2.0/24",)))
    book.run(book.rules.load(allowing))
    forced = {"cidr": "192.0.2.128/25", "action": "drop", "force": True}
    book.run(book.rules.add(forced, keep=False))
    assert (book.action("192.0.2.200"), book.action("192.0.2.1")) == ("rule drop", "allowlist allow")
    book.run(book.rules.remove("192.0.2.128/25", None, saved=False))
    assert book.action("192.0.2.200") == "allowlist allow"


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("by", ["its end", "removal", "one without force"])
def test_force_lasts_as_long_as_its_rule(book: Book, keep: bool, by: str) -> None:
    book.guard = [("192.0.2.1/32", "own address")]
    ends = {"expires": datetime.fromtimestamp(time.time() + 0.5, UTC) if keep else time.time() + 0.5}
    for _ in range(3):
        book.run(book.rules.add({**DROP, "force": True} | (ends if by == "its end" else {}), keep=keep))
    assert book.action("192.0.2.1") == "rule drop"
    if by == "its end":
        time.sleep(0.55)
        assert book.run(book.rules.let_end(time.time()))
    elif by == "removal":
        assert book.run(book.rules.remove("192.0.2.0/24", None, saved=keep)).before
    else:
        book.run(book.rules.add(DROP, keep=keep))
    assert book.action("192.0.2.1") == "guard allow"
    book.write("file.toml", '[[rule]]\ncidr = "192.0.2.0/24"\naction = "drop"\n')
    book.run(book.rules.load())
    assert book.action("192.0.2.1") == "guard allow"


def test_no_file_of_an_administrator_has_force(book: Book) -> None:
    book.write("file.toml", '[[rule]]\ncidr = "192.0.2.0/24"\naction = "drop"\nforce = true\n')
    with pytest.raises(ConfigError, match="force: is no known key"):
        book.run(book.rules.load())


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

    monkeypatch.setattr("trafficmond.rulebook.save", full)
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

    monkeypatch.setattr("trafficmond.rulebook.patched", exhausted)
    book.write("more.toml", '[[rule]]\ncidr = "192.0.2.0/24"\naction = "drop"\n')
    with pytest.raises(ConfigError, match="memory"):
        book.run(book.rules.load())
    assert len(book.installed) == 1


def test_a_check_reads_what_the_daemon_would(book: Book) -> None:
    book.run(book.rules.add(DROP, keep=True))
    policy = read_policy(book.settings)
    assert [rule.name for rule in policy.rules if rule.reason is Reason.RULE] == ["198.51.100.0/24", "192.0.2.0/24"]

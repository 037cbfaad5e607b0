"""Changes on probation: what is in force meanwhile, and what when they end."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rulebook_book import DROP, RULE, Book, actions, restarted

from trafficmond.config.load import load_settings
from trafficmond.errors import DatapathError, TrafficmonError
from trafficmond.policy import trial
from trafficmond.policy.entries import entries
from trafficmond.policy.lastgood import checked
from trafficmond.standing import Begin, Standing

OTHER = '[[rule]]\ncidr = "192.88.99.0/24"\naction = "drop"\n'
TRY = Begin("ada", "a change", 60.0)


def ends(book: Book) -> None:
    """The kernel has ended it by itself."""
    book.on_trial_until = time.time() - 1
    assert book.run(book.rules.expire_probation())


@pytest.mark.parametrize("how", ["rollback", "end", "confirm"])
@pytest.mark.parametrize("keep", [False, True])
def test_a_rule_by_hand_on_probation(started: Book, how: str, keep: bool) -> None:
    book, told = started, list[str]()
    book.rules.standing.notify = lambda _, turn: told.append(turn)
    installed = [words.copy() for words in book.installed]
    book.run(book.rules.add(DROP, keep=keep, begin=TRY))
    assert actions(book) == ["drop", "drop", "monitor"]
    assert book.rules.standing.trial is not None
    assert [each.tolist() for each in book.installed] == [each.tolist() for each in installed], "not even in place"
    assert not book.rules.saved_path.exists()
    if how == "confirm":
        assert book.run(book.rules.confirm()) == []
    elif how == "rollback":
        book.run(book.rules.roll_back())
    else:
        ends(book)
    assert actions(book) == ["drop" if how == "confirm" else "monitor", "drop", "monitor"]
    assert told == ["begun", {"confirm": "confirmed", "rollback": "rolled back", "end": "ran out"}[how]]
    assert book.run(book.rules.is_saved("192.0.2.0/24")) is (keep and how == "confirm")
    assert book.rules.standing.trial is None
    assert not (book.settings.state_dir / "probation.json").exists()


def test_what_is_made_meanwhile_stays(started: Book) -> None:
    book = started
    book.run(book.rules.add(DROP, keep=False, begin=TRY))
    until = book.on_trial_until
    book.run(book.rules.add({**DROP, "cidr": "192.88.99.0/24"}, keep=True))
    book.guard = [("203.0.113.1/32", "own address")]
    book.run(book.rules.refresh())
    assert actions(book) == ["drop", "allow", "drop"]
    assert (book.on_trial_until, len(book.tried)) == (until, 3)
    book.run(book.rules.roll_back())
    assert actions(book) == ["monitor", "allow", "drop"]
    assert book.run(book.rules.is_saved("192.88.99.0/24"))


def test_the_end_of_a_second_leads_to_what_is_confirmed(started: Book) -> None:
    book = started
    book.run(book.rules.add(DROP, keep=False, begin=replace(TRY, within_s=10)))
    first = book.on_trial_until
    book.run(book.rules.add({**DROP, "cidr": "192.88.99.0/24"}, keep=False, begin=TRY))
    assert first
    assert book.on_trial_until
    assert book.on_trial_until > first + 40
    assert actions(book) == ["drop", "drop", "drop"]
    ends(book)
    assert actions(book) == ["monitor", "drop", "monitor"]


def folder_of(book: Book, **rules: str) -> Path:
    folder = book.settings.state_dir.parent / "cidr.new"
    folder.mkdir(exist_ok=True)
    for name, text in rules.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


def install(book: Book) -> None:
    for path in book.cidr_dir.iterdir():
        path.unlink()
    book.write("b.toml", OTHER)


def test_a_folder_is_judged_and_confirmed_when_it_is_in_place(started: Book) -> None:
    book = started
    folder = folder_of(book, b=OTHER)
    book.run(book.rules.try_files(book.settings, str(folder), TRY))
    assert actions(book) == ["monitor", "monitor", "drop"]
    with pytest.raises(TrafficmonError, match="is not the same as"):
        book.run(book.rules.confirm())
    assert actions(book) == ["monitor", "monitor", "drop"], "and it goes on"
    book.run(book.rules.load())
    assert actions(book) == ["monitor", "monitor", "drop"], "files wait"
    ends(book)
    assert actions(book) == ["monitor", "drop", "monitor"]
    assert book.run(book.rules.refusal(book.settings)) == ("", False), "cidr.d is as it was, and in force"
    book.run(book.rules.try_files(book.settings, str(folder), TRY))
    install(book)
    book.run(book.rules.confirm())
    book.run(book.rules.load())
    assert actions(book) == ["monitor", "monitor", "drop"]


def test_a_rules_file_is_judged_in_the_place_of_the_one_of_its_name(started: Book) -> None:
    book = started
    file = folder_of(book, a=OTHER) / "a.toml"
    book.run(book.rules.try_files(book.settings, str(file), TRY))
    assert [*actions(book), book.action("198.51.100.1")] == ["monitor", "monitor", "drop", "rule drop"]
    restarted(book, until=book.on_trial_until)
    book.run(book.rules.resume(book.settings))
    assert actions(book) == ["monitor", "monitor", "drop"]
    book.run(book.rules.roll_back())
    assert actions(book) == ["monitor", "drop", "monitor"]
    book.run(book.rules.try_files(book.settings, str(file), TRY))
    book.write("a.toml", OTHER)
    book.run(book.rules.confirm())
    book.run(book.rules.load(book.settings))
    assert actions(book) == ["monitor", "monitor", "drop"]
    (book.cidr_dir / "a.toml").unlink()
    book.run(book.rules.load(book.settings))
    assert actions(book) == ["monitor", "monitor", "monitor"], "what was tried is done with"


@pytest.mark.parametrize("wrong", ["", "[[rule]]\n", RULE.replace("drop", "melt")])
def test_what_is_wrong_in_a_folder_changes_nothing(started: Book, wrong: str) -> None:
    book = started
    folder = folder_of(book, b=wrong) if wrong else folder_of(book) / "nowhere"
    with pytest.raises(TrafficmonError):
        book.run(book.rules.try_files(book.settings, str(folder), TRY))
    assert (actions(book), book.rules.standing.trial) == (["monitor", "drop", "monitor"], None)


@pytest.mark.parametrize("reset", [False, True])
def test_files_that_nobody_confirmed_are_refused_until_they_change(started: Book, reset: bool) -> None:
    book = started
    book.write("a.toml", OTHER)
    book.run(book.rules.try_files(book.settings, "", TRY))
    assert actions(book) == ["monitor", "monitor", "drop"]
    text, news = book.run(book.rules.refusal(book.settings))
    assert "on probation as they are" in text
    assert not news
    if reset:
        assert restarted(book, until=None) == (True, "")
    else:
        ends(book)
    for _ in range(2):
        assert actions(book) == ["monitor", "drop", "monitor"]
        assert "nobody confirmed" in book.run(book.rules.refusal(book.settings))[0]
        assert restarted(book, until=None) == (True, ""), "nor does a start take them"
    assert book.run(book.rules.try_files(book.settings, "", TRY)) is not None, "apply tries them again"
    book.run(book.rules.roll_back())
    book.write("b.toml", "")
    assert book.run(book.rules.refusal(book.settings)) == ("", False)
    book.run(book.rules.load())
    assert actions(book) == ["monitor", "monitor", "drop"]
    assert restarted(book, until=None) == (False, "")


def test_files_that_change_meanwhile_wait(started: Book) -> None:
    book = started
    book.run(book.rules.add(DROP, keep=False, begin=TRY))
    assert book.run(book.rules.refusal(book.settings)) == ("", False)
    book.write("b.toml", OTHER)
    text, news = book.run(book.rules.refusal(book.settings))
    assert "when the probation is over" in text
    assert news
    book.run(book.rules.load())
    assert actions(book) == ["drop", "drop", "monitor"]
    book.run(book.rules.roll_back())
    book.run(book.rules.load())
    assert actions(book) == ["monitor", "drop", "drop"]


@pytest.mark.parametrize("what", ["by hand", "files", "folder"])
def test_a_restarted_daemon_continues_with_it(started: Book, what: str) -> None:
    book = started
    if what == "by hand":
        book.run(book.rules.add(DROP, keep=True, begin=TRY))
    elif what == "files":
        book.write("a.toml", OTHER)
        book.run(book.rules.try_files(book.settings, "", TRY))
    else:
        book.run(book.rules.try_files(book.settings, str(folder_of(book, b=OTHER)), TRY))
    before, until = actions(book), book.on_trial_until
    restarted(book, until=until)
    assert actions(book) == ["monitor", "drop", "monitor"], "what is confirmed comes first"
    book.run(book.rules.resume(book.settings))
    assert (actions(book), book.on_trial_until) == (before, until)
    if what == "folder":
        install(book)
    book.run(book.rules.confirm())
    assert actions(book) == before
    assert book.run(book.rules.is_saved("192.0.2.0/24")) is (what == "by hand")


def test_what_is_not_known_any_more_can_only_be_taken_back(started: Book) -> None:
    book = started
    folder = folder_of(book, b=OTHER)
    book.run(book.rules.try_files(book.settings, str(folder), TRY))
    (folder / "b.toml").write_text(RULE)
    restarted(book, until=book.on_trial_until)
    with pytest.raises(TrafficmonError, match="no longer has"):
        book.run(book.rules.resume(book.settings))
    with pytest.raises(TrafficmonError, match="it is unknown what is on probation"):
        book.run(book.rules.confirm())
    assert book.run(book.rules.roll_back()).what == "a change"
    with pytest.raises(TrafficmonError, match="nothing is on probation"):
        book.run(book.rules.roll_back())


def test_a_state_folder_that_cannot_be_used(started: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel ends it all the same; the next start takes the files, and says why."""
    book = started

    def full(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(trial, "keep", full)
    book.write("a.toml", OTHER)
    book.run(book.rules.try_files(book.settings, "", TRY))
    assert "Read-only file system" in book.rules.standing.error
    assert actions(book) == ["monitor", "monitor", "drop"]
    ends(book)
    assert actions(book) == ["monitor", "drop", "monitor"]
    (book.settings.state_dir / "probation.json").write_text("[")
    refused, untold = restarted(book, until=None)
    assert not refused
    assert "the files are in force as they are" in untold
    assert actions(book) == ["monitor", "monitor", "drop"]


@pytest.mark.parametrize("missing", ["a file", "all", "what was said"])
def test_what_is_confirmed_and_not_whole_is_not_guessed(started: Book, missing: str) -> None:
    """Rules that are half there are worse than those of the files."""
    book = started
    copies = book.settings.state_dir / "last-good"
    book.write("a.toml", OTHER)
    book.run(book.rules.try_files(book.settings, "", TRY))
    if missing == "what was said":
        state = copies / "in-force.json"
        state.write_text(state.read_text().replace('"default": "monitor"', '"default": "monitor", "new": 1'))
    for copy in sorted(copies.iterdir())[: {"a file": 1, "all": None, "what was said": 0}[missing]]:
        copy.unlink()
    refused, untold = restarted(book, until=None)
    assert not refused
    assert "in force as they are" in untold
    assert actions(book) == ["monitor", "monitor", "drop"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"trial": {"until": "x"}}', "\0" * 100, "[" * 100_000])
def test_whatever_lies_there_does_not_stop_a_start(started: Book, text: str) -> None:
    book = started
    path = book.settings.state_dir / "probation.json"
    for whole in (text, checked(text.encode()).decode()):
        path.write_text(whole)
        refused, untold = restarted(book, until=None)
        assert (refused, "in force as they are" in untold) == (False, True)
        assert actions(book) == ["monitor", "drop", "monitor"]


def test_a_kernel_that_refuses_changes_nothing(started: Book) -> None:
    book = started
    book.refuses = DatapathError("no memory")
    for change in (
        book.rules.add(DROP, keep=True, begin=TRY),
        book.rules.try_files(book.settings, str(book.cidr_dir), TRY),
    ):
        with pytest.raises(DatapathError):
            book.run(change)
    assert (actions(book), book.rules.standing.trial) == (["monitor", "drop", "monitor"], None)
    assert not (book.settings.state_dir / "probation.json").exists()


@pytest.mark.parametrize("which", ["on probation", "confirmed"])
def test_a_change_in_mid_probation_is_in_both_tables_or_in_none(
    started: Book, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = started
    book.run(book.rules.add(DROP, keep=True, begin=TRY))
    before, tried = actions(book), book.tried[-1]
    book.refuses = DatapathError("no memory") if which == "on probation" else None
    if which == "confirmed":
        monkeypatch.setattr(Standing, "_installed", _refuse)
    with pytest.raises(DatapathError):
        book.run(book.rules.add({**DROP, "cidr": "100.64.0.0/16"}, keep=False))
    assert (actions(book), np.array_equal(book.tried[-1], tried)) == (before, True)
    book.refuses = None
    book.run(book.rules.roll_back())
    assert book.rules.in_force
    left = [each for each in entries(book.rules.in_force.policy) if "100.64" in str(each)]
    assert left == []


def _refuse(*_: object) -> None:
    raise DatapathError("no memory")


def test_the_settings_make_it_the_rule_for_what_shuts_out(started: Book) -> None:
    book = started
    book.settings = replace(book.settings, policy=replace(book.settings.policy, probation=30.0))
    book.run(book.rules.load(book.settings))
    book.rules.cuts_off = lambda _, after: "sshd" if len(after.policy.prefixes) > 1 else ""
    asked = Begin("ada", "a change")
    book.run(book.rules.add({**DROP, "cidr": "203.0.113.0/24"}, keep=True))
    assert book.rules.standing.trial is None, "nobody asked"
    book.run(book.rules.add(DROP, keep=True, begin=asked))
    assert book.rules.standing.trial
    assert 25 < book.rules.standing.trial.until - time.time() <= 30
    book.run(book.rules.roll_back())
    book.write("b.toml", OTHER)
    book.run(book.rules.load(book.settings, asked))
    assert book.rules.standing.trial
    assert actions(book) == ["monitor", "drop", "drop"]
    ends(book)
    assert restarted(book, until=None) == (True, "")
    assert actions(book) == ["monitor", "drop", "monitor"], "what is kept of each file is what was confirmed"


def test_the_fingerprint_is_of_what_is_said_wherever_it_lies(book: Book) -> None:
    folder = folder_of(book, a=RULE)
    there = trial.in_folder(book.settings, folder)
    assert trial.fingerprint(there) != trial.fingerprint(book.settings)
    (book.cidr_dir / "one.toml").rename(book.cidr_dir / "a.toml").write_text(RULE)
    book.write("notes.txt", "no rules")
    assert trial.fingerprint(there) == trial.fingerprint(book.settings)
    dropping = replace(book.settings, policy=replace(book.settings.policy, default="drop", allowlist=("192.0.2.1",)))
    assert trial.fingerprint(dropping) != trial.fingerprint(book.settings)
    assert trial.with_rule_settings(book.settings, trial.rule_settings(dropping)) == dropping
    with pytest.raises(ValueError, match="another version"):
        trial.with_rule_settings(book.settings, {**trial.rule_settings(dropping), "policy": {"new": 1}})


@pytest.mark.parametrize("whole", [True, False])
def test_a_daemon_continues_with_a_settings_file_on_probation(started: Book, whole: bool) -> None:
    book, tried = started, started.cidr_dir.parent / "new.toml"
    place = book.cidr_dir.parent / "trafficmond.toml"
    text = f'state_dir = "{book.settings.state_dir}"\n[policy]\ndefault = "drop"\n'
    tried.write_text(text)
    book.settings = replace(book.settings, source=place)
    book.run(book.rules.load(book.settings))
    book.run(book.rules.try_files(load_settings(tried), str(tried), TRY))
    assert actions(book) == ["drop", "drop", "drop"]
    if not whole:
        tried.write_text(text.replace("drop", "allow"))
    restarted(book, until=book.on_trial_until)
    assert actions(book) == ["monitor", "drop", "monitor"]
    if not whole:
        with pytest.raises(TrafficmonError, match="no longer has"):
            book.run(book.rules.resume(book.settings))
        return
    book.run(book.rules.resume(book.settings))
    assert actions(book) == ["drop", "drop", "drop"]
    with pytest.raises(TrafficmonError, match=f"{place} is not the same as"):
        book.run(book.rules.confirm())
    tried.rename(place)
    book.run(book.rules.confirm())
    assert actions(book) == ["drop", "drop", "drop"]
    restarted(book, until=None)
    assert actions(book) == ["monitor", "drop", "monitor"], "without the file: these settings have it not"

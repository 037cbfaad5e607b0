"""What is remembered: news until every target has them, over kills, damage and full disks."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from notifier_targets import T0, threat

from trafficmond.errors import TrafficmonError
from trafficmond.model import Severity
from trafficmond.notifier import outbox as outboxes
from trafficmond.notifier.outbox import OVERLAP_S, Outbox, states

HIGH = Severity.HIGH


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    made = Outbox(tmp_path)
    made.begin(["one", "two"])
    return made


def ids(outbox: Outbox, target: str) -> list[str]:
    return [each.threat["id"][-1] + each.kind[0] for each in outbox.waiting(target)]


def test_news_wait_for_every_target(outbox: Outbox) -> None:
    assert outbox.note([threat(1), threat(2), threat(2, state="closed"), threat(3, "low")], HIGH, T0) == 3
    assert ids(outbox, "one") == ids(outbox, "two") == ["1o", "2o", "2e"]
    outbox.delivered("one", outbox.waiting("one")[-1], 0, T0 + 1)
    assert ids(outbox, "one") == []
    assert ids(outbox, "two") == ["1o", "2o", "2e"]
    assert outbox.sent("one", T0 + 2) == [T0 + 1]
    assert outbox.sent("one", T0 + 4000) == []


def test_the_same_again_is_no_news(outbox: Outbox) -> None:
    for _ in range(3):
        outbox.note([threat(1), threat(2, state="closed")], HIGH, T0)
    assert ids(outbox, "one") == ["1o", "2e"]


def test_a_new_target_gets_what_comes_and_one_that_is_gone_holds_nothing(outbox: Outbox, tmp_path: Path) -> None:
    outbox.note([threat(1)], HIGH, T0)
    outbox.begin(["two", "three"])
    assert ids(outbox, "three") == []
    outbox.note([threat(2)], HIGH, T0)
    assert ids(outbox, "three") == ["2o"]
    for target in ("two", "three"):
        outbox.delivered(target, outbox.waiting(target)[-1], 0, T0)
    with sqlite3.connect(outbox.path) as db:
        assert db.execute("SELECT count(*) FROM news").fetchone() == (0,)
    outbox.begin(["four"])  # what is gone leaves no trace in the numbers
    assert ids(outbox, "four") == []
    assert [each.name for each in states(tmp_path)] == ["four"]


def test_it_asks_for_what_was_missed(outbox: Outbox) -> None:
    assert outbox.asked_since() is None
    outbox.note([], HIGH, T0)
    assert outbox.asked_since() == T0 - OVERLAP_S
    # One that is told and open may have ended meanwhile, however long ago it was heard of.
    outbox.note([threat(1, last_seen=T0 - 90000)], HIGH, T0)
    assert outbox.asked_since() == T0 - 90000
    outbox.note([threat(1, state="closed", last_seen=T0 - 80000)], HIGH, T0)
    assert outbox.asked_since() == T0 - OVERLAP_S


def test_an_open_one_that_continues_is_asked_for_since_it_was_last_seen(outbox: Outbox) -> None:
    outbox.note([threat(1, last_seen=T0)], HIGH, T0)
    outbox.note([threat(1, state="updated", last_seen=T0 + 500_000)], HIGH, T0 + 500_000)
    assert outbox.asked_since() == T0 + 500_000 - OVERLAP_S


def test_told_situations_are_forgotten_in_the_end(outbox: Outbox) -> None:
    outbox.note([threat(number, state="closed") for number in range(500)], HIGH, T0)
    outbox.note([], HIGH, T0 + 86400)
    outbox.note([threat(1, last_seen=T0)], HIGH, T0 + 86400)
    outbox.note([], HIGH, T0 + 40 * 86400)
    with sqlite3.connect(outbox.path) as db:
        assert db.execute("SELECT count(*) FROM told").fetchone() == (0,)


def test_what_does_not_fit_is_counted_and_reported(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "MOST_NEWS", 10)
    outbox.note([threat(number) for number in range(8)], HIGH, T0)
    outbox.delivered("one", outbox.waiting("one")[-1], 0, T0)
    outbox.note([threat(number) for number in range(100, 107)], HIGH, T0)
    assert (len(outbox.waiting("one")), outbox.lost("one")) == (7, 0)
    assert (len(outbox.waiting("two")), outbox.lost("two")) == (10, 5)
    outbox.delivered("two", outbox.waiting("two")[-1], 5, T0)
    assert outbox.lost("two") == 0
    assert {each.name: each.lost for each in states(tmp_path)} == {"one": 0, "two": 5}


def test_failures_are_remembered_from_the_first(outbox: Outbox, tmp_path: Path) -> None:
    outbox.note([threat(1)], HIGH, T0)
    outbox.failed("one", "no answer", T0 + 1)
    outbox.failed("one", "503", T0 + 2)
    state = states(tmp_path)[0]
    assert (state.failing_since, state.error, state.waiting) == (T0 + 1, "503", 1)
    outbox.delivered("one", outbox.waiting("one")[-1], 0, T0 + 3)
    state = states(tmp_path)[0]
    assert (state.failing_since, state.error, state.waiting, state.messages) == (None, "", 0, 1)


def test_a_damaged_file_is_set_aside(outbox: Outbox, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outbox.path.write_bytes(b"nonsense" * 1000)
    again = Outbox(tmp_path)
    again.begin(["one"])
    assert (tmp_path / "notify.broken").read_bytes().startswith(b"nonsense")
    assert "is damaged" in caplog.text
    assert again.note([threat(1)], HIGH, T0) == 1


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrafficmonError, match="check that its folder is writable"):
        Outbox(tmp_path / "nowhere")

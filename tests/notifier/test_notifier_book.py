"""What is remembered: news until every target has them, over kills, damage and full disks."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from notifier_targets import T0, threat

from trafficmond.errors import TrafficmonError
from trafficmond.model import Severity
from trafficmond.notifier import book as books
from trafficmond.notifier.book import OVERLAP_S, Book, states

HIGH = Severity.HIGH


@pytest.fixture
def book(tmp_path: Path) -> Book:
    made = Book(tmp_path)
    made.begin(["one", "two"])
    return made


def ids(book: Book, target: str) -> list[str]:
    return [each.threat["id"][-1] + each.kind[0] for each in book.waiting(target)]


def test_news_wait_for_every_target(book: Book) -> None:
    assert book.note([threat(1), threat(2), threat(2, state="closed"), threat(3, "low")], HIGH, T0) == 3
    assert ids(book, "one") == ids(book, "two") == ["1o", "2o", "2e"]
    book.delivered("one", book.waiting("one")[-1], 0, T0 + 1)
    assert ids(book, "one") == []
    assert ids(book, "two") == ["1o", "2o", "2e"]
    assert book.sent("one", T0 + 2) == [T0 + 1]
    assert book.sent("one", T0 + 4000) == []


def test_the_same_again_is_no_news(book: Book) -> None:
    for _ in range(3):
        book.note([threat(1), threat(2, state="closed")], HIGH, T0)
    assert ids(book, "one") == ["1o", "2e"]


def test_a_new_target_gets_what_comes_and_one_that_is_gone_holds_nothing(book: Book, tmp_path: Path) -> None:
    book.note([threat(1)], HIGH, T0)
    book.begin(["two", "three"])
    assert ids(book, "three") == []
    book.note([threat(2)], HIGH, T0)
    assert ids(book, "three") == ["2o"]
    for target in ("two", "three"):
        book.delivered(target, book.waiting(target)[-1], 0, T0)
    with sqlite3.connect(book.path) as db:
        assert db.execute("SELECT count(*) FROM news").fetchone() == (0,)
    book.begin(["four"])  # what is gone leaves no trace in the numbers
    assert ids(book, "four") == []
    assert [each.name for each in states(tmp_path)] == ["four"]


def test_it_asks_for_what_was_missed(book: Book) -> None:
    assert book.asked_since() is None
    book.note([], HIGH, T0)
    assert book.asked_since() == T0 - OVERLAP_S
    # One that is told and open may have ended meanwhile, however long ago it was heard of.
    book.note([threat(1, last_seen=T0 - 90000)], HIGH, T0)
    assert book.asked_since() == T0 - 90000
    book.note([threat(1, state="closed", last_seen=T0 - 80000)], HIGH, T0)
    assert book.asked_since() == T0 - OVERLAP_S


def test_an_open_one_that_goes_on_is_asked_for_from_when_it_was_last_heard_of(book: Book) -> None:
    book.note([threat(1, last_seen=T0)], HIGH, T0)
    book.note([threat(1, state="updated", last_seen=T0 + 500_000)], HIGH, T0 + 500_000)
    assert book.asked_since() == T0 + 500_000 - OVERLAP_S


def test_told_situations_are_forgotten_in_the_end(book: Book) -> None:
    book.note([threat(number, state="closed") for number in range(500)], HIGH, T0)
    book.note([], HIGH, T0 + 86400)
    book.note([threat(1, last_seen=T0)], HIGH, T0 + 86400)
    book.note([], HIGH, T0 + 40 * 86400)
    with sqlite3.connect(book.path) as db:
        assert db.execute("SELECT count(*) FROM told").fetchone() == (0,)


def test_what_does_not_fit_is_counted_and_told(book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "MOST_NEWS", 10)
    book.note([threat(number) for number in range(8)], HIGH, T0)
    book.delivered("one", book.waiting("one")[-1], 0, T0)
    book.note([threat(number) for number in range(100, 107)], HIGH, T0)
    assert (len(book.waiting("one")), book.lost("one")) == (7, 0)
    assert (len(book.waiting("two")), book.lost("two")) == (10, 5)
    book.delivered("two", book.waiting("two")[-1], 5, T0)
    assert book.lost("two") == 0
    assert {each.name: each.lost for each in states(tmp_path)} == {"one": 0, "two": 5}


def test_failures_are_remembered_from_the_first(book: Book, tmp_path: Path) -> None:
    book.note([threat(1)], HIGH, T0)
    book.failed("one", "no answer", T0 + 1)
    book.failed("one", "503", T0 + 2)
    state = states(tmp_path)[0]
    assert (state.failing_since, state.error, state.waiting) == (T0 + 1, "503", 1)
    book.delivered("one", book.waiting("one")[-1], 0, T0 + 3)
    state = states(tmp_path)[0]
    assert (state.failing_since, state.error, state.waiting, state.messages) == (None, "", 0, 1)


def test_a_damaged_file_is_set_aside(book: Book, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    book.close()
    book.path.write_bytes(b"nonsense" * 1000)
    again = Book(tmp_path)
    again.begin(["one"])
    assert (tmp_path / "notify.broken").read_bytes().startswith(b"nonsense")
    assert "is damaged" in caplog.text
    assert again.note([threat(1)], HIGH, T0) == 1


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrafficmonError, match="check that its folder is writable"):
        Book(tmp_path / "nowhere")

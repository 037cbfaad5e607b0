"""What is news, when it is due, and how it reads: no clock, no file."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notifier_targets import T0, threat

from trafficmond.model import Severity
from trafficmond.notifier.message import FAILURE, MOST_LINES, SUCCESS, WARNING, compose
from trafficmond.notifier.news import AGAIN, ENDED, OPENED, WORSE, News, Reported, news_of, reported_after
from trafficmond.notifier.schedule import FIRST_WAIT_S, HOUR_S, due, retry_after

HIGH = Reported(Severity.HIGH, True, T0 + 60)
OVER = Reported(Severity.HIGH, False, T0 + 60)


@pytest.mark.parametrize(
    ("record", "reported", "expected"),
    [
        (threat(), None, OPENED),
        (threat(state="updated"), None, OPENED),  # found when it was not grave enough yet
        (threat(severity="medium"), None, None),
        (threat(state="closed"), None, ENDED),  # all of it while nobody looked
        (threat(severity="low", state="closed"), None, None),
        (threat(state="updated", count=500), HIGH, None),
        (threat(state="updated", severity="critical"), HIGH, WORSE),
        (threat(state="updated", severity="medium"), HIGH, None),
        (threat(state="closed"), HIGH, ENDED),
        (threat(state="closed"), OVER, None),
        (threat(state="updated", last_seen=T0 + 9000), OVER, AGAIN),
        (threat(state="updated"), OVER, None),  # remembered from before its end
    ],
)
def test_what_is_news(record: dict[str, object], reported: Reported | None, expected: str | None) -> None:
    assert news_of(record, reported, Severity.HIGH) == expected


STATES = st.sampled_from(["opened", "updated", "closed"])
LIVES = st.lists(st.tuples(st.sampled_from(["low", "medium", "high", "critical"]), STATES), max_size=30)


@given(LIVES)
def test_no_news_come_twice(life: list[tuple[str, str]]) -> None:
    """Whatever a threat does: it opens before all else, and what is told is told once until something differs."""
    reported: Reported | None = None
    for moment, (severity, state) in enumerate(life):
        record = threat(severity=severity, state=state, last_seen=T0 + moment)
        kind = news_of(record, reported, Severity.MEDIUM)
        if kind is not None:
            assert (reported is None) == (kind in (OPENED, ENDED)) or kind == ENDED
            reported = reported_after(record, reported)
            assert news_of(record, reported, Severity.MEDIUM) is None


def news(kind: str, number: int = 1, at: float = T0, **more: object) -> News:
    return News(number, at, kind, threat(number, **more))  # type: ignore[arg-type]


def test_the_first_word_of_a_situation_does_not_wait() -> None:
    assert due([news(OPENED)], [], T0, 10, 20) == pytest.approx(T0 + FIRST_WAIT_S)
    assert due([news(WORSE), news(OPENED, 2)], [T0 - 1], T0, 10, 20) == pytest.approx(T0 + FIRST_WAIT_S)


def test_what_follows_is_grouped() -> None:
    assert due([news(WORSE), news(ENDED, 2, T0 + 5)], [T0 - 1], T0 + 5, 10, 20) == T0 + 10


def test_more_than_so_many_an_hour_wait_for_one_summary() -> None:
    sent = [T0 - 3000 + number for number in range(20)]
    assert due([news(OPENED)], sent, T0, 10, 20) == T0 - 3000 + HOUR_S
    assert due([news(OPENED)], sent[1:], T0, 10, 20) < T0 + 1
    assert due([news(OPENED)], [each - 7200 for each in sent], T0, 10, 20) < T0 + 1


def test_a_clock_that_was_set_back_holds_nothing_up() -> None:
    ahead = [T0 + 86400 + number for number in range(20)]
    assert due([news(WORSE, at=T0 + 86400)], ahead, T0, 10, 20) == T0 + 10


def test_a_target_that_is_down_is_tried_each_minute() -> None:
    waits = [retry_after(failures) for failures in (1, 2, 3, 7, 8, 5000)]
    assert waits == [1, 2, 4, 60, 60, 60]


def test_a_server_that_asks_for_a_longer_wait_gets_it_up_to_an_hour() -> None:
    assert [retry_after(*each) for each in ((1, 300.0), (8, 5.0), (1, -1.0), (1, float("inf")))] == [300, 60, 1, 3600]


def test_one_situation_reads_as_one() -> None:
    message = compose("web1", [news(OPENED), News(2, T0, WORSE, threat(severity="critical"))])
    assert message.title == "web1: critical port_scan (got worse)"
    assert "203.0.113.1 tried 250 ports" in message.text
    assert "trafficctl threat 000000000001" in message.text
    assert message.level == FAILURE
    assert message.data["threats"][0]["news"] == [OPENED, WORSE]


def test_what_ended_is_good_news_and_what_is_open_comes_first() -> None:
    assert compose("web1", [news(ENDED)]).level == SUCCESS
    message = compose("web1", [news(ENDED, 1), news(OPENED, 2, severity="medium")])
    assert message.level == FAILURE
    assert message.title == "web1: 2 threats, the most severe is high"
    assert [each["id"][-1] for each in message.data["threats"]] == ["2", "1"]
    assert compose("web1", [news(OPENED, severity="medium")]).level == WARNING


def test_a_summary_counts_everything() -> None:
    many = [news(OPENED, number, severity="high" if number % 3 else "critical") for number in range(1, 1501)]
    message = compose("web1", many, lost=7)
    assert "500 x critical port_scan" in message.text
    assert "1000 x high port_scan" in message.text
    assert message.text.count("critical port_scan: ") == MOST_LINES
    assert "7 more messages dropped" in message.text
    assert message.data["count"] == 1500
    assert len(message.text) < 4000  # what chat services take
    json.dumps(message.data)


def test_a_summary_of_long_names_fits_as_well() -> None:
    long = "2001:db8:ffff:ffff:ffff:ffff:ffff:fffe tried 250 ports of häufig-besucht.example " * 3
    message = compose("web1", [news(OPENED, number, summary=long) for number in range(1, 21)])
    assert len(message.text.encode()) < 4000
    assert "20 x high port_scan" in message.text
    assert f"the {message.text.count('high port_scan: ')} most severe:" in message.text

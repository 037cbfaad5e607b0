"""A restart in the middle of a situation, or of a day: the engine goes on as if there had been none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from test_world import SLOW, a_day
from world_attacks import STRANGER, datagram_flood
from world_book import HOUR, MONDAY, Book
from world_house import LAPTOP, WEB
from world_judging import judge, of, text

from trafficmond.detect.engine import Engine, ThreatUpdate, Tick
from trafficmond.learned import packed, unpacked
from trafficmond.model import Threat

MOST_BYTES = 4 << 20  # of a house's file; tables that are full make one of 20 MB at most
CUT = ["a port every 15 s", "10 hosts a minute", "many guessers", "a call an hour", "a ping tunnel of 1 KiB/s"]


class Interrupted(Engine):
    """Restarted again and again: all it knows goes through a file each time."""

    def __init__(self, every_s: float) -> None:
        super().__init__()
        self._every_s, self._next = every_s, 0.0
        self.bytes = 0

    def feed_ticks(self, ticks: Sequence[Tick]) -> list[ThreatUpdate]:
        updates, now = super().feed_ticks(ticks), ticks[-1].now
        if now >= self._next:
            self._next = now + self._every_s
            fresh, kept = Engine(), packed(self.learned())
            assert fresh.recall(unpacked(kept), now) == []
            assert [text(each) for each in fresh.resume(self.threats(), now)] == []
            same(self.learned(), fresh.learned())
            self.bytes = max(self.bytes, len(kept))
            self._detectors, self._open = fresh._detectors, fresh._open
        return updates


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, kept in one.items():
        again = other[name]
        assert len(kept) == len(again), name
        if "key" in (kept.dtype.names or ()):  # places within a bucket may differ
            kept, again = (each[np.argsort(each["key"], kind="stable")] for each in (kept, again))
        rows = [name for name in ("key", "row", "dial") if name in (kept.dtype.names or ())] or [...]
        assert all(kept[field].tobytes() == again[field].tobytes() for field in rows), name


def summary(threats: list[Threat]) -> list[tuple[str, ...]]:
    return sorted((each.id, text(each)) for each in threats)


@pytest.mark.parametrize("attack", CUT)
def test_each_attack_is_found_alike(attack: str) -> None:
    book = Book(3)
    SLOW[attack](book)
    rows = book.rows()
    whole_s = float(rows["end"].max() - rows["start"].min())
    assert summary(judge(rows, 10.0, Interrupted(whole_s / 7))) == summary(judge(rows, 10.0))


@pytest.mark.parametrize(("hours", "same_one"), [(3, True), (5, False)])
def test_a_situation_that_was_over_hours_before_a_restart_is_the_one_it_was(hours: int, same_one: bool) -> None:
    book = Book(3)
    datagram_flood(book, HOUR, WEB)
    (before,) = judge(book.rows())
    book = Book(4)
    datagram_flood(book, (1 + hours) * HOUR, WEB)
    rows, engine = book.rows(), Engine()
    engine.remember([before], float(rows["start"].min()) - 60.0)
    assert engine.threats() == []
    (after,) = judge(rows, engine=engine)
    assert (after.id == before.id) is same_one
    assert after.first_seen == (before if same_one else after).first_seen
    assert after.last_seen > before.last_seen + (hours - 1) * HOUR


@pytest.mark.parametrize(("hours", "threats"), [(3, 1), (8, 1), (11, 2)])
def test_a_rhythm_that_returns_is_the_one_it_was_though_its_threat_stays_open_for_hours(
    hours: int, threats: int
) -> None:
    book = Book(3)
    for begin in (0, hours * HOUR):
        book.tcp(begin + np.arange(40) * 2.0, LAPTOP, STRANGER, 80, 300, 200, 0.1)
    assert len(list(of(judge(book.rows()), "beacon"))) == threats


def test_a_quiet_day_stays_quiet_and_what_is_kept_is_small() -> None:
    engine, morning = Interrupted(2 * HOUR), a_day()[a_day()["start"] < MONDAY + 10 * HOUR]
    assert summary(judge(morning, 300.0, engine)) == summary(judge(morning, 300.0))
    assert 0 < engine.bytes < MOST_BYTES

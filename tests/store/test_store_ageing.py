"""By which time old flows go: the wall clock's, but not at once when it is far ahead."""

from __future__ import annotations

import pytest

from trafficmond.store import writer
from trafficmond.store.writer import Ageing

NOW, HOUR_S, YEAR_S = 1_700_000_000.0, 3600.0, 365 * 86400.0


class Clock:
    """A wall clock and a monotonic one."""

    wall, monotonic = NOW, 1000.0

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(writer.time, "monotonic", lambda: clock.monotonic)
    return clock


def test_a_clock_that_nobody_sets_is_followed(clock: Clock) -> None:
    age = Ageing(lambda: clock.wall, None)
    for seconds in (0.0, 1.0, HOUR_S, YEAR_S):  # a year passes, also while the process was not scheduled
        clock.passes(seconds)
        assert age.now() == clock.wall


def test_a_jump_forward_and_back_was_none(clock: Clock) -> None:
    age = Ageing(lambda: clock.wall, None)
    clock.wall += 10 * YEAR_S
    clock.passes(60)
    assert age.now() == NOW + 60
    clock.wall -= 10 * YEAR_S
    clock.passes(60)
    assert age.now() == NOW + 120 == clock.wall


def test_a_jump_forward_is_believed_after_an_hour(clock: Clock) -> None:
    age = Ageing(lambda: clock.wall, None)
    clock.wall += 10 * YEAR_S
    clock.passes(HOUR_S - 1)
    assert age.now() == NOW + HOUR_S - 1
    clock.passes(2)
    assert age.now() == clock.wall


def test_a_jump_back_is_believed_at_once(clock: Clock) -> None:
    age = Ageing(lambda: clock.wall, None)
    clock.wall -= 10 * YEAR_S
    assert age.now() == clock.wall


@pytest.mark.parametrize(
    ("newest", "at_start"),
    [(NOW - 60, NOW), (NOW - YEAR_S, NOW - YEAR_S), (NOW + YEAR_S, NOW)],
    ids=["a restart", "a year later, or a clock that is ahead", "rows from the future"],
)
def test_at_a_start_the_newest_row_tells(clock: Clock, newest: float, at_start: float) -> None:
    assert Ageing(lambda: clock.wall, newest).now() == at_start

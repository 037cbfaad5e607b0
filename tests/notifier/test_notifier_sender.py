"""The thread of a target by a clock of the test's, without waiting: days pass in a moment."""

from __future__ import annotations

from pathlib import Path

import pytest
from notifier_targets import T0, threat

from trafficmond.model import Severity
from trafficmond.notifier import sender
from trafficmond.notifier.command import Undelivered
from trafficmond.notifier.message import Message
from trafficmond.notifier.outbox import Outbox
from trafficmond.notifier.sender import Sender
from trafficmond.notifier.settings import Settings


class Clock:
    """The time of day and the monotonic one."""

    def __init__(self) -> None:
        self.now = T0

    def time(self) -> float:
        return self.now

    monotonic = time


class Target:
    """Down until somebody says that it is up; notes when it was tried."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.up, self.wait_s = clock, False, 0.0
        self.tried: list[float] = []
        self.got: list[Message] = []

    def deliver(self, message: Message) -> None:
        self.tried.append(self.clock.now)
        if not self.up:
            raise Undelivered("503 Service Unavailable", self.wait_s)
        self.got.append(message)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sender, "time", clock)
    return clock


def start(folder: Path, target: Target) -> tuple[Sender, Outbox]:
    outbox = Outbox(folder)
    outbox.begin(["it"])
    return Sender("it", target, outbox, Settings(), "web1", pytest.fail), outbox


def test_a_target_that_is_down_for_a_day_gets_all_of_it_in_one_message(tmp_path: Path, clock: Clock) -> None:
    target = Target(clock)
    thread, outbox = start(tmp_path, target)
    for minute in range(24 * 60):
        clock.now = T0 + 60 * minute
        outbox.note([threat(minute)], Severity.HIGH, clock.now)
        if minute % 360 == 359:  # restarted four times
            thread, outbox = start(tmp_path, target)
        thread.step()
    assert len(target.tried) >= 24 * 60 - 10
    target.up = True
    clock.now += 60
    assert thread.step() == 0.0
    assert thread.step() is None
    (message,) = target.got
    assert (message.data["count"], len(message.data["threats"]), message.data["lost"]) == (24 * 60, 1000, 0)


def test_it_waits_as_long_as_the_server_asks(tmp_path: Path, clock: Clock) -> None:
    target = Target(clock)
    target.wait_s = 300
    thread, outbox = start(tmp_path, target)
    outbox.note([threat()], Severity.HIGH, clock.now)
    for _ in range(20 * 60):
        thread.step()
        clock.now += 1
    assert [round(each - target.tried[0]) for each in target.tried] == [0, 300, 600, 900]

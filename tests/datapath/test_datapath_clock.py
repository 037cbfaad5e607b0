"""Jiffies as times of day: the same for a record at each reading, and after the wall clock was stepped or slewed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trafficmond import abi
from trafficmond.datapath import clock as module
from trafficmond.datapath.clock import Clock

HZ, BOOT = 250, 1_700_000_000.0


class Machine:
    """Its clocks, and a daemon that may lose the processor between reading the one and the other."""

    def __init__(self) -> None:
        self.at, self.ahead, self.lost = 100.0, 0.0, 0.0
        self.map = np.zeros(1, abi.CLOCK)

    def tick(self, *_: object) -> None:
        self.map["jiffies"], self.map["monotonic_ns"] = int(self.at * HZ), int(self.at * 1e9)

    def time(self) -> float:
        self.at += self.lost
        return BOOT + self.at + self.ahead

    def monotonic_ns(self) -> int:
        return int(self.at * 1e9)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(module, "tick_hz", lambda: HZ)
    monkeypatch.setattr(module, "Mapped", lambda *_: SimpleNamespace(array=made.map))
    monkeypatch.setattr(module.libbpf, "test_run", made.tick)
    return made


def started() -> Clock:
    loaded: Any = SimpleNamespace(programs={"tm_tick": 0}, maps={"tm_clock": 0})
    return Clock(loaded)


def test_a_record_begins_at_the_same_time_at_each_reading(machine: Machine) -> None:
    """Where in its tick a reading is says nothing of another rate; nor does a busy machine."""
    clock, seen = started(), set()
    for part in range(40):
        machine.at, machine.lost = 105.0 + 5.0007 * part, 0.0 if part % 3 else 0.03
        clock.calibrate()
        seen.add(float(clock.to_epoch(np.array([25_000], np.uint64))[0]))
    assert len(seen) == 1
    assert seen.pop() == pytest.approx(BOOT + 100, abs=1 / HZ)


def test_a_wall_clock_that_is_slewed_or_stepped_is_followed(machine: Machine) -> None:
    clock, steps = started(), list[float]()
    clock.followers.append(steps.append)
    for _ in range(100):
        machine.at += 5
        machine.ahead += 0.0025
        clock.calibrate()
        assert clock.to_epoch(np.array([machine.at * HZ]))[0] == pytest.approx(machine.time(), abs=2 / HZ)
    assert steps == []
    machine.ahead -= 3600
    clock.calibrate()
    assert steps == [pytest.approx(-3599.75, abs=2 / HZ)]
    assert clock.to_jiffies(machine.time()) == pytest.approx(machine.at * HZ, abs=2)

"""Jiffies, the data path's clock, against the wall clock."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from trafficmond import abi, npt
from trafficmond.datapath import libbpf
from trafficmond.datapath.loader import Loaded, tick_hz
from trafficmond.datapath.mapped import Mapped

_STEP_S = 0.5  # smallest step of the wall clock
_FRAME = bytes(64)  # input of the clock program, which ignores it


class Clock:
    """Converts between jiffies64 and epoch seconds; `calibrate` follows steps and slews of the wall clock.

    The `followers` get a step of the wall clock, with which ends in epoch seconds move; jiffies do not step.

    Jiffies stand still while the machine is suspended, as CLOCK_MONOTONIC does.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.hz = tick_hz()
        self._tick = loaded.programs["tm_tick"]
        self._map = Mapped(loaded.maps["tm_clock"], abi.CLOCK, 1)
        self._epoch_at_zero = 0.0
        self._reported: float | None = None  # _epoch_at_zero at the last reported step
        self.followers: list[Callable[[float], object]] = []
        self.calibrate()

    def calibrate(self) -> None:
        """Reads both clocks, and calls the followers with the seconds by which the wall clock was stepped against
        jiffies, if it was. Drift adds up until it counts as a step."""
        libbpf.test_run(self._tick, _FRAME)
        before, wall, after = time.monotonic_ns(), time.time(), time.monotonic_ns()
        then = self._map.array[0]
        # Jiffies advance in steps of 1/hz: half a step is the best guess of where in the step this was.
        at = wall - ((before + after) // 2 - int(then["monotonic_ns"])) / 1e9
        found = at - (int(then["jiffies"]) + 0.5) / self.hz
        if self._reported is not None and abs(found - self._epoch_at_zero) <= 1 / self.hz + (after - before) / 1e9:
            return  # no more exact than what is known, by which the times of records stay as they are
        self._epoch_at_zero = found
        moved = 0.0 if self._reported is None else found - self._reported
        if self._reported is not None and abs(moved) < _STEP_S:
            return
        self._reported = self._epoch_at_zero
        for follow in self.followers if moved else ():
            follow(moved)

    def to_epoch(self, jiffies: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Epoch seconds of each jiffies64 value."""
        return np.asarray(jiffies.astype(np.float64) / self.hz + self._epoch_at_zero)

    def to_jiffies(self, epoch: float) -> int:
        """The jiffies64 value at an epoch time, never below 1 (0 means "never" to the programs)."""
        return max(1, int((epoch - self._epoch_at_zero) * self.hz))

    def close(self) -> None:
        self._map.close()

"""The clock that decides how old stored rows are."""

import time
from collections.abc import Callable

_STEP_S = 3600.0  # a wall clock further ahead than this was set, or the host was off
_TRUST_S = 3600.0  # until it is believed


class Ageing:
    """Follows the wall clock, but believes a jump forward only after an hour: a clock that was set
    by mistake, or is wrong until a time server answers, would make all history too old at once."""

    def __init__(self, clock: Callable[[], float], newest: float | None) -> None:
        """`newest`: when the latest row was stored, by the wall clock of that time; None: there is no row."""
        self._clock = clock
        now = clock()
        self._last = now if newest is None else min(now, newest)
        self._at = self._steady_since = time.monotonic()

    def now(self) -> float:
        """Epoch seconds."""
        now, at = self._clock(), time.monotonic()
        expected = self._last + at - self._at
        if now <= expected + _STEP_S:
            self._steady_since = at
        elif at - self._steady_since < _TRUST_S:
            return expected
        self._last, self._at = now, at
        return now

"""A progress bar on standard error, only if that is a terminal."""

import sys
import time

_EVERY_S = 0.1
_WIDTH = 30


class Bar:
    """Call `show(done, total)` as often as you like; it draws at most ten times a second. `clear` removes the bar."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._watched = sys.stderr.isatty()
        self._began = self._drawn = time.monotonic()
        self._visible = False

    def show(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not self._watched or now - self._drawn < _EVERY_S:
            return
        self._drawn = now
        seconds = now - self._began
        part = min(1.0, done / total) if total else 0.0
        bar = "#" * round(part * _WIDTH) + "-" * (_WIDTH - round(part * _WIDTH))
        left = f", {seconds / part - seconds:.0f} s left" if part > 0 else ""
        sys.stderr.write(f"\r\x1b[K{self._label} [{bar}] {part:4.0%}{left}" if total else f"\r\x1b[K{self._label} ...")
        sys.stderr.flush()
        self._visible = True

    def clear(self) -> None:
        if self._visible:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

"""The patterns of the settings that chose each monitored interface: a pattern keeps an interface once chosen.

A moved default route, a removed address or a new name detaches nothing. Choices are stored beside the pins as empty
folders, `chosen/<ifindex>-<hash of a pattern>`, since bpffs has nothing else, and the next daemon reads them.
"""

import contextlib
import zlib
from collections.abc import Collection
from pathlib import Path

from trafficmond.config.checks import DEFAULT_ROUTE

_FOLDER = "chosen"


class Choices:
    """The choices of attached interfaces; if they cannot be written they end with the daemon."""

    def __init__(self, pin_dir: Path) -> None:
        self._folder = pin_dir / _FOLDER
        self._of: dict[int, set[str]] = {}
        for name in _names(self._folder):
            ifindex, _, mark = name.partition("-")
            if ifindex.isdecimal():
                self._of.setdefault(int(ifindex), set()).add(mark)

    def add(self, ifindex: int, patterns: Collection[str]) -> None:
        """Records that these patterns choose the interface now."""
        known = self._of.setdefault(ifindex, set())
        for mark in {_mark(pattern) for pattern in patterns} - known:
            known.add(mark)
            with contextlib.suppress(OSError):
                (self._folder / f"{ifindex}-{mark}").mkdir(parents=True, exist_ok=True)

    def hold(self, ifindex: int, patterns: Collection[str]) -> bool:
        """Whether one of these patterns has chosen the interface. An interface attached by an older trafficmond, which
        stored no pattern, counts as chosen by the default route."""
        known = self._of.get(ifindex, {_mark(DEFAULT_ROUTE)})
        return not known.isdisjoint(_mark(pattern) for pattern in patterns)

    def forget(self, ifindex: int) -> None:
        """Removes an interface that is gone or no longer chosen."""
        for mark in self._of.pop(ifindex, ()):
            with contextlib.suppress(OSError):
                (self._folder / f"{ifindex}-{mark}").rmdir()

    def forget_all_but(self, attached: Collection[int]) -> None:
        """Removes an earlier daemon's choices of interfaces that are not attached now."""
        for ifindex in self._of.keys() - set(attached):
            self.forget(ifindex)


def remove_choices(pin_dir: Path) -> None:
    folder = pin_dir / _FOLDER
    with contextlib.suppress(OSError):
        for name in _names(folder):
            (folder / name).rmdir()
        folder.rmdir()


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _mark(pattern: str) -> str:
    return f"{zlib.crc32(pattern.encode()):08x}"

"""By which patterns of the settings each watched interface was chosen: what a pattern has once chosen stays its own.

A default route that moves, an address that goes or a new name takes the filter off nothing. What is remembered lies
beside the pins as empty folders, `chosen/<ifindex>-<hash of a pattern>`, for bpffs holds nothing else; so the next
daemon knows it too.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Collection
from pathlib import Path

from trafficmond.config.checks import DEFAULT_ROUTE

_FOLDER = "chosen"


class Choices:
    """What is remembered of the interfaces that are attached; where it cannot be written it ends with the daemon."""

    def __init__(self, pin_dir: Path) -> None:
        self._folder = pin_dir / _FOLDER
        self._of: dict[int, set[str]] = {}
        for name in _names(self._folder):
            ifindex, _, mark = name.partition("-")
            if ifindex.isdecimal():
                self._of.setdefault(int(ifindex), set()).add(mark)

    def add(self, ifindex: int, patterns: Collection[str]) -> None:
        """These patterns mean the interface, now if not for ever."""
        known = self._of.setdefault(ifindex, set())
        for mark in {_mark(pattern) for pattern in patterns} - known:
            known.add(mark)
            with contextlib.suppress(OSError):
                (self._folder / f"{ifindex}-{mark}").mkdir(parents=True, exist_ok=True)

    def hold(self, ifindex: int, patterns: Collection[str]) -> bool:
        """Whether one of these patterns has chosen the interface. What an older trafficmond left attached, without a
        word of why, is the default route's."""
        known = self._of.get(ifindex, {_mark(DEFAULT_ROUTE)})
        return not known.isdisjoint(_mark(pattern) for pattern in patterns)

    def forget(self, ifindex: int) -> None:
        """It is gone, or not meant any more."""
        for mark in self._of.pop(ifindex, ()):
            with contextlib.suppress(OSError):
                (self._folder / f"{ifindex}-{mark}").rmdir()

    def forget_all_but(self, attached: Collection[int]) -> None:
        """What an earlier daemon remembered of interfaces that are not attached now."""
        for ifindex in self._of.keys() - set(attached):
            self.forget(ifindex)


def remove_choices(pin_dir: Path) -> None:
    """Forgets all that is remembered beside these pins."""
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

"""Stable numbers for rules: the 24 bits that a verdict word carries.

A rule's number is a hash of who it is (its file, its name, how many of that name came before it), so that it survives
reloads, edits elsewhere in its file and restarts of the daemon, with nothing to keep on disk. Rules that vanish stay
named for a while, because flows in flight still carry their numbers.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trafficmond.policy.rules import Rule

MAX_ID = 0xFFFFFF  # 0 is the default

_KEEP_S = 3600.0  # beyond every flow timeout
_KEEP_MOST = 65536


@dataclass(frozen=True, slots=True)
class _Entry:
    identity: tuple[str, str, int]
    rule: Rule


class RuleIds:
    """Numbers in use, and those of rules that are gone but may still be met. For one thread; `names` copies."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str, int], int] = {}
        self._entries: dict[int, _Entry] = {}
        self._gone: dict[int, float] = {}  # number -> when it vanished, oldest first

    def assign(self, rules: Sequence[Rule], now: float) -> npt.NDArray[np.uint32]:
        """The number of each of `rules`, which are all rules of the new generation."""
        seen: Counter[tuple[str, str]] = Counter()
        identities = []
        for rule in rules:
            name = (rule.path, rule.name)
            identities.append((*name, seen[name]))
            seen[name] += 1
        self._retire(set(identities), now)
        numbers = np.empty(len(rules), np.uint32)
        for position, (identity, rule) in enumerate(zip(identities, rules, strict=True)):
            number = self._ids.get(identity)
            if number is None:
                number = self._ids[identity] = self._free(identity)
            self._gone.pop(number, None)
            self._entries[number] = _Entry(identity, rule)
            numbers[position] = number
        return numbers

    def rule(self, number: int) -> Rule | None:
        """The rule of that number, also a while after it vanished; None for the default and for unknown numbers."""
        entry = self._entries.get(number)
        return entry.rule if entry else None

    def names(self) -> dict[int, str]:
        """Number -> name, of all rules in force or lately so."""
        return {number: entry.rule.name for number, entry in self._entries.items()}

    def _retire(self, present: set[tuple[str, str, int]], now: float) -> None:
        for number, entry in self._entries.items():
            if entry.identity not in present:
                self._gone.setdefault(number, now)
        excess = len(self._gone) - _KEEP_MOST
        old = [n for place, (n, since) in enumerate(self._gone.items()) if place < excess or since < now - _KEEP_S]
        for number in old:
            del self._gone[number]
            del self._ids[self._entries.pop(number).identity]

    def _free(self, identity: tuple[str, str, int]) -> int:
        number = zlib.crc32("\0".join(map(str, identity)).encode("utf-8", "surrogateescape")) & MAX_ID
        while number == 0 or number in self._entries:
            number = (number + 1) & MAX_ID
        return number

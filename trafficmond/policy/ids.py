"""Stable numbers for rules: the 24 bits that a verdict word carries.

A rule's number is a hash of who it is (its file, its name, how many of that name came before it), so that it survives
reloads, edits elsewhere in its file and restarts of the daemon, with nothing to keep on disk. Rules that vanish stay
named for a while, because flows in flight still carry their numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trafficmond.policy.rules import Rule

MAX_ID = 0xFFFFFF  # 0 is the default

_KEEP_S = 3600.0  # beyond every flow timeout
_KEEP_MOST = 65536

_Identity = tuple[str, str, int]  # path, name, how many of that name came before


@dataclass(frozen=True, slots=True)
class _Generation:
    """Never changed once made, so that other threads may read it."""

    numbers: dict[_Identity, int]
    rules: dict[int, Rule]  # in force, or gone but kept
    gone: dict[int, float]  # number -> when it vanished


class RuleIds:
    """Numbers in use, and those of rules that are gone but may still be met. One thread assigns, any may ask."""

    def __init__(self) -> None:
        self._present = _Generation({}, {}, {})

    def assign(self, rules: Sequence[Rule], now: float) -> npt.NDArray[np.uint32]:
        """The number of each of `rules`, which are all rules of the new generation; `now` in epoch seconds."""
        old, new = self._present, _Generation({}, {}, {})
        seen: dict[tuple[str, str], int] = {}
        for rule in rules:
            key = (rule.path, rule.name)
            seen[key] = nth = seen.get(key, -1) + 1
            identity = (*key, nth)
            number = old.numbers.get(identity)
            if number is None:
                number = _free(identity, old, new)
            new.numbers[identity] = number
            new.rules[number] = rule
        assigned = np.fromiter(new.numbers.values(), np.uint32, len(rules))
        _keep_vanished(old, new, now)
        self._present = new
        return assigned

    def rule(self, number: int) -> Rule | None:
        """The rule of that number, also a while after it vanished; None for the default and for unknown numbers."""
        return self._present.rules.get(number)

    def names(self) -> dict[int, str]:
        """Number -> name, of all rules in force or lately so."""
        return {number: rule.name for number, rule in self._present.rules.items()}


def _free(identity: _Identity, old: _Generation, new: _Generation) -> int:
    """A number that neither generation uses, the same one in every process unless others are in the way."""
    number = zlib.crc32("\0".join(map(str, identity)).encode("utf-8", "surrogateescape")) & MAX_ID
    while number == 0 or number in old.rules or number in new.rules:
        number = (number + 1) & MAX_ID
    return number


def _keep_vanished(old: _Generation, new: _Generation, now: float) -> None:
    """Moves what is no longer in force, but may still be met, from `old` to `new`: the latest, up to a bound."""
    vanished = [
        (old.gone.get(number, now), number, identity)
        for identity, number in old.numbers.items()
        if number not in new.rules
    ]
    for since, number, identity in sorted(vanished, reverse=True)[:_KEEP_MOST]:
        if since > now - _KEEP_S:
            new.numbers[identity] = number
            new.rules[number] = old.rules[number]
            new.gone[number] = since

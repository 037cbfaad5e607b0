"""Stable numbers for rules: the 24 bits that a verdict word carries.

A rule's number is a hash of who it is (its file, its name, how many of that name came before it), so that it survives
reloads, edits elsewhere in its file and restarts of the daemon, with nothing to keep on disk. Rules that vanish stay
named for a while, because flows in flight still carry their numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

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

    order: tuple[Rule, ...] = ()  # all that are in force
    assigned: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))  # their numbers
    counts: dict[tuple[str, str], int] = field(default_factory=dict)  # rules in force of each path and name
    numbers: dict[_Identity, int] = field(default_factory=dict)  # of those and of the gone
    rules: dict[int, Rule] = field(default_factory=dict)  # in force, or gone but kept
    names: dict[int, str] = field(default_factory=dict)
    gone: dict[int, tuple[float, _Identity]] = field(default_factory=dict)  # number -> when it vanished, who it was

    def copy(self) -> _Generation:
        """One that may be changed while it is being made."""
        dicts = self.counts.copy(), self.numbers.copy(), self.rules.copy(), self.names.copy(), self.gone.copy()
        return _Generation(self.order, self.assigned, *dicts)


class RuleIds:
    """Numbers in use, and those of rules that are gone but may still be met. One thread assigns, any may ask."""

    def __init__(self) -> None:
        self._present = _Generation()

    def assign(self, rules: Sequence[Rule], now: float) -> npt.NDArray[np.uint32]:
        """The number of each of `rules`, which are all rules of the new generation; `now` in epoch seconds.

        What the new generation begins with as the last one did is not looked at again.
        """
        order, new = tuple(rules), self._present.copy()
        same = common_beginning(new.order, order)
        before = zip(new.order[same:], new.assigned[same:].tolist(), strict=True)
        for rule, number in reversed(list(before)):
            key = (rule.path, rule.name)
            new.counts[key] -= 1
            new.gone[number] = now, (*key, new.counts[key])
        assigned = []
        for rule in order[same:]:
            key = (rule.path, rule.name)
            nth = new.counts.get(key, 0)
            new.counts[key] = nth + 1
            identity = (*key, nth)
            number = new.numbers.get(identity) or _free(identity, new)
            new.numbers[identity] = number
            new.rules[number], new.names[number] = rule, rule.name
            new.gone.pop(number, None)
            assigned.append(number)
        _forget_long_gone(new, now)
        numbers: npt.NDArray[np.uint32] = np.concatenate([new.assigned[:same], np.array(assigned, np.uint32)])
        self._present = replace(new, order=order, assigned=numbers)
        return numbers

    def rule(self, number: int) -> Rule | None:
        """The rule of that number, also a while after it vanished; None for the default and for unknown numbers."""
        return self._present.rules.get(number)

    def names(self) -> Mapping[int, str]:
        """Number -> name, of all rules in force or lately so."""
        return self._present.names


def common_beginning(one: tuple[Rule, ...], other: tuple[Rule, ...]) -> int:
    """How many rules both begin with; fast where they are the very same objects."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        half = (least + most + 1) // 2
        if one[least:half] == other[least:half]:
            least = half
        else:
            most = half - 1
    return least


def _free(identity: _Identity, new: _Generation) -> int:
    """A number that nobody uses, the same one in every process unless others are in the way."""
    number = zlib.crc32("\0".join(map(str, identity)).encode("utf-8", "surrogateescape")) & MAX_ID
    while number == 0 or number in new.rules:
        number = (number + 1) & MAX_ID
    return number


def _forget_long_gone(new: _Generation, now: float) -> None:
    """Of what is no longer in force, but may still be met, keeps the latest, up to a bound."""
    latest = sorted(new.gone.items(), key=lambda each: (each[1][0], each[0]), reverse=True)
    for place, (number, (since, identity)) in enumerate(latest):
        if place >= _KEEP_MOST or since <= now - _KEEP_S:
            del new.gone[number], new.numbers[identity], new.rules[number], new.names[number]

"""Stable numbers for rules: the 24 bits that a verdict word carries.

A rule's number is a hash of who it is (its file, its name, how many of that name came before it), so that it survives
reloads, edits elsewhere in its file and restarts of the daemon, with nothing to keep on disk. Rules that vanish stay
named for a while, because flows in flight still carry their numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from trafficmond import abi, npt
from trafficmond.policy.rules import Rule

MAX_ID = abi.RULE_MASK  # 0 is the default

_KEEP_S = 3600.0  # beyond every flow timeout
_KEEP_MOST = 65536

_Identity = tuple[str, str, int]  # path, name, how many of that name came before


class RuleIds:
    """Numbers in use, and those of rules that are gone but may still be met. One thread assigns, any may ask."""

    def __init__(self) -> None:
        self._order: tuple[Rule, ...] = ()  # all that were given numbers last
        self._assigned: npt.NDArray[np.uint32] = np.zeros(0, np.uint32)  # their numbers
        self._counts: dict[tuple[str, str], int] = {}  # how many of them have that path and name
        self._numbers: dict[_Identity, int] = {}  # of those and of the gone
        self._names: dict[int, str] = {}
        self._gone: dict[int, tuple[float, _Identity]] = {}  # number -> when it vanished, who it was
        self._shown: Mapping[int, str] = MappingProxyType({})  # a copy of the names

    def assign(self, rules: Sequence[Rule], now: float) -> npt.NDArray[np.uint32]:
        """The number of each of `rules`, which are all rules of the new generation; `now` in epoch seconds.

        What the new generation begins with as the last one did is not looked at again.
        """
        order = tuple(rules)
        same = common_beginning(self._order, order)
        before = zip(self._order[same:], self._assigned[same:].tolist(), strict=True)
        for rule, number in reversed(list(before)):
            key = (rule.path, rule.name)
            self._counts[key] -= 1
            self._gone[number] = now, (*key, self._counts[key])
            if not self._counts[key]:
                del self._counts[key]
        assigned = []
        for rule in order[same:]:
            key = (rule.path, rule.name)
            nth = self._counts.get(key, 0)
            self._counts[key] = nth + 1
            identity = (*key, nth)
            number = self._numbers.get(identity) or self._free(identity)
            self._numbers[identity] = number
            self._names[number] = rule.name
            self._gone.pop(number, None)
            assigned.append(number)
        self._forget_long_gone(now)
        self._order = order
        self._assigned = np.concatenate([self._assigned[:same], np.array(assigned, np.uint32)])
        self._shown = MappingProxyType(self._names.copy())
        return self._assigned

    def names(self) -> Mapping[int, str]:
        """Number -> name, of all rules in force or lately so; it does not change any more."""
        return self._shown

    def _free(self, identity: _Identity) -> int:
        """A number that nobody uses, the same one in every process unless others are in the way."""
        number = zlib.crc32("\0".join(map(str, identity)).encode("utf-8", "surrogateescape")) & MAX_ID
        while number == 0 or number in self._names:
            number = (number + 1) & MAX_ID
        return number

    def _forget_long_gone(self, now: float) -> None:
        """Of what is no longer in force, but may still be met, keeps the latest, up to a bound."""
        if len(self._gone) <= _KEEP_MOST and all(since > now - _KEEP_S for since, _ in self._gone.values()):
            return
        latest = sorted(self._gone.items(), key=lambda each: (each[1][0], each[0]), reverse=True)
        for place, (number, (since, identity)) in enumerate(latest):
            if place >= _KEEP_MOST or since <= now - _KEEP_S:
                del self._gone[number], self._numbers[identity], self._names[number]


def common_beginning(one: Sequence[Rule], other: Sequence[Rule], known: int = 0) -> int:
    """How many rules both begin with, at least `known`; fast where they are the very same objects."""
    least, most = known, min(len(one), len(other))
    while least < most:
        half = (least + most + 1) // 2
        if one[least:half] == other[least:half]:
            least = half
        else:
            most = half - 1
    return least

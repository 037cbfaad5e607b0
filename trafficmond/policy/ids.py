"""Stable numbers for rules, 24 bits of a verdict word; for rules in shadow of pairs with the rule that decided.

A rule's number is a hash of its identity (its file, its name, how many of that name came before it). So it survives
reloads, edits elsewhere in its file and restarts of the daemon, with nothing stored on disk. Removed rules keep their
names for a while, because flows in progress still have their numbers.

A rule in shadow is above a chain of records, of which the first that has not ended decides. A pair is the rule and the
chain. It has a block of numbers, two for each place in the chain: the rule's own action, and that it would have passed
the packet after all (below its rate; a reply, or a packet that no default drops). Blocks are numbered by a hash of the
pair, so that they survive restarts as the rules' numbers do.
"""

import threading
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import takewhile
from types import MappingProxyType

import numpy as np

from trafficmond import abi, npt
from trafficmond.dataclass import dataclass, field
from trafficmond.policy.rules import Rule
from trafficmond.verdict import Pair

MAX_ID = abi.RULE_MASK  # 0 is the default

_KEEP_S = 3600.0  # longer than every flow timeout
_KEEP_MOST = 65536
_BLOCK = abi.PAIR_BLOCK
# bound: pairs of a rule in shadow and the rule that decides instead | in further pairs, the former counts no packets
MOST_PAIRS = 65536

_Identity = tuple[str, str, int]  # path, name, how many of that name came before


@dataclass(frozen=True, slots=True, eq=False)
class Numbered:
    rules: tuple[Rule, ...] = ()
    numbers: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)  # number of rules with that path and name


class RuleIds:
    """Numbers of the rules in force, of those that may come in force, and of removed ones that flows may still have.

    Numbers and names are thread-safe. One thread sets the rules in force; it must not `forget` while numbers are
    assigned for rules that come in force later.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held while numbers are assigned or removed
        self._numbers: dict[_Identity, int] = {}
        self._identities: dict[int, _Identity] = {}
        self._names: dict[int, str] = {}
        self._unused: dict[int, float] = {}  # number -> time since when no rule in force has it, the oldest first
        self._used = np.zeros(0, np.uint32)  # numbers of the rules in force
        self._shown: Mapping[int, str] | None = MappingProxyType({})  # a copy of the names; None: outdated

    def number(self, rules: Sequence[Rule], now: float, before: Numbered | None = None, known: int = 0) -> Numbered:
        """The number of each of `rules`, a set that may come in force, at `now` (epoch s). The common beginning with
        `before`, at least `known` rules, is not processed again."""
        order, before = tuple(rules), before or Numbered()
        same = common_beginning(before.rules, order, known)
        counts = dict(before.counts)
        for rule in before.rules[same:]:
            key = (rule.path, rule.name)
            counts[key] -= 1
            if not counts[key]:
                del counts[key]
        assigned = []
        for rule in order[same:]:
            key = (rule.path, rule.name)
            nth = counts.get(key, 0)
            counts[key] = nth + 1
            identity = (*key, nth)
            assigned.append(self._numbers.get(identity) or self._new(identity, now))
        numbers = np.concatenate([before.numbers[:same], np.array(assigned, np.uint32)])
        return Numbered(order, numbers, counts)

    def use(self, sets: Sequence[Numbered], now: float, *, forget: bool = True) -> None:
        """Sets the rules in force: those of these sets."""
        used = np.concatenate([each.numbers for each in sets])
        most = min(len(used), len(self._used))
        other = np.flatnonzero(used[:most] != self._used[:most])
        same = int(other[0]) if len(other) else most
        come, gone = set(used[same:].tolist()), set(self._used[same:].tolist())
        with self._lock:
            for number in come - gone:
                self._unused.pop(number, None)
            for number in (gone - come).difference(used[:same].tolist()) if gone - come else ():
                self._unused[number] = now
            self._used = used
            if forget:
                self._forget(now)

    def names(self) -> Mapping[int, str]:
        """Number -> name of all rules in force now, recently or soon; an immutable copy."""
        with self._lock:
            if self._shown is None:
                self._shown = MappingProxyType(self._names.copy())
            return self._shown

    def _new(self, identity: _Identity, now: float) -> int:
        """An unused number, the same one in every process unless there are collisions."""
        number = zlib.crc32("\0".join(map(str, identity)).encode("utf-8", "surrogateescape")) & MAX_ID
        with self._lock:
            if identity in self._numbers:  # meanwhile
                return self._numbers[identity]
            while number == 0 or number in self._identities:
                number = (number + 1) & MAX_ID
            self._numbers[identity], self._identities[number] = number, identity
            self._names[number], self._unused[number], self._shown = identity[1], now, None
        return number

    def _forget(self, now: float) -> None:
        """Removes numbers that are not in force: those out of date, and the oldest ones beyond a bound."""
        over = len(self._unused) - _KEEP_MOST
        oldest = takewhile(lambda each: each[0] < over or each[1][1] <= now - _KEEP_S, enumerate(self._unused.items()))
        for _, (number, _) in list(oldest):
            del self._unused[number], self._numbers[self._identities.pop(number)], self._names[number]
            self._shown = None


def common_beginning(one: Sequence[Rule], other: Sequence[Rule], known: int = 0) -> int:
    """The length of the common beginning, at least `known`; fast if the objects are identical."""
    least, most = known, min(len(one), len(other))
    while least < most:
        half = (least + most + 1) // 2
        if one[least:half] == other[least:half]:
            least = half
        else:
            most = half - 1
    return least


class Pairs:
    """Numbers of pairs in use, and of those that flows may still have."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[Pair, int] = {}
        self._pairs: dict[int, Pair] = {}
        self._used: dict[int, float] = {}
        self.known: Mapping[int, Pair] = MappingProxyType({})  # first number -> pair; an immutable copy

    def number(self, pair: Pair, now: float) -> int | None:
        """The first number of its block, the same one in every process unless there are collisions; None: too many."""
        with self._lock:
            number = self._numbers.get(pair)
            if number is None:
                if len(self._pairs) >= MOST_PAIRS:
                    return None
                number = zlib.crc32(repr((pair.would, pair.judges)).encode()) & abi.RULE_MASK & ~(_BLOCK - 1)
                while number in self._pairs:
                    number = (number + _BLOCK) & abi.RULE_MASK
                self._numbers[pair], self._pairs[number] = number, pair
                self.known = MappingProxyType(self._pairs.copy())
            self._used[number] = now
            return number

    def forget(self, now: float, in_force: Callable[[], Collection[int]] = frozenset) -> None:
        """Removes pairs that no table has had for long; calls `in_force` only if there are candidates."""
        with self._lock:
            old = [number for number, used in self._used.items() if used < now - _KEEP_S]
            if not old:
                return
            still = in_force()
            for number in old:
                if number in still:
                    self._used[number] = now
                else:
                    del self._used[number], self._numbers[self._pairs.pop(number)]
            self.known = MappingProxyType(self._pairs.copy())

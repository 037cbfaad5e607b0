"""Numbers for what rules would have done: which rule would have decided, and which did, in 24 bits of a verdict word.

Such a rule lies over a chain of records, of which the first that has not ended decides: a pair is the rule and the
chain, and has a block of numbers, two for each place in it: what the rule stands for, and that it let the packet pass
after all (below its rate; a reply, or what no default drops). Blocks are found by a hash of who they stand for, so that
they survive restarts as the rules' numbers do (`ids`).
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from trafficmond import abi
from trafficmond.verdict import Pair

_BLOCK = abi.PAIR_BLOCK
_KEEP_S = 3600.0  # beyond every flow timeout
# bound: pairs of a shadow rule and the rule that decides | the other prefixes of the rule are not observed
MOST = 65536


class Pairs:
    """Numbers in use, and those that may still be met."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[Pair, int] = {}
        self._pairs: dict[int, Pair] = {}
        self._used: dict[int, float] = {}
        self._known: Mapping[int, Pair] = MappingProxyType({})

    def number(self, pair: Pair, now: float) -> int | None:
        """The first number of its block, the same one in every process unless others are in the way; None: too many."""
        with self._lock:
            number = self._numbers.get(pair)
            if number is None:
                if len(self._pairs) >= MOST:
                    return None
                number = zlib.crc32(repr((pair.would, pair.judges)).encode()) & abi.RULE_MASK & ~(_BLOCK - 1)
                while number in self._pairs:
                    number = (number + _BLOCK) & abi.RULE_MASK
                self._numbers[pair], self._pairs[number] = number, pair
                self._known = MappingProxyType(self._pairs.copy())
            self._used[number] = now
            return number

    def forget(self, now: float, in_force: Callable[[], Collection[int]] = frozenset) -> None:
        """Those that no table has had for long; asks which are `in_force` if there are any."""
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
            self._known = MappingProxyType(self._pairs.copy())

    def known(self) -> Mapping[int, Pair]:
        """First number -> pair; it does not change any more."""
        return self._known

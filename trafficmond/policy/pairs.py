"""Numbers for rules in shadow: which rule would have decided, and which did, in 24 bits of a verdict word.

A rule in shadow is above a chain of records, of which the first that has not ended decides. A pair is the rule and the
chain. It has a block of numbers, two for each place in the chain: the rule's own action, and that it would have passed
the packet after all (below its rate; a reply, or a packet that no default drops). Blocks are numbered by a hash of the
pair, so that they survive restarts as the rules' numbers do (`ids`).
"""

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
    """Numbers in use, and those that flows may still have."""

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
                if len(self._pairs) >= MOST:
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

"""The flow of a delta: its 64-bit id, and whether its direction is swapped.

Senders choose the fields behind an id, so ids are a keyed universal hash: without the key nobody can make two flows
collide with a probability above 2**-64 a pair: the multilinear hash family, mod 2**64, upper half, twice, strongly
universal for 32-bit words (Carter and Wegman 1981; Lemire and Kaser 2014).
"""

import os

import numpy as np

from trafficmond.flows.batch import Batch, Column
from trafficmond.flows.canonical import as_echoes, later_fragments
from trafficmond.flows.compiled import Loops

_KEY_WORDS = 12  # 32-bit words of a canonical key
_INNER_WORDS = 2  # and of `inner`; left out if it is 0 in all rows


class Identity:
    """Ids by its own keys. `seed` makes them repeatable; None uses the system's randomness."""

    def __init__(self, seed: int | None) -> None:
        size = 16 * (1 + _KEY_WORDS + _INNER_WORDS)
        if seed is None:
            drawn = os.urandom(size)
        else:
            from random import Random

            drawn = Random(seed).randbytes(size)
        self.keys = np.frombuffer(drawn, np.uint64).reshape(-1, 2)

    def of(self, deltas: Batch, before: float, known: Column, loops: Loops) -> tuple[Column, Column, float]:
        """(id, swapped) of each delta, and when the first began; `before`: last reading, `known`: the flows' ids."""
        ids, swapped, fragments, earliest = loops.identify(deltas, before)
        if fragments:  # ICMP fragments belong to their ping, if it is known or in this batch
            later = later_fragments(deltas)
            at, others = np.flatnonzero(later), np.append(known, ids[~later])
            for echoes in reversed(as_echoes(deltas[at])):
                echo_ids, echo_swapped, *_ = loops.identify(echoes, before)
                part = np.isin(echo_ids, others)
                ids[at[part]], swapped[at[part]] = echo_ids[part], echo_swapped[part]
        return ids, swapped, earliest

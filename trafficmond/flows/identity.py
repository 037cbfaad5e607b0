"""Which flow a delta is of: its 64-bit id, and whether it goes the other way.

Strangers choose what ids are made of, so they come from a keyed universal hash: nobody without the key can make two
flows collide with a probability above 2**-64 a pair.
"""

from __future__ import annotations

import random

import numpy as np

from trafficmond.flows.absorb import begins
from trafficmond.flows.batch import Batch, Column
from trafficmond.flows.canonical import as_echoes, canonical, later_fragments
from trafficmond.flows.compiled import Loops

BLOCK_FLOWS = 8192  # rows and deltas of a block stay in the second-level cache
_KEY_WORDS = 12  # 32-bit words of a canonical key
_INNER_WORDS = 2  # and of what is inside; where that is nothing anywhere, they add nothing and are left out
_LOW32 = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


class Identity:
    """Ids by keys of its own. `seed` makes them repeatable; None takes the system's randomness."""

    def __init__(self, seed: int | None) -> None:
        source = random.SystemRandom() if seed is None else random.Random(seed)
        self.keys = np.array(
            [[source.getrandbits(64) for _ in range(2)] for _ in range(1 + _KEY_WORDS + _INNER_WORDS)], dtype=np.uint64
        )

    def of(self, deltas: Batch, before: float, known: Column, loops: Loops | None) -> tuple[Column, Column, float]:
        """(id, swapped) of each delta, and when the earliest began. `before`: when the ones before were read;
        `known`: the ids of flows that there are."""
        if loops:
            ids, swapped, fragments, earliest = loops.identify(deltas, before)
        else:
            ids, swapped = self._hash(deltas)
            fragments, earliest = len(deltas), float(np.min(begins(deltas, before)))
        later = later_fragments(deltas) if fragments else np.zeros(0, bool)
        if later.any():
            at = np.flatnonzero(later)
            ids[at], swapped[at] = self._of_echoes(deltas[at], ids[at], swapped[at], np.append(known, ids[~later]))
        return ids, swapped, earliest

    def _of_echoes(self, fragments: Batch, ids: Column, swapped: Column, others: Column) -> tuple[Column, Column]:
        """(id, swapped) of later ICMP fragments: of the ping they are part of, where one is known or in this batch."""
        for echoes in reversed(as_echoes(fragments)):
            echo_ids, echo_swapped = self._hash(echoes)
            part = np.isin(echo_ids, others)
            ids, swapped = np.where(part, echo_ids, ids), np.where(part, echo_swapped, swapped)
        return ids, swapped

    def _hash(self, deltas: Batch) -> tuple[Column, Column]:
        """(id, swapped), block by block for the processor's cache."""
        ids, swapped = np.empty(len(deltas), np.uint64), np.empty(len(deltas), bool)
        for begin in range(0, len(deltas), BLOCK_FLOWS):
            block = slice(begin, begin + BLOCK_FLOWS)
            ids[block], swapped[block] = self._hash_block(deltas[block])
        return ids, swapped

    def _hash_block(self, deltas: Batch) -> tuple[Column, Column]:
        """(id, swapped): id by the multilinear hash family, mod 2**64, upper half, twice.

        Strongly universal for 32-bit words (Carter and Wegman 1981; Lemire and Kaser 2014, "Strongly universal
        string hashing is fast"), so each half collides with probability 2**-32 whatever the keys' author chose.
        """
        key = canonical(deltas)
        inner = deltas["inner"]
        words = np.empty((_KEY_WORDS + _INNER_WORDS * bool(inner.any()), len(deltas)), np.uint64)
        for at, address in ((0, key.a_hi), (2, key.a_lo), (4, key.b_hi), (6, key.b_lo)):
            words[at] = address >> _32
            words[at + 1] = address & _LOW32
        words[8] = key.a_port.astype(np.uint64) << np.uint64(16) | key.b_port
        words[9] = deltas["ifindex"]
        words[10] = deltas["vlan"]
        words[11] = deltas["proto"].astype(np.uint64) << np.uint64(8) | deltas["family"]
        if len(words) > _KEY_WORDS:
            words[12], words[13] = inner >> _32, inner & _LOW32
        halves = []
        for half in range(2):
            first, *keys = self.keys[:, half]
            total = np.full(len(deltas), first)
            for word, factor in zip(words, keys, strict=False):
                total += word * factor
            halves.append(total)
        return (halves[0] & ~_LOW32) | halves[1] >> _32, key.swapped

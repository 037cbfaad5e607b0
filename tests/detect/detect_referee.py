"""What the detectors' loops in C do, again with numpy: the referee that they are held against."""

from __future__ import annotations

from typing import Any

import numpy as np

from trafficmond.detect.windows import _WAYS, NOWHERE, BoundedTable
from trafficmond.flows.batch import Column

_HEAVIEST = (1 << 20) - 1  # weight beyond which newcomers are equal
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31 = (np.uint64(shift) for shift in (27, 30, 31))


def mix(*words: Any) -> Column:
    """`windows.mix`."""
    total: Any = np.zeros(1, np.uint64)
    for word in words:
        total = total ^ np.asarray(word).astype(np.uint64)
        total += _GOLDEN
        for shift, factor in ((_S30, _MIX_1), (_S27, _MIX_2)):
            total ^= total >> shift
            total *= factor
        total ^= total >> _S31
    mixed: Column = total
    return mixed


class Table(BoundedTable):
    """A table that takes entities in with numpy."""

    def admit(self, keys: Column, weight: Column, now: Column | float, window_s: float) -> Column:
        now = np.broadcast_to(now, len(keys))
        slots = self.find(keys)
        here = slots != NOWHERE
        known, heard = slots[here], now[here]
        old = np.abs(heard - self.rows["since"][known]) > window_s
        if old.any():
            self._begin(known[old], heard[old])
        evidence = self._evidence.reshape(-1)
        evidence[known] = grown = evidence[known] + weight[here]
        self._worth.reshape(-1)[known] = heard + self._evidence_bonus_s * np.log2(1 + grown)
        missing = np.flatnonzero(~here & (weight > 0))
        if len(missing):
            self._settle(keys, weight, now, missing, slots)
        return slots

    def _begin(self, slots: Column, now: Column) -> None:
        self.rows[slots] = np.zeros((), self.rows.dtype)
        self.rows["since"][slots] = now

    def _settle(self, keys: Column, weight: Column, now: Column, missing: Column, slots: Column) -> None:
        """Give places to `missing`, one newcomer a bucket in each round, the heaviest first; fills `slots`."""
        worth = now + self._evidence_bonus_s * np.log2(1 + weight)
        bucket = ((keys >> np.uint64(40)) & np.uint64(len(self._keys) - 1)).astype(np.intp)
        waiting = len(missing)
        # Worth never falls: who cannot have the least worthy place of its bucket now never will.
        missing = missing[worth[missing] > self._worth.min(axis=1)[bucket[missing]]]
        lightest_first = np.minimum(weight[missing], _HEAVIEST).astype(np.int64)
        missing = missing[np.argsort(bucket[missing] * (_HEAVIEST + 1) + (_HEAVIEST - lightest_first))]
        within = bucket[missing]
        starts = np.flatnonzero(np.concatenate([[True], within[1:] != within[:-1]]))
        sizes = np.diff(np.append(starts, len(missing)))
        for turn in range(_WAYS):
            leader = missing[starts[sizes > turn] + turn]
            taking = bucket[leader]
            way = self._worth[taking].argmin(axis=1)
            wins = worth[leader] > self._worth[taking, way]
            leader, taking, way = leader[wins], taking[wins], way[wins]
            if not len(leader):
                break
            self.evicted += int(np.count_nonzero(self._keys[taking, way]))
            self._keys[taking, way] = keys[leader]
            self._worth[taking, way] = worth[leader]
            self._evidence[taking, way] = weight[leader]
            taken = taking * _WAYS + way
            self._begin(taken, now[leader])
            slots[leader] = taken
            waiting -= len(leader)
        self.refused += waiting


def groups(keys: Column) -> tuple[Column, Column, Column]:
    """(order that sorts the keys, group of each row, where groups begin in that order)."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = np.ones(len(keys), bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    of = np.empty(len(keys), np.intp)
    of[order] = np.cumsum(begins) - 1
    return order, of, np.flatnonzero(begins)

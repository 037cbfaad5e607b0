"""Bounded memory for detectors: what a stranger's packets can fill has a capacity, an eviction rule and counters.

`Table` keeps a row of numpy fields for each entity (a source, a pair, a victim) in set-associative buckets;
`mark_new` and `estimate` count distinct things in a byte map of fixed size (linear counting). Everything works
on whole batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trafficmond.flows.batch import Column

NOWHERE = -1
"""The slot of a key that is not in a `Table`."""

_HEAD = [("key", "u8"), ("seen", "f8"), ("since", "f8"), ("evidence", "f4")]
_WAYS = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S40 = (np.uint64(shift) for shift in (27, 30, 31, 40))


def mix(*words: Any) -> Column:
    """A 64-bit hash of each row of the columns (SplitMix64's finaliser, chained; Steele et al., OOPSLA 2014)."""
    total: Column = np.zeros(1, np.uint64)
    for word in words:
        total = (total ^ np.asarray(word).astype(np.uint64)) + _GOLDEN
        total = (total ^ (total >> _S30)) * _MIX_1
        total = (total ^ (total >> _S27)) * _MIX_2
        total = total ^ (total >> _S31)
    return total


class Grouped:
    """The rows of a batch by key: `keys` unique and sorted, `of` the group of each row, `first` a row of each."""

    def __init__(self, keys: Column) -> None:
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        begins = np.ones(len(keys), bool)
        begins[1:] = ordered[1:] != ordered[:-1]
        self.keys = ordered[begins]
        self.first = order[begins]
        self.of = np.empty(len(keys), np.intp)
        self.of[order] = np.cumsum(begins) - 1
        self._order = order
        self._starts = np.flatnonzero(begins)

    def __len__(self) -> int:
        return len(self.keys)

    def sum(self, values: Column) -> Column:
        """The sum of `values` (numbers or bools, a row each) over each group, float64."""
        return np.bincount(self.of, weights=values, minlength=len(self.keys))

    def max(self, values: Column) -> Column:
        """The largest of `values` in each group."""
        largest: Column = np.maximum.reduceat(values[self._order], self._starts) if len(values) else values
        return largest

    def min(self, values: Column) -> Column:
        """The smallest of `values` in each group."""
        least: Column = np.minimum.reduceat(values[self._order], self._starts) if len(values) else values
        return least


class Table:
    """At most `capacity` entities, a structured row each, found by 64-bit key.

    A bucket has eight places. A newcomer to a full bucket takes the place of the least worthy: worth is when the
    entity was last heard of plus `credit_s` for each doubling of its evidence, so a flood of strangers heard once
    pushes out other strangers, not a scanner under observation. Those that find no place are refused; both are
    counted. `rows` holds the fields given, after `key`, `seen` and `since` (epoch s: last heard of, window begun) and
    `evidence`.
    """

    def __init__(self, fields: list[Any], capacity: int, credit_s: float) -> None:
        buckets = 1 << max(0, (max(capacity, _WAYS) // _WAYS - 1).bit_length())
        self.rows = np.zeros(buckets * _WAYS, [*_HEAD, *fields])
        self.capacity = len(self.rows)
        self.evicted = 0
        self.refused = 0
        self._bucket_mask = np.uint64(buckets - 1)
        self._credit_s = credit_s

    def __len__(self) -> int:
        return int(np.count_nonzero(self.rows["key"]))

    def find(self, keys: Column) -> Column:
        """The slot of each key, or NOWHERE."""
        places = self._places(keys)
        here = self.rows["key"][places] == keys[:, None]
        return np.where(here.any(axis=1), places[np.arange(len(keys)), here.argmax(axis=1)], NOWHERE)

    def watch(self, keys: Column, weight: Column, now: float, window_s: float) -> Column:
        """The slot of each of the unique `keys`: taken in if new and of some `weight`, and if there is room.

        Evidence grows by `weight`. Rows older than `window_s` begin anew. NOWHERE: not watched.
        """
        slots = self.find(keys)
        known = slots[slots != NOWHERE]
        self._restart(known[np.abs(now - self.rows["since"][known]) > window_s], now)
        missing = np.flatnonzero((slots == NOWHERE) & (weight > 0))
        if len(missing):
            missing = missing[np.argsort(-weight[missing], kind="stable")]  # the heaviest choose first
            self._settle(keys, weight, now, missing, slots)
        here = slots != NOWHERE
        self.rows["seen"][slots[here]] = now
        self.rows["evidence"][slots[here]] += weight[here]
        return slots

    def add(self, field: str, slots: Column, amounts: Column) -> None:
        """Add each of `amounts` to the field of its slot; slots may repeat, none may be NOWHERE."""
        if len(slots):
            sums = np.bincount(slots, amounts, len(self.rows))
            at = np.flatnonzero(sums)
            self.rows[field][at] += sums[at]

    def _restart(self, slots: Column, now: float) -> None:
        keys = self.rows["key"][slots]
        self._fill(slots, keys, now)

    def _fill(self, slots: Column, keys: Column, now: float) -> None:
        self.rows[slots] = np.zeros((), self.rows.dtype)
        self.rows["key"][slots] = keys
        self.rows["since"][slots] = now

    def _places(self, keys: Column) -> Column:
        bucket = ((keys >> _S40) & self._bucket_mask).astype(np.intp)
        return bucket[:, None] * _WAYS + np.arange(_WAYS)

    def _settle(self, keys: Column, weight: Column, now: float, missing: Column, slots: Column) -> None:
        """Give places to `missing`, one newcomer a bucket in each round; fills `slots`."""
        worth = now + self._credit_s * np.log2(1 + weight)
        for _ in range(_WAYS):
            places = self._places(keys[missing])
            _, leaders = np.unique(places[:, 0], return_index=True)
            leader, places = missing[leaders], places[leaders]
            credit = self._credit_s * np.log2(1 + self.rows["evidence"][places])
            standing = np.where(self.rows["key"][places] == 0, -np.inf, self.rows["seen"][places] + credit)
            least = standing.argmin(axis=1)
            at = np.arange(len(leader))
            place, lowest = places[at, least], standing[at, least]
            wins = lowest < worth[leader]
            taken = place[wins]
            self.evicted += int(np.count_nonzero(lowest[wins] > -np.inf))
            self._fill(taken, keys[leader[wins]], now)
            slots[leader[wins]] = taken
            # A bucket whose least worthy outranks its heaviest newcomer outranks the rest of them too.
            self.refused += int(np.count_nonzero(~wins))
            rest = np.ones(len(missing), bool)
            rest[leaders] = False
            missing = missing[rest]
            if not len(missing):
                return
        self.refused += len(missing)


def mark_new(maps: Column, slots: Column, things: Column) -> Column:
    """Mark each `things` hash in the byte map of its slot; True for each that was not there before.

    `maps` is a Table's ("map", "u1", m) field. Of equal rows in one call only the first is new.
    """
    width = maps.shape[1]
    columns = (things % np.uint64(width)).astype(np.intp)
    _, firsts = np.unique(slots * width + columns, return_index=True)
    fresh = np.zeros(len(slots), bool)
    fresh[firsts] = maps[slots[firsts], columns[firsts]] == 0
    maps[slots, columns] = 1
    return fresh


def estimate(maps: Column) -> Column:
    """How many distinct things were marked in each map: linear counting (Whang et al., ACM TODS 1990)."""
    width = maps.shape[-1]
    unmarked = np.maximum(width - np.count_nonzero(maps, axis=-1), 0.5)
    counted: Column = np.rint(-width * np.log(unmarked / width)).astype(np.int64)
    return counted


def decay(rows: Any, slots: Column, now: float, tau_s: float, fields: tuple[str, ...]) -> None:
    """Let the fields of these unique slots fade by e for each `tau_s` since their `at`, which becomes `now`."""
    if len(slots):
        factor = np.exp(-np.maximum(now - rows["at"][slots], 0.0) / tau_s)
        for field in fields:
            rows[field][slots] *= factor
        rows["at"][slots] = now

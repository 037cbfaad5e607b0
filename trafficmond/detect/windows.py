"""Bounded memory for detectors: every table that packets can fill has a capacity, an eviction rule and counters.

`BoundedTable` keeps a row of numpy fields for each entity (a source, a pair, a victim) in set-associative buckets;
`mark` and `estimate` count distinct things in a byte map of fixed size (linear counting). Everything works
on whole batches.
"""

import mmap
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from trafficmond.flows import compiled
from trafficmond.flows.batch import Batch, Column, take

NOWHERE = -1
"""The slot of a key that is not in a `BoundedTable`."""

_HASHES = ("src", "dst")
_WAYS = 8
_FEW_OF = 8  # selections of up to an eighth are gathered directly
_FEW_ROWS = 1024  # up to here the cache holds the batch
_S40 = np.uint64(40)


def mix(*words: Any) -> Column:
    """A 64-bit hash of each row of the columns (SplitMix64's finaliser, chained; Steele et al., OOPSLA 2014)."""
    columns = [np.asarray(word).astype(np.uint64, copy=False) for word in words]
    rows = next((len(column) for column in columns if column.ndim), 1)
    return compiled.mixed([column if column.ndim else np.full(rows, column) for column in columns])


def members(*numbers: int, size: int = 65536) -> Column:
    """A mask of 0..size-1 that marks `numbers`. Only pages with a mark take memory."""
    table = np.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), bool)
    table[list(numbers)] = True
    return table


class Columns:
    """A structured batch as columns: each is made contiguous once, at its first use.

    A row of a batch is wide; passes over its columns in place would cost a cache line per value. `src` and `dst` are
    hashes of the addresses, if the batch itself has no such columns.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._of: tuple[Columns, Column | None] | None = None  # source of the selection, and its indexes; None: all
        self._columns: dict[str, Column] = {}

    def __len__(self) -> int:
        if self._of is None:
            return len(self.batch)
        parent, at = self._of
        return len(parent) if at is None else len(at)

    def __getitem__(self, name: str) -> Column:
        column = self._columns.get(name)
        if column is None:
            if self._of is None and name in _HASHES and name not in (self.batch.dtype.names or ()):
                column = mix(self[f"{name}_hi"], self[f"{name}_lo"])
            elif self._of is None:
                column = self._taken_apart(name)
            else:
                parent, at = self._of
                column = parent[name] if at is None else parent.some(name, at)
            self._columns[name] = column
        return column

    def _taken_apart(self, name: str) -> Column:
        """A column of the batch; for a large batch all are made in one pass over its rows."""
        made = compiled.columns(self.batch) if len(self.batch) > _FEW_ROWS else None
        if made is None:
            return np.ascontiguousarray(self.batch[name])
        self._columns = {**made, **self._columns}
        return made[name]

    def some(self, name: str, at: Column) -> Column:
        """The column at these rows (indexes); for few of them, without a pass over all rows."""
        if name in self._columns or len(at) * _FEW_OF > len(self):
            return self[name][at]
        if self._of is not None:
            parent, mine = self._of
            return parent.some(name, at if mine is None else mine[at])
        if name in _HASHES and name not in (self.batch.dtype.names or ()):
            return mix(self.some(f"{name}_hi", at), self.some(f"{name}_lo", at))
        return self.batch[name][at]

    def put(self, name: str, column: Column) -> None:
        """Add a column, a value for each of these rows."""
        self._columns[name] = column

    def take(self, at: Column) -> Self:
        """These rows (indexes or a mask), as Columns again."""
        taken = type(self)(self.batch)
        at = np.flatnonzero(at) if at.dtype == bool else at
        whole = len(at) == len(self) and bool((at == np.arange(len(at))).all())
        taken._of = self, None if whole else at
        return taken

    def part(self, begin: int, most: int) -> Self:
        """At most so many rows of the batch from `begin` on, whose columns take memory of their own."""
        return self if len(self) <= most else type(self)(self.batch[begin : begin + most])

    def gather(self, into: Batch, names: tuple[str, ...]) -> None:
        """Fill these fields of `into` from those of the batch."""
        batch, at = self, np.arange(len(self))
        while batch._of is not None:
            batch, mine = batch._of
            at = at if mine is None else mine[at]
        compiled.gather(batch.batch, at, into, tuple((name, name) for name in names))

    def rows(self, at: Column) -> Batch:
        """Copies of these rows as in the batch, for those that are reported: in a flood, all of it."""
        if self._of is not None:
            parent, mine = self._of
            return parent.rows(at if mine is None else mine[at])
        return take(self.batch, at) if np.ndim(at) else self.batch[at]


class Grouped:
    """The rows of a batch by key: `keys` unique and sorted, `of` the group of each row, `first` some row of each."""

    def __init__(self, keys: Column) -> None:
        self._order, self.of, self._starts = compiled.groups(keys)
        self.first = self._order[self._starts]
        self.keys = keys[self.first]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def counts(self) -> Column:
        """The number of rows of each group, float64."""
        return np.bincount(self.of, minlength=len(self.keys)).astype(float)

    def sum(self, values: Column) -> Column:
        """The sum of `values` (numbers or bools, a row each) over each group, float64."""
        return np.bincount(self.of, weights=values, minlength=len(self.keys))

    def running(self, values: Column) -> Column:
        """The sum of `values` over the rows of the same group up to each row, int64."""
        ordered = values[self._order]
        sums = np.cumsum(ordered, dtype=np.int64)
        of = np.empty_like(sums)
        of[self._order] = sums - (sums - ordered)[self._starts][self.of[self._order]]
        return of

    def max(self, values: Column) -> Column:
        return np.maximum.reduceat(values[self._order], self._starts) if len(values) else values

    def min(self, values: Column) -> Column:
        return np.minimum.reduceat(values[self._order], self._starts) if len(values) else values


def in_turns(keys: Column, ticks: Column) -> Iterator[Column]:
    """The rows in turns: each holds the rows of one tick at most of each key, and earlier ones come first."""
    if not len(keys):
        return
    if ticks.min() == ticks.max():
        yield np.arange(len(keys))
        return
    order = np.lexsort((ticks, keys))
    key, tick = keys[order], ticks[order]
    another = np.ones(len(keys), bool)
    another[1:] = key[1:] != key[:-1]
    later = another.copy()
    later[1:] |= tick[1:] != tick[:-1]
    number = np.cumsum(later)
    turn = np.empty(len(keys), np.intp)
    turn[order] = number - np.maximum.accumulate(np.where(another, number, 0))
    rows = np.argsort(turn, kind="stable")
    yield from np.split(rows, np.cumsum(np.bincount(turn))[:-1])


class BoundedTable:
    """At most `capacity` entities, a structured row each, found by 64-bit key.

    A bucket has eight places. A new entity in a full bucket replaces the least valuable: the value is the time of its
    last evidence plus `evidence_bonus_s` for each doubling of its evidence, so a flood of strangers seen once evicts
    other strangers, not a scanner under observation. Heavy new entities come first; those without a place are refused;
    both are counted. `rows` has `since` (epoch s: start of the window) and the given fields.
    """

    def __init__(self, fields: list[Any], capacity: int, evidence_bonus_s: float) -> None:
        buckets = 1 << max(0, (max(capacity, _WAYS) // _WAYS - 1).bit_length())
        self.capacity = buckets * _WAYS
        self.rows = np.zeros(self.capacity, [("since", "f8"), *fields])
        self.evicted = 0
        self.refused = 0
        self._keys = np.zeros((buckets, _WAYS), np.uint64)  # 0: a free place
        self._worth = np.zeros((buckets, _WAYS))  # of the taken places; nothing is written to the others
        self._evidence = np.zeros((buckets, _WAYS))
        self._evidence_bonus_s = evidence_bonus_s

    def __len__(self) -> int:
        return int(np.count_nonzero(self._keys))

    def find(self, keys: Column) -> Column:
        """The slot of each key, or NOWHERE."""
        bucket = ((keys >> _S40) & np.uint64(len(self._keys) - 1)).astype(np.intp)
        here = self._keys[bucket] == keys[:, None]
        way = here.argmax(axis=1)
        return np.where(here[np.arange(len(keys)), way], bucket * _WAYS + way, NOWHERE)

    def admit(self, keys: Column, weight: Column, now: Column | float, window_s: float) -> Column:
        """The slot of each of the unique `keys`: added if new, of some `weight`, and if there is room.

        Evidence grows by `weight`. Rows older than `window_s` are reset. NOWHERE: not watched. `now` is the time of
        each, or of all.
        """
        tables = (self._keys, self._worth, self._evidence, self.rows)
        at = (each.ctypes.data for each in tables)
        places = compiled.Places(*at, self.rows.itemsize, len(self._keys), self._evidence_bonus_s, window_s, 0, 0)
        slots = compiled.admit(places, keys, weight, np.broadcast_to(now, len(keys)))
        self.evicted += places.evicted
        self.refused += places.refused
        return slots

    def learned(self) -> Batch:
        """A copy of its content: `key`, `evidence` and `heard` (epoch s) of each entity, and its row."""
        at = np.flatnonzero(self._keys.reshape(-1))
        kept = np.zeros(len(at), self._kept)
        evidence = self._evidence.reshape(-1)[at]
        kept["key"], kept["evidence"], kept["row"] = self._keys.reshape(-1)[at], evidence, self.rows[at]
        kept["heard"] = self._worth.reshape(-1)[at] - self._evidence_bonus_s * np.log2(1 + evidence)
        return kept

    def recall(self, kept: Batch, now: float) -> None:
        """Restore the content from `learned`, as far as there is room. Raises ValueError if it does not fit."""
        if kept.dtype != self._kept:
            raise ValueError("its rows have other fields")
        # No time may be in the future: after the clock was set back, new entities must find room.
        slots = self.admit(kept["key"], kept["evidence"], np.minimum(kept["heard"], now), np.inf)
        self.rows[slots[slots != NOWHERE]] = kept["row"][slots != NOWHERE]

    @property
    def _kept(self) -> np.dtype[Any]:
        return np.dtype([("key", "u8"), ("evidence", "f8"), ("heard", "f8"), ("row", self.rows.dtype)])

    def add(self, field: str, slots: Column, amounts: Column) -> None:
        """Add each of `amounts` to the field of its slot; slots may repeat, NOWHERE is passed over."""
        compiled.add(self.rows[field], slots, amounts)


def mark(maps: Column, slots: Column, things: Column, marks: Column | None = None) -> Column:
    """Put each of `marks` (1 to 255; None: 1) at its thing in the byte map of its slot; return the previous, 0: new.

    `maps` is a BoundedTable's ("map", "u1", m) field, `things` are hashes; NOWHERE is passed over. Of equal rows in one
    call each finds the mark of the one before.
    """
    return compiled.mark(maps, slots, things, marks)


def estimate(maps: Column) -> Column:
    """The number of distinct things marked in each map: linear counting (Whang et al., ACM TODS 1990)."""
    return estimate_of(np.count_nonzero(maps, axis=-1), maps.shape[-1])


def estimate_of(marked: Column | int, width: int) -> Column:
    """The same from the number of places marked."""
    unmarked = np.maximum(width - marked, 0.5)
    counted: Column = np.rint(-width * np.log(unmarked / width)).astype(np.int64)
    return counted


def decay(rows: Any, slots: Column, now: Column | float, tau_s: float, fields: tuple[str, ...], **own: float) -> None:
    """Decay the fields of these unique slots by e for each `tau_s`, those with their `own` time by e for each of these,
    since their `at`, which becomes `now`."""
    if len(slots):
        elapsed = np.maximum(now - rows["at"][slots], 0.0)
        for field, time_s in (dict.fromkeys(fields, tau_s) | own).items():
            rows[field][slots] *= np.exp(-elapsed / time_s)
        rows["at"][slots] = now

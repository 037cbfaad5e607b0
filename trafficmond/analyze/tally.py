"""Counts in bounded memory: by key (addresses, flows), by time, and the number of distinct keys."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from trafficmond import npt
from trafficmond.dataclass import dataclass
from trafficmond.detect.windows import Columns
from trafficmond.flows import compiled
from trafficmond.flows.batch import Batch, Column, empty, join, put, take

CAPACITY = 1 << 17
"""Keys that are counted exactly. If there are more, the smaller half is dropped, and the totals are marked as
inexact."""

_U64 = np.uint64
_LEAST_PLACES = 1 << 12


class Distinct:
    """Counts distinct 64-bit hashes, to about 0.8 % (HyperLogLog, Flajolet et al. 2007)."""

    _BITS = 14

    def __init__(self) -> None:
        self._registers = np.zeros(1 << self._BITS, np.uint8)

    def add(self, hashes: npt.NDArray[np.uint64]) -> None:
        rest = 64 - self._BITS
        at = (hashes >> _U64(rest)).astype(np.int64)
        low = (hashes & _U64((1 << rest) - 1)).astype(np.float64)
        rank = (rest + 1 - np.frexp(low)[1]).astype(np.uint8)
        more = rank > self._registers[at]
        at, rank = at[more], rank[more]
        order = np.argsort(rank, kind="stable")  # if several hashes have one register, the last one counts: the largest
        self._registers[at[order]] = rank[order]

    def estimate(self) -> int:
        count = len(self._registers)
        raw = 0.7213 / (1 + 1.079 / count) * count**2 / np.sum(np.exp2(-self._registers.astype(np.float64)))
        empty = int(np.count_nonzero(self._registers == 0))
        if raw <= 2.5 * count and empty:
            raw = count * np.log(count / empty)  # linear counting
        return round(float(raw))


@dataclass(frozen=True)
class Entry:
    """The sums of one key; `row` is a row of the batch in which it was first seen."""

    row: Any
    packets: int
    bytes: int


class Index:
    """Keys and their places 0, 1, 2...; unbounded, so the caller starts a new one when there are too many."""

    def __init__(self) -> None:
        self._keys = np.empty(0, np.uint64)
        self._count = 0
        self._places = np.zeros(0, np.uint32)  # by hash, of a place its number plus 1; at most half of it is taken

    def __len__(self) -> int:
        return self._count

    @property
    def keys(self) -> Column:
        return np.asarray(self._keys[: self._count])

    def place(self, keys: Column) -> tuple[Column, Column]:
        """(place of each key, indexes of the new ones in the order of their places)."""
        self._make_room(len(keys))
        places, fresh = compiled.places(self._keys, self._count, self._places, keys)
        self._count += len(fresh)
        return places, fresh

    def keep(self, places: Column) -> None:
        """Forget all others; the keys at these places get the places 0, 1, 2..."""
        keys = self._keys[places]
        self._keys[: len(keys)], self._count = keys, len(keys)
        self._places[:] = 0
        compiled.places(self._keys, 0, self._places, keys)

    def _make_room(self, more: int) -> None:
        most = self._count + more
        if most > len(self._keys):
            self._keys = np.concatenate([self.keys, np.empty(max(more, self._count // 8), np.uint64)])
        if 2 * most > len(self._places):
            size = max(_LEAST_PLACES, 1 << (2 * most - 1).bit_length())
            self._places = np.zeros(size, np.uint32)
            compiled.places(self._keys, 0, self._places, self.keys)


class Tally:
    """Packets and bytes by key. At most `capacity` keys are kept: the largest ones.

    `kept` has the columns of a key's first row that are kept for display. `exact` is False if a key was dropped; then a
    sum may lack what was counted before.
    """

    def __init__(self, kept: np.dtype[Any], capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._index = Index()
        self._sums = np.zeros((0, 2), np.int64)  # packets, bytes; with room for more keys
        self._rows: Batch = empty(kept)
        self._distinct: Distinct | None = None

    @property
    def exact(self) -> bool:
        return self._distinct is None

    def add(self, keys: Column, packets: Column, octets: Column, rows: Columns) -> None:
        if not len(keys):
            return
        if self._distinct is not None:
            self._distinct.add(keys)
        known = len(self._index)
        places, first = self._index.place(keys)
        count = len(self._index)
        if count > len(self._sums):
            more = max(count - known, min(known, self._capacity - known))
            self._sums = np.concatenate([self._sums[:known], np.zeros((more, 2), np.int64)])
            self._rows = join([self._rows[:known], empty(self._rows.dtype, more)])
        rows.take(first).gather(self._rows[known:count], self._rows.dtype.names or ())
        compiled.sum_up(places, np.stack([packets, octets], axis=1), self._sums)
        if count > self._capacity:
            self._evict()

    def distinct(self) -> int:
        """The number of keys; an estimate if some were dropped."""
        return len(self._index) if self._distinct is None else self._distinct.estimate()

    def top(self, count: int, *, by: str = "packets") -> Iterator[Entry]:
        """The `count` largest keys by "packets" or "bytes"."""
        packets, octets = self._sums[: len(self._index)].T
        first, second = (packets, octets) if by == "packets" else (octets, packets)
        for at in np.lexsort((self._index.keys, -second, -first))[:count].tolist():
            yield Entry(self._rows[at], int(packets[at]), int(octets[at]))

    def _evict(self) -> None:
        keys = self._index.keys
        if self._distinct is None:
            self._distinct = Distinct()
            self._distinct.add(keys)
        quarter = self._capacity // 4  # the largest by packets and the largest by bytes
        keep = np.zeros(len(keys), bool)
        for weight in self._sums[: len(keys)].T:
            keep |= _heaviest(weight, keys, quarter)
        kept = np.flatnonzero(keep)
        self._sums[: len(kept)] = self._sums[kept]
        self._sums[len(kept) :] = 0
        put(self._rows, slice(len(kept)), take(self._rows, kept))
        self._index.keep(kept)


def _heaviest(weight: Column, keys: Column, count: int) -> Column:
    """The `count` largest; of equal ones those with the lowest keys, so the order of input does not matter."""
    least = np.partition(weight, -count)[-count]
    heaviest: Column = weight > least
    alike = np.flatnonzero(weight == least)
    lacking = count - int(np.count_nonzero(heaviest))
    if lacking < len(alike):
        alike = alike[np.argpartition(keys[alike], lacking - 1)[:lacking]]
    heaviest[alike] = True
    return heaviest


# Each width is a multiple of the one before, so that bins merge without a remainder. Seconds.
_WIDTHS = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 604800, 2419200, 29030400, 290304000)
_BINS = 240


class Timeline:
    """Packets, dropped packets and bytes over time, in at most about _BINS bins whose width depends on the span."""

    def __init__(self) -> None:
        self._width = 0  # index into _WIDTHS
        self._bins = np.empty(0, np.int64)  # sorted bin numbers
        self._sums = np.empty((3, 0), np.int64)

    @property
    def width(self) -> int:
        """The width of a bin, in seconds."""
        return _WIDTHS[self._width]

    def add(self, at: Column, packets: Column, dropped: Column, octets: Column) -> None:
        bins = np.concatenate([self._bins, np.floor(at / self.width).astype(np.int64)])
        self._sum_up(bins, np.concatenate([self._sums, np.array([packets, dropped, octets], np.int64)], axis=1))
        while len(self._bins) and self._bins[-1] - self._bins[0] >= _BINS and self._width + 1 < len(_WIDTHS):
            factor = _WIDTHS[self._width + 1] // self.width
            self._width += 1
            self._sum_up(self._bins // factor, self._sums)

    def bins(self) -> Iterator[tuple[int, int, int, int]]:
        """(start in epoch seconds, packets, dropped, bytes) of each bin from first to last, also of empty ones."""
        known = dict(zip(self._bins.tolist(), self._sums.T.tolist(), strict=True))
        if known:
            for number in range(min(known), max(known) + 1):
                packets, dropped, octets = known.get(number, (0, 0, 0))
                yield number * self.width, packets, dropped, octets

    def _sum_up(self, bins: Column, sums: Column) -> None:
        if len(bins):
            order, _, starts = compiled.groups(bins.view(np.uint64))
            self._bins, self._sums = bins[order[starts]], np.add.reduceat(sums[:, order], starts, axis=1)

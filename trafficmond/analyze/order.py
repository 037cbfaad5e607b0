"""Puts rows from files into the order and the intervals of the live engine: a bounded window sorts rows that are nearly
in order, and intervals with few packets are combined."""

import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from trafficmond.analyze.run_stats import BatchInterval
from trafficmond.analyze.sorting import in_time
from trafficmond.flows.batch import Batch, Column, join, take

HOLD = 65536
"""Rows in the sorting windows of all inputs of a run."""

SPARSE = 256
SPARSE_S = 10.0
"""Successive intervals are combined while they have at most SPARSE packets and span at most SPARSE_S."""

BUNDLE, BUNDLE_ROWS = 64, 4096


class Interval(NamedTuple):
    """The DELTA rows of the `width` seconds up to `now` (epoch seconds)."""

    now: float
    rows: Batch
    width: float


def intervals(
    batches: Iterable[Batch], batching: BatchInterval, hold: int, late: Callable[[int], None]
) -> Iterator[Interval]:
    """Yields each interval that has DELTA rows, in order.

    At most about `hold` rows are kept. A row that comes after a later interval was yielded is added to the current one;
    `late` is called with the number of such rows. An interval with too many rows is yielded in parts, with the same
    `now`.
    """
    waiting: list[Batch] = []
    count = 0
    given = -math.inf
    for batch in batches:
        if not len(batch):
            continue
        waiting.append(batch)
        count += len(batch)
        if count < hold:
            continue
        rows = join(waiting)
        waiting = []  # they are in `rows` now
        order, times = in_time(rows["last"])
        # All intervals in the older half of the rows; at least the first one, however large it is.
        interval = batching.interval
        edge = (math.floor(max(times[count // 2] - interval, times[0]) / interval) + 1) * interval
        ready = int(np.searchsorted(times, edge))
        for part in _cut(rows, order[:ready], times[:ready], interval, given, late):
            given = part.now
            yield part
        waiting, count = [take(rows, order[ready:])], count - ready
        del rows
    if count:
        del batch
        rows = join(waiting)
        waiting = []
        yield from _cut(rows, *in_time(rows["last"]), batching.interval, given, late)


def merged(streams: list[Iterator[Interval]]) -> Iterator[Interval]:
    """Merges several streams of intervals into one, as if one observer had seen everything."""
    if len(streams) == 1:
        yield from streams[0]
        return
    by_time = attrgetter("now")
    for _, parts in groupby(heapq.merge(*streams, key=by_time), by_time):
        yield _together(list(parts))


def portions(stream: Iterable[Interval]) -> Iterator[Interval]:
    """The intervals, with small ones combined.

    Up to SPARSE packets within SPARSE_S are too few to look like a burst to any detector.
    """
    held: list[Interval] = []
    packets = 0
    for part in stream:
        more = int(part.rows["packets"].sum())
        if held and (packets + more > SPARSE or part.now - (held[0].now - held[0].width) > SPARSE_S):
            yield _together(held)
            held, packets = [], 0
        held.append(part)
        packets += more
    if held:
        yield _together(held)


def bundles(stream: Iterable[Interval]) -> Iterator[list[Interval]]:
    """Groups intervals so that they can be passed between threads: BUNDLE of them, or about BUNDLE_ROWS rows."""
    held: list[Interval] = []
    rows = 0
    for part in stream:
        held.append(part)
        rows += len(part.rows)
        if len(held) == BUNDLE or rows >= BUNDLE_ROWS:
            yield held
            held, rows = [], 0
    if held:
        yield held


def _together(parts: list[Interval]) -> Interval:
    if len(parts) == 1:
        return parts[0]
    now = parts[-1].now
    began = min(part.now - part.width for part in parts)
    return Interval(now, join([part.rows for part in parts]), now - began)


def _cut(
    rows: Batch, order: Column, times: Column, interval: float, given: float, late: Callable[[int], None]
) -> Iterator[Interval]:
    """Splits the rows, which have this order and these times, by interval. Rows of earlier intervals than the last one
    yielded, which ended at `given`, get its time. Each part is a copy, so that the window can be freed."""
    ends = (np.floor(times / interval) + 1) * interval
    if overdue := int(np.searchsorted(ends, given)):
        late(overdue)
        ends = np.maximum(ends, given)
    starts = np.flatnonzero(np.concatenate([[True], ends[1:] != ends[:-1]]))
    for begin, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        yield Interval(float(ends[begin]), take(rows, order[begin:stop]), interval)

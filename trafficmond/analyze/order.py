"""Rows from files in the order and the portions in which the live engine would have seen them: a bounded window sorts
what comes nearly in order, and thin intervals are taken together."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from trafficmond.analyze.run_stats import BatchInterval
from trafficmond.analyze.sorting import in_time
from trafficmond.flows.batch import Batch, Column, join, take

HOLD = 65536
"""Rows that wait for their turn, over all inputs of a run."""

SPARSE = 256
SPARSE_S = 10.0
"""Intervals with together no more than SPARSE packets, over no more than SPARSE_S, make one batch."""

BUNDLE, BUNDLE_ROWS = 64, 4096


class Interval(NamedTuple):
    """What was seen in the `width` seconds up to `now` (epoch seconds): DELTA rows."""

    now: float
    rows: Batch
    width: float


def intervals(
    batches: Iterable[Batch], batching: BatchInterval, hold: int, late: Callable[[int], None]
) -> Iterator[Interval]:
    """Each interval that has any DELTA rows, in order.

    At most about `hold` rows wait. A row that comes after a later interval was given goes with that one; `late`
    is told how many. An interval with more rows than fit comes in parts, with the same `now`.
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
        # All of the intervals that lie in the older half; at least the first, however large it is.
        interval = batching.interval
        edge = _end(max(times[count // 2] - interval, times[0]), interval)
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
    """One stream of intervals from several, as if all had been seen by one observer."""
    if len(streams) == 1:
        yield from streams[0]
        return
    held: list[Interval] = []
    for part in heapq.merge(*streams, key=lambda item: item.now):
        if held and part.now != held[0].now:
            yield _together(held)
            held = []
        held.append(part)
    if held:
        yield _together(held)


def portions(stream: Iterable[Interval]) -> Iterator[Interval]:
    """The intervals, thinly filled ones taken together.

    Up to SPARSE packets within SPARSE_S are too few for any detector to mistake for a burst.
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
    """The intervals by the handful, to be handed from thread to thread: BUNDLE of them, or some BUNDLE_ROWS rows."""
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


def _end(at: float, interval: float) -> float:
    return (math.floor(at / interval) + 1) * interval


def _together(parts: list[Interval]) -> Interval:
    if len(parts) == 1:
        return parts[0]
    now = parts[-1].now
    began = min(part.now - part.width for part in parts)
    return Interval(now, join([part.rows for part in parts]), now - began)


def _cut(
    rows: Batch, order: Column, times: Column, interval: float, given: float, late: Callable[[int], None]
) -> Iterator[Interval]:
    """Rows by interval, in this order and of these times; what is behind `given`, the end of the interval handed out
    last, goes with it. Each has rows of its own: whoever keeps one for longer must not keep the whole window with it.
    """
    ends = (np.floor(times / interval) + 1) * interval
    if overdue := int(np.searchsorted(ends, given)):
        late(overdue)
        ends = np.maximum(ends, given)
    starts = np.flatnonzero(np.concatenate([[True], ends[1:] != ends[:-1]]))
    for begin, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        yield Interval(float(ends[begin]), take(rows, order[begin:stop]), interval)

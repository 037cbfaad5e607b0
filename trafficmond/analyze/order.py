"""Rows from files into the order and the portions in which the live engine would have seen them.

Log lines and packets are nearly in order: a bounded window sorts them (`intervals`). Flow records are not, since
monitors write a flow when it ends: they are sorted whole, in memory while they fit, else through runs on disk
(`by_start`), and long flows are spread over their duration (`spread`).
"""

from __future__ import annotations

import contextlib
import heapq
import math
import queue
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NamedTuple, TypeVar, cast

import numpy as np

from trafficmond import abi
from trafficmond.analyze.intake import Pace
from trafficmond.analyze.rows import BATCH, RECORD
from trafficmond.flows.batch import DELTA, ENDPOINTS, Batch, Column, empty
from trafficmond.flows.canonical import icmp_mate
from trafficmond.model import Direction
from trafficmond.protocols import ACK, ICMP, ICMPV6, PSH, SYN, TCP

T = TypeVar("T")

HOLD = 65536
"""Rows that wait for their turn, over all inputs of a run."""

SPARSE = 256
SPARSE_S = 10.0
"""Intervals with together no more than SPARSE packets, over no more than SPARSE_S, make one batch."""

RUN = 131072
"""Flow records sorted at a time; more than one run goes to disk."""

STEP_S = 10.0
"""A long flow comes in a portion each so many seconds; less often than once a STEP_S is not spread (an idle
timeout would break it into many flows, at regular intervals that are none of the traffic's own)."""

_PORTIONS_MAX = 8640  # a day; the rest of a longer flow comes with its last portion
_SEGMENT = 1448  # payload of a full TCP segment on Ethernet, to guess how many packets carried payload
_AHEAD = 2
_LOOK_S = 0.2  # how often a reader whose rows nobody takes looks whether it should end
_OPENING = SYN | ACK | PSH
_ANSWER_S = 0.001  # formats do not say when the first answer came: after the flow table's tie, before anything else


class Interval(NamedTuple):
    """What was seen in the `width` seconds up to `now` (epoch seconds): DELTA rows."""

    now: float
    rows: Batch
    width: float


def intervals(batches: Iterable[Batch], pace: Pace, hold: int, late: Callable[[int], None]) -> Iterator[Interval]:
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
        rows = _sorted(waiting, "last")
        # All of the intervals that lie in the older half; at least the first, however large it is.
        interval = pace.interval
        edge = _end(max(rows["last"][count // 2] - interval, rows["last"][0]), interval)
        ready = int(np.searchsorted(rows["last"], edge))
        for part in _cut(rows[:ready], interval, given, late):
            given = part.now
            yield part
        waiting, count = [rows[ready:].copy()], count - ready
    if count:
        yield from _cut(_sorted(waiting, "last"), pace.interval, given, late)


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


def by_start(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same RECORD rows by their start, in portions; more than RUN of them are sorted through a temporary file."""
    runs: list[tuple[int, int]] = []  # (first row, rows) of each sorted run on disk
    gathered: list[Batch] = []
    count = 0
    with tempfile.TemporaryFile() as spool:
        for batch in batches:
            gathered.append(batch)
            count += len(batch)
            if count >= RUN:
                rows = _sorted(gathered, "start")
                runs.append((runs[-1][0] + runs[-1][1] if runs else 0, len(rows)))
                spool.write(rows.tobytes())
                gathered, count = [], 0
        rest = _sorted(gathered, "start") if gathered else empty(RECORD)
        if not runs:
            yield from (rest[at : at + BATCH] for at in range(0, len(rest), BATCH))
            return
        sources = [_run(cast(IO[bytes], spool), first, size, len(runs)) for first, size in runs]
        yield from _merge_runs([*sources, iter([rest] if len(rest) else [])])


def spread(batches: Iterable[Batch]) -> Iterator[Batch]:
    """DELTA rows of RECORD rows that come by their start: a row a direction, and of long flows one a STEP_S."""
    long = _Long()
    for batch in batches:
        portions = _portions(batch)
        yield _deltas(batch[portions == 1])
        long.add(batch[portions > 1])
        yield from long.until(float(batch["start"][-1]))
    yield from long.until(math.inf)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, made by a thread of their own a few ahead: reading in C goes on while Python works on what came."""
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(_AHEAD)
    over = threading.Event()

    def give(good: bool, item: Any) -> bool:
        while not over.is_set():
            with contextlib.suppress(queue.Full):
                ready.put((good, item), timeout=_LOOK_S)
                return True
        return False

    def make() -> None:
        try:
            for item in items:
                if not give(True, item):
                    return
            give(False, None)
        except BaseException as error:  # noqa: BLE001 -- raised again where it is waited for
            give(False, error)

    maker = threading.Thread(target=make, name="reader", daemon=True)
    maker.start()
    try:
        while True:
            good, item = ready.get()
            if good:
                yield item
            elif item is not None:
                raise item
            else:
                return
    finally:
        over.set()
        maker.join()


# ---- intervals ----


def _end(at: float, interval: float) -> float:
    return (math.floor(at / interval) + 1) * interval


def _together(parts: list[Interval]) -> Interval:
    if len(parts) == 1:
        return parts[0]
    now = parts[-1].now
    began = min(part.now - part.width for part in parts)
    return Interval(now, np.concatenate([part.rows for part in parts]), now - began)


def _cut(rows: Batch, interval: float, given: float, late: Callable[[int], None]) -> Iterator[Interval]:
    """Sorted rows by interval; what is behind `given`, the end of the interval handed out last, goes with it."""
    ends = (np.floor(rows["last"] / interval) + 1) * interval
    if overdue := int(np.searchsorted(ends, given)):
        late(overdue)
        ends = np.maximum(ends, given)
    starts = np.flatnonzero(np.concatenate([[True], ends[1:] != ends[:-1]]))
    for begin, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        yield Interval(float(ends[begin]), rows[begin:stop], interval)


def _sorted(batches: list[Batch], column: str) -> Batch:
    rows = batches[0] if len(batches) == 1 else np.concatenate(batches)
    times = rows[column]
    if bool(np.all(times[1:] >= times[:-1])):
        return rows
    return rows[np.argsort(times, kind="stable")]


# ---- runs on disk ----


def _run(spool: IO[bytes], first: int, size: int, runs: int) -> Iterator[Batch]:
    portion = max(RUN // runs, 1024)
    for at in range(first, first + size, portion):
        spool.seek(at * RECORD.itemsize)
        rows = min(portion, first + size - at)
        yield np.frombuffer(spool.read(rows * RECORD.itemsize), RECORD)


def _merge_runs(sources: list[Iterator[Batch]]) -> Iterator[Batch]:
    """Each time: all rows up to the earliest end of what is loaded, so that nothing unread can be before them."""
    loaded = [(next(source, empty(RECORD)), source) for source in sources]
    loaded = [(rows, source) for rows, source in loaded if len(rows)]
    while loaded:
        edge = min(float(rows["start"][-1]) for rows, _ in loaded)
        ready = []
        remaining = []
        for rows, source in loaded:
            cut = int(np.searchsorted(rows["start"], edge, side="right"))
            ready.append(rows[:cut])
            left = rows[cut:] if cut < len(rows) else next(source, empty(RECORD))
            if len(left):
                remaining.append((left, source))
        loaded = remaining
        yield _sorted(ready, "start")


# ---- long flows ----


class _Long:
    """Flows that come in portions, and how many of each were given."""

    def __init__(self) -> None:
        self._rows = empty(RECORD)
        self._given = np.empty(0, np.int64)

    def add(self, rows: Batch) -> None:
        self._rows = np.concatenate([self._rows, rows])
        self._given = np.concatenate([self._given, np.zeros(len(rows), np.int64)])

    def until(self, horizon: float) -> Iterator[Batch]:
        """The portions that begin up to `horizon`, at most about HOLD rows at a time."""
        while len(self._rows):
            start, portions = self._rows["start"], _portions(self._rows)
            due = np.clip(np.floor((horizon - start) / STEP_S) + 1, self._given, portions)
            if (due - self._given).sum() > HOLD:
                next_at = (start + self._given * STEP_S)[due > self._given].min()
                reach = next_at + STEP_S * max(1, HOLD // len(start))
                due = np.clip(np.floor((reach - start) / STEP_S) + 1, self._given, due)
            missing = due.astype(np.int64) - self._given
            if not missing.any():
                return
            which = np.repeat(np.arange(len(start)), missing)
            number = np.arange(len(which)) - np.repeat(np.cumsum(missing) - missing, missing) + self._given[which]
            yield _deltas(self._rows[which], number, portions[which])
            self._given = self._given + missing
            left = self._given < portions
            self._rows, self._given = self._rows[left], self._given[left]


def _portions(rows: Batch) -> Column:
    """In how many portions each flow comes: one each STEP_S, none of them empty; 1 if it is short or sparse."""
    wanted = np.ceil((rows["end"] - rows["start"]) / STEP_S)
    packets = np.maximum(rows["packets"], rows["reply_packets"]).astype(np.float64)
    portions: Column = np.where((wanted > 1) & (packets >= wanted), np.minimum(wanted, _PORTIONS_MAX), 1).astype(
        np.int64
    )
    return portions


def _deltas(rows: Batch, number: Column | int = 0, portions: Column | int = 1) -> Batch:
    """The rows of both directions for portion `number` of each flow. Flags that close come with the last one.

    Packets are shared out evenly and bytes by the packets, so that all portions together hold both exactly.
    """
    opening, closing = np.equal(number, 0), np.equal(np.add(number, 1), portions)
    at = rows["start"] + np.multiply(number, STEP_S)
    seen = np.where(closing, np.minimum(rows["end"], at + STEP_S), at)
    out = []
    for prefix in ("", "reply_"):
        total = rows[prefix + "packets"].astype(np.int64)
        before, after = total * number // portions, total * np.add(number, 1) // portions
        if not prefix:  # who began sends a packet in the first portion, however few there are
            before, after = (
                np.where(np.equal(part, 0), 0, np.maximum(sent, np.minimum(total, 1)))
                for part, sent in ((number, before), (np.add(number, 1), after))
            )
        packets = (after - before).astype(np.uint64)
        octets, payload = (
            (_part(rows[prefix + name], after, total) - _part(rows[prefix + name], before, total)).astype(np.uint64)
            for name in ("bytes", "payload_bytes")
        )
        delta = empty(DELTA, len(rows))
        for name, *_ in ENDPOINTS:
            delta[name] = rows[name]
        delta["first"] = rows["start"]
        delta["last"] = seen
        if prefix:
            _turn(delta)
            delta["bits"] = rows["reply_bits"]
        delta["packets"], delta["bytes"], delta["payload_bytes"] = packets, octets, payload
        delta["payload_packets"] = np.minimum(packets, (payload + _SEGMENT - 1) // _SEGMENT)
        delta["first_len"] = delta["last_len"] = np.minimum(octets // np.maximum(packets, 1), 0xFFFF)
        flags = rows[prefix + "tcp_flags"]
        delta["tcp_flags"] = np.where(closing | (total == 1), flags, flags & _OPENING)
        delta["first_flags"] = rows[prefix + "first_flags"]
        datagrams = (rows["proto"] != TCP) & (rows[prefix + "payload_bytes"] > 0)
        delta["bits"] |= np.where(datagrams, abi.BIT_FIRST_PAYLOAD, 0).astype(np.uint8)
        delta["new"] = opening
        out.append(delta[packets > 0])
    return np.concatenate(out)


def _part(column: Column, packets: Column, total: Column) -> Column:
    """What the first `packets` of `total` hold of a sum, rounded down; in two steps, so that no product overflows."""
    whole, rest = np.divmod(column.astype(np.int64), np.maximum(total, 1))
    part: Column = whole * packets + rest * packets // np.maximum(total, 1)
    return part


def _turn(delta: Batch) -> None:
    """Makes rows the responder's, whose first packet came a little after the initiator's."""
    for one, other in (("src_hi", "dst_hi"), ("src_lo", "dst_lo")):
        delta[one], delta[other] = delta[other].copy(), delta[one].copy()
    icmp = (delta["proto"] == ICMP) | (delta["proto"] == ICMPV6)
    mate = icmp_mate(delta["proto"], delta["sport"])
    sport = np.where(icmp, np.where(mate >= 0, mate, delta["sport"]), delta["dport"])
    delta["dport"] = np.where(icmp, np.where(mate >= 0, 0, delta["dport"]), delta["sport"])
    delta["sport"] = sport
    delta["direction"] = np.where(delta["direction"] == Direction.INGRESS, Direction.EGRESS, Direction.INGRESS)
    delta["first"] += _ANSWER_S
    delta["last"] = np.maximum(delta["last"], delta["first"])

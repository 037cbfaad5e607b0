"""One analysis: reads files, passes them through the flow table and the engine of the daemon, and makes a report."""

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from trafficmond import heap, networks
from trafficmond.analyze.formats import Format, format_of
from trafficmond.analyze.order import HOLD, Interval, bundles, intervals, merged, portions
from trafficmond.analyze.report import Report, ReportBuilder
from trafficmond.analyze.run_stats import BatchInterval, RunStats
from trafficmond.analyze.sorting import by_time
from trafficmond.analyze.source import EmptyInput, Source
from trafficmond.config.settings import Settings
from trafficmond.detect.engine import Engine, Tick
from trafficmond.detect.ours import Ours, capture_sides
from trafficmond.detect.windows import Columns
from trafficmond.flows.batch import DELTA, Batch, empty, join
from trafficmond.flows.table import FlowTable
from trafficmond.model import Threat

Input = tuple[Source, Format]
T = TypeVar("T")
_SEED = 1  # makes flow ids the same in every run
_REST_S = 5.0
_NEARLY_S = 300.0  # a row of flows.db spans up to its active timeout
_LEAST_HOLD = 4096
_LATE_MOST = 1024  # rows that come too late to be sorted in memory; if a file has more, all are sorted first
_BEGINNING = 4096  # packets by which the side of the capture is recognised
_BATCHES = 2000
_BATCHES_BULK = 60
_BULK = 64 << 20  # bytes of log from which on speed is more important than a resolution of one second
_AT_ONCE_TICKS = 256  # ticks that go to the detectors together, or _AT_ONCE_ROWS rows
_AT_ONCE_ROWS = 10_240  # more would take the most memory of all; fewer cost a quarter more in a sparse capture
_INFLATION = 8  # assumed ratio of a compressed log's content to its file
_AHEAD = 3  # items that a thread prepares while the caller works
_END: Any = object()


def analyze(
    paths: Sequence[str],
    settings: Settings,
    now: float,
    *,
    top: int = 10,
    tick: Callable[[int, int], None] = lambda *_: None,
    sort: bool = False,
) -> Report:
    """The report on all files together. `tick` is called from time to time with the bytes of the files that are read,
    and with all; 0 if unknown. With `sort`, all rows are sorted before anything else, and not only if they need it.

    Raises InputError if a file is missing or its format is unknown, or if all are empty; damage inside a file, and that
    one of several is empty, are part of the report.
    """
    stats = RunStats(sort=sort)
    sources: list[Source] = []

    def progress() -> None:
        tick(sum(source.position for source in sources), sum(source.size for source in sources))

    with contextlib.ExitStack() as stack:
        inputs: list[Input] = []
        for path in paths:
            source = Source(path, stats.parse_errors)
            stack.callback(source.close)
            same = next((one for one in sources if one.size and source.size and Path(path).samefile(one.path)), None)
            if same:
                same.note("the file was named more than once, and was read once", 0)
                continue
            sources.append(source)
            try:
                inputs.append((source, format_of(source)))
            except EmptyInput:
                if len(stats.empty) == len(paths) - 1:
                    raise
                stats.empty.append(source)
        with contextlib.suppress(_OutOfOrderError):
            return _observe(inputs, settings, stats, now, top, progress)
    return analyze(paths, settings, now, top=top, tick=tick, sort=True)


class _OutOfOrderError(Exception):
    """Files that can be read again have many rows that are far from their place in time."""


def _observe(
    inputs: Sequence[Input], settings: Settings, stats: RunStats, now: float, top: int, tick: Callable[[], None]
) -> Report:
    bulk = sum(source.size * (_INFLATION if source.compressed else 1) for source, _ in inputs) >= _BULK
    most = _BATCHES_BULK if bulk and all(known.log for _, known in inputs) else _BATCHES
    stats.batching = BatchInterval(settings.flows.interval, most)
    if bulk:
        heap.keep_batches()
    limits = settings.flows
    times = limits.idle_timeout, limits.active_timeout
    table = FlowTable(limits.table_capacity, *times, seed=_SEED, in_order=True, reporting=False)
    ours = Ours(networks.known(text) for text in settings.networks)
    engine = Engine(settings.detect, ours)
    builder = ReportBuilder(top)
    threats: dict[str, Threat] = {}

    def late(rows: int) -> None:
        stats.late_rows += rows
        if not stats.sort and stats.late_rows > _LATE_MOST:
            if all(source.size for source, _ in inputs):
                raise _OutOfOrderError
            inputs[0][0].note("records far out of order were counted at a later time; only a file can be sorted", 0)

    hold = max(HOLD // len(inputs), _LEAST_HOLD)
    rows_of = [known.deltas(source, stats) for source, known in inputs]
    if stats.sort:
        inputs[0][0].note("some records were far out of order in time, so all were sorted first", 0)
        rows_of = [by_time(rows, "last", DELTA) for rows in rows_of]
    streams = [intervals(rows, stats.batching, hold, late) for rows in rows_of]
    at = 0.0
    beginning, stream = _beginning(portions(itertools.chain.from_iterable(ahead(bundles(merged(streams))))))
    for side in capture_sides(beginning):
        ours.add(side)
        inputs[0][0].note(f"{side} is our own side: nine in ten packets are from or to it", 0)
    held: list[Tick] = []
    rows = 0

    def judge() -> None:
        if not held:
            return
        flows = Columns(join([each.flows for each in held]))
        for begin in range(0, len(flows), _AT_ONCE_ROWS):
            builder.add_flows(flows.part(begin, _AT_ONCE_ROWS))
        updates = engine.feed_ticks(held, flows)
        threats.update((update.threat.id, update.threat) for update in updates)
        held.clear()

    for at, deltas, width in _with_rests(stream, max(_REST_S, limits.idle_timeout)):
        flows = table.update(deltas, at)
        table.due(at)
        builder.add(deltas)
        if rows + len(flows) > _AT_ONCE_ROWS or len(held) == _AT_ONCE_TICKS:
            judge()
            rows = 0
        held.append(Tick(flows, at, width))
        rows += len(flows)
        tick()
    judge()
    threats.update((update.threat.id, update.threat) for update in engine.finish(at))
    threats.update((threat.id, threat) for threat in engine.threats())
    # Those that a daemon found, and those found here that differ from all of them.
    differ = (each for each in threats.values() if not any(_same(each, known) for known in stats.threats))
    return builder.report(stats, [*stats.threats, *differ], _described(inputs, stats.empty), now)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yields `items`, which a thread prepares a few ahead. So C code reads while Python works on earlier items."""
    from concurrent.futures import ThreadPoolExecutor  # only when a file is read

    pool = ThreadPoolExecutor(1, "reader")
    ready = deque(pool.submit(next, items, _END) for _ in range(_AHEAD))
    try:
        while (item := ready.popleft().result()) is not _END:
            ready.append(pool.submit(next, items, _END))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


def _beginning(stream: Iterator[Interval]) -> tuple[Batch, Iterator[Interval]]:
    """The first rows of a stream (some thousand packets), and the whole stream including them."""
    held = []
    packets = 0
    for part in stream:
        held.append(part)
        packets += int(part.rows["packets"].sum())
        if packets >= _BEGINNING:
            break
    return join([part.rows for part in held]) if held else empty(DELTA), itertools.chain(held, stream)


def _same(one: Threat, other: Threat) -> bool:
    """Whether two threats are the same: one detector, the same hosts, nearly the same time."""
    hosts = ((one.src_ip, other.src_ip), (one.dst_ip, other.dst_ip))
    apart = max(one.first_seen, other.first_seen) - min(one.last_seen, other.last_seen)
    return one.detector == other.detector and apart <= _NEARLY_S and all(a == b or not (a and b) for a, b in hosts)


def _with_rests(stream: Iterator[Interval], rest_s: float) -> Iterator[Interval]:
    """Adds an empty interval to each longer pause and at the end. A live engine would reach its conclusions during the
    pause, not only when traffic continues. After `rest_s` another one lets the engine drop idle entries."""
    before = math.inf
    for part in stream:
        for after in sorted({_REST_S, rest_s}):
            if before + after < part.now - part.width:
                yield Interval(before + after, empty(DELTA), _REST_S)
        before = part.now
        yield part
    for after in sorted({_REST_S, rest_s}) if before < math.inf else ():
        yield Interval(before + after, empty(DELTA), _REST_S)


def _described(inputs: Sequence[Input], empty: list[Source]) -> list[dict[str, Any]]:
    titles = [*((source, known.reader.TITLE) for source, known in inputs), *((source, "empty") for source in empty)]
    return [
        {
            "name": source.name,
            "format": title,
            "compression": source.compressed or None,
            "bytes": source.size,
            "notes": dict(source.notes),
        }
        for source, title in titles
    ]

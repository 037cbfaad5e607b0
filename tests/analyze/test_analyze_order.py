"""Order and portions: nothing lost, nothing before its time, memory bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trafficmond.analyze import duplicates, order, sorting
from trafficmond.analyze.rows import RECORD
from trafficmond.analyze.run import ahead
from trafficmond.analyze.run_stats import BatchInterval, RunStats
from trafficmond.analyze.sorting import by_time
from trafficmond.analyze.spread import spread
from trafficmond.flows.batch import DELTA, Batch


def _deltas(times: list[float], packets: int = 1) -> Batch:
    rows = np.zeros(len(times), DELTA)
    rows["last"] = rows["first"] = times
    rows["packets"] = packets
    return rows


@given(
    st.lists(st.lists(st.floats(0, 60), min_size=1, max_size=20), max_size=8),
    st.integers(1, 50),
    st.sampled_from([1.0, 5.0]),
)
def test_intervals_are_in_order_and_whole(parts: list[list[float]], hold: int, width: float) -> None:
    late = 0

    def count(rows: int) -> None:
        nonlocal late
        late += rows

    given_out = list(order.intervals((_deltas(part) for part in parts), BatchInterval(width), hold, count))
    times = [part.now for part in given_out]
    assert times == sorted(times)
    assert sum(len(part.rows) for part in given_out) == sum(map(len, parts))
    for now, rows, _ in given_out:
        assert (rows["last"] < now).all()
        assert np.count_nonzero(rows["last"] < now - width) <= late
    if sum(map(len, parts)) <= hold:
        assert late == 0
        assert len(set(times)) == len(times)


def test_rows_that_come_after_their_interval_are_counted() -> None:
    late: list[int] = []
    batches = [_deltas([1.0, 2.0, 30.0, 31.0]), _deltas([1.5])]
    given_out = list(order.intervals(iter(batches), BatchInterval(1.0), 4, late.append))
    assert sum(late) == 1
    assert sum(len(part.rows) for part in given_out) == 5


def _interval(now: float, packets: int = 1, width: float = 1.0) -> order.Interval:
    return order.Interval(now, _deltas([now - 0.5], packets), width)


def test_merged_streams_are_one_observation() -> None:
    one, other = iter([_interval(1.0), _interval(3.0)]), iter([_interval(1.0, width=5.0), _interval(2.0)])
    found = [(part.now, len(part.rows), part.width) for part in order.merged([one, other])]
    assert found == [(1.0, 2, 5.0), (2.0, 1, 1.0), (3.0, 1, 1.0)]


def test_thin_intervals_are_taken_together_and_full_ones_are_not() -> None:
    taken = list(order.portions(_interval(float(second)) for second in range(1, 21)))
    assert [(part.now, len(part.rows), part.width) for part in taken] == [(10.0, 10, 10.0), (20.0, 10, 10.0)]
    full = [_interval(float(second), 200) for second in range(1, 5)]
    assert [(part.now, part.width) for part in order.portions(full)] == [(n, 1.0) for n in (1, 2, 3, 4)]
    wide = [_interval(60.0 * n, 1000, 60.0) for n in range(1, 4)]
    assert [part.width for part in order.portions(wide)] == [60.0] * 3


def _records(starts: list[float], seconds: float = 0.0, packets: int = 1, replies: int = 0) -> Batch:
    rows = np.zeros(len(starts), RECORD)
    rows["start"] = starts
    rows["end"] = rows["start"] + seconds
    rows["packets"], rows["bytes"] = packets, packets * 101
    rows["reply_packets"], rows["reply_bytes"] = replies, replies * 57
    rows["src_lo"], rows["dst_lo"], rows["proto"], rows["family"] = 1, 2, 6, 4
    rows["tcp_flags"] = 0x13
    return rows


@pytest.mark.parametrize("run", [10, 100_000])
def test_records_are_sorted_in_memory_or_through_the_disk(run: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "RUN", run)
    starts = np.random.default_rng(1).uniform(0, 1e6, 5000)
    batches = [_records(part.tolist()) for part in np.array_split(starts, 40)]
    found = np.concatenate([batch["start"] for batch in by_time(iter(batches))])
    assert found.tolist() == np.sort(starts).tolist()


@given(
    st.lists(
        st.tuples(st.floats(0, 500), st.floats(0, 400), st.integers(1, 300), st.integers(0, 300)),
        min_size=1,
        max_size=20,
    )
)
def test_spread_flows_keep_every_packet_and_byte(flows: list[tuple[float, float, int, int]]) -> None:
    records = np.concatenate([_records([start], length, sent, back) for start, length, sent, back in flows])
    rows = np.concatenate(list(spread(by_time(iter([records])))))
    for name in ("packets", "bytes"):
        assert int(rows[name].sum()) == int(records[name].sum() + records["reply_" + name].sum())
    assert (rows["packets"] > 0).all()
    assert (rows["last"] >= rows["first"]).all()
    assert rows["last"].max() <= records["end"].max() + 0.001
    # Flags that close come once, last.
    for start, _, _, _ in flows:
        mine = rows[(rows["first"] == start) & (rows["src_lo"] == 1)]
        assert (mine["tcp_flags"] & 0x01).any()


def test_day_long_flows_do_not_fill_the_memory() -> None:
    records = _records([float(n) for n in range(50)], 86_400.0, 1_000_000)
    sizes = [len(rows) for rows in spread(by_time(iter([records])))]
    assert sum(sizes) == 50 * 8640
    assert max(sizes) <= order.HOLD + 50


def test_ahead_hands_on_items_and_errors() -> None:
    def items() -> Iterator[int]:
        yield from range(100)
        raise KeyError("why")

    found: list[int] = []
    with pytest.raises(KeyError, match="why"):
        found.extend(ahead(items()))
    assert found == list(range(100))


def test_ahead_ends_its_thread_when_nobody_wants_more() -> None:
    made = []

    def items() -> Iterator[int]:
        for n in range(1000):
            made.append(n)
            yield n

    stream = ahead(items())
    assert next(stream) == 0
    stream.close()  # type: ignore[attr-defined]
    count = len(made)
    time.sleep(0.05)
    assert len(made) == count < 10


def test_the_pace_widens_only_for_inputs_that_span_long() -> None:
    batching = BatchInterval(1.0, 100)
    batching.widen(1000.0, 5000, 0.0)
    assert batching.interval == 1.0
    batching.widen(10.0, 5000, 0.1)
    assert batching.interval == 1.0
    batching.widen(100.0, 5000, 0.1)
    assert batching.interval == 10.0
    batching.widen(1e9, 10**9, 0.1)
    assert batching.interval == 60.0


def test_bundles_hold_every_interval_in_order_and_no_more_rows_than_said() -> None:
    parts = [order.Interval(float(at), _deltas([at] * (1 + at % 7 * 400)), 1.0) for at in range(300)]
    bundles = list(order.bundles(iter(parts)))
    assert [part for bundle in bundles for part in bundle] == parts
    for bundle in bundles:
        assert len(bundle) <= order.BUNDLE
        assert sum(len(part.rows) for part in bundle[:-1]) < order.BUNDLE_ROWS


@pytest.mark.parametrize("sizes", [[40_000, 3], [16_384, 16_384, 1]])
def test_a_connection_is_reported_once_however_the_records_come_in_batches(sizes: list[int]) -> None:
    rows = np.zeros(sum(sizes), RECORD)
    pairs = np.arange(len(rows)) // 2  # the two halves of a connection, one after the other
    back = np.arange(len(rows)) % 2 == 1
    rows["start"] = rows["end"] = 1000.0 + pairs // 5  # several of each moment
    rows["src_lo"], rows["dst_lo"] = np.where(back, 2, 1), np.where(back, 1, 2)
    rows["sport"], rows["dport"] = np.where(back, 443, pairs % 60_000), np.where(back, pairs % 60_000, 443)
    rows["connection"], rows["proto"], rows["family"], rows["rank"] = pairs + 1, 6, 4, duplicates.HALF
    rows["packets"] = np.where(back, 2, 3)
    batches = np.split(rows, np.cumsum(sizes)[:-1])
    told = np.concatenate(list(duplicates.once(iter(batches), RunStats(), lambda _what, _count: None)))
    assert len(told) == (len(rows) + 1) // 2
    assert (told["packets"].sum(), told["reply_packets"].sum()) == (3 * ((len(rows) + 1) // 2), 2 * (len(rows) // 2))

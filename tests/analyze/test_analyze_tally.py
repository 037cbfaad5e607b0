"""Counting: exact while it fits, the heavy ones kept and said to be inexact when it does not."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trafficmond.analyze.tally import Distinct, Tally, Timeline
from trafficmond.detect.windows import Columns, mix

ROW = np.dtype([("name", "u4"), ("other", "u4")])
NAME = np.dtype([("name", "u4")])


def _add(tally: Tally, names: list[int], packets: list[int], octets: list[int]) -> None:
    rows = np.zeros(len(names), ROW)
    rows["name"] = names
    tally.add(mix(rows["name"]), np.array(packets, "i8"), np.array(octets, "i8"), Columns(rows))


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.integers(0, 99)), max_size=40), max_size=5)
)
def test_tally_counts_like_a_counter(batches: list[list[tuple[int, int, int]]]) -> None:
    tally, packets, octets = Tally(NAME), Counter[int](), Counter[int]()
    for batch in batches:
        _add(tally, *(list(column) for column in zip(*batch, strict=True))) if batch else None
        for name, count, size in batch:
            packets[name] += count
            octets[name] += size
    assert tally.exact
    assert tally.distinct() == len(packets)
    found = {int(entry.row["name"]): (entry.packets, entry.bytes) for entry in tally.top(100)}
    assert found == {name: (packets[name], octets[name]) for name in packets}
    assert [entry.packets for entry in tally.top(5)] == sorted(packets.values(), reverse=True)[:5]
    assert [entry.bytes for entry in tally.top(5, by="bytes")] == sorted(octets.values(), reverse=True)[:5]


def test_a_full_tally_keeps_the_heaviest_and_still_counts_the_distinct() -> None:
    tally = Tally(NAME, capacity=1000)
    for at in range(0, 50_000, 500):
        names = [*range(at, at + 500), 7_000_000, 7_000_001]
        _add(tally, names, [1] * 500 + [50, 40], [60] * 502)
    assert not tally.exact
    top = [(int(entry.row["name"]), entry.packets) for entry in tally.top(2)]
    assert top == [(7_000_000, 5000), (7_000_001, 4000)]
    assert tally.distinct() == pytest.approx(50_002, rel=0.04)


@pytest.mark.parametrize("count", [0, 1, 10, 5000, 300_000])
def test_distinct_estimates_within_its_error(count: int) -> None:
    distinct = Distinct()
    hashes = mix(np.arange(count)) if count else np.empty(0, np.uint64)
    distinct.add(hashes)
    distinct.add(hashes)
    assert distinct.estimate() == pytest.approx(count, rel=0.035, abs=1)


@given(st.lists(st.lists(st.tuples(st.floats(0, 4e9), st.integers(0, 50)), max_size=30), min_size=1, max_size=6))
def test_timeline_keeps_every_packet_in_few_bins(batches: list[list[tuple[float, int]]]) -> None:
    timeline = Timeline()
    for batch in batches:
        at = np.array([time for time, _ in batch], "f8")
        packets = np.array([count for _, count in batch], "i8")
        timeline.add(at, packets, packets // 2, packets * 100)
    bins = list(timeline.bins())
    assert len(bins) <= 241
    assert sum(packets for _, packets, _, _ in bins) == sum(count for batch in batches for _, count in batch)
    assert sum(octets for _, _, _, octets in bins) == 100 * sum(count for batch in batches for _, count in batch)
    times = [time for batch in batches for time, _ in batch]
    if times:
        assert bins[0][0] <= min(times)
        assert max(times) < bins[-1][0] + timeline.width


def test_timeline_bins_hold_what_fell_into_them() -> None:
    timeline = Timeline()
    timeline.add(np.array([10.0, 10.9, 12.0]), np.array([1, 2, 4]), np.array([0, 1, 0]), np.array([10, 20, 40]))
    assert list(timeline.bins()) == [(10, 3, 1, 30), (11, 0, 0, 0), (12, 4, 0, 40)]

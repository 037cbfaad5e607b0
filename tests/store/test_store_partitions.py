"""Partitions: full ones are indexed, old ones go whole, and `flows` is always all of them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opened_store import flushed, opened
from store_reports import until

from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.store import partitions as partitions_module
from trafficmond.store import writer
from trafficmond.store.partitions import Partitions
from trafficmond.store.writer import Limits

Ask = Callable[..., list[tuple[Any, ...]]]
Make = Callable[..., Batch]
DAY_S = 86400.0
SMALL = 16 << 20  # a partition of the least size there is: 1024 rows


def test_a_full_partition_is_indexed_and_the_next_begins(
    path: Path, names: Names, make_reports: Make, ask: Ask
) -> None:
    store = opened(path, Limits(30 * DAY_S, SMALL), clock=lambda: 0.0)
    store.put(make_reports(2500), names)
    assert flushed(store, 10)
    store.close(5)
    assert ask("SELECT number, rows, sealed FROM partitions") == [(1, 1024, 1), (2, 1024, 1), (3, 452, 0)]
    assert ask("SELECT count(*), sum(bytes) FROM flows") == [(2500, 750_000)]
    plan = str(ask("EXPLAIN QUERY PLAN SELECT * FROM flows WHERE src_ip = '192.0.2.1'"))
    assert "flows_1_src_ip" in plan
    assert "flows_2_src_ip" in plan
    assert "SCAN flows_3" in plan


def test_a_partition_covers_a_share_of_the_time(path: Path, names: Names, make_reports: Make, ask: Ask) -> None:
    store = opened(path, Limits(64 * DAY_S, 1 << 30), clock=lambda: 0.0)
    for day in range(5):
        store.put(make_reports(1, at=day * DAY_S + 1), names)
        flushed(store, 5)
        store.put(make_reports(1, at=day * DAY_S + 2), names)
        flushed(store, 5)
    store.close(5)
    ((count,),) = ask("SELECT count(*) FROM partitions")
    assert 2 <= count <= 5


def test_old_partitions_go_and_the_rollups_stay(
    path: Path, names: Names, make_reports: Make, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_TRUST_S", 0.0)
    now = 1_700_000_000.0
    clock = [now]
    store = opened(path, Limits(10 * DAY_S, SMALL), clock=lambda: clock[0])
    for age in (12, 11, 5, 0):
        clock[0] = now - age * DAY_S
        store.put(make_reports(1024, at=clock[0]), names)
        assert flushed(store, 10)
    store.put(make_reports(1, at=now), names)
    until(lambda: store.status().rows == 2049)
    store.close(5)
    assert ask("SELECT count(*), min(last_seen) FROM flows") == [(2049, now - 5 * DAY_S)]
    assert ask("SELECT sum(flows) FROM rollups WHERE period = 'day' AND kind = 'total'") == [(4 * 1024 + 1,)]


def test_a_clock_that_is_ten_years_ahead_for_a_while_makes_nothing_old(
    path: Path, names: Names, make_reports: Make, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_700_000_000.0
    clock = [now]
    store = opened(path, Limits(10 * DAY_S, SMALL), clock=lambda: clock[0])

    def put(count: int) -> None:
        store.put(make_reports(count, at=clock[0]), names)
        assert flushed(store, 10)

    put(1500)
    clock[0] = now + 3650 * DAY_S
    put(1500)
    time.sleep(1.2)  # a round of housekeeping
    store.close(5)
    store = opened(path, Limits(10 * DAY_S, SMALL), clock=lambda: clock[0])  # a restart of the daemon meanwhile
    time.sleep(1.2)
    clock[0] = now
    put(1500)
    time.sleep(1.2)
    assert ask("SELECT count(*) FROM flows") == [(4500,)]
    assert ask("SELECT sum(flows) FROM rollups WHERE period = 'minute' AND kind = 'total'") == [(4500,)]
    monkeypatch.setattr(writer, "_TRUST_S", 0.0)
    clock[0] = now + 11 * DAY_S  # the partition with times of ten years later is not the one that keeps the rest
    until(lambda: store.status().rows < 1024)
    store.close(5)


def test_too_much_makes_the_oldest_go_and_the_file_stays_bounded(path: Path, names: Names, make_reports: Make) -> None:
    limit = 1 << 20
    store = opened(path, Limits(30 * DAY_S, limit), clock=lambda: 0.0)
    largest = 0
    for turn in range(40):
        store.put(make_reports(1024, at=1e9 + turn), names)
        assert flushed(store, 10)
        largest = max(largest, path.stat().st_size)
    status = store.status()
    store.close(5)
    assert status.lost_rows == 0
    assert 1024 <= status.rows < 20 * 1024
    assert path.stat().st_size <= 2 * limit
    assert largest <= 2 * limit


def test_limits_can_change_while_storing(path: Path, names: Names, make_reports: Make) -> None:
    store = opened(path, Limits(30 * DAY_S, SMALL), clock=lambda: 0.0)
    for turn in range(20):
        store.put(make_reports(1024, at=1e9 + turn), names)
    assert flushed(store, 10)
    assert store.status().rows == 20 * 1024
    store.configure(Limits(30 * DAY_S, 1 << 20))
    store.put(make_reports(1, at=1e9 + 20), names)
    until(lambda: store.status().rows < 10 * 1024)
    store.close(5)


@pytest.mark.parametrize(("most", "steps"), [(1 << 19, 11 + 1), (500, 11 + 6 + 1)])
def test_a_partition_leaves_the_view_at_once_and_its_table_step_by_step(
    path: Path, names: Names, make_reports: Make, ask: Ask, monkeypatch: pytest.MonkeyPatch, most: int, steps: int
) -> None:
    """Read in pieces of 100, and dropped; deleted in such pieces before, as long as it has more than `most`."""
    monkeypatch.setattr(partitions_module, "_PIECE_ROWS", 100)
    monkeypatch.setattr(partitions_module, "_DROP_ROWS", most)
    store = opened(path, Limits(30 * DAY_S, SMALL), clock=lambda: 0.0)
    store.put(make_reports(3 * 1024 + 1), names)
    assert flushed(store, 10)
    store.close(5)
    connection = sqlite3.connect(path, isolation_level=None)
    partitions = Partitions(connection, 30 * DAY_S, 1 << 16)
    done = 0
    while partitions.must_shrink(0.0):
        connection.execute("BEGIN IMMEDIATE")
        partitions.shrink(0.0, 0.0)
        connection.execute("COMMIT")
        done += 1
        ((rows,),) = ask("SELECT count(*) FROM flows")
        assert rows % 1024 == 1, "no part of a partition is ever seen"
        assert ask("SELECT sum(rows) FROM partitions") == [(rows,)]
        if done == 9:
            partitions = Partitions(connection, 30 * DAY_S, 1 << 16)  # as another process: this one was killed
    connection.close()
    leaving, indexes, read_again = 1, 3, 5
    assert done == 3 * (leaving + indexes + steps) + read_again
    assert ask("SELECT name FROM sqlite_master WHERE type IN ('table', 'index') AND name GLOB 'flows_*'") == [
        ("flows_4",)
    ]
    assert ask("PRAGMA integrity_check") == [("ok",)]

"""Rollups add up to the flows, name the largest, and do not grow without bound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opened_store import flushed, opened

from trafficmond.flows.batch import V4_MAPPED, Batch
from trafficmond.flows.names import Names
from trafficmond.store.file import File
from trafficmond.store.rollups import KEEP_S, OTHER, PERIODS, TOP, add, prune
from trafficmond.store.store import Store
from trafficmond.store.writer import Limits

Ask = Callable[..., list[tuple[Any, ...]]]
Make = Callable[..., Batch]
NOW = 1_700_000_000.0


def crowd(make_reports: Make, hosts: int, at: float = NOW) -> Batch:
    """One flow from each of so many hosts, each larger than the one before."""
    batch = make_reports(hosts, at=at, sport=1, reply_packets=0, reply_bytes=0)
    batch["src_lo"] = V4_MAPPED | np.uint64(0x0A000000) | np.arange(hosts, dtype=np.uint64)
    batch["bytes"] = np.arange(hosts) + 1000
    return batch


@pytest.mark.parametrize("period", list(PERIODS))
@pytest.mark.parametrize(
    ("kind", "ends"), [("total", 1), ("protocol", 1), ("interface", 1), ("action", 1), ("host", 2)]
)
def test_every_kind_adds_up(
    store: Store, names: Names, make_reports: Make, ask: Ask, period: str, kind: str, ends: int
) -> None:
    store.put(crowd(make_reports, 500), names)
    store.put(crowd(make_reports, 300, at=NOW + 3000), names)
    store.put(make_reports(50, proto=47, ifindex=9, verdict=2 << 28), names)
    assert flushed(store, 5)
    columns = "sum(packets), sum(bytes), sum(reply_packets), sum(reply_bytes)"
    ((flows, *sums),) = ask(f"SELECT count(*), {columns} FROM flows")
    assert ask(f"SELECT sum(flows), {columns} FROM rollups WHERE period = ? AND kind = ?", period, kind) == [
        (flows * ends, *(value * ends for value in sums))
    ]


def test_ports_are_the_services_of_protocols_that_have_them(
    store: Store, names: Names, make_reports: Make, ask: Ask
) -> None:
    batch = make_reports(3)
    batch["proto"], batch["dport"] = [6, 17, 1], [443, 53, 0]
    store.put(batch, names)
    flushed(store, 5)
    assert ask("SELECT key FROM rollups WHERE kind = 'port' AND period = 'hour' ORDER BY key") == [
        ("443/tcp",),
        ("53/udp",),
    ]


def test_the_largest_are_named_and_the_rest_is_other(store: Store, names: Names, make_reports: Make, ask: Ask) -> None:
    store.put(crowd(make_reports, 1000), names)
    flushed(store, 5)
    rows = dict(ask("SELECT key, bytes FROM rollups WHERE kind = 'host' AND period = 'minute'"))
    assert len(rows) == TOP["minute"] + 1
    assert rows["10.0.3.231"] == 1999
    assert "10.0.0.0" not in rows
    assert rows[OTHER] > 0


def test_both_families_are_named(store: Store, names: Names, make_reports: Make, ask: Ask) -> None:
    batch = make_reports(2)
    batch["family"][1], batch["src_hi"][1], batch["src_lo"][1] = 6, 0x20010DB8 << 32, 5
    batch["dst_hi"][1], batch["dst_lo"][1] = 0x20010DB8 << 32, 6
    store.put(batch, names)
    flushed(store, 5)
    hosts = {key for (key,) in ask("SELECT key FROM rollups WHERE kind = 'host' AND period = 'day'")}
    assert hosts == {"192.0.2.0", "198.51.100.2", "2001:db8::5", "2001:db8::6"}


def test_pruning_keeps_the_sums_and_bounds_the_keys(path: Path, names: Names, make_reports: Make) -> None:
    file = File(path)
    file.reopen()
    connection = file.connection
    for turn in range(50):  # hosts that no batch has in common
        batch = crowd(make_reports, 25)
        batch["src_lo"] += np.uint64(turn * 1000)
        add(connection, batch, names)
    question = "SELECT count(*), sum(flows), sum(bytes) FROM rollups WHERE kind = 'host' AND period = ?"
    before = {period: connection.execute(question, (period,)).fetchone() for period in TOP}
    prune(connection, NOW + 1)
    for period, top in TOP.items():
        (keys, *sums), (kept, *sums_after) = before[period], connection.execute(question, (period,)).fetchone()
        assert keys > 4 * top
        assert kept <= top + 1
        assert sums_after == sums
    file.close()


def test_old_rollups_are_forgotten_by_their_period(path: Path, names: Names, make_reports: Make) -> None:
    file = File(path)
    file.reopen()
    add(file.connection, make_reports(1, at=NOW), names)
    for period in PERIODS:
        prune(file.connection, NOW + KEEP_S[period] + PERIODS[period])
        left = {row[0] for row in file.connection.execute("SELECT DISTINCT period FROM rollups")}
        assert period not in left
    file.close()


def test_a_batch_is_split_at_the_minute(store: Store, names: Names, make_reports: Make, ask: Ask) -> None:
    batch = make_reports(2)
    batch["last"] = [NOW - NOW % 60 - 0.5, NOW - NOW % 60 + 0.5]
    store.put(batch, names)
    flushed(store, 5)
    assert ask("SELECT flows FROM rollups WHERE kind = 'total' AND period = 'minute'") == [(1,), (1,)]


def test_an_hour_of_flows_survives_a_restart(path: Path, names: Names, make_reports: Make, ask: Ask) -> None:
    for turn in range(3):
        store = opened(path, Limits(1e9, 1 << 30), clock=lambda: NOW)
        store.put(make_reports(10, at=NOW - NOW % 3600 + turn), names)
        store.close(5)
    assert ask("SELECT flows FROM rollups WHERE kind = 'total' AND period = 'hour'") == [(30,)]

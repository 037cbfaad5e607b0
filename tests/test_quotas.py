"""What is used of a quota is what the rollups say of its period, interface and way."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opened_store import flushed, opened
from parts_fake import close, make_parts

from trafficmond.config.settings import Quota
from trafficmond.flows.batch import V4_MAPPED
from trafficmond.flows.names import NO_NAMES
from trafficmond.flows.report import REPORT
from trafficmond.quotas import used_of
from trafficmond.store.reader import Reader
from trafficmond.store.writer import Limits

MIB = 1 << 20


def report(at: float, out: bool, sent: int, received: int, ifindex: int = 2) -> Any:
    batch = np.zeros(1, REPORT)
    batch["src_lo"] = batch["dst_lo"] = V4_MAPPED | np.uint64(1)
    batch["family"], batch["proto"], batch["direction"], batch["ifindex"] = 4, 17, out, ifindex
    batch["first"] = batch["last"] = at
    batch["packets"], batch["bytes"], batch["reply_bytes"] = 1, sent, received
    return batch


@pytest.mark.parametrize(
    ("quota", "used"),
    [
        (Quota(), 10 + 200 + 3 + 40),
        (Quota(counts="up"), 10 + 40),
        (Quota(counts="down"), 200 + 3),
        (Quota(interface="if3"), 43),
        (Quota(interface="none"), 0),
        (Quota(period="day", interface="if3", counts="down"), 3),
    ],
)
def test_what_is_used(tmp_path: Path, quota: Quota, used: int) -> None:
    async def run() -> None:
        parts, _, _ = make_parts(tmp_path)
        now = time.time()
        try:
            for batch in (
                report(now, True, 10, 200),
                report(now, False, 3, 40, 3),
                report(now - 40 * 86400, True, 7, 7),
            ):
                parts.store.put(batch, parts.pipeline.names)
            assert flushed(parts.store, 5)
            with Reader(parts.store.path) as reader:
                found = used_of(quota, now, reader)
            assert (found.used, found.volume, found.period) == (
                used,
                1 << 40,
                time.strftime("%Y-%m-%d" if quota.period == "day" else "%Y-%m", time.localtime(now)),
            )
        finally:
            close(parts)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("zone", "now", "used", "period"),
    [
        ("Europe/Berlin", "2025-10-26 02:30", 3, "2025-10-26"),
        ("Europe/Berlin", "2025-10-26 23:30", 25, "2025-10-26"),
        ("Europe/Berlin", "2025-03-30 23:30", 23, "2025-03-30"),
        ("America/Havana", "2025-11-02 00:30", 1, "2025-11-02"),
        ("America/Havana", "2025-11-02 23:30", 25, "2025-11-02"),
        ("America/Santiago", "2025-09-07 23:30", 23, "2025-09-07"),
        ("Africa/Cairo", "2025-04-25 23:30", 23, "2025-04-25"),
        ("Asia/Tokyo", "2025-12-31 23:30", 24, "2025-12-31"),
        ("Pacific/Auckland", "2026-01-01 00:30", 1, "2026-01-01"),
    ],
)
@pytest.mark.parametrize("fold", [0, 1])
def test_a_day_has_all_of_its_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str, now: str, used: int, period: str, fold: int
) -> None:
    """A byte an hour, one more in an hour that comes again. In Havana, where that is the first, one was lacking."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        moment = datetime.fromisoformat(now).replace(fold=fold)
        twice = moment.replace(fold=0).timestamp() != moment.replace(fold=1).timestamp()
        store = opened(tmp_path / "flows.db", Limits(1e9, 1 << 30), clock=moment.timestamp)
        try:
            hours = [report(moment.timestamp() - ago * 3600, True, 1, 0) for ago in range(50)]
            store.put(np.concatenate(hours), NO_NAMES)
            assert flushed(store, 20)
            with Reader(store.path) as reader:
                found = used_of(Quota(period="day"), moment.timestamp(), reader)
        finally:
            store.close(5)
        assert (found.used, found.period) == (used + (twice and fold), period)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_daemon_tells_and_asks_no_more_than_once_a_minute(tmp_path: Path) -> None:
    async def run() -> None:
        parts, _, _ = make_parts(tmp_path)
        try:
            now = time.time()
            parts.store.put(report(now, True, 2 * MIB, 0), parts.pipeline.names)
            assert flushed(parts.store, 5)
            for _ in range(2):
                await parts.quotas.check([Quota(volume=MIB, label="small")], now)
                for _ in parts.pipeline.steps(parts.datapath.read_ledger(), now):
                    pass
            told = [threat.summary.partition(": ")[2] for threat in parts.pipeline.engine.threats()]
            assert sorted(told) == ["at least 80% of it is used", "it is used up"]
        finally:
            close(parts)

    asyncio.run(run())

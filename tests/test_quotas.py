"""What is used of a quota is what the rollups say of its period, interface and way."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opened_store import flushed
from parts_fake import close, make_parts

from trafficmond.config.settings import Quota
from trafficmond.flows.batch import V4_MAPPED
from trafficmond.flows.report import REPORT
from trafficmond.quotas import used_of
from trafficmond.store.reader import Reader

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

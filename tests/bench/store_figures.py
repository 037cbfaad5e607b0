"""What flows and their history cost: the flow table's update, rows into flows.db, and dropping the oldest of them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from figures import Figure, figure

from trafficmond.flows.batch import DELTA, V4_MAPPED, Batch
from trafficmond.flows.names import Names
from trafficmond.flows.report import REPORT
from trafficmond.flows.table import FlowTable
from trafficmond.store.partitions import Partitions
from trafficmond.store.writer import Limits, Writer

MILLION = 1_000_000
ROWS = 20 * MILLION
ROWS_32_GIB = 5 * MILLION // 4  # a full partition, and a bit
CHUNK = 16384
FLOWS = 100_000
ROUNDS = 11
NAMES = Names({2: "eth0"}, {})


def measure() -> Iterator[Figure]:
    """All figures of the flow table and the store; writes about 5 GiB into the temporary directory."""
    times = list(_updates())
    yield figure("flow_update_100k_ms", "100,000 changed flows merged by the flow table", times, "ms", 60)
    with tempfile.TemporaryDirectory() as folder:
        rates, shrink_ms = _fill_and_shrink(Path(folder) / "flows.db", 8 << 30, ROWS)
        _, large_ms = _fill_and_shrink(Path(folder) / "large.db", 32 << 30, ROWS_32_GIB)
        yield figure(
            "store_rows_per_s_first_million",
            "flows a second into an empty flows.db",
            rates[:1],
            "/s",
            1e5,
            at_least=True,
        )
        yield figure(
            "store_rows_per_s_at_20m", "flows a second beyond 19 million", rates[-1:], "/s", 1e5, at_least=True
        )
        parts = {"max_size_8gib_ms": round(shrink_ms, 1), "max_size_32gib_ms": round(large_ms, 1)}
        what = "the longest that removing old flows keeps new ones waiting"
        yield figure("retention_ms", what, [max(shrink_ms, large_ms)], "ms", 100, parts=parts)


def _updates() -> Iterator[float]:
    random = np.random.default_rng(1)
    batch = np.zeros(FLOWS, DELTA)
    batch["src_lo"] = V4_MAPPED | random.integers(1 << 24, 1 << 31, FLOWS, dtype=np.uint64)
    batch["dst_lo"], batch["dport"], batch["proto"], batch["family"] = V4_MAPPED | np.uint64(0x0A000001), 443, 6, 4
    batch["sport"] = random.integers(1024, 65535, FLOWS)
    batch["packets"], batch["bytes"], batch["ifindex"] = 3, 300, 2
    table = FlowTable(1 << 18, 30.0, 300.0, seed=1)
    for turn in range(ROUNDS + 1):
        batch["new"], batch["first"], batch["last"] = turn == 0, 1000.0, 1000.0 + turn
        started = time.perf_counter()
        table.update(batch, 1000.0 + turn)
        if turn:
            yield (time.perf_counter() - started) * 1000


def _reports(seed: int) -> Batch:
    random = np.random.default_rng(seed)
    batch = np.zeros(CHUNK, REPORT)
    batch["src_lo"] = V4_MAPPED | random.integers(1 << 24, 1 << 31, CHUNK, dtype=np.uint64)
    batch["dst_lo"] = V4_MAPPED | np.uint64(0x0A000000) | random.integers(1, 1000, CHUNK, dtype=np.uint64)
    batch["sport"], batch["dport"] = random.integers(1024, 65535, CHUNK), random.choice([22, 53, 80, 443], CHUNK)
    batch["proto"], batch["family"], batch["ifindex"], batch["verdict"] = 6, 4, 2, 1 << 28
    batch["packets"], batch["bytes"] = random.integers(1, 1000, CHUNK), random.integers(60, 1_000_000, CHUNK)
    return batch


def _fill_and_shrink(path: Path, max_size: int, rows: int) -> tuple[list[float], float]:
    """Rows a second of each million, and milliseconds of the longest step of the removal that a smaller limit then
    causes while rows go on coming."""
    limits = Limits(30 * 86400.0, max_size)
    writer, longest = Writer(path, limits, clock=lambda: 0.0), 0.0
    shrink = Partitions.shrink

    def timed(partitions: Partitions, *given: float) -> None:
        nonlocal longest
        begun = time.monotonic()
        shrink(partitions, *given)
        longest = max(longest, time.monotonic() - begun)

    Partitions.shrink = timed  # type: ignore[method-assign]
    writer.start()
    rates = list(_fill(writer, rows))
    writer.limits = replace(limits, max_size_bytes=path.stat().st_size // 8)
    sealed = writer.rows
    while writer.rows > sealed // 4:
        writer.queue.put(_reports(0)[:1000], NAMES)
        time.sleep(0.05)
    writer.queue.stop(600)
    writer.join()
    if writer.queue.lost_rows:
        raise RuntimeError(f"{writer.queue.lost_rows} rows were lost: the rates mean nothing")
    return rates, longest * 1000


def _fill(writer: Writer, rows: int) -> Iterator[float]:
    batches = [_reports(seed) for seed in range(8)]
    started, begun = time.perf_counter(), 0
    for chunk in range(rows // CHUNK + 1):
        batch = batches[chunk % len(batches)].copy()
        batch["first"] = batch["last"] = np.sort(np.random.default_rng(chunk).random(CHUNK)) * 600 + chunk * 600.0
        writer.queue.put(batch, NAMES)
        while writer.queue.rows > writer.limits.queue_rows // 2:
            time.sleep(0.002)
        if writer.written_rows - begun >= MILLION:
            now = time.perf_counter()
            yield (writer.written_rows - begun) / (now - started)
            started, begun = now, writer.written_rows

"""What the daemon does with the kernel's memory: reading the ledger, building and swapping a verdict table."""

from __future__ import annotations

import gzip
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from contestants import LISTS, Contestants, fresh_flows, packed
from figures import Figure, figure
from tmlab import bpf
from tmlab.daemon import BPFFS, remove_pins
from tmlab.packets import udp

from trafficmond.datapath.clock import Clock
from trafficmond.datapath.datapath import Datapath
from trafficmond.datapath.ledger import mapped
from trafficmond.datapath.loader import Sizes, load_libbpf, possible_cpus
from trafficmond.datapath.loading import Options
from trafficmond.model import Action
from trafficmond.policy.ids import RuleIds
from trafficmond.policy.load import make_policy, read_files
from trafficmond.policy.rules import ListSource
from trafficmond.policy.table import compile_table

ROUNDS = 11
PACKET = udp("198.51.100.7", "10.0.0.1", payload=bytes(18))


def measure(full_table: Path) -> Iterator[Figure]:
    """All figures of the ledger and, where the file of a full routing table is, of the verdict table."""
    with Contestants() as others:
        others.follow(packed(fresh_flows([])[:100_000]))
        readings = list(_readings(others, Sizes(possible_cpus(), 1 << 17, 1 << 17), 100_000))
        assert min(rows for _, rows in readings) > 99_000
        times = [seconds * 1000 for seconds, _ in readings]
        yield figure("drain_100k_ms", "100,000 flows from the ledger into a numpy batch, CPU time", times, "ms", 30)
        others.follow(packed(fresh_flows([])))
        readings = list(_readings(others, Sizes(possible_cpus(), 1 << 10, 1 << 18), 200_000))
        rates = [rows / seconds for seconds, rows in readings]
        yield figure(
            "ring_records_per_s", "records a second out of the eviction rings", rates, "/s", 2.5e6, at_least=True
        )
    if full_table.exists():
        yield from _table(full_table)


def _readings(others: Contestants, sizes: Sizes, packets: int) -> Iterator[tuple[float, int]]:
    """(seconds, rows) of reading what `packets` packets of the trace have left, a load of its own per call."""
    loaded = load_libbpf(sizes, {}, None)
    try:
        clock = Clock(loaded)
        ledger = mapped(loaded, sizes, clock)
        for turn in range(ROUNDS + 1):
            others.rewind()
            bpf.run(others.before(loaded.programs["tm_xdp"]), PACKET, packets)
            started = time.thread_time()  # the loop's own work: what others do meanwhile is not in it
            batch = ledger.read()
            if turn:
                yield time.thread_time() - started, len(batch)
            assert int(batch["packets"].sum()) <= packets
        ledger.close()
        clock.close()
    finally:
        loaded.close()


def _table(full_table: Path) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="tmlab-bench") as folder:
        lines = gzip.decompress(full_table.read_bytes()).splitlines(keepends=True)
        lists = []
        for number in range(LISTS):
            path = Path(folder) / f"{number}.txt"
            path.write_bytes(b"".join(lines[number::LISTS]))
            lists.append(ListSource(path, Action.DROP))
        parsing, building = [], []
        for _ in range(5):
            started = time.perf_counter()
            policy = make_policy(read_files(None, lists))
            parsing.append(time.perf_counter() - started)
            ids = RuleIds().number(policy.rules, 0.0).numbers
            started = time.perf_counter()
            table = compile_table(policy, ids, 0.0, lambda epoch: int(epoch))
            building.append((time.perf_counter() - started) * 1000)
        swapping = list(_swaps(table.words))
        count = len(policy.prefixes)
        yield figure("parse_full_s", f"{count:,} prefixes read and checked", parsing, "s")
        whole = [build + swap for build, swap in zip(building, swapping, strict=False)]
        yield figure("build_full_ms", f"{count:,} prefixes into a table, and that into the kernel", whole, "ms", 250)
        yield figure("swap_ms", "of that, into the kernel and swapped in whole", swapping, "ms", 50)
        yield figure("table_full_mib", "the size of that table", [table.words.nbytes / 2**20], "MiB", 24)


def _swaps(words: npt.NDArray[np.uint32]) -> Iterator[float]:
    """Milliseconds of each installation in a data path of its own that is attached to nothing."""
    pins = Path(tempfile.mkdtemp(prefix="tmlab-bench", dir=BPFFS))
    datapath = Datapath(Options("libbpf", "auto", False, pins / "swap", 1 << 16, False, False))
    try:
        for _ in range(ROUNDS):
            started = time.perf_counter()
            datapath.tables.put(words)
            yield (time.perf_counter() - started) * 1000
    finally:
        datapath.close(detach=True)
        remove_pins(pins)

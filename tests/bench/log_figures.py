"""What logs take: events through each sink's thread into its file."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from figures import Figure, figure

from trafficmond.config.streams import Log
from trafficmond.flows.batch import V4_MAPPED, Batch
from trafficmond.flows.events import EVENT
from trafficmond.flows.names import Names
from trafficmond.model import Action, Reason
from trafficmond.sinks.fanout import make_sink
from trafficmond.verdict import verdict_word

EVENTS, BATCH, ROUNDS = 200_000, 20_000, 5
NAMES = Names({2: "eth0"}, {7: "bad neighbours"})


def measure() -> Iterator[Figure]:
    """Events a second of the JSON lines, every one a flow of its own, to the last byte in the file."""
    rates = []
    for turn in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "traffic.jsonl"
            sink = make_sink(Log(format="jsonl", path=path, buffer_size=EVENTS, rotate_size=0))
            sink.start()
            started = time.perf_counter()
            for at in range(0, EVENTS, BATCH):
                sink.emit(_events(turn * EVENTS + at), NAMES)
            sink.finish(time.monotonic() + 60)
            sink.join(time.monotonic() + 60)
            rates.append(EVENTS / (time.perf_counter() - started))
            with path.open("rb") as file:
                written = sum(1 for _ in file)
            if (written, sink.lost) != (EVENTS, 0):
                raise AssertionError(f"{written} of {EVENTS} events in the log, {sink.lost} lost")
    yield figure("jsonl_events_per_s", "events a second into a JSON lines log", rates, "/s", 1e5, at_least=True)


def _events(first: int) -> Batch:
    batch = np.zeros(BATCH, EVENT)
    batch["timestamp"] = 1.7e9 + np.arange(BATCH) / BATCH
    batch["src_lo"] = V4_MAPPED | np.arange(first, first + BATCH).astype(np.uint64)
    batch["dst_lo"], batch["dport"], batch["proto"], batch["family"] = V4_MAPPED | np.uint64(0x0A000001), 443, 6, 4
    batch["sport"], batch["packet_size"], batch["ifindex"] = 40000, 60, 2
    batch["verdict"] = verdict_word(Action.DROP, Reason.RULE, 7)
    return batch

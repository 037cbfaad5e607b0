"""Makes REPORT rows to put into a store."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from trafficmond.flows.batch import V4_MAPPED, Batch
from trafficmond.flows.names import Names
from trafficmond.flows.report import REPORT
from trafficmond.model import Action, Reason
from trafficmond.verdict import verdict_word

DAY_S = 86400.0
NOW = 1_700_000_000.0
NAMES = Names({2: "eth0", 3: "wan0"}, {6: "bad neighbours"})


def reports(count: int = 1, *, at: float = NOW, **columns: Any) -> Batch:
    """REPORT rows of one TCP flow each, 100 bytes a packet, the last of them at `at`; columns override."""
    batch = np.zeros(count, REPORT)
    batch["src_lo"] = V4_MAPPED | np.uint64(0xC0000200) | (np.arange(count, dtype=np.uint64) % np.uint64(256))
    batch["dst_lo"] = V4_MAPPED | np.uint64(0xC6336402)
    batch["sport"], batch["dport"], batch["proto"], batch["family"], batch["ifindex"] = 40000, 443, 6, 4, 2
    batch["verdict"] = verdict_word(Action.MONITOR, Reason.DEFAULT)
    batch["packets"], batch["bytes"] = 3, 300
    batch["reply_packets"], batch["reply_bytes"] = 2, 200
    batch["first"], batch["last"] = at - 1, at
    for name, value in columns.items():
        batch[name] = value
    return batch


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for it; fail if it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)

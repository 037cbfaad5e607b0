"""A store in a folder of its own, and reports to put into it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trafficmond.flows.batch import V4_MAPPED, Batch
from trafficmond.flows.names import Names
from trafficmond.flows.report import REPORT
from trafficmond.model import Action, Reason, verdict_word
from trafficmond.store.store import Store
from trafficmond.store.writer import Limits

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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flows.db"


@pytest.fixture
def make_reports() -> Callable[..., Batch]:
    return reports


@pytest.fixture
def names() -> Names:
    return NAMES


@pytest.fixture
def limits() -> Limits:
    return Limits(max_age_s=30 * DAY_S, max_size_bytes=1 << 30)


@pytest.fixture
def store(path: Path, limits: Limits) -> Iterator[Store]:
    store = Store.open(path, limits, clock=lambda: NOW)
    yield store
    store.close(5)


@pytest.fixture
def ask(path: Path) -> Callable[..., list[tuple[Any, ...]]]:
    """ask(sql): the rows that an outsider's plain sqlite3 reads."""

    def run(sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return connection.execute(sql, parameters).fetchall()
        finally:
            connection.close()

    return run

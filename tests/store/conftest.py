"""A store in a folder of its own, and reports to put into it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opened_store import opened
from store_reports import DAY_S, NAMES, NOW, reports

from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.store.store import Store
from trafficmond.store.writer import Limits


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
    store = opened(path, limits, clock=lambda: NOW)
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

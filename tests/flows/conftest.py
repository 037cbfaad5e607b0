"""Batches and a table for the tests of flows/."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flow_rows import Row, make

from trafficmond.flows.batch import DELTA, Batch
from trafficmond.flows.table import FlowTable


@pytest.fixture
def deltas() -> Callable[..., Batch]:
    """deltas(row, row...): a DELTA batch; a row is one packet of 100 bytes at time 100 in a new record."""

    def build(*rows: Row) -> Batch:
        base = {"packets": 1, "bytes": 100, "first": 100.0, "last": 100.0, "new": True, "first_len": 100}
        return make(DELTA, ({**base, **row} for row in rows))

    return build


@pytest.fixture
def table() -> FlowTable:
    """Room for 1024 flows, idle after 30 s, reported every 300 s."""
    return FlowTable(1024, idle_timeout_s=30, active_timeout_s=300, seed=1)

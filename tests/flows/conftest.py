"""Batches for the tests of flows/."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flow_rows import Row, make

from trafficmond.flows.batch import DELTA, Batch


@pytest.fixture
def deltas() -> Callable[..., Batch]:
    """deltas(row, row...): a DELTA batch; a row is one packet of 100 bytes at time 100 in a new record."""

    def build(*rows: Row) -> Batch:
        base = {"packets": 1, "bytes": 100, "first": 100.0, "last": 100.0, "new": True, "first_len": 100}
        return make(DELTA, ({**base, **row} for row in rows))

    return build

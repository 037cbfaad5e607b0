"""What compiling a table takes beside the table itself."""

from __future__ import annotations

import tracemalloc

import numpy as np
from policy_reference import NOW, jiffies

from trafficmond.model import Action
from trafficmond.policy.leaves import RuleColumns
from trafficmond.policy.load import Files, make_policy
from trafficmond.policy.prefixes import Prefixes
from trafficmond.policy.table import compile_columns


def test_compiling_takes_little_beside_the_table() -> None:
    """As numpy counts it: what is made of some prefixes is gone before it is made of the next."""
    count = 200_000
    spread = np.arange(count, dtype=np.uint64) * np.uint64(2654435761) & np.uint64(0xFFFFFFFF)
    rows = Prefixes(
        spread << np.uint64(32), np.zeros(count, np.uint64), np.full(count, 32, np.uint8), np.full(count, 4, np.uint8)
    )
    columns_of = RuleColumns.of(
        make_policy(Files(), runtime=[{"cidr": "192.0.2.1", "action": "drop"}]).rules, np.ones(1, np.uint32)
    )
    tracemalloc.start()
    try:
        made = compile_columns(rows, np.zeros(count, np.int32), columns_of, Action.ALLOW, NOW, jiffies)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made.prefixes == count
    assert peak < made.words.nbytes + 100 * count

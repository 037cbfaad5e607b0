"""Owners that name a process: apart from words and cgroups, and kept where only the cgroup is told later."""

from __future__ import annotations

import numpy as np
import pytest
from flow_referee import Table
from flow_rows import make

from trafficmond.flows.batch import DELTA
from trafficmond.flows.owners import FORWARDED, KERNEL, NOBODY
from trafficmond.flows.processes import END, MOST_SERIALS, NOTE, cgroup_of, may_name, word
from trafficmond.flows.table import FlowTable
from trafficmond.protocols import UDP

UNIT, OTHER = 4711, 4712
CURL, WGET, ELSEWHERE = word(UNIT, 1), word(UNIT, MOST_SERIALS - 1), word(OTHER, 2)


def test_words_cgroups_and_processes_are_apart() -> None:
    numbers = np.array([0, KERNEL, UNIT, 1 << 33, CURL, WGET, NOBODY, FORWARDED], np.uint64)
    assert may_name(numbers).tolist() == [False, False, True, *[False] * 5]
    assert [cgroup_of(number) for number in numbers.tolist()] == [0, 1, UNIT, 1 << 33, UNIT, UNIT, NOBODY, FORWARDED]


def test_the_notes_are_laid_out_as_the_programs_write_them() -> None:
    assert (END.itemsize, NOTE.itemsize) == (48, 32)


@pytest.mark.parametrize("numpy", [False, True])
@pytest.mark.parametrize(
    ("owners", "kept"),
    [
        ((CURL, UNIT), CURL),
        ((CURL, KERNEL), CURL),
        ((KERNEL, CURL), CURL),
        ((UNIT, CURL), CURL),
        ((CURL, WGET), WGET),
        ((CURL, OTHER), OTHER),
        ((CURL, ELSEWHERE), ELSEWHERE),
        ((ELSEWHERE, CURL, UNIT), CURL),
        ((CURL, 0), CURL),
    ],
)
def test_a_process_is_kept_where_its_cgroup_alone_is_reported(owners: tuple[int, ...], kept: int, numpy: bool) -> None:
    kind = Table if numpy else FlowTable
    table = kind(16, 30.0, 300.0, seed=1, in_order=False, reporting=True)
    told = 0
    for at, owner in enumerate(owners):
        row = {"proto": UDP, "direction": 1, "owner": owner, "packets": 1, "bytes": 9, "new": not at}
        (found,) = table.update(make(DELTA, [{**row, "first": 100.0, "last": 100.0 + at}]), 100.0 + at)
        told += len(table.due(100.0 + at))
    assert found["owner"] == kept
    if kept == owners[0]:
        assert told == 0

"""The rows of live screens: units are added up over all flows that belong to them."""

from __future__ import annotations

import tracemalloc

import numpy as np

from trafficmond.flows.names import Names
from trafficmond.flows.owners import Owner
from trafficmond.flows.recent import Rates
from trafficmond.flows.report import REPORT
from trafficmond.handlers.rates import _units
from trafficmond.model import LIVE_WINDOWS_S


def units_of(owners: list[int], names: Names) -> list[tuple[str, int]]:
    rows = np.zeros(len(owners), REPORT)
    rows["owner"] = owners
    values = np.ones((1 + len(LIVE_WINDOWS_S), 4, len(owners)))
    return [(row["unit"], row["flows"]) for row in _units(rows, Rates(values), names, "bytes", 1)]


def test_several_cgroups_may_be_of_one_unit_and_some_have_no_name() -> None:
    names = Names(owners={7: Owner("web.service"), 8: Owner("api.service"), 9: Owner("web.service"), 0: Owner()})
    assert units_of([7, 9, 8, 7, 0, 11], names) == [("web.service", 3), ("api.service", 1), ("cgroup 11", 1)]
    assert units_of([], names) == []


def test_a_long_name_is_not_there_for_each_flow() -> None:
    owners, names = [7] * 20_000, Names(owners={7: Owner("x" * 255)})
    units_of(owners, names)
    tracemalloc.start()
    units_of(owners, names)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12e6  # with the name for each, 20 MB alone

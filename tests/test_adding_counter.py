"""What it takes to add a counter of the kernel's: a copy of the tree gets one, and has all it needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tree_copy import TreeCopy

from trafficmond import abi

TEST = """from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
from asking import asking

from trafficctl.render import status
from trafficctl.render.style import Style
from trafficmond import abi
from trafficmond.datapath.accounting import account, words
from trafficmond.datapath.ledger import Ledger, Sums


class NoLedger(Ledger):
    def __init__(self) -> None:
        pass

    def recovered(self) -> Sums:
        return Sums(0, 0)

    in_cache = recovered


def test_it_is_summed_carried_shown_and_exported(tmp_path: Path) -> None:
    totals = np.zeros(4, abi.TOTALS)
    totals["small"]["packets"] = 3
    words(totals)[:1] += words(totals).sum(axis=0)  # as the totals of an earlier daemon are
    counted = account(totals, NoLedger())
    assert counted.others["small"] == Sums(24, 0)

    async def run() -> None:
        async with asking(tmp_path) as ask:
            ask.datapath.counted = replace(ask.datapath.counted, others=counted.others)
            told = await ask("Status")
            assert told["accounting"]["others"]["small"] == {"packets": 24, "bytes": 0}
            assert any(line.split()[:2] == ["(small)", "24"] for line in status.render(told, Style(False), 100))
            text = (await ask("Metrics"))["text"]
            assert 'trafficmon_counted_packets_total{count="small"} 24' in text

    asyncio.run(run())
"""


@pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang; run: make deps")
def test_a_counter_of_the_kernels_is_four_files(tmp_path: Path) -> None:
    tree, pad = TreeCopy(tmp_path), abi.TOTALS["pad"].shape[0]
    last = "\t__u64 malformed_by[TM_MALFORMED_MAX];\n"
    tree.replace("bpf/abi.h", f"{last}\t__u64 pad[{pad}];", f"{last}\tstruct tm_count small;\n\t__u64 pad[{pad - 2}];")
    count = "\tif (w->bytes < 64)\n\t\ttm_count(&totals->small, w);\n"
    tree.edit("bpf/trafficmon.bpf.c", ("\ttm_count(&totals->seen, w);\n", count))
    tree.add("tests/handlers/test_handlers_small.py", TEST)
    tree.build()
    tree.tests_pass("tests/handlers/test_handlers_small.py", "tests/datapath/test_datapath_layouts.py")
    assert tree.touched == {
        "bpf/abi.h",
        "bpf/trafficmon.bpf.c",
        "tests/handlers/test_handlers_small.py",
        "trafficmond/abi.py",
    }

"""What an analysis keeps in memory: what it needs for the file at hand, and nothing for longer than that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trafficmond.analyze.order import intervals
from trafficmond.analyze.run_stats import BatchInterval
from trafficmond.flows.batch import DELTA, empty

_ZEEK = "#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\n17e8\t192.0.2.1\t1\t192.0.2.2\t80\ttcp\n"
_OF_OTHER_FILES = ("sqlite3", "subprocess", "tempfile", "html", "trafficmond.analyze.render.page")
_LOADED = """
import sys
from trafficctl.__main__ import main
try:
    sys.argv[1:1] = ["analyze"]
    main()
except SystemExit:
    pass
print("\\nLOADED", *sys.modules)
"""


@pytest.mark.parametrize("kind", ["capture", "zeek"])
def test_what_only_other_files_need_is_not_loaded(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "given"
    if kind == "zeek":
        file.write_text(_ZEEK)
    else:
        file.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
    done = subprocess.run([sys.executable, "-c", _LOADED, str(file)], capture_output=True, text=True, check=True)
    loaded = done.stdout.split("LOADED ")[1].split()
    assert f"trafficmond.analyze.readers.{kind}" in loaded
    assert not set(_OF_OTHER_FILES) & set(loaded)
    assert kind == "zeek" or not {"csv", "trafficmond.analyze.readers.eve"} & set(loaded)


def test_an_interval_does_not_keep_the_window_it_came_from() -> None:
    rows = empty(DELTA, 5000)
    rows["last"] = 1_700_000_000 + np.arange(5000) / 50
    parts = list(intervals([rows], BatchInterval(), 65536, lambda _: None))
    assert len(parts) == 100
    assert all(part.rows.base is not None and part.rows.base.nbytes == part.rows.nbytes for part in parts)

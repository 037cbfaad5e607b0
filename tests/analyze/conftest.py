"""What the tests of the analysis share: the real data, the C library, and one way to read a file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from readings import ROOT, Reading

from trafficmond.analyze.formats import format_of
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.source import Source
from trafficmond.flows import compiled
from trafficmond.flows.batch import DELTA, Batch


@pytest.fixture(scope="session", autouse=True)
def built_library(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The library of these sources, compiled apart if the checkout's is missing or older than them."""
    library = compiled.PLACES[0]
    sources = list((ROOT / "bpf").glob("*.[ch]"))
    if library.exists() and all(library.stat().st_mtime >= source.stat().st_mtime for source in sources):
        return
    fresh = tmp_path_factory.mktemp("native") / "libtmparse.so"
    command = ["cc", "-O2", "-shared", "-fPIC", f"-I{ROOT / 'bpf'}", str(ROOT / "bpf/host.c"), "-o", str(fresh)]
    subprocess.run(command, check=True, capture_output=True)
    compiled.PLACES = (fresh,)
    compiled.library.cache_clear()


@pytest.fixture(scope="session")
def data() -> Path:
    """The real data beside the checkout."""
    path = ROOT.parent / "shared" / "data"
    if not path.exists():
        pytest.skip(
            f"needs the test data in {path} (captures, flow records and logs of others; not in this repository)"
        )
    return path


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    """Reads a file, or bytes as a file: (all DELTA rows, the account)."""

    def read(content: Path | bytes) -> tuple[Batch, RunStats]:
        path = content
        if isinstance(content, bytes):
            path = tmp_path / "input"
            path.write_bytes(content)
        stats = RunStats()
        source = Source(str(path), stats.parse_errors)
        try:
            batches = list(format_of(source).deltas(source, stats))
        finally:
            source.close()
        rows = np.concatenate([np.empty(0, DELTA), *batches])
        assert int(rows["packets"].sum()) == stats.in_flows.packets
        assert int(rows["bytes"].sum()) == stats.in_flows.bytes
        for unit in ("packets", "bytes"):
            parts = sum(getattr(getattr(stats, name), unit) for name in ("in_flows", "not_ip", "malformed"))
            assert getattr(stats.seen, unit) == parts
        assert int(stats.sizes.classes.sum()) <= stats.seen.packets
        return rows, stats

    return read

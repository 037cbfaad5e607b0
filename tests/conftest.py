"""What all tests share: the root tier's reason to skip, and the way to the laboratory (`import tmlab`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.append(str(Path(__file__).parent / "lab"))

# How long an example takes says more of the machine than of the code. A change is judged by the same examples each
# time (CI is set); new ones are looked for wherever somebody runs the tests by hand.
settings.register_profile("here", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("here")


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """The top of a tree of cgroups, made of ordinary folders."""
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "system.slice" / "cron.service").mkdir(parents=True)
    return tmp_path


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked `root` for everybody else, saying how to run it."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root for network namespaces and BPF; run: sudo make test")

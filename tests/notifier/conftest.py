"""A served fake daemon and targets to tell."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "control"))

from control_fake import Running, serving
from notifier_targets import HttpTarget


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path / "io.trafficmon") as served:
        served.canned.replies["Threats"] = {"threats": []}
        yield served


@pytest.fixture
def http() -> Iterator[HttpTarget]:
    with HttpTarget() as target:
        yield target

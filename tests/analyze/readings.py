"""The type of the fixture `reading`, and where the checkout is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trafficmond.analyze.run_stats import RunStats
from trafficmond.flows.batch import Batch

ROOT = Path(__file__).parents[2]

Reading = Callable[[Path | bytes], tuple[Batch, RunStats]]

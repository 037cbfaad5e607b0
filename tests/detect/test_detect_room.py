"""What a setting `capacity` says of the memory that each entity takes is what the detector's table takes."""

from __future__ import annotations

import numpy as np
import pytest

from trafficmond.config.declare import declared, spec_of
from trafficmond.detect.grouped import GroupedDetector
from trafficmond.detect.registry import DETECTORS

WITH_CAPACITY = {name: each for name, each in DETECTORS.items() if "capacity" in declared(each.settings_class)}


@pytest.mark.parametrize("name", WITH_CAPACITY)
def test_the_help_says_what_an_entity_takes(name: str) -> None:
    detector = WITH_CAPACITY[name](WITH_CAPACITY[name].settings_class())
    assert isinstance(detector, GroupedDetector)
    columns = [each for each in vars(detector.table).values() if isinstance(each, np.ndarray)]
    size = sum(each.nbytes for each in columns) / detector.table.capacity
    told = f"{size:.0f} bytes" if size < 100 else f"{size / 1000:.1f} kB"
    assert spec_of(detector.settings_class, "capacity").help.endswith(f"; {told} each.")

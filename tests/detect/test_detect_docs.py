from __future__ import annotations

import re
from pathlib import Path

from trafficmond.detect.registry import DETECTORS

PAGE = Path(__file__).parents[2] / "docs/detectors.md"


def test_every_detector_is_described_with_what_fools_it() -> None:
    text = PAGE.read_text()
    assert sorted(re.findall(r"<!-- declared: (\w+) -->", text)) == sorted(DETECTORS)
    sections = text.split("\n## ")[1:]
    assert len(sections) == len(DETECTORS)
    for section in sections:
        assert "**Looks at**" in section
        assert "**Why.**" in section
        assert "**What fools it.**" in section

from __future__ import annotations

from pathlib import Path

from trafficmond.detect.docs import PAGE, described, page
from trafficmond.detect.registry import DETECTORS

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_declarations_make() -> None:
    text = (ROOT / PAGE).read_text()
    assert page(text) == text, "run: python -m trafficmond.detect.docs"


def test_every_detector_is_described_with_what_fools_it() -> None:
    text = (ROOT / PAGE).read_text()
    assert sorted(described(text)) == sorted(DETECTORS)
    sections = text.split("\n## ")[1:]
    assert len(sections) == len(DETECTORS)
    for section in sections:
        assert "**Looks at**" in section
        assert "**Why.**" in section
        assert "**What fools it.**" in section

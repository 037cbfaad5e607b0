"""Brings docs/detectors.md up to date with the declarations: `python -m trafficmond.detect.docs` in the project.

The prose is written by people; below each detector's heading stand its technique and its settings between two marks.
"""

from __future__ import annotations

import re
from pathlib import Path

from trafficmond.config.render import reference
from trafficmond.detect.registry import DETECTORS

PAGE = Path("docs/detectors.md")

_BLOCK = re.compile(r"(?P<begin><!-- declared: (?P<name>\w+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def page(text: str) -> str:
    """The page `text` with every declared part made anew. Raises KeyError for a detector that does not exist."""

    def block(match: re.Match[str]) -> str:
        detector = DETECTORS[match["name"]]
        technique = (
            f"[{detector.technique}](https://attack.mitre.org/techniques/{detector.technique.replace('.', '/')}/)"
        )
        yields = ", ".join(f"`{name}`" for name in detector.yields_to)
        parts = [f"ATT&CK {technique}. Closed after {detector.quiet_s / 60:.0f} minutes without new evidence."]
        if yields:
            parts[0] += f" Silent about what an open threat of {yields} explains."
        parts.append(reference(detector.settings_class, f"detect.{match['name']}").strip())
        return match["begin"] + "\n" + "\n\n".join(parts) + "\n\n" + match["end"]

    return _BLOCK.sub(block, text)


def described(text: str) -> list[str]:
    """The detectors that the page has a declared part for, in its order."""
    return [match["name"] for match in _BLOCK.finditer(text)]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))

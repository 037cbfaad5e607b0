"""The parts of docs/detectors.md that are declared: below each detector's heading its technique and its settings."""

from __future__ import annotations

import re

from rendering import reference

from trafficmond.detect.registry import DETECTORS

_BLOCK = re.compile(r"(?P<begin><!-- declared: (?P<name>\w+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def page(text: str) -> str:
    """The page `text` with every generated part replaced. Raises KeyError for a detector that does not exist."""

    def block(match: re.Match[str]) -> str:
        detector = DETECTORS[match["name"]]
        technique = (
            f"[{detector.technique}](https://attack.mitre.org/techniques/{detector.technique.replace('.', '/')}/)"
        )
        suppressors = " or ".join(f"`{name}`" for name in detector.suppressed_by)
        parts = [f"ATT&CK {technique}. Closed after {detector.idle_timeout_s / 60:.0f} minutes without new evidence."]
        if detector.bannable:
            parts[0] += " Its source may be banned."
        if suppressors:
            parts[0] += f" Not reported while an open threat of {suppressors} explains it."
        parts.append(reference(detector.settings_class, f"detect.{match['name']}").strip())
        return match["begin"] + "\n" + "\n\n".join(parts) + "\n\n" + match["end"]

    return _BLOCK.sub(block, text)


def described(text: str) -> list[str]:
    """The detectors that the page has a declared part for, in its order."""
    return [match["name"] for match in _BLOCK.finditer(text)]

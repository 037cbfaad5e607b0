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
        idle = f"{detector.idle_timeout_s / 60:.0f} minutes"
        parts = [f"ATT&CK {technique}. A threat is closed after {idle} without new evidence."]
        if detector.bannable:
            parts[0] += " `[response]` may ban its source."
        if suppressors:
            parts[0] += f" It is not reported while an open threat of {suppressors} explains it and is as severe."
        parts.append(reference(detector.settings_class, f"detect.{match['name']}").strip())
        return match["begin"] + "\n" + "\n\n".join(parts) + "\n\n" + match["end"]

    return _BLOCK.sub(block, text)


def described(text: str) -> list[str]:
    """The detectors that the page has a declared part for, in its order."""
    return [match["name"] for match in _BLOCK.finditer(text)]

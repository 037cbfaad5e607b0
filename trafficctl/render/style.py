"""Colours for terminals."""

import os
import re
from collections.abc import Mapping
from typing import TextIO

_PAINT = re.compile(r"\x1b\[\d+m")
_CODES = {"bold": 1, "dim": 2, "reverse": 7, "red": 31, "green": 32, "yellow": 33, "blue": 34, "cyan": 36}
_MEANING = {
    **dict.fromkeys(("drop", "critical", "high", "fail", "closed by error"), "red"),
    **dict.fromkeys(("limit", "medium", "warn", "ban"), "yellow"),
    **dict.fromkeys(("allow", "ok", "native"), "green"),
    **dict.fromkeys(("low", "monitor", "info"), "cyan"),
}


class Style:
    """Wraps text in colours, if colour is on."""

    def __init__(self, colour: bool, *, reverse: bool = False) -> None:
        """`reverse`: show reverse video even without colour, so that a selection is visible."""
        self.colour = colour
        self.reverse = colour or reverse

    def paint(self, text: str, name: str) -> str:
        """`text` in bold, dim, red, green, yellow, blue, cyan or reverse."""
        wanted = self.reverse if name == "reverse" else self.colour and name
        return f"\x1b[{_CODES[name]}m{text}\x1b[0m" if wanted else text

    def word(self, text: str) -> str:
        """An action, a severity or a state, in the colour of its meaning."""
        return self.paint(text, _MEANING.get(text.strip().lower(), ""))

    def title(self, text: str) -> str:
        return self.paint(text, "bold")

    def dim(self, text: str) -> str:
        return self.paint(text, "dim")


def bare(text: str) -> str:
    return _PAINT.sub("", text)


def wanted(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether to use colour: on a terminal that has it, unless NO_COLOR is set (no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM", "") not in ("", "dumb")

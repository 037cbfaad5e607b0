"""Facts about one thing: keys in a column, values beside them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from trafficctl.render import table, units
from trafficctl.render.style import Style

_KEY, _WIDEST_KEY = 12, 24
_LEAST_ROOM = 20


def facts(pairs: Iterable[tuple[str, str]], style: Style, width: int | None, mark: str = "") -> Iterator[str]:
    """The lines; values are wrapped to the width and painted as `mark` says, empty ones left out."""
    told = [(units.plain(key), units.plain(value)) for key, value in pairs if value]
    margin = max([_KEY, *(min(table.cells(key) + 1, _WIDEST_KEY) for key, _ in told)])
    for key, text in told:
        lines = (
            [text] if width is None else textwrap.wrap(text, max(_LEAST_ROOM, width - margin), break_on_hyphens=False)
        )
        for index, line in enumerate(lines):
            yield style.dim(table.pad("" if index else table.clip(key, margin - 1), margin)) + style.paint(line, mark)

"""Renders facts about one thing: keys in a column, values beside them."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from trafficctl.render import table
from trafficctl.render.style import Style
from trafficmond import figures

_KEY, _WIDEST_KEY = 12, 26
_LEAST_ROOM = 20


class Fact(NamedTuple):
    """A value with its key, in the colour `mark`. An empty key continues the fact before."""

    key: str
    value: str
    mark: str = ""


def render(facts: Iterable[Fact], style: Style, width: int | None) -> Iterator[str]:
    """The lines; values are wrapped to the width, empty values left out."""
    shown = [Fact(figures.plain(key), value, mark) for key, value, mark in facts if value]
    margin = max([_KEY, *(min(table.cells(fact.key) + 1, _WIDEST_KEY) for fact in shown)])
    for key, text, mark in shown:
        for index, line in enumerate(table.hung(text, width and max(_LEAST_ROOM, width - margin))):
            yield style.dim(table.pad("" if index else table.clip(key, margin - 1), margin)) + style.paint(line, mark)

"""Renders totals of traffic as a table with bars."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from trafficctl.render import table
from trafficctl.render.style import Style, bare
from trafficctl.render.table import Column
from trafficmond import figures

_DOWN, _UP = "█", "▒"
_ASCII_DOWN, _ASCII_UP = "#", "="
_LEAST_BAR, _MOST_BAR = 8, 60
_WIDE = 72  # a terminal with room for bars
_SUMS = {"up_bytes": "UP", "down_bytes": "DOWN", "total": "TOTAL"}
_BEFORE = "({} are from before the last upgrade: of these, UP is what initiators sent, DOWN what they received)"


def render(rows: Sequence[dict[str, Any]], by: str, style: Style, width: int | None) -> Iterator[str]:
    """The rows of Usage by hour, day or month (oldest first) or by another kind; the last line has their sum."""
    if not rows:
        yield "there are no such totals; flows are counted when they are stored, up to 5 minutes later"
        return
    timed = rows[0]["period"] is not None
    shown = reversed(rows) if timed else rows
    brief = (lambda row: figures.brief_unit(row["key"])) if by == "unit" else None
    key = "period" if timed else "key"
    named = Column(key, by.upper(), lambda text: figures.plain(text) or "(none)", weight=9, shrinks_to=12, brief=brief)
    sized = (Column(key, title, figures.size, right=True, weight=9) for key, title in _SUMS.items())
    columns = (named, Column("as_name", "AS NAME", weight=8, shrinks_to=12), *sized)
    totals = [{**row, "total": row["up_bytes"] + row["down_bytes"]} for row in shown]
    sums = {key: sum(row[key] for row in totals) for key in _SUMS}
    marks = (_DOWN, _UP) if (sys.stdout.encoding or "").upper().startswith("UTF") else (_ASCII_DOWN, _ASCII_UP)
    legend = "{} down {} up".format(*marks)
    beside = width - len(legend) - 2 if width and width >= _WIDE else width  # names are shortened to make room for bars
    lines = table.lines([*totals, {named.key: "sum", **sums}], columns, beside, style)
    natural = max(table.cells(bare(line)) for line in lines)
    room = min(_MOST_BAR, (width or 100) - natural - 2)
    largest = max(row["total"] for row in totals) or 1
    yield lines[0] + (f"  {style.dim(legend)}" if room >= len(legend) else "")
    for line, row in zip(lines[1:], totals, strict=False):
        yield f"{line}  {_bar(row, largest, room, *marks)}" if room >= _LEAST_BAR else line
    yield style.title(lines[len(totals) + 1])
    if unsided := sum(row["unsided_bytes"] for row in totals):
        yield style.dim(table.clip(_BEFORE.format(figures.size(unsided)), width))


def _bar(row: dict[str, Any], largest: int, room: int, down: str, up: str) -> str:
    """A bar of both directions; traffic that is not zero has at least one mark."""
    whole = max(1, round(row["total"] / largest * room)) if row["total"] else 0
    part = round(row["down_bytes"] / row["total"] * whole) if row["total"] else 0
    return down * part + up * (whole - part)

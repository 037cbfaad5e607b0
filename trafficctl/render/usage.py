"""Renders totals of traffic as a table with bars."""

from __future__ import annotations

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
_BEFORE = "(totals from before the last upgrade do not know UP: {} of it is what initiators sent)"


def render(rows: Sequence[dict[str, Any]], by: str, style: Style, width: int | None) -> Iterator[str]:
    """The rows of Usage by hour, day or month (oldest first) or by another kind; the last line has their sum."""
    if not rows:
        yield "there are no such totals; flows are counted when they are stored, up to 5 minutes later"
        return
    timed = rows[0]["period"] is not None
    shown = list(reversed(rows)) if timed else list(rows)
    first = Column("period" if timed else "key", by.upper(), _named, weight=9, shrinks_to=12)
    columns = (
        first,
        Column("as_name", "AS NAME", weight=8, shrinks_to=12),
        *(Column(key, title, figures.size, right=True, weight=9) for key, title in _SIDES),
        Column("total", "TOTAL", figures.size, right=True, weight=9),
    )
    totals = [{**row, "total": row["up_bytes"] + row["down_bytes"]} for row in shown]
    sums = {key: sum(row[key] for row in totals) for key in ("up_bytes", "down_bytes", "total")}
    lines = table.lines([*totals, {first.key: "sum", **sums}], columns, width, style)
    natural = max(table.cells(bare(line)) for line in lines)
    room = min(_MOST_BAR, (width or 100) - natural - 2)
    largest = max(row["total"] for row in totals) or 1
    yield lines[0] + (f"  {style.dim(_legend())}" if room >= len(_legend()) else "")
    for line, row in zip(lines[1:], totals, strict=False):
        yield f"{line}  {_bar(row, largest, room)}" if room >= _LEAST_BAR else line
    yield style.title(lines[len(totals) + 1])
    if unsided := sum(row["unsided_bytes"] for row in totals):
        yield style.dim(table.clip(_BEFORE.format(figures.size(unsided)), width))


_SIDES = (("up_bytes", "UP"), ("down_bytes", "DOWN"))


def _named(key: Any) -> str:
    return figures.plain(key) or "(none)"


def _legend() -> str:
    down, up = _marks()
    return f"{down} down {up} up"


def _marks() -> tuple[str, str]:
    encoding = (sys.stdout.encoding or "").upper().replace("-", "")
    return (_DOWN, _UP) if encoding.startswith("UTF") else (_ASCII_DOWN, _ASCII_UP)


def _bar(row: dict[str, Any], largest: int, room: int) -> str:
    """A bar of both directions; traffic that is not zero has at least one mark."""
    down, up = _marks()
    whole = max(1, round(row["total"] / largest * room)) if row["total"] else 0
    part = round(row["down_bytes"] / row["total"] * whole) if row["total"] else 0
    return down * part + up * (whole - part)

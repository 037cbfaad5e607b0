"""Sections that only a daemon's report has: usage over time, countries, who exchanged how much with whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from trafficmond.analyze.render import charts
from trafficmond.analyze.render import figures as f
from trafficmond.analyze.render.exchange import exchange

_LINES = 6  # ends with a time line of their own


def pictures(report: Mapping[str, Any]) -> Iterator[str]:
    """The sections that the report has."""
    if shown := report.get("exchange"):
        drawing = exchange(shown["rows"], shown["left"], shown["right"])
        if drawing:
            yield f'<section class="card"><h2>{escape(shown["left"].capitalize())} and {escape(shown["right"])}</h2>'
            yield f'<p class="legend">by bytes, up and down together</p>{drawing}</section>'
    yield from _countries(report.get("countries") or ())
    for kind, lines in (report.get("usage") or {}).items():
        yield from _time_lines(kind, lines)


def _countries(countries: Any) -> Iterator[str]:
    if not countries:
        return
    most = max(row["up"] + row["down"] for row in countries) or 1
    yield '<section class="card"><h2>Countries</h2><div class="head"><span>country</span><span>up</span>'
    yield '<span>down</span></div><ul class="rows">'
    for row in countries:
        share = charts.share(100 * (row["up"] + row["down"]) / most)
        yield f'<li><span class="name">{escape(f.plain(row["country"] or "")) or "(none)"}</span>'
        yield f'<span class="number">{f.size(row["up"])}</span><span class="number">{f.size(row["down"])}</span>'
        yield f"{share}</li>"
    yield "</ul></section>"


def _time_lines(kind: str, lines: Mapping[str, Any]) -> Iterator[str]:
    """One for each key, all with the same time scale."""
    shown = [(name, bins) for name, bins in lines["keys"].items() if any(up + down for up, down in bins)][:_LINES]
    if not shown:
        return
    first, step, count = lines["first"], lines["step"], len(shown[0][1])
    ends = [f.moment(at, max(step, 3600)) for at in (first, first + step * count / 2, first + step * count)]
    times = "".join(f"<span>{escape(text)}</span>" for text in ends)
    yield f'<section class="card"><h2>Usage by {escape(kind)}</h2><p class="legend"><span><i></i>down in '
    yield f'{f.span(step)}</span><span><i class="up"></i>up</span></p>'
    for name, bins in shown:
        up, down = (sum(each[side] for each in bins) for side in (0, 1))
        total = f"{f.size(up)} up, {f.size(down)} down"
        yield f'<h3 class="line">{escape(f.plain(name)) or "(none)"} <span>{escape(total)}</span></h3>'
        yield f'<div class="chart">{charts.updown(bins, first, step)}</div>'
    yield f'<div class="chart"><div class="scale"></div><div class="times">{times}</div></div></section>'

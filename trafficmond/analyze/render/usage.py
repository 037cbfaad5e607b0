"""Sections that only a daemon's report has: usage over time, countries, who exchanged how much with whom."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from trafficmond import figures as f
from trafficmond.analyze.render import charts, times
from trafficmond.analyze.render.exchange import exchange

_LINES = 6  # ends with a time line of their own
_DRAWN = 3  # bars, from which on a time line says more than a sum


def pictures(report: Mapping[str, Any]) -> Iterator[str]:
    if shown := report.get("exchange"):
        drawing = exchange(shown["rows"], shown["left"], shown["right"])
        if drawing:
            yield f'<section class="card"><h2>{escape(shown["left"].capitalize())} and {escape(shown["right"])}</h2>'
            yield f'<p class="legend">by bytes, up and down together</p>{drawing}</section>'
    countries = [(row["country"], row["up"], row["down"]) for row in report.get("countries") or ()]
    yield from _sums("Countries", "country", countries)
    for kind, lines in (report.get("usage") or {}).items():
        yield from _time_lines(kind, lines)


def _sums(title: str, what: str, sums: Sequence[tuple[str, int, int]]) -> Iterator[str]:
    """Bytes up and down of each, largest first."""
    most = max((up + down for _, up, down in sums), default=0) or 1
    rows = [(_name(name), f.size(up), f.size(down), 100 * (up + down) / most) for name, up, down in sums]
    yield from bars(title, (what, "up", "down"), rows)


def _name(name: str | None) -> str:
    return escape(f.brief_unit(f.plain(name or ""))) or "(none)"


def bars(
    title: str,
    heads: Sequence[str],
    rows: Sequence[tuple[str, str, str, float]],
    legend: str = "",
    *,
    whole: bool = False,
) -> Iterator[str]:
    """A card with a row for each of these: (name as HTML, two figures, percent for a bar); nothing without rows.

    `whole`: the percents are parts of a whole, and shown as such.
    """
    if not rows:
        return
    yield f'<section class="card"><h2>{escape(title)}</h2>' + (f'<p class="legend">{legend}</p>' if legend else "")
    yield f'<div class="head">{"".join(f"<span>{escape(head)}</span>" for head in heads)}</div><ul class="rows">'
    for name, one, other, percent in rows:
        tip = f' title="{f.share(percent, 100)}"' if whole else ""
        first = f'<span class="number">{one}</span>' if one else "<span></span>"
        yield f'<li{tip}><span class="name">{name}</span>{first}<span class="number">{other}</span>'
        yield f"{charts.share(percent)}</li>"
    yield "</ul></section>"


def _time_lines(kind: str, lines: Mapping[str, Any]) -> Iterator[str]:
    """One for each key, all with the same time scale; sums if there is hardly a time to draw."""
    shown = [(name, bins) for name, bins in lines["keys"].items() if any(up + down for up, down in bins)]
    sums = [(name, *(sum(each[side] for each in bins) for side in (0, 1))) for name, bins in shown]
    count = max((len(bins) for _, bins in shown), default=0)
    if count < _DRAWN:
        yield from _sums(f"Usage by {kind}", kind, sums)
        return
    first, step = lines["first"], lines["step"]
    ends = [times.moment(at, max(step, 3600)) for at in (first, first + step * count / 2, first + step * count)]
    labels = "".join(f"<span>{escape(text)}</span>" for text in ends)
    yield f'<section class="card"><h2>Usage by {escape(kind)}</h2><p class="legend"><span><i></i>down in '
    yield f'{f.span(step)}</span><span><i class="up"></i>up</span></p>'
    for (name, bins), (_, up, down) in zip(shown[:_LINES], sums[:_LINES], strict=True):
        total = f"{f.size(up)} up, {f.size(down)} down"
        yield f'<h3 class="line">{_name(name)} <span>{escape(total)}</span></h3>'
        yield f'<div class="chart">{charts.updown(bins, first, step)}</div>'
    yield f'<div class="chart"><div class="scale"></div><div class="times">{labels}</div></div></section>'

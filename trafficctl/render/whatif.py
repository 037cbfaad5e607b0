"""Renders the result of what-if for people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trafficctl.render import table
from trafficctl.render.columns import FROM, TO
from trafficctl.render.style import Style
from trafficctl.render.table import Column, Row
from trafficmond import figures

_SHOWN = 10
_TITLES = {"dropped": "WOULD NEWLY BE DROPPED", "limited": "WOULD NEWLY BE LIMITED", "passed": "WOULD NEWLY PASS"}
_SUMS = (
    Column("flows", "FLOWS", figures.exact, right=True, weight=9),
    Column("packets", "PACKETS", figures.number, right=True, weight=7),
    Column("bytes", "BYTES", figures.size, right=True, weight=8),
    Column("answered", "ANSWERED", figures.exact, right=True, weight=8),
)
_RULES = (
    Column("rule", "RULE", weight=9, shrinks_to=12),
    Column("action", "ACTION", weight=7, meaningful=True),
    Column("before_rule", "INSTEAD OF", weight=6, shrinks_to=12),
    Column("before_action", "ACTION", weight=5, meaningful=True),
    *_SUMS,
    Column("origin", "SOURCE", weight=4, shrinks_to=12, keep_end=True),
)
_SOURCES = (Column("source", "PEER", weight=9, shrinks_to=15), *_SUMS)
_SERVICES = (Column("service", "SERVICE", weight=9), *_SUMS)
_FLOWS = (
    Column("last_seen", "LAST SEEN", figures.when, weight=8),
    FROM,
    TO,
    Column("protocol", "PROTO", weight=8),
    Column("rule", "RULE", weight=7, shrinks_to=12),
    Column("total", "TOTAL", figures.size, right=True, weight=9, of=lambda row: row["bytes"] + row["reply_bytes"]),
    Column("received", "ANSWERED", figures.size, right=True, weight=7, of=lambda row: row["reply_bytes"]),
)


def render(answer: Mapping[str, Any], style: Style, width: int | None) -> Iterator[str]:
    judged = f"{figures.many(answer['flows'], 'flow')} seen since {figures.clock(answer['since'])}"
    yield style.title(judged) + f": {figures.many(answer['packets'], 'packet')}, {figures.size(answer['bytes'])}"
    yield _in_a_line(answer["dropped"], answer["differs"])
    for name, title in _TITLES.items():
        if answer[name]["flows"]:
            yield ""
            yield from _change(title, answer[name], style, width)


def _in_a_line(dropped: Mapping[str, Any], differs: bool) -> str:
    if not differs:
        return "nothing would be different"
    if not dropped["flows"]:
        return "nothing more would be dropped"
    if not dropped["answered"]:
        return "no answered flow would be dropped"
    were = "was" if dropped["answered"] == 1 else "were"
    return f"{figures.many(dropped['answered'], 'flow')} that {were} answered would be dropped"


def _change(title: str, change: Mapping[str, Any], style: Style, width: int | None) -> Iterator[str]:
    sums = f"{figures.many(change['flows'], 'flow')}, {figures.many(change['packets'], 'packet')}"
    answered = f"{figures.exact(change['answered'])} answered"
    yield style.title(title) + f": {sums}, {figures.size(change['bytes'])}; {answered}"
    yield from _part("by rule", change["rules"], _RULES, style, width)
    yield from _part("by peer", change["sources"], _SOURCES, style, width, change["more_sources"])
    if others := change["flows_of_others"]:
        yield style.dim(f"(and {figures.many(others, 'flow')} of other peers)")
    yield from _part("by service", change["services"], _SERVICES, style, width)
    yield from _part("the largest", change["largest"], _FLOWS, style, width)
    yield from _part("the latest", change["latest"], _FLOWS, style, width)


def _part(
    title: str, rows: list[Row], columns: Sequence[Column], style: Style, width: int | None, more: int = 0
) -> Iterator[str]:
    yield style.dim(f"  {title}")
    inner = None if width is None else max(20, width - 2)
    yield from (f"  {line}" for line in table.lines(rows[:_SHOWN], columns, inner, style))
    more += max(0, len(rows) - _SHOWN)
    if more:
        yield style.dim(f"  (and {figures.exact(more)} more; -o json has the largest)")

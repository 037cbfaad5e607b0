"""Renders the rates of a fleet as tables."""

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from trafficctl.render import columns, table
from trafficctl.render.style import Style
from trafficctl.render.table import Column
from trafficmond import figures


def _rates(sent: str, received: str) -> tuple[Column, ...]:
    sides = ((sent, itemgetter("sent_bytes_per_s")), (received, itemgetter("received_bytes_per_s")))
    return tuple(Column(title, title, figures.octet_rate, right=True, weight=8, of=of) for title, of in sides)


_FLOWS = Column("flows", "FLOWS", figures.number, right=True, weight=6)
_NOT_OF_THREATS = ("state", "technique", "dst_ip")
_LISTS = {
    "threats": tuple(each._replace(below=False) for each in columns.FLEET_THREATS if each.key not in _NOT_OF_THREATS),
    "sensors": (columns.SENSOR, *_rates("OUT", "IN"), _FLOWS),
    "flows": (
        columns.SENSOR,
        columns.FROM,
        columns.TO,
        columns.PROTOCOL,
        *_rates("SENT", "RECEIVED"),
        Column("unit", "UNIT", weight=6, shrinks_to=8, unknown="(none)"),
        Column("action", "ACTION", weight=7, meaningful=True),
        Column("interface", "INTERFACE", weight=3),
    ),
    "hosts": (
        columns.HOST,
        *_rates("SENT", "RECEIVED"),
        _FLOWS,
        Column("sensors", "SENSORS", figures.exact, right=True, weight=7),
    ),
}
_MOST_SENSORS = 20  # the busiest; JSON has all of them


def render(answer: dict[str, Any], style: Style, width: int | None) -> Iterator[str]:
    """One sample; open threats come first, if there are any."""
    busy = figures.many(len(answer["sensors"]), "busy sensor")
    flows = figures.many(sum(row["flows"] for row in answer["sensors"]), "report")
    span = figures.span(answer["window_s"])
    heading = f"trafficmon fleet  {figures.clock(answer['at'])[11:]}  {busy}, {flows} of flows in {span}"
    yield style.title(table.clip(heading, width))
    hidden: dict[str, int] = {}
    for name, shown in _LISTS.items():
        rows = answer[name][: _MOST_SENSORS if name == "sensors" else None]
        if rows or name != "threats":
            yield ""
            none = [style.title(name), style.dim("none")]
            yield from table.lines(rows, shown, width, style, hidden) if rows else none
    yield from table.note(hidden, width, style)

"""The live screen as lines of text, for any terminal of at least 40 x 10 cells. Pure."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from trafficctl import probation
from trafficctl.live.model import Live, both, others, rate
from trafficctl.render import columns, table
from trafficctl.render.style import Style, bare
from trafficctl.render.table import Column, Row
from trafficmond import figures
from trafficmond.model import LIVE_WINDOWS_S

_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.:-=+*#"
LEAST_WIDTH, LEAST_HEIGHT = 40, 10
_UNITS: Mapping[str, Callable[[float], str]] = {"bytes": figures.octet_rate, "packets": figures.rate}
_TOTALS: Mapping[str, Callable[[float], str]] = {"bytes": figures.size, "packets": figures.number}
_THREAT = ("last_seen", "severity", "detector", "summary", "id")
_THREATS = tuple(column._replace(below=False) for column in columns.THREATS if column.key in _THREAT)

_UNIT = columns.UNIT._replace(weight=9, shrinks_to=15)

KEYS = "q quit  s sort  1-3 average  / filter  n names  p pause  Tab list  b ban  ? help"
HELP = (
    "q        quit",
    "s        sort by bytes, packets, sent, received or total",
    "1 2 3    sort by averages over 2, 10 or 40 seconds",
    "/        show only an address, prefix, port, protocol or unit; empty shows all",
    "n        show hosts by name, or by address",
    "p        pause and continue",
    "Space    refresh now",
    "Tab      next list: flows, hosts, units, threats",
    "Up Down  select a row (also k, j, PgUp, PgDn, Home, End)",
    "b        ban an address of the selected row, for response.ban_time",
    "?        this help (also h); any key goes back",
    "",
    "SENT, RECEIVED    by who began the flow (FROM), or by the host or unit itself",
    "2 S, 10 S, 40 S   both ways per second, averages of that many seconds",
    "others            the rest, which does not fit. All rows together are what",
    "                  passed through the interfaces in the last 40 s",
)


def draw(live: Live, width: int, height: int, style: Style, *, unicode: bool = True, cursor: bool = True) -> list[str]:
    """`height` lines (one, if there is nothing to show), none wider than `width` cells; the last is for messages.

    `unicode`: draw bars with block characters; `cursor`: show the selection.
    """
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return [table.clip(f"{width}x{height} is too small; at least {LEAST_WIDTH}x{LEAST_HEIGHT}", width)]
    if live.answer is None:
        return [table.clip(live.trouble or "waiting for the daemon", width)]
    top = [_heading(live, width, style)]
    if trial := live.answer.get("probation"):
        top.append(style.paint(table.clip(probation.status_line(trial), width), "yellow"))
    meters = _meters(live, width, style, unicode)
    room = height - 1 - len(top)  # without the heading and the last line
    shown = meters[: max(2, room // 4)]
    top += shown
    room -= len(shown)
    lines = [*top, *_lists(live, width, room, style, cursor)]
    lines += [""] * (height - 1 - len(lines))
    return [*lines, _last_line(live, width, style)]


def help_screen(width: int, style: Style) -> list[str]:
    return [style.title("trafficctl top"), "", *(table.clip(line, width) for line in HELP)]


def sparkline(values: Sequence[float], width: int, *, unicode: bool = True) -> str:
    """The latest `width` values as bars; the largest has full height."""
    bars = _BARS if unicode else _ASCII_BARS
    latest = list(values)[-width:] if width > 0 else []
    largest = max(latest, default=0.0)
    if largest <= 0:
        return bars[0] * len(latest)
    return "".join(bars[min(len(bars) - 1, int(value / largest * len(bars)))] for value in latest)


def _heading(live: Live, width: int, style: Style) -> str:
    assert live.answer is not None
    moving = live.answer.get("moving", len(live.answer["flows"]))
    flows = f"{figures.many(live.answer['flow_count'], 'live flow')}, {figures.exact(moving)} in 40 s"
    by = f"by {live.sort}" + ("" if live.sort == "total" else f" over {live.window_s} s")
    parts = [figures.clock(live.answer["at"])[11:], by]
    if live.paused:
        parts.append("PAUSED")
    if live.match:
        parts.append(f"only {figures.plain(live.match)}")
    parts.append(flows)
    return style.title(table.clip("trafficmon  " + "  ".join(parts), width))


def _averages(live: Live, sent: str, received: str) -> tuple[Column, ...]:
    """Columns for rates: sent and received over the chosen window, and both together over each window."""
    unit, chosen = live.unit, live.window_s

    def column(title: str, weight: int, of: Callable[[Row], float]) -> Column:
        return Column(title, title, _UNITS[unit], right=True, weight=weight, of=of)

    sides = ((sent, "sent"), (received, "received"))
    return (
        *(column(title, 8, partial(rate, window_s=chosen, side=side, unit=unit)) for title, side in sides),
        *(column(f"{w} S", 7 if w == chosen else 4, partial(both, window_s=w, unit=unit)) for w in LIVE_WINDOWS_S),
    )


def _of_meters(live: Live) -> tuple[Column, ...]:
    out, into, *windows = _averages(live, "OUT", "IN")
    return (
        Column("name", "INTERFACE", weight=9, shrinks_to=6),
        Column("mode", "MODE", weight=4, shrinks_to=7, meaningful=True),
        into,
        out,
        *windows,
        Column("dropped_per_s", "DROPPED", figures.rate, right=True, weight=6),
        Column("spark", "", weight=3),
    )


def _of_flows(live: Live) -> tuple[Column, ...]:
    total = Column(live.unit, "TOTAL", _TOTALS[live.unit], right=True, weight=7 if live.sort == "total" else 5)
    return (
        columns.FROM,
        columns.TO,
        columns.PROTOCOL,
        *_averages(live, "SENT", "RECEIVED"),
        total,
        columns.UNIT._replace(weight=6),
        columns.PROCESS,
        Column("action", "ACTION", weight=7, meaningful=True),
        Column("age_s", "AGE", figures.span, right=True, weight=2),
        columns.PLACES,
        Column("interface", "INTERFACE", weight=3),
    )


def _of_ends(live: Live, named: Column) -> tuple[Column, ...]:
    return (
        named,
        *_averages(live, "SENT", "RECEIVED"),
        Column("flows", "FLOWS", figures.number, right=True, weight=6),
        columns.PLACE,
    )


def _meters(live: Live, width: int, style: Style, unicode: bool) -> list[str]:
    shown = _of_meters(live)
    rows = [{**meter.row, "dropped_per_s": meter.dropped_per_s} for meter in live.meters.values()]
    bare_width = max(map(table.cells, table.lines(rows, shown, None, Style(False))), default=0)
    spark = max(8, min(60, width - 4 - bare_width))
    for row, meter in zip(rows, live.meters.values(), strict=True):
        row["spark"] = sparkline(meter.history, spark, unicode=unicode)
    return [f"  {line}" for line in table.lines(rows, shown, width - 2, style)]


def _lists(live: Live, width: int, room: int, style: Style, cursor: bool) -> list[str]:
    """The lists of flows, hosts, units and threats, which share the room. The one with the focus is always shown."""
    assert live.answer is not None
    hosts, units = _of_ends(live, columns.HOST), _of_ends(live, _UNIT)
    tables = {"threats": _THREATS, "flows": _of_flows(live), "hosts": hosts, "units": units}
    kinds = [(name, live.answer.get(name) or [], shown) for name, shown in tables.items()]
    shares = _shares(room, {name: len(rows) for name, rows, _ in kinds}, live.focus)
    out: list[str] = []
    for name, rows, shown in kinds:
        if shares[name]:
            selected = live.selected if cursor and name == live.focus else None
            rest = live.answer if name == "flows" else None
            out += ["", *_list(name, rows, shown, selected, width, shares[name] - 1, style, rest)]
    return out[:room]


def _shares(room: int, counts: dict[str, int], focus: str) -> dict[str, int]:
    """The number of lines for each list, with its blank line and heading; 0: not shown."""
    shares = dict.fromkeys(counts, 0)
    wanted = {name: max(count, 1) + 2 for name, count in counts.items() if count or name in ("flows", focus)}
    weights = {"threats": 1, "flows": 3, "hosts": 2, "units": 2}
    whole = sum(weights[name] for name in wanted)
    # An open threat is shown however many hosts and units there are.
    for name in sorted(wanted, key=lambda each: (each != focus, each != "flows", each != "threats", -weights[each])):
        fair = room if name == focus and room < 9 else max(3, room * weights[name] // whole)
        if room - sum(shares.values()) >= 3:
            shares[name] = min(wanted[name], fair, room - sum(shares.values()))
    for name in sorted(wanted, key=lambda each: -weights[each]):
        if shares[name]:
            shares[name] += min(room - sum(shares.values()), wanted[name] - shares[name])
    return shares


def _list(
    name: str,
    rows: list[dict[str, Any]],
    shown: Sequence[Column],
    selected: int | None,
    width: int,
    room: int,
    style: Style,
    of: dict[str, Any] | None = None,
) -> list[str]:
    """`of`: the reply that the rows are from; if there is room, a last line sums up its other rows."""
    count = max(0, room - 1)
    if of is not None and count > 2 and (len(rows) > count or (of.get("moving") or 0) > len(rows)):
        count -= 1
    else:
        of = None
    first = max(0, (selected or 0) - count + 1)
    visible = rows[first : first + count]
    if not visible:
        return [style.title(f"  {name}"), style.dim("  none")][:room]
    rest = [others(of, visible)] if of is not None else []
    for row in rest:
        row |= {"src_ip": figures.many(row["flows"], "other"), "dst_ip": "", "unit": " "}
    heading, *lines = table.lines([*visible, *rest], shown, width - 2, style)
    out = [f"  {heading}"]
    for index, line in enumerate(lines, first):
        chosen = style.paint(table.pad(f"> {bare(line)}", width), "reverse")
        out.append(chosen if index == selected else f"  {line}")
    return out


def _last_line(live: Live, width: int, style: Style) -> str:
    if live.prompt:
        return table.clip(f"{live.prompt}{figures.plain(live.typed)}_", width)
    if live.message or live.trouble:
        return style.paint(table.clip(figures.plain(live.message or live.trouble), width), "yellow")
    return style.dim(table.clip(KEYS, width))

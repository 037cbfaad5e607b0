"""The live screen as lines of text: fits any terminal from 60 x 20 up, and says so below that. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trafficctl.live.model import Live, Meter
from trafficctl.render import columns, table, units
from trafficctl.render.style import Style, bare
from trafficctl.render.table import Column

_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.:-=+*#"
LEAST_WIDTH, LEAST_HEIGHT = 40, 10

_METERS = (
    Column("name", "INTERFACE", weight=9, shrinks_to=6),
    Column("mode", "MODE", weight=4, shrinks_to=7, meaningful=True),
    Column("packets_per_s", "PACKETS", units.rate, right=True, weight=7),
    Column("bytes_per_s", "BYTES", units.octet_rate, right=True, weight=9),
    Column("dropped_per_s", "DROPPED", units.rate, right=True, weight=6),
    Column("spark", "", weight=8),
)
_FLOWS = (
    columns.FROM,
    columns.TO,
    Column("protocol", "PROTO", weight=6),
    Column("bytes_per_s", "BYTES", units.octet_rate, right=True, weight=9),
    Column("packets_per_s", "PACKETS", units.rate, right=True, weight=7),
    Column("bytes", "TOTAL", units.octets, right=True, weight=3),
    Column("action", "ACTION", weight=5, meaningful=True),
    Column("age_s", "AGE", units.span, right=True, weight=2),
    Column("interface", "INTERFACE", weight=3),
)
_HOSTS = (
    Column("address", "HOST", weight=9, shrinks_to=15),
    Column("bytes_per_s", "BYTES", units.octet_rate, right=True, weight=9),
    Column("packets_per_s", "PACKETS", units.rate, right=True, weight=7),
    Column("flows", "FLOWS", units.number, right=True, weight=6),
)
_THREATS = (
    *(column for column in columns.THREATS if column.key in ("last_seen", "severity", "detector", "summary", "id")),
)

KEYS = "q quit  s sort  / filter  p pause  Tab list  b ban  ? help"
HELP = (
    "q        quit",
    "s        sort by bytes or packets a second",
    "/        show only an address, prefix, port or protocol; empty shows all",
    "p        pause and go on",
    "Tab      next list: flows, hosts, threats",
    "Up Down  select a row (also k, j)",
    "b        ban an address of the selected row, for response.ban_time",
    "?        this help; any key goes back",
)


def draw(live: Live, width: int, height: int, style: Style, *, unicode: bool = True, cursor: bool = True) -> list[str]:
    """`height` lines (one, if there is nothing to show), none wider than `width` cells; the last is for talking.

    `unicode`: what bars are drawn with; `cursor`: show what is selected.
    """
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return [table.clip(f"{width}x{height} is too small; {LEAST_WIDTH}x{LEAST_HEIGHT} will do", width)]
    if live.answer is None:
        return [table.clip(live.trouble or "waiting for the daemon", width)]
    top = [_heading(live, width, style)]
    meters = _meters(live, width, style, unicode)
    room = height - 2  # without the heading and the last line
    top += meters[: max(2, room // 4)]
    room -= len(top) - 1
    lines = [*top, *_lists(live, width, room, style, cursor)]
    lines += [""] * (height - 1 - len(lines))
    return [*lines, _last_line(live, width, style)]


def help_screen(width: int, style: Style) -> list[str]:
    """What the keys do."""
    return [style.title("trafficctl top"), "", *(table.clip(line, width) for line in HELP)]


def sparkline(values: Sequence[float], width: int, *, unicode: bool = True) -> str:
    """The latest `width` values as bars, the largest of them full height."""
    bars = _BARS if unicode else _ASCII_BARS
    latest = list(values)[-width:] if width > 0 else []
    largest = max(latest, default=0.0)
    if largest <= 0:
        return bars[0] * len(latest)
    return "".join(bars[min(len(bars) - 1, int(value / largest * len(bars)))] for value in latest)


def _heading(live: Live, width: int, style: Style) -> str:
    assert live.answer is not None
    parts = [units.clock(live.answer["at"])[11:], units.many(live.answer["flow_count"], "live flow"), f"by {live.sort}"]
    if live.match:
        parts.append(f"only {units.plain(live.match)}")
    if live.paused:
        parts.append("PAUSED")
    return style.title(table.clip("trafficmon  " + "  ".join(parts), width))


def _meters(live: Live, width: int, style: Style, unicode: bool) -> list[str]:
    spark = max(8, min(60, width - 62))
    rows = [_meter_row(meter, spark, unicode) for meter in live.meters.values()]
    return [f"  {line}" for line in table.lines(rows, _METERS, width - 2, style, note=False)]


def _meter_row(meter: Meter, spark: int, unicode: bool) -> dict[str, Any]:
    return {
        "name": meter.row["name"],
        "mode": meter.row["mode"],
        "packets_per_s": meter.packets_per_s,
        "bytes_per_s": meter.bytes_per_s,
        "dropped_per_s": meter.dropped_per_s,
        "spark": sparkline(meter.history, spark, unicode=unicode),
    }


def _lists(live: Live, width: int, room: int, style: Style, cursor: bool) -> list[str]:
    """Flows, hosts and open threats, the room shared between them; the one with the focus is never crowded out."""
    assert live.answer is not None
    threats, flows, hosts = (live.answer[name] for name in ("threats", "flows", "hosts"))
    shares = _shares(room, {"threats": len(threats), "flows": len(flows), "hosts": len(hosts)}, live.focus)
    out: list[str] = []
    for name, rows, shown in (("threats", threats, _THREATS), ("flows", flows, _FLOWS), ("hosts", hosts, _HOSTS)):
        if shares[name]:
            selected = live.selected if cursor and name == live.focus else None
            out += ["", *_list(name, rows, shown, selected, width, shares[name] - 1, style)]
    return out[:room]


def _shares(room: int, counts: dict[str, int], focus: str) -> dict[str, int]:
    """Lines for each list, its blank line and heading included; 0: not shown."""
    shares = dict.fromkeys(counts, 0)
    wanted = {name: max(count, 1) + 2 for name, count in counts.items() if count or name in ("flows", focus)}
    weights = {"threats": 1, "flows": 3, "hosts": 2}
    for name in sorted(wanted, key=lambda each: (each != focus, -weights[each])):
        fair = room if name == focus and room < 9 else max(3, room * weights[name] // 6)
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
) -> list[str]:
    count = max(0, room - 1)
    first = max(0, (selected or 0) - count + 1)
    visible = rows[first : first + count]
    if not visible:
        return [style.title(f"  {name}"), style.dim("  none")][:room]
    heading, *lines = table.lines(visible, shown, width - 2, style, note=False)
    out = [f"  {heading}"]
    for index, line in enumerate(lines, first):
        chosen = style.paint(table.pad(f"> {bare(line)}", width), "reverse")
        out.append(chosen if index == selected else f"  {line}")
    return out


def _last_line(live: Live, width: int, style: Style) -> str:
    if live.prompt:
        return table.clip(f"{live.prompt}{units.plain(live.typed)}_", width)
    if live.message or live.trouble:
        return style.paint(table.clip(units.plain(live.message or live.trouble), width), "yellow")
    return style.dim(table.clip(KEYS, width))

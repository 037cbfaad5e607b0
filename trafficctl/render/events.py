"""Renders log records and threats as one line each, for watching a stream."""

import time
from collections.abc import Callable
from typing import Any

from trafficctl.names import name_key
from trafficctl.render import table
from trafficctl.render.style import Style
from trafficmond import figures, protocols

Record = dict[str, Any]
_NAME_CELLS = 40  # width of a host's name; it is cut at its beginning


def event_line(event: Record, style: Style) -> str:
    parts = [
        _clock(event.get("timestamp", 0.0)),
        style.word(figures.action(str(event.get("action"))).ljust(7)),
        figures.plain(event.get("interface", "")),
        figures.plain(event.get("protocol", "")),
        f"{end_of(event, 'src')} -> {end_of(event, 'dst')}",
        figures.size(event.get("packet_size")),
    ]
    if event.get("rule"):
        parts.append(style.dim(f"rule {figures.plain(event['rule'])}"))
    if event.get("would"):
        parts.append(style.dim(f"(in shadow: {figures.plain(event['would'])} by {figures.plain(event['would_rule'])})"))
    return " ".join(part for part in parts if part)


def threat_line(threat: Record, style: Style) -> str:
    parts = [
        _clock(threat["last_seen"]),
        style.word(str(threat["severity"]).ljust(8)),
        figures.plain(threat["detector"]),
        figures.plain(threat["summary"]),
        style.dim(f"{threat.get('state') or ''} {figures.plain(threat['id'])}".strip()),
    ]
    return " ".join(parts)


def fitted(line: Callable[[Record, Style], str], record: Record, style: Style, width: int | None) -> list[str]:
    """The line of a record; in lines without colours if it is wider than the terminal."""
    text = line(record, Style(False))
    if width is None or table.cells(text) <= width:
        return [line(record, style)]
    return table.hung(text, width, other=" " * len(_clock(0.0)) + " ")


def _clock(then: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(then)) + f".{int(then % 1 * 1000):03d}"


def end_of(record: Record, side: str) -> str:
    """ "192.0.2.1:443", "[2001:db8::1]:https", "host.example:ssh": by the names that the record has (names.Labels),
    without ports for protocols that have none."""
    port = record.get(f"{side}_service") or record.get(f"{side}_port")
    return protocols.endpoint(address_of(record, f"{side}_ip"), port, str(record.get("protocol")))


def address_of(record: Record, end: str) -> str:
    """The name of the address in the field `end` (one of `names.ENDS`) if the record has it, else the address."""
    name = record.get(name_key(end))
    return table.clip_middle(figures.plain(name), _NAME_CELLS) if name else figures.plain(record.get(end))

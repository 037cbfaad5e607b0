"""One line a record, for people who watch a stream."""

from __future__ import annotations

import time
from typing import Any

from trafficctl.render import units
from trafficctl.render.style import Style
from trafficmond import protocols

Record = dict[str, Any]


def event_line(event: Record, style: Style) -> str:
    """A log record: when, what was done, where, who with whom, how large, by which rule."""
    action = {"LOG": "monitor"}.get(str(event.get("action")), str(event.get("action")).lower())
    parts = [
        _clock(event.get("timestamp", 0.0)),
        style.word(action.ljust(7)),
        units.plain(event.get("interface", "")),
        units.plain(event.get("protocol", "")),
        f"{_end(event, 'src')} -> {_end(event, 'dst')}",
        units.octets(event.get("packet_size")),
    ]
    if event.get("rule"):
        parts.append(style.dim(f"rule {units.plain(event['rule'])}"))
    return " ".join(part for part in parts if part)


def threat_line(threat: Record, style: Style) -> str:
    """A threat: when, how grave, what kind, what happened."""
    severity = str(threat["severity"])
    state = str(threat.get("state") or "")
    parts = [
        _clock(threat["last_seen"]),
        style.word(severity.ljust(8)),
        units.plain(threat["detector"]),
        units.plain(threat["summary"]),
        style.dim(" ".join(part for part in (state, units.plain(threat["id"])) if part)),
    ]
    return " ".join(parts)


def _clock(then: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(then)) + f".{int(then % 1 * 1000):03d}"


def _end(record: Record, side: str) -> str:
    return endpoint(record.get(f"{side}_ip"), record.get(f"{side}_port"), record.get("protocol"))


def endpoint(address: Any, port: Any, protocol: Any) -> str:
    """ "192.0.2.1:443", "[2001:db8::1]:443"; without ports where a protocol has none."""
    return protocols.endpoint(units.plain(address), port, str(protocol))

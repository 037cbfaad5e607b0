"""The daemon's own log, and the original program's: JSON lines, or a JSON array of the same objects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from trafficmond.analyze.intake import Intake
from trafficmond.analyze.jsonstream import looks_like, objects
from trafficmond.analyze.native import Ledger, Lines
from trafficmond.analyze.readers.capture import account
from trafficmond.analyze.rows import Events, address, iso_time, port, renumber
from trafficmond.analyze.source import CHUNK, LINE_MAX, Source
from trafficmond.flows.batch import Batch
from trafficmond.model import Action, Direction
from trafficmond.protocols import protocol_number

TITLE = "traffic log (JSON)"

_ACTIONS = {"LOG": Action.MONITOR, "DROP": Action.DROP, "ALLOW": Action.ALLOW, "LIMIT": Action.LIMIT}
_BRACKETS = (b"[", b"]", b"[]", b",")
_REQUIRED = ("timestamp", "src_ip", "dst_ip", "packet_size", "action")


def matches(head: bytes) -> bool:
    """Whether a file that begins so is such a log."""
    return looks_like(head, "src_ip", "dst_ip", "action", "flow_hash") or looks_like(head, "event", "detector")


def read(source: Source, intake: Intake, interval: float) -> Iterator[Batch]:
    """DELTA rows, one packet a line. Lines of the plain shape are read in C, all others as JSON."""
    if _one_a_line(source.head):
        yield from _read_lines(source, intake, interval)
        return
    events = Events()
    for line, value in objects(source):
        try:
            add_event(value, events, intake)
        except ValueError as error:
            source.damage.line(source.name, line, "no event", str(error))
        if events.full:
            yield counted(events.take(), intake)
    yield counted(events.take(), intake)


def add_event(value: Mapping[str, Any], events: Events, intake: Intake) -> None:
    """Adds one event to the rows; a threat, which the log holds too, is passed over. Raises ValueError."""
    if value.get("event") == "threat":
        return
    missing = [name for name in _REQUIRED if value.get(name) in (None, "")]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
    action = _ACTIONS.get(str(value["action"]).upper())
    if action is None:
        raise ValueError(f"{value['action']!r} is no action")
    proto = value.get("protocol_num")
    try:
        number = protocol_number(str(value.get("protocol") if proto in (None, "") else proto))
        at = float(value["timestamp"]) if not isinstance(value["timestamp"], str) else _time(value["timestamp"])
        events.add(
            at,
            address(str(value["src_ip"])),
            address(str(value["dst_ip"])),
            (port(value.get("src_port")), port(value.get("dst_port"))),
            number,
            int(value["packet_size"]),
            action=action,
            direction=Direction.EGRESS if value.get("direction") == "egress" else Direction.INGRESS,
            ifindex=intake.ifindex(str(value.get("interface") or "")),
            vlan=int(value.get("vlan") or 0),
        )
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error


def _time(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return iso_time(text)


def _one_a_line(head: bytes) -> bool:
    """Whether the first line that holds more than a bracket is a whole object."""
    for line in head.split(b"\n"):
        text = line.strip()
        if text and text not in _BRACKETS:
            return text.startswith(b"{") and (text.rstrip(b",").endswith(b"}") or len(line) == len(head))
    return False


def _read_lines(source: Source, intake: Intake, interval: float) -> Iterator[Batch]:
    ledger = Ledger(interval)
    lines = Lines(ledger)
    events = Events()
    data = b""
    final = False
    while not final:
        more = source.read(CHUNK)
        final = not more
        data += more
        stuck = False
        while not stuck:
            used, rejects = lines.feed(data, final=final)
            for number, text in rejects:
                _read_other(number, text, source, events, intake)
            stuck = not ledger.full and not rejects
            data = data[used:]
            if ledger.waiting:
                yield renumber(ledger.take(), lines.name, intake)
            if events.full:
                yield counted(events.take(), intake)
        if len(data) > LINE_MAX:
            source.damage.offset(source.name, source.read_bytes - len(data), "line too long")
            data = b""
    yield renumber(ledger.take(close=True), lines.name, intake)
    yield counted(events.take(), intake)
    account(ledger.totals(), intake)


def _read_other(number: int, line: bytes, source: Source, events: Events, intake: Intake) -> None:
    """A line that is not of the plain shape: unusual, or damaged."""
    text = line.strip()
    if text in _BRACKETS:
        return
    try:
        value = json.loads(text.rstrip(b",").lstrip(b"[").rstrip(b"]"))
    except (ValueError, RecursionError):
        source.damage.line(source.name, number, "not JSON", text)
        return
    if not isinstance(value, dict):
        source.damage.line(source.name, number, "not a JSON object", text)
        return
    try:
        add_event(value, events, intake)
    except ValueError as error:
        source.damage.line(source.name, number, "no event", str(error))


def counted(rows: Batch, intake: Intake) -> Batch:
    """Notes rows that the C side did not count."""
    sizes = rows["bytes"].astype("i8")
    intake.flow(len(rows), int(sizes.sum()))
    intake.records += len(rows)
    intake.sizes.add(sizes)
    return rows

"""The daemon's own log, and the original program's, as CSV: a header line with the names of the fields."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from trafficmond.analyze.intake import Intake
from trafficmond.analyze.readers.own_json import add_event, counted
from trafficmond.analyze.rows import Events
from trafficmond.analyze.source import Source
from trafficmond.flows.batch import Batch

TITLE = "traffic log (CSV)"

_NEEDED = frozenset(("timestamp", "src_ip", "dst_ip", "packet_size", "action", "flow_hash"))


def matches(head: bytes) -> bool:
    """Whether a file that begins so is such a log."""
    return _NEEDED <= set(_fields(head.split(b"\n")[0]))


def read(source: Source, intake: Intake, interval: float) -> Iterator[Batch]:  # noqa: ARG001 -- rows need no interval
    """DELTA rows, one packet a line. A header in mid-file (logs that were joined) takes effect from there."""
    events = Events()
    names: list[str] = []
    for number, line in source.lines():
        values = _fields(line)
        if _NEEDED <= set(values):
            names = values
            continue
        if not any(values):
            continue
        if len(values) != len(names):
            source.damage.line(source.name, number, f"{len(values)} fields instead of {len(names)}", line)
            continue
        try:
            add_event(dict(zip(names, values, strict=True)), events, intake)
        except ValueError as error:
            source.damage.line(source.name, number, "no event", str(error))
        if events.full:
            yield counted(events.take(), intake)
    yield counted(events.take(), intake)


def _fields(line: bytes) -> list[str]:
    """The values of a line; csv's own errors (a NUL, an endless quote) leave one that matches nothing."""
    text = line.decode("utf-8", "replace").removeprefix("\ufeff").strip()
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text]))
    except (csv.Error, StopIteration):
        return [text]

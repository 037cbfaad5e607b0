"""The daemon's own log, and the original program's: JSON lines, or a JSON array of the same objects."""

from __future__ import annotations

from collections.abc import Iterator

from trafficmond.analyze.events import EventReader, one_a_line
from trafficmond.analyze.intake import Intake
from trafficmond.analyze.jsonstream import looks_like, objects
from trafficmond.analyze.source import Source
from trafficmond.flows.batch import Batch

TITLE = "traffic log (JSON)"


def matches(head: bytes) -> bool:
    """Whether a file that begins so is such a log."""
    return looks_like(head, "src_ip", "dst_ip", "action", "packet_size") or looks_like(head, "event", "detector")


def read(source: Source, intake: Intake) -> Iterator[Batch]:
    """DELTA rows, one packet a line."""
    reader = EventReader(source, intake)
    if one_a_line(source.head):
        yield from reader.read_lines()
        return
    for line, value in objects(source):
        reader.add(line, value)
        yield from reader.rows()
    yield from reader.finish()

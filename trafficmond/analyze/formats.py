"""Which reader reads a file: told by its content, never by its name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from trafficmond.analyze.intake import Intake
from trafficmond.analyze.order import by_start, spread
from trafficmond.analyze.readers import argus, capture, eve, flows_db, ocsf, own_csv, own_json, vpc, zeek
from trafficmond.analyze.source import InputError, Source
from trafficmond.flows.batch import Batch


class Reader(Protocol):
    """What a module of `readers` offers."""

    TITLE: str

    def matches(self, head: bytes) -> bool: ...

    def read(self, source: Source, intake: Intake) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Format:
    """A reader, and whether its rows are RECORD (flows, which others made) or DELTA (packets, or log lines of them)."""

    reader: Reader
    records: bool
    log: bool = False

    def deltas(self, source: Source, intake: Intake) -> Iterator[Batch]:
        """DELTA rows of the source."""
        rows = self.reader.read(source, intake)
        return _paced(spread(by_start(rows)) if self.records else rows, source, intake)


def _paced(batches: Iterator[Batch], source: Source, intake: Intake) -> Iterator[Batch]:
    """The batches, while the run's pace follows what they turn out to span."""
    first, last, rows = math.inf, -math.inf, 0
    for batch in batches:
        if len(batch):
            first, last = min(first, float(batch["last"].min())), max(last, float(batch["last"].max()))
            rows += len(batch)
            intake.pace.widen(last - first, rows, source.done)
        yield batch


FORMATS = (
    Format(capture, records=False),
    Format(flows_db, records=True),
    Format(zeek, records=True),
    Format(argus, records=True),
    Format(own_csv, records=False, log=True),
    Format(own_json, records=False, log=True),
    Format(eve, records=True),
    Format(ocsf, records=True),
    Format(vpc, records=True),
)


def format_of(source: Source) -> Format:
    """The format of a source. Raises InputError, naming what is read, if it is none of them."""
    for known in FORMATS:
        if known.reader.matches(source.head):
            return known
    if not source.head.strip():
        raise InputError(f"{source.name} is empty", hint="there is nothing to analyse in it")
    names = ", ".join(known.reader.TITLE for known in FORMATS)
    raise InputError(f"{source.name} is of no format that is read here", hint=f"give one of: {names}")

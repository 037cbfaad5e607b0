"""The CSV log of the daemon, and of the original program: a header line with the names of the fields."""

import csv
from collections.abc import Iterator

from trafficmond.analyze.events import REQUIRED, EventReader
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import Lacks, Sample
from trafficmond.analyze.source import Source
from trafficmond.flows.batch import Batch

TITLE = "traffic log (CSV)"


def lacks(sample: Sample) -> Lacks:
    return sample.header_lacks(REQUIRED, lambda line: _fields(line.encode()))


def read(source: Source, stats: RunStats) -> Iterator[Batch]:
    """DELTA rows, one packet for each line. A header inside the file (joined logs) takes effect from there on."""
    reader = EventReader(source, stats)
    names: list[str] = []
    for number, line in source.lines():
        values = _fields(line)
        if values[0] and set(values) >= set(REQUIRED):
            names = values
        elif len(values) == len(names):
            reader.add(number, dict(zip(names, values, strict=True)))
            yield from reader.rows()
        elif any(values):
            source.parse_errors.line(source.name, number, f"{len(values)} fields instead of {len(names)}", line)
    yield from reader.finish()


def _fields(line: bytes) -> list[str]:
    """The values of a line; if csv raises an error (a NUL, an endless quote), a value that matches nothing."""
    text = line.decode("utf-8", "replace").removeprefix("\ufeff").strip()
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text]))
    except (csv.Error, StopIteration):
        return [text]

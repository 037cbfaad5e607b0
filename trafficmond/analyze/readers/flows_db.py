"""The daemon's own store, flows.db: opened for reading only, while the daemon writes or long after."""

from __future__ import annotations

from collections.abc import Iterator

from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import Lacks, Sample
from trafficmond.analyze.source import InputError, Source
from trafficmond.flows.batch import Batch

TITLE = "flow store (flows.db)"


def lacks(sample: Sample) -> Lacks:
    """Whether a file that begins so is an SQLite database."""
    return [] if sample.head.startswith(b"SQLite format 3\0") else None


def read(source: Source, stats: RunStats) -> Iterator[Batch]:
    """RECORD rows, one a flow and reporting interval. Raises InputError if it is not a flow store."""
    from trafficmond.analyze import stored  # SQLite is loaded for none but such a file

    if source.compressed or source.path == "-":
        raise InputError(
            f"{source.name} is a database, which cannot be read from a pipe", hint="write it to a file first, unpacked"
        )
    yield from stored.flows(source, stats)

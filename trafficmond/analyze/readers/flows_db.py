"""The daemon's own store, flows.db: opened read-only, also while the daemon writes to it."""

from collections.abc import Iterator

from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import Lacks, Sample
from trafficmond.analyze.source import InputError, Source
from trafficmond.flows.batch import Batch

TITLE = "flow store (flows.db)"


def lacks(sample: Sample) -> Lacks:
    return [] if sample.head.startswith(b"SQLite format 3\0") else None


def read(source: Source, stats: RunStats) -> Iterator[Batch]:
    """RECORD rows, one for each flow and reporting interval. Raises InputError if it is not a flow store."""
    from trafficmond.analyze import stored  # SQLite is imported only for such files

    if source.compressed or source.path == "-":
        hint = "save it as an uncompressed file, and give that file's name"
        raise InputError(f"{source.name} is a database, which cannot be read from a pipe", hint=hint)
    yield from stored.flows(source, stats)

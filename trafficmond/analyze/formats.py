"""Which reader reads a file: told by its content, never by its name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Protocol, cast

from trafficmond.analyze import readers
from trafficmond.analyze.duplicates import once
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import Lacks, Sample
from trafficmond.analyze.sorting import by_start
from trafficmond.analyze.source import InputError, Source
from trafficmond.analyze.spread import spread
from trafficmond.analyze.unread import packed, unread
from trafficmond.flows.batch import Batch


class Reader(Protocol):
    """What a module of `readers` offers."""

    TITLE: str

    def lacks(self, sample: Sample) -> Lacks: ...

    def read(self, source: Source, stats: RunStats, /) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Format:
    """A reader, by its name in `readers`, and whether its rows are RECORD (flows, which others made) or DELTA (packets,
    or log lines of them).

    `json`: its records are JSON, or may be. `repeats`: they may tell of one connection many times, in many files too.
    """

    name: str
    records: bool
    log: bool = False
    repeats: bool = False
    json: bool = False

    @cached_property
    def reader(self) -> Reader:
        """Loaded when it is first asked for: a capture needs none of those that read logs."""
        return cast(Reader, import_module(f"{readers.__name__}.{self.name}"))

    def deltas(self, source: Source, stats: RunStats) -> Iterator[Batch]:
        """DELTA rows of the source. Of a format that `repeats`, the first source to be read has those of all."""
        if self.repeats:
            sources = stats.together.setdefault(self.reader.TITLE, [])
            sources.append(source)
            rows = once(by_start(self._read_all(sources, stats)), stats, source.note)
            return _with_interval(spread(rows), source, stats)
        rows = self.reader.read(source, stats)
        return _with_interval(spread(by_start(rows)) if self.records else rows, source, stats)

    def _read_all(self, sources: list[Source], stats: RunStats) -> Iterator[Batch]:
        while sources:
            yield from self.reader.read(sources.pop(0), stats)


def _with_interval(batches: Iterator[Batch], source: Source, stats: RunStats) -> Iterator[Batch]:
    """The batches, while the interval of the run follows the time that they turn out to span."""
    first, last, rows = math.inf, -math.inf, 0
    for batch in batches:
        if len(batch):
            first, last = min(first, float(batch["last"].min())), max(last, float(batch["last"].max()))
            rows += len(batch)
            stats.batching.widen(last - first, rows, source.done)
        yield batch


FORMATS = (
    Format("capture", records=False),
    Format("flows_db", records=True),
    Format("own_json", records=False, log=True, json=True),
    Format("own_csv", records=False, log=True),
    Format("zeek", records=True, repeats=True, json=True),
    Format("argus", records=True),
    Format("journal", records=False),
    Format("eve", records=True, repeats=True, json=True),
    Format("ocsf", records=True, json=True),
    Format("ecs", records=True, repeats=True, json=True),
    Format("vpc", records=True),
)


def _enveloped(source: Source) -> Format | None:
    """The format of what a shipper put into records of its own, or behind what syslog writes before it."""
    sample = Sample(source.head, enveloped=True)
    if packed(source.head, source.path) or not sample.objects:
        return None
    for known in FORMATS:
        if known.json and known.reader.lacks(sample) == []:
            source.enveloped = True
            source.note("records were unwrapped from the records of a log shipper", 0)
            return known
    return None


def format_of(source: Source) -> Format:
    """The format of a source. Raises InputError if it is none: what it looks like, what it lacks, what is read."""
    looked, path = True, "FILE" if source.path == "-" else source.path
    while looked:
        sample = Sample(source.head)
        lacks = []
        for known in FORMATS:
            lack = known.reader.lacks(sample)
            if lack == []:
                return known
            lacks.append((known, lack))
        if found := _enveloped(source):
            return found
        looked = source.look()
    if not source.head.strip() and source.compressed == "journal":
        raise InputError(
            f"{source.name} has no entry that journalctl can read", hint=f"see what it says: journalctl --file {path}"
        )
    if not source.head.strip():
        raise InputError(f"{source.name} is empty", hint="there is nothing to analyse in it")
    if named := unread(sample, path):
        what, hint = named
        raise InputError(f"{source.name} is {what}, which cannot be read here", hint=hint)
    near = min(
        ((len(lack), known.reader.TITLE, lack) for known, lack in lacks if lack), default=None, key=lambda it: it[0]
    )
    likeness = f"; it looks like {near[1]}, but lacks {', '.join(near[2])}" if near else ""
    names = ", ".join(known.reader.TITLE for known in FORMATS)
    raise InputError(f"{source.name} has an unknown format{likeness}", hint=f"give one of: {names}")

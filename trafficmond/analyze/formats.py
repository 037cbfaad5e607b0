"""Chooses the reader for a file, by its content, never by its name."""

import math
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from typing import Protocol, cast

from trafficmond.analyze import readers
from trafficmond.analyze.duplicates import once, opened_once
from trafficmond.analyze.rows import counted_records
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import Lacks, Sample
from trafficmond.analyze.sorting import by_time
from trafficmond.analyze.source import EmptyInput, InputError, Source
from trafficmond.analyze.spread import spread
from trafficmond.analyze.unread import packed, unread
from trafficmond.dataclass import dataclass
from trafficmond.flows.batch import Batch


class Reader(Protocol):
    """The interface of a module in `readers`."""

    TITLE: str

    def lacks(self, sample: Sample) -> Lacks:
        """The reasons why a file that begins like this is not in the format; see `Sample`."""

    def read(self, source: Source, stats: RunStats, /) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Format:
    """A reader with its name in `readers`, and the kind of its rows: RECORD (flows that another program measured) or
    DELTA (packets, or log lines of packets).

    `json`: its records are, or may be, JSON. `repeats`: its records may report one connection many times, also in
    several files.
    """

    name: str
    records: bool
    log: bool = False
    repeats: bool = False
    json: bool = False

    @cached_property
    def reader(self) -> Reader:
        """Imported when it is first used, so a capture does not need the readers of logs."""
        return cast(Reader, import_module(f"{readers.__name__}.{self.name}"))

    def deltas(self, source: Source, stats: RunStats) -> Iterator[Batch]:
        """DELTA rows of the source. Of a format that `repeats`, the first source yields the rows of all of them."""
        if self.repeats:
            sources = stats.together.setdefault(self.reader.TITLE, [])
            sources.append(source)
            rows = once(by_time(self._read_all(sources, stats)), stats, source.note)
        elif self.records:
            rows = opened_once(by_time(counted_records(batch, stats) for batch in self.reader.read(source, stats)))
        else:
            return _with_interval(self.reader.read(source, stats), source, stats)
        return _with_interval(spread(rows), source, stats)

    def _read_all(self, sources: list[Source], stats: RunStats) -> Iterator[Batch]:
        while sources:
            yield from self.reader.read(sources.pop(0), stats)


def _with_interval(batches: Iterator[Batch], source: Source, stats: RunStats) -> Iterator[Batch]:
    """The batches; meanwhile, widens the run's interval to match the time that they span."""
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
    Format("journal", records=False, json=True),
    Format("eve", records=True, repeats=True, json=True),
    Format("ocsf", records=True, json=True),
    Format("ecs", records=True, repeats=True, json=True),
    Format("vpc", records=True),
)


def _enveloped(source: Source) -> Format | None:
    """The format of records inside a log shipper's records, or after a syslog header."""
    sample = Sample(source.head, enveloped=True)
    if not sample.objects:
        return None
    for known in FORMATS:
        if known.json and known.reader.lacks(sample) == []:
            source.enveloped = True
            if b"{" in source.head:
                source.note("records were unwrapped from the records of a log shipper", 0)
            return known
    return None


def format_of(source: Source) -> Format:
    """The format of a source. Raises InputError if there is none, with the most similar format and what is missing."""
    looked, path = True, "FILE" if source.path == "-" else source.path
    named = packed(source.head, path)  # its files may be recognised, but their beginnings are not whole records
    while looked and not named:
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
        hint = f"see what journalctl reports: journalctl --file {path}"
        raise InputError(f"{source.name} has no entry that journalctl can read", hint=hint)
    if not source.head.strip() and source.trouble:
        hint = f"see what its own program reports: {source.compressed} -t {path}"
        raise InputError(f"nothing of {source.name} can be unpacked: {source.trouble}", hint=hint)
    if not source.head.strip():
        raise EmptyInput(f"{source.name} is empty", hint="there is nothing to analyse in it")
    if named := named or unread(sample, path):
        what, hint = named
        raise InputError(f"{source.name} is {what}, which cannot be read here", hint=hint)
    near = min(((known.reader.TITLE, lack) for known, lack in lacks if lack), default=None, key=lambda it: len(it[1]))
    likeness = f"; it looks like {near[0]}, but lacks {', '.join(near[1])}" if near else ""
    names = ", ".join(known.reader.TITLE for known in FORMATS)
    raise InputError(f"{source.name} has an unknown format{likeness}", hint=f"give one of: {names}")

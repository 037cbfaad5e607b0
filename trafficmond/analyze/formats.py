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
from trafficmond.analyze.unpack import GZIP, ZSTD
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

    `repeats`: its records may tell of one connection many times, in many files too.
    """

    name: str
    records: bool
    log: bool = False
    repeats: bool = False

    @cached_property
    def reader(self) -> Reader:
        """Loaded when it is first asked for: a capture needs none of those that read logs."""
        return cast(Reader, import_module(f"{readers.__name__}.{self.name}"))

    def deltas(self, source: Source, stats: RunStats) -> Iterator[Batch]:
        """DELTA rows of the source. Of a format that `repeats`, the first source to be read has those of all."""
        if self.repeats:
            sources = stats.together.setdefault(self.reader.TITLE, [])
            sources.append(source)
            rows = once(by_start(self._read_all(sources, stats)), stats)
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
    Format("own_json", records=False, log=True),
    Format("own_csv", records=False, log=True),
    Format("zeek", records=True),
    Format("argus", records=True),
    Format("journal", records=False),
    Format("eve", records=True, repeats=True),
    Format("ocsf", records=True),
    Format("vpc", records=True),
)

_CONVERTED = "tshark -w FILE.pcap -r"
_CONTAINERS = (  # known by their first bytes, and how they are undone
    (b"\xfd7zXZ\0", "compressed with xz", "xz -dc"),
    (b"BZh", "compressed with bzip2", "bzip2 -dc"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "lz4 -dc"),
    (b"\x02\x21\x4c\x18", "compressed with lz4 as Linux's images are", "lz4 -dc"),
    (b"\x5d\0\0", "compressed with lzma", "lzma -dc"),
    (b"\x1f\x9d", "compressed with compress", "zcat"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "7z x -so"),
    (GZIP, "compressed twice", "zcat FILE | zcat # instead of FILE its path:"),
    (ZSTD, "compressed twice", "zstdcat FILE | zstdcat # instead of FILE its path:"),
    (b"PK\x03\x04", "a zip archive", "unzip -p"),
    (b"PAR1", "a Parquet file", "duckdb -json -c \"from 'FILE'\" # instead of FILE its path:"),
    (b"LPKSHHRH", "a file of the journal", "journalctl -o json --file"),
    (b"snoop\0\0\0", "a capture of snoop", _CONVERTED),
    (b"\x1c\0\x01\xac", "a capture of Ixia", _CONVERTED),
    (b"\xac\x01\0\x1c", "a capture of Ixia", _CONVERTED),
    (b"\x1c\0\x01\xab", "a capture of Ixia", _CONVERTED),
    (b"\xab\x01\0\x1c", "a capture of Ixia", _CONVERTED),
    (b"GMBU", "a capture of Microsoft Network Monitor", _CONVERTED),
    (b"RTSS", "a capture of Microsoft Network Monitor", _CONVERTED),
    (b"XCP\0", "a capture of Sniffer", _CONVERTED),
    (b"TRSNIFF data    \x1a", "a capture of Sniffer", _CONVERTED),
    (b"\x05VNF", "a capture of Visual Networks", _CONVERTED),
    (b"\xaa\xaa\xaa\xaa", "a capture of InfoVista 5View", _CONVERTED),
    (b"\x7fver", "a capture of OmniPeek", _CONVERTED),
    (b"iptrace ", "a capture of AIX's iptrace", _CONVERTED),
    (b"\x54\x52\0\x64\0", "a capture of HP-UX's nettl", _CONVERTED),
    (b"btsnoop\0", "a capture of Bluetooth", "tshark -r"),
    (b"\x0c\xa5\x01\0", "nfdump's own file", "nfdump -o csv -r"),
    (b"\x0c\xa5\x02\0", "nfdump's own file", "nfdump -o csv -r"),
    (b"\x83\x10", "Argus's own file", "ra -n -c , -r"),
)


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
        looked = source.look()
    if not source.head.strip() and source.compressed == "journal":
        raise InputError(
            f"{source.name} has no entry that journalctl can read", hint=f"see what it says: journalctl --file {path}"
        )
    if not source.head.strip():
        raise InputError(f"{source.name} is empty", hint="there is nothing to analyse in it")
    for magic, what, program in _CONTAINERS:
        if source.head.startswith(magic):
            raise InputError(f"{source.name} is {what}, which cannot be read here", hint=f"unpack it: {program} {path}")
    if source.head.startswith(b"__CURSOR="):
        what = f"{source.name} is a journal in its export format, which this command cannot read"
        raise InputError(
            what, hint="have journalctl write JSON: journalctl -u trafficmond -o json | trafficctl analyze -"
        )
    near = min(
        ((len(lack), known.reader.TITLE, lack) for known, lack in lacks if lack), default=None, key=lambda it: it[0]
    )
    likeness = f"; it looks like {near[1]}, but lacks {', '.join(near[2])}" if near else ""
    names = ", ".join(known.reader.TITLE for known in FORMATS)
    raise InputError(f"{source.name} has an unknown format{likeness}", hint=f"give one of: {names}")

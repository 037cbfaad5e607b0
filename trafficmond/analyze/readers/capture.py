"""pcap and pcapng, read with the host build of the kernel's parser."""

from __future__ import annotations

from collections.abc import Iterator

from trafficmond.analyze.linktypes import named
from trafficmond.analyze.native import Capture, Ledger, Note, account
from trafficmond.analyze.rows import renumber
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import Lacks, Sample
from trafficmond.analyze.source import CHUNK, Source
from trafficmond.flows.batch import Batch

TITLE = "packet capture (pcap, pcapng)"

_MAGIC = frozenset(
    bytes.fromhex(magic)
    for magic in ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1", "a1b2cd34", "34cdb2a1", "0a0d0d0a")
)

_NOTES = {  # enum tm_note_kind
    0: "more damaged places",
    1: "impossible record length",
    2: "impossible block length",
    3: "truncated",
    4: "packet of an undescribed interface",
    5: "unsupported link type",
    6: "reading resumed",
    7: "unknown file version",
    8: "too many interfaces",
    9: "impossible time",
    10: "impossible time",
    11: "nanoseconds in a file of microseconds",
    12: "packets without a time",
    13: "impossible length on the wire",
}
_LOST, _TRUNCATED, _NO_INTERFACE, _LINK_TYPE, _RESUMED, _VERSION, _TIME = 0, 3, 4, 5, 6, 7, 9
_FRACTION, _NANOSECONDS, _UNTIMED, _WIRE_LENGTH = 10, 11, 12, 13


def lacks(sample: Sample) -> Lacks:
    """Whether a file that begins like this is a capture."""
    return [] if sample.head[:4] in _MAGIC else None


def read(source: Source, stats: RunStats) -> Iterator[Batch]:
    """DELTA rows: the packets of each flow in an interval, merged."""
    ledger = Ledger(stats.batching.interval)
    capture = Capture(ledger)
    data = b""
    final = False
    while not final:
        more = source.read(CHUNK)
        final = not more
        data += more
        full = True
        while full:
            used, notes = capture.feed(data, final=final)
            for note in notes:
                _report(note, source)
            data = data[used:]
            full = ledger.full
            if ledger.waiting:
                yield renumber(ledger.take(), capture.name, stats)
        ledger.set_interval(stats.batching.interval)
    yield renumber(ledger.take(close=True), capture.name, stats)
    account(ledger.totals(), stats)


def _report(note: Note, source: Source) -> None:
    kind = _NOTES[note.kind]
    if note.kind == _LOST:
        source.parse_errors.uncounted(kind, note.value)
        return
    detail = {
        _TRUNCATED: f"{note.value} bytes missing or left over",
        _NO_INTERFACE: f"interface {note.value}",
        _TIME: f"interface {note.value}; the time of the packet before it is used",
        _FRACTION: f"a fraction of a second of {note.value} ticks, which is more than a second",
        _NANOSECONDS: f"a fraction of {note.value} microseconds; this file is read in nanoseconds from here on",
        _UNTIMED: "a simple packet block before any time; the next time is used, if there is one",
        _WIRE_LENGTH: f"{note.value} bytes; the captured length is used",
        _LINK_TYPE: f"number {named(note.value)}; its packets are counted as not IP; tshark may read them",
        _RESUMED: f"after {note.value} bytes",
        _VERSION: f"{note.value >> 16}.{note.value & 0xFFFF}, read like a usual one",
    }.get(note.kind, f"{note.value}")
    source.parse_errors.offset(source.name, note.offset, kind, detail)

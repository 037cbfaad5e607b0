"""Calls build/libtmparse.so through ctypes: captures and log lines to DELTA rows, in C."""

import ctypes
from functools import cache
from typing import Any

import numpy as np

from trafficmond import abi
from trafficmond.analyze.run_stats import OTHER_TYPE, RunStats
from trafficmond.compiled import fields
from trafficmond.flows import compiled
from trafficmond.flows.batch import DELTA, Batch, copied
from trafficmond.flows.malformed import by_reason

ROWS_MAX = 65536  # TM_ROWS_MAX
NOTES_MAX = 64  # TM_NOTES_MAX
TYPES_MAX = 64  # TM_TYPES_MAX
REJECTS_MAX = 4096  # TM_REJECTS_MAX


_U32, _U64, _DOUBLE = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_double


class _Count(ctypes.Structure):
    _fields_ = fields((_U64, "packets bytes"))


class _Type(ctypes.Structure):
    _fields_ = fields((_U64, "packets"), (_U32, "ethertype pad"))


class Totals(ctypes.Structure):
    """struct tm_host_totals."""

    _fields_ = fields(
        (_Count, "seen in_flows not_ip malformed"),
        (_U64 * abi.MALFORMED_MAX, "malformed_by"),
        (_U64 * 7, "size_class"),
        (_U64, "size_min size_max"),
        (_DOUBLE, "first last"),
        (_U64, "snapped unknown_link other_types"),
        (_Type * TYPES_MAX, "type"),
    )


class Note(ctypes.Structure):
    """struct tm_note: a problem found in a capture."""

    _fields_ = fields((_U64, "offset value"), (_U32, "kind pad"))


class Reject(ctypes.Structure):
    """struct tm_reject: a line that is not in the plain form."""

    _fields_ = fields((_U64, "at length line"))


_HANDLE, _BYTES, _SIZE, _FINAL = ctypes.c_void_p, ctypes.c_void_p, _U64, ctypes.c_int
_SIGNATURES: compiled.Signatures = {
    "tm_ledger_new": (_HANDLE, [_DOUBLE]),
    "tm_ledger_pace": (None, [_HANDLE, _DOUBLE]),
    "tm_ledger_take": (_U32, [_HANDLE, _BYTES, ctypes.c_int]),
    "tm_ledger_waiting": (_U32, [_HANDLE]),
    "tm_ledger_totals": (None, [_HANDLE, ctypes.POINTER(Totals)]),
    "tm_capture_new": (_HANDLE, [_HANDLE, ctypes.c_int]),
    "tm_capture_read": (_SIZE, [_HANDLE, _BYTES, _SIZE, _FINAL]),
    "tm_capture_notes": (_U32, [_HANDLE, ctypes.POINTER(Note), ctypes.POINTER(_U64)]),
    "tm_lines_new": (_HANDLE, [_HANDLE]),
    "tm_lines_feed": (_SIZE, [_HANDLE, _BYTES, _SIZE, _FINAL]),
    "tm_lines_rejects": (_U32, [_HANDLE, ctypes.POINTER(Reject)]),
    **{f"tm_{what}_free": (None, [_HANDLE]) for what in ("ledger", "capture", "lines")},
    **{f"tm_{what}_name": (ctypes.c_char_p, [_HANDLE, _U32]) for what in ("capture", "lines")},
}


@cache
def library() -> ctypes.CDLL:
    """Loads the library. Raises TrafficmonError if it is missing or belongs to another version."""
    loaded = compiled.library()
    compiled.declare(loaded, _SIGNATURES)
    return loaded


class _Owner:
    """Owns memory of the C library: what tm_WHAT_new made of these arguments, until tm_WHAT_free."""

    what = ""

    def __init__(self, *arguments: object) -> None:
        self.lib = library()
        self.handle = self._function("new")(*arguments)
        if not self.handle:
            raise MemoryError

    def _function(self, does: str) -> Any:
        return getattr(self.lib, f"tm_{self.what}_{does}")

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self._function("free")(self.handle)
            self.handle = None


class Ledger(_Owner):
    """Merges packets into flows for each interval (seconds), as the kernel's ledger does live."""

    what = "ledger"

    def set_interval(self, interval: float) -> None:
        """Sets the length of the intervals from now on, in seconds."""
        self.lib.tm_ledger_pace(self.handle, interval)

    def take(self, *, close: bool = False) -> Batch:
        """The rows of the complete intervals; with `close`, of the current one too."""
        rows = np.empty(ROWS_MAX if close else self.waiting, DELTA)
        count = self.lib.tm_ledger_take(self.handle, rows.ctypes.data, close)
        return copied(rows[:count]) if count < len(rows) else rows

    @property
    def waiting(self) -> int:
        return int(self.lib.tm_ledger_waiting(self.handle))

    @property
    def full(self) -> bool:
        """Whether to call take() before reading continues."""
        return self.waiting > ROWS_MAX // 2

    def totals(self) -> Totals:
        totals = Totals()
        self.lib.tm_ledger_totals(self.handle, ctypes.byref(totals))
        return totals


class _Input(_Owner):
    def __init__(self, ledger: Ledger, *arguments: object) -> None:
        super().__init__(ledger.handle, *arguments)
        self._ledger = ledger  # its memory is used, too

    def name(self, ifindex: int) -> str:
        """The name of an interface by its number in the rows; empty if it has none."""
        text: bytes = self._function("name")(self.handle, ifindex)
        return text.decode("utf-8", "replace")


class Capture(_Input):
    """Reads a pcap or pcapng stream into a ledger; `strict` reads only what the kernel program can read."""

    what = "capture"

    def __init__(self, ledger: Ledger, *, strict: bool = False) -> None:
        super().__init__(ledger, strict)

    def feed(self, data: bytes, *, final: bool) -> tuple[int, list[Note]]:
        """Reads `data` and returns (bytes used, problems). Pass the unused bytes again, before the next ones."""
        used = self.lib.tm_capture_read(self.handle, data, len(data), final)
        notes, lost = (Note * NOTES_MAX)(), _U64()
        count = self.lib.tm_capture_notes(self.handle, notes, ctypes.byref(lost))
        return int(used), notes[:count] + ([Note(0, lost.value, 0, 0)] if lost.value else [])


class Lines(_Input):
    what = "lines"

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger)
        self._rejects = (Reject * REJECTS_MAX)()

    def feed(self, data: bytes, *, final: bool) -> tuple[int, list[tuple[int, bytes]]]:
        """Reads `data` and returns (bytes used, numbered lines not in the plain form); otherwise like Capture.feed."""
        used = self.lib.tm_lines_feed(self.handle, data, len(data), final)
        count = self.lib.tm_lines_rejects(self.handle, self._rejects)
        return int(used), [(r.line, data[r.at : r.at + r.length]) for r in self._rejects[:count]]


def account(totals: Totals, stats: RunStats) -> None:
    """Adds the counts of the C library to the run's account."""
    for name in ("seen", "in_flows", "not_ip", "malformed"):
        part = getattr(totals, name)
        getattr(stats, name).add(part.packets, part.bytes)
    stats.malformed_by.update(by_reason(totals.malformed_by))
    for kind in totals.type:
        if kind.packets:
            stats.not_ip_types[kind.ethertype] += kind.packets
    if totals.unknown_link or totals.other_types:
        stats.not_ip_types[OTHER_TYPE] += totals.unknown_link + totals.other_types
    stats.records += totals.seen.packets
    stats.snapped += totals.snapped
    stats.sizes.classes += totals.size_class[:]
    if totals.seen.packets:
        stats.sizes.extent(totals.size_min, totals.size_max)
        stats.reach(totals.first, totals.last)

"""DNS answers on monitored interfaces, to queries that left there (bpf/dns.bpf.c): two small programs after the data
path on each interface. Answers are parsed in C (bpf/host_dns.h): the addresses of queried names."""

import ctypes
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from trafficmond.compiled import fields
from trafficmond.dataclass import dataclass
from trafficmond.datapath import libbpf
from trafficmond.datapath.attach import LOOKERS
from trafficmond.datapath.observers import Observers, Side
from trafficmond.flows import compiled as loops
from trafficmond.flows.batch import Batch

# struct tm_dns_name: an address (v4-mapped), when the answer came (CLOCK_MONOTONIC, ns), and the name asked for.
NAMED = np.dtype([("address", "V16"), ("at_ns", "u8"), ("name", "S256")])
_ROOM = 1024


class _Ring(ctypes.Structure):
    """struct tm_dns_ring."""

    _fields_ = fields((ctypes.c_void_p, "consumed produced data"), (ctypes.c_uint64, "bytes"))


class AnswerReader:
    """Reads answers from a ring buffer of the kernel, by its mapped addresses."""

    def __init__(self, library: Any, consumed: int, produced: int, data: int, size: int) -> None:
        self._library = library
        self._ring = _Ring(consumed, produced, data, size)
        self._unreadable = ctypes.c_uint64()

    @property
    def unreadable(self) -> int:
        """Answers that do not match their query, or cannot be parsed."""
        return self._unreadable.value

    def take(self) -> Batch:
        """Takes all waiting answers, as NAMED rows."""
        found = []
        while True:
            rows = np.empty(_ROOM, NAMED)
            count = self._library.tm_dns_take(
                ctypes.addressof(self._ring), rows.ctypes.data, _ROOM, ctypes.addressof(self._unreadable)
            )
            found.append(rows[:count])
            if not count:  # with some room left, a large answer may still wait
                return np.concatenate(found)


_QUESTION, _ANSWER = "tm_dns_question", "tm_dns_answer"
_RING, _COUNTS = "tm_dns_ring", "tm_dns_counts"
_SIDES = (Side(_ANSWER, libbpf.TC_INGRESS_TCX, 0, LOOKERS[0]), Side(_QUESTION, libbpf.TC_EGRESS_TCX, 0, LOOKERS[1]))


@dataclass(frozen=True, slots=True)
class NameCounts:
    """Counts of answers since the start: struct tm_dns_counts, and unreadable ones."""

    answers: int = 0
    unasked: int = 0  # without a query, or answered already
    lost: int = 0  # did not fit into the ring
    unreadable: int = 0


class NamesSeen(Observers):
    """The programs and their ring. Raises DatapathError; nothing stays open then."""

    def __init__(self, loader: str, pin_dir: Path) -> None:
        library = loops.library()
        super().__init__(
            "dns",
            loader,
            pin_dir,
            kinds={_QUESTION: "tc", _ANSWER: "tc"},
            maps=(_RING, _COUNTS),
            sides=_SIDES,
            unseen="DNS answers on {interface}",
        )
        with self._opened as stack:
            ring, size = self.maps[_RING], int(libbpf.map_info(self.maps[_RING]).max_entries)
            self._consumer = stack.enter_context(mmap.mmap(ring, mmap.PAGESIZE))
            # The producer's page, then the data twice in a row.
            whole = mmap.PAGESIZE + 2 * size
            self._producer = stack.enter_context(mmap.mmap(ring, whole, prot=mmap.PROT_READ, offset=mmap.PAGESIZE))
            at = np.frombuffer(self._producer, np.uint8).ctypes.data
            consumed = ctypes.addressof(ctypes.c_char.from_buffer(self._consumer))
            self._reader = AnswerReader(library, consumed, at, at + mmap.PAGESIZE, size)
            self._opened = stack.pop_all()

    def take(self) -> Batch:
        """Takes the answers since the last call, as NAMED rows."""
        return self._reader.take()

    def counts(self) -> NameCounts:
        answers, unasked, lost = self.sums(_COUNTS, 3)
        return NameCounts(answers, unasked, lost, self._reader.unreadable)

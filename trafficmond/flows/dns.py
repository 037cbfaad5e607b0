"""DNS answers, parsed in C (bpf/host_dns.h): the addresses of queried names."""

import ctypes
from typing import Any

import numpy as np

from trafficmond.flows.batch import Batch

# struct tm_dns_name: an address (v4-mapped), when the answer came (CLOCK_MONOTONIC, ns), and the name asked for.
NAMED = np.dtype([("address", "V16"), ("at_ns", "u8"), ("name", "S256")])
_ROOM = 1024


class _Ring(ctypes.Structure):
    """struct tm_dns_ring."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("consumed", "produced", "data")),
        ("bytes", ctypes.c_uint64),
    )


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

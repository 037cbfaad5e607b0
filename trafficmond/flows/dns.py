"""Answers of DNS read in C (bpf/host_dns.h): which addresses the names that were asked for have."""

from __future__ import annotations

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
    """Takes answers out of a ring buffer of the kernel's, by the addresses at which it is mapped."""

    def __init__(self, library: Any, consumed: int, produced: int, data: int, size: int) -> None:
        self._library = library
        self._ring = _Ring(consumed, produced, data, size)
        self._unreadable = ctypes.c_uint64()

    @property
    def unreadable(self) -> int:
        """Answers that are not what was asked for, or nothing that can be read."""
        return self._unreadable.value

    def take(self) -> Batch:
        """NAMED rows of all answers that wait."""
        found = []
        while True:
            rows = np.empty(_ROOM, NAMED)
            count = self._library.tm_dns_take(
                ctypes.addressof(self._ring), rows.ctypes.data, _ROOM, ctypes.addressof(self._unreadable)
            )
            found.append(rows[:count])
            if not count:  # fewer than there is room for may be an answer of many that waits
                return np.concatenate(found)

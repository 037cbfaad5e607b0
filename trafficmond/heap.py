"""What becomes of memory: what the C library does with what was freed (elsewhere than in glibc it is left alone), and
what Python's collector looks at."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_LARGE_BYTES = 1 << 20
_BATCH_BYTES, _KEPT_BYTES = 4 << 20, 16 << 20  # columns of a large batch; what they take together


def keep_large_apart() -> None:
    """Has what is large go back to the system as soon as it is freed (mallopt(3)).

    Left to itself, glibc takes the largest piece that was freed for usual, up to 32 MiB, and keeps as much in the heap
    of each thread: tables of a rule set with 600,000 prefixes would be held several times over.
    """
    _choose(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def keep_batches() -> None:
    """Has what a large batch took be there for the next one: giving it back and clearing it anew costs more than the
    work on it. Only for who has batch after batch."""
    _choose(_M_MMAP_THRESHOLD, _BATCH_BYTES)
    _choose(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def share() -> None:
    """Has all threads take from one heap (mallopt(3)): what one of them freed is not kept from the others."""
    _choose(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Returns to the system what lies unused in the heaps (malloc_trim(3))."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def uncollected() -> Iterator[None]:
    """What is made in the block stays, so the collector looks at none of it, then or later."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _choose(parameter: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(parameter, value)

"""Settings of glibc's allocator (other C libraries are left alone) and of Python's garbage collector."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_LARGE_BYTES, _UNUSED_BYTES = 1 << 20, 128 << 10
_BATCH_BYTES, _KEPT_BYTES = 8 << 20, 24 << 20  # the rows of a large batch; these with all their columns
_FLOOD_BYTES, _FLOOD_KEPT_BYTES = 32 << 20, 64 << 20  # whole batches of a flood; the first is the most that glibc takes
_FLOOD_ROWS = 4096
_CALM_BATCHES = 10  # so many small ones in a row end a flood


def keep_large_apart() -> None:
    """Returns large blocks to the system as soon as they are freed (mallopt(3)).

    By default glibc adapts to the largest freed block, up to 32 MiB, and keeps as much in the heap of each thread. The
    tables of a rule set with 600,000 prefixes would be kept several times.
    """
    _call("mallopt", _M_MMAP_THRESHOLD, _LARGE_BYTES)
    _call("mallopt", _M_TRIM_THRESHOLD, _UNUSED_BYTES)


def keep_batches() -> None:
    """Keeps the memory of a large batch for the next one: returning and clearing it costs more than the work on it.
    Only for processes that read one batch after another."""
    _call("mallopt", _M_MMAP_THRESHOLD, _BATCH_BYTES)
    _call("mallopt", _M_TRIM_THRESHOLD, _KEPT_BYTES)


class Flood:
    """Keeps the memory of a batch for the next one while batches are large (see `keep_batches`). Without this, the
    daemon spends a quarter of its time in a flood in the kernel, which takes pages back and clears new ones."""

    def __init__(self) -> None:
        self._calm = _CALM_BATCHES

    def passed(self, rows: int) -> bool:
        """Notes a batch of `rows` rows. Returns whether it ends a flood: then call `give_back`."""
        if rows >= _FLOOD_ROWS:
            if self._calm >= _CALM_BATCHES:
                _call("mallopt", _M_MMAP_THRESHOLD, _FLOOD_BYTES)
                _call("mallopt", _M_TRIM_THRESHOLD, _FLOOD_KEPT_BYTES)
            self._calm = 0
            return False
        self._calm += 1
        if self._calm == _CALM_BATCHES:
            keep_large_apart()
        return self._calm == _CALM_BATCHES


def share() -> None:
    """Lets all threads share one heap (mallopt(3)), so that each can use what another has freed."""
    _call("mallopt", _M_ARENA_MAX, 1)


def give_back() -> None:
    """Returns unused memory of the heaps to the system (malloc_trim(3))."""
    _call("malloc_trim", 0)


@contextmanager
def uncollected() -> Iterator[None]:
    """Excludes all objects made in the block from garbage collection: they live as long as the process."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _call(name: str, *arguments: int) -> None:
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)

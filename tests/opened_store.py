"""A store that is open when the test begins, and the moment at which all that was put is written."""

import time
from collections.abc import Callable
from pathlib import Path

from trafficmond.store.records import Ban
from trafficmond.store.store import Store
from trafficmond.store.writer import Limits, Writer


def opened(path: Path, limits: Limits, *, clock: Callable[[], float] = time.time) -> Store:
    """Open or make flows.db and start its writer. Raises StoreError if the file cannot be used."""
    writer = Writer(path, limits, clock)
    writer.open_if_lost()
    writer.start()
    return Store(writer)


def kept_bans(store: Store) -> list[Ban]:
    """The bans that a start would find, once all that was put so far is written."""
    assert flushed(store, 10)
    found = store.read_bans()
    assert found is not None
    return found


def flushed(store: Store, timeout_s: float) -> bool:
    """Wait until all that was put and asked so far is written and answered; False if that takes longer."""
    end = time.monotonic() + timeout_s
    asked = store.records_written()
    while not asked.done() or asked.exception() or store.status().queue:
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
        if asked.done() and asked.exception():  # too much waits
            asked = store.records_written()
    return True

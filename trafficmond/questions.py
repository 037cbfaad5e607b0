"""Runs queries of flows.db in a few threads, so that many queries neither delay changes nor use much memory."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from trafficmond.errors import Busy
from trafficmond.store.reader import Reader

T = TypeVar("T")

THREADS = 3
MOST_WAITING = 32  # further queries are refused: each may take half a minute


class Questions:
    """Runs queries for clients. For the event loop's thread."""

    def __init__(self) -> None:
        self.refused = 0
        self._threads = ThreadPoolExecutor(THREADS, "question")
        self._pages = ThreadPoolExecutor(1, "answer")  # reading a next page must not wait for new queries
        self._asked = 0
        self._running: set[_Asking[Any]] = set()

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Counts a query for the time of the block. Raises Busy if too many wait."""
        if self._asked >= THREADS + MOST_WAITING:
            self.refused += 1
            raise Busy(f"{self._asked} queries of flows.db are waiting already", hint="try again in a moment")
        self._asked += 1
        try:
            yield
        finally:
            self._asked -= 1

    async def ask(self, open_reader: Callable[[], Reader], work: Callable[[Reader], T]) -> T:
        """Opens a reader and calls `work` with it in a thread; if the client disconnects, the query is interrupted."""
        asking = _Asking(open_reader, work)
        self._running.add(asking)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, asking.run)
        except asyncio.CancelledError:
            asking.give_up()
            raise
        finally:
            self._running.discard(asking)

    async def page(self, take: Callable[[], T]) -> T:
        """Calls `take`, which reads at most one page of a result, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pages, take)

    def close(self) -> None:
        for asking in self._running:
            asking.give_up()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pages.shutdown(wait=False, cancel_futures=True)


class _Asking(Generic[T]):
    def __init__(self, open_reader: Callable[[], Reader], work: Callable[[Reader], T]) -> None:
        self._open_reader, self._work = open_reader, work
        self._reader: Reader | None = None
        self._given_up = False

    def run(self) -> T:
        """Runs the query; called in its thread."""
        with self._open_reader() as self._reader:
            if self._given_up:
                self._reader.interrupt()
            return self._work(self._reader)

    def give_up(self) -> None:
        """Interrupts the query; called from another thread."""
        self._given_up = True
        if self._reader is not None:
            self._reader.interrupt()

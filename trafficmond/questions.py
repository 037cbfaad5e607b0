"""Questions to flows.db: a few threads of their own, so that changes and memory do not feel how many are asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from trafficmond.control.refusals import Busy
from trafficmond.store.reader import Reader

T = TypeVar("T")

THREADS = 3
MOST_WAITING = 32  # beyond these a question is refused: each may take half a minute


class Questions:
    """Asks on behalf of clients. Belongs to the daemon's loop."""

    def __init__(self) -> None:
        self.refused = 0
        self._threads = ThreadPoolExecutor(THREADS, "question")
        self._pages = ThreadPoolExecutor(1, "answer")  # taking the next page must not wait for questions
        self._asked = 0
        self._running: set[_Asking[Any]] = set()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """For the time of a question. Raises Busy if too many wait."""
        if self._asked >= THREADS + MOST_WAITING:
            self.refused += 1
            raise Busy(f"{self._asked} queries of flows.db are waiting already", hint="try again in a moment")
        self._asked += 1
        try:
            yield
        finally:
            self._asked -= 1

    async def ask(self, open_reader: Callable[[], Reader], work: Callable[[Reader], T]) -> T:
        """Opens a reader and does `work` with it, in a thread. If the client goes meanwhile, it is interrupted, so
        that the thread is free for others."""
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
        """Does what reads no more than a page of an answer, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pages, take)

    def close(self) -> None:
        """Ends what is asked."""
        for asking in self._running:
            asking.give_up()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pages.shutdown(wait=False, cancel_futures=True)


class _Asking(Generic[T]):
    """A question in its thread."""

    def __init__(self, open_reader: Callable[[], Reader], work: Callable[[Reader], T]) -> None:
        self._open_reader, self._work = open_reader, work
        self._reader: Reader | None = None
        self._given_up = False

    def run(self) -> T:
        """In the thread."""
        with self._open_reader() as self._reader:
            if self._given_up:
                self._reader.interrupt()
            return self._work(self._reader)

    def give_up(self) -> None:
        """From any other thread."""
        self._given_up = True
        if self._reader is not None:
            self._reader.interrupt()

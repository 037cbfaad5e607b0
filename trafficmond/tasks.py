"""Work that goes on by itself on the loop, and that a stop waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Tasks:
    """What was begun and has not ended. Belongs to the daemon's loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Does `work` on the loop; a stop waits for it a while."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def shielded(self, work: Coroutine[Any, Any, T]) -> T:
        """Does `work` even if whoever waits for it goes away: a client that hangs up is no half a change."""
        return await asyncio.shield(self.spawn(work))

    async def close(self, timeout: float) -> None:
        """Waits for all of it so long, and gives up the rest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        for task in self._tasks:
            task.cancel()

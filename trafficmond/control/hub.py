"""Hands what happens to those who watch. The daemon publishes; nobody who reads slowly holds it up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

TOPICS = ("events", "threats")
QUEUE_RECORDS = 4096  # a watcher's backlog; what does not fit is counted as lost
REPLY_RECORDS = 256

Record = dict[str, Any]


class Subscription:
    """One watcher's bounded backlog."""

    def __init__(self, topics: frozenset[str]) -> None:
        self.topics = topics
        self.lost = 0  # since the last batch
        self._queue: deque[tuple[str, Record]] = deque()
        self._ready = asyncio.Event()

    def offer(self, topic: str, records: Sequence[Record]) -> int:
        """Queue what fits; how many did not."""
        room = QUEUE_RECORDS - len(self._queue)
        self._queue.extend((topic, record) for record in records[:room])
        lost = max(0, len(records) - room)
        self.lost += lost
        self._ready.set()
        return lost

    async def batches(self) -> AsyncGenerator[tuple[str, list[Record], int], None]:
        """(topic, records, lost since the last batch), for ever, in the order of publishing."""
        while True:
            await self._ready.wait()
            while self._queue:
                topic = self._queue[0][0]
                records: list[Record] = []
                while self._queue and self._queue[0][0] == topic and len(records) < REPLY_RECORDS:
                    records.append(self._queue.popleft()[1])
                lost, self.lost = self.lost, 0
                yield topic, records, lost
            self._ready.clear()


class Hub:
    """The watchers of the moment. Belongs to the daemon's loop."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self.lost_records = 0

    def wants(self, topic: str) -> bool:
        """Is anybody watching? If not, no record need be made."""
        return any(topic in each.topics for each in self._subscriptions)

    def publish(self, topic: str, records: Sequence[Record]) -> None:
        """Hand records to everyone who watches `topic`; never waits. The records must not change afterwards."""
        for each in self._subscriptions:
            if records and topic in each.topics:
                self.lost_records += each.offer(topic, records)

    def subscribe(self, topics: Iterable[str]) -> Subscription:
        """Begin to watch; ends with `unsubscribe`."""
        subscription = Subscription(frozenset(topics))
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Watch no longer."""
        self._subscriptions.discard(subscription)

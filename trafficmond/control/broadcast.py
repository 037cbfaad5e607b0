"""Distributes events and threats to watchers. A watcher that reads slowly, or not at all, never delays the daemon.

A publication keeps its source, for example a batch of columns. Records become text when they are first read, once for
all watchers. So a watcher that does not read costs only its backlog of row numbers.
"""

import asyncio
import json
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any, Protocol, Self

import numpy as np

from trafficmond import npt
from trafficmond.choice import EventFilter
from trafficmond.flows.batch import spread

TOPICS = ("events", "threats")
# bound: events and threats for a client of `Watch` | further ones are lost; the client's next reply has their number
QUEUE_RECORDS = 4096  # of one watcher's backlog; what does not fit is counted as lost
REPLY_RECORDS = 256
MOST_AT_ONCE = 4096  # records of one publication that become text, for any number of watchers
# bound: events and threats that wait for all clients of `Watch` | the oldest are lost and counted
BACKLOG_RECORDS = 1 << 16  # of all backlogs together; beyond it the oldest are lost

Record = dict[str, Any]
Rows = npt.NDArray[np.intp]


class Texts(list[str]):
    """A JSON array whose items are JSON texts already, which several messages may share."""


class Source(Protocol):
    """A sequence of records that become text on demand. It must not change after it is published."""

    def __len__(self) -> int: ...

    def chosen(self, wanted: EventFilter) -> Rows:
        """The rows that match a filter, in order."""
        ...

    def take(self, rows: Rows) -> Self:
        """The records in these rows."""
        ...

    def texts(self, rows: Rows) -> list[str]:
        """The records in these rows, each as a JSON object."""
        ...


class Plain:
    """A source of finished records, to which the filter does not apply."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def chosen(self, wanted: EventFilter) -> Rows:  # noqa: ARG002 - the filter is for events
        return np.arange(len(self._records))

    def take(self, rows: Rows) -> Self:
        return type(self)([self._records[row] for row in rows.tolist()])

    def texts(self, rows: Rows) -> list[str]:
        return [json.dumps(self._records[row], separators=(",", ":")) for row in rows.tolist()]


class Publication:
    """The records published at one time; each becomes text when it is first read."""

    def __init__(self, topic: str, source: Source) -> None:
        self.topic = topic
        self._source = source
        self._texts: list[str | None] = [None] * len(source)

    def __len__(self) -> int:
        return len(self._texts)

    def texts(self, rows: Rows) -> Texts:
        lacking = np.array([row for row in rows.tolist() if self._texts[row] is None], np.intp)
        for row, text in zip(lacking.tolist(), self._source.texts(lacking) if len(lacking) else (), strict=True):
            self._texts[row] = text
        return Texts(text for row in rows.tolist() if (text := self._texts[row]) is not None)


class Subscription:
    """One watcher's bounded backlog."""

    def __init__(self, topics: frozenset[str], wanted: EventFilter) -> None:
        self.topics = topics
        self.wanted = wanted
        self.lost = 0  # since the last batch
        self.waiting = 0
        self._queue: deque[tuple[Publication, Rows]] = deque()
        self._ready = asyncio.Event()

    def offer(self, publication: Publication, rows: Rows, lost: int) -> None:
        """Queues these records of a publication, and counts `lost` others."""
        self.lost += lost
        if len(rows):
            self._queue.append((publication, rows))
            self.waiting += len(rows)
        self._ready.set()

    def forget(self, publication: Publication) -> int:
        """Drops the records of a publication if it is the oldest in the queue; returns how many."""
        if not self._queue or self._queue[0][0] is not publication:
            return 0
        lost = len(self._queue.popleft()[1])
        self.waiting -= lost
        self.lost += lost
        return lost

    async def batches(self) -> AsyncGenerator[tuple[str, Texts, int], None]:
        """Yields (topic, records, lost since the last batch) without end, in the order of publishing."""
        while True:
            await self._ready.wait()
            while self._queue or self.lost:
                topic, records = "events", Texts()
                if self._queue:
                    publication, rows = self._queue.popleft()
                    if len(rows) > REPLY_RECORDS:
                        self._queue.appendleft((publication, rows[REPLY_RECORDS:]))
                    topic, records = publication.topic, publication.texts(rows[:REPLY_RECORDS])
                    self.waiting -= len(records)
                lost, self.lost = self.lost, 0
                yield topic, records, lost
            self._ready.clear()


class Broadcast:
    """The current watchers. For the event loop's thread."""

    def __init__(self) -> None:
        self._subscriptions: dict[Subscription, None] = {}  # in the order of subscribing
        self._alive: list[weakref.ref[Publication]] = []  # oldest first
        self.lost_records = 0

    def wants(self, topic: str) -> bool:
        """Whether anybody watches a topic. If not, nothing need be published."""
        return any(topic in each.topics for each in self._subscriptions)

    def publish(self, topic: str, records: Sequence[Record]) -> None:
        """Publishes finished records to the watchers of `topic`. Never waits."""
        self.publish_source(topic, Plain(records))

    def publish_source(self, topic: str, source: Source) -> None:
        """Publishes a source to the watchers of `topic`. Never waits, and makes no text."""
        watchers = [each for each in self._subscriptions if topic in each.topics]
        filters = {each.wanted: source.chosen(each.wanted) for each in watchers}
        kept: dict[Subscription, Rows] = {}
        made = np.zeros(len(source), bool)
        left = MOST_AT_ONCE
        # Watchers with few matches come first, so that the bound does not lose a rare event that one looks for.
        for each in sorted(watchers, key=lambda watcher: len(filters[watcher.wanted])):
            rows = spread(filters[each.wanted], min(QUEUE_RECORDS - each.waiting, MOST_AT_ONCE))
            fresh = ~made[rows]
            rows = rows[~fresh | (np.cumsum(fresh) <= left)]
            made[rows] = True
            left = MOST_AT_ONCE - int(np.count_nonzero(made))
            kept[each] = rows
        publication = Publication(topic, source if made.all() else source.take(np.flatnonzero(made)))
        place = np.cumsum(made) - 1
        for each, rows in kept.items():
            lost = len(filters[each.wanted]) - len(rows)
            self.lost_records += lost
            if lost or len(rows):
                each.offer(publication, place[rows], lost)
        self._bound(publication)

    def _bound(self, publication: Publication) -> None:
        """Keeps all backlogs together within BACKLOG_RECORDS."""
        alive = [each for ref in self._alive if (each := ref()) is not None]
        total = sum(map(len, alive)) + len(publication)
        while total > BACKLOG_RECORDS and alive:
            oldest = alive.pop(0)
            total -= len(oldest)
            self.lost_records += sum(each.forget(oldest) for each in self._subscriptions)
        self._alive = [weakref.ref(each) for each in (*alive, publication)]

    def subscribe(self, topics: Iterable[str], wanted: EventFilter | None = None) -> Subscription:
        """Adds a watcher, until `unsubscribe`."""
        subscription = Subscription(frozenset(topics), wanted or EventFilter())
        self._subscriptions[subscription] = None
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.pop(subscription, None)

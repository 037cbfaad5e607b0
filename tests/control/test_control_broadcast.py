"""Publishing: order, bounds, losses, and what it costs whoever publishes."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import Sequence

import numpy as np
import pytest

from trafficmond.choice import EventFilter
from trafficmond.control import broadcast as module
from trafficmond.control.broadcast import (
    MOST_AT_ONCE,
    QUEUE_RECORDS,
    REPLY_RECORDS,
    Broadcast,
    Plain,
    Rows,
    Subscription,
)
from trafficmond.model import Action


def numbers(texts: Sequence[str]) -> list[int]:
    return [json.loads(text)["n"] for text in texts]


async def read(watcher: Subscription, count: int) -> tuple[list[int], int]:
    """Its next records, until it has so many, and how many it lost before."""
    got: list[int] = []
    missed = 0
    async for _, records, lost in watcher.batches():
        assert len(records) <= REPLY_RECORDS
        got += numbers(records)
        missed += lost
        if len(got) >= count:
            break
    return got, missed


class Counted(Plain):
    """Knows what was made of it; whoever wants one action wants one record in a hundred."""

    def __init__(self, count: int, made: list[int] | None = None) -> None:
        super().__init__([{"n": number} for number in range(count)])
        self.made: list[int] = [] if made is None else made

    def chosen(self, wanted: EventFilter) -> Rows:
        every = np.arange(len(self))
        return every if wanted.action is None else every[::100]

    def take(self, rows: Rows) -> Plain:
        taken = Counted(0, self.made)
        taken._records = [self._records[row] for row in rows.tolist()]
        return taken

    def texts(self, rows: Rows) -> list[str]:
        self.made += [self._records[row]["n"] for row in rows.tolist()]
        return super().texts(rows)


def test_only_those_who_asked_are_given() -> None:
    broadcast = Broadcast()
    events, threats = broadcast.subscribe(["events"]), broadcast.subscribe(["threats"])
    assert broadcast.wants("events")
    broadcast.unsubscribe(events)
    assert not broadcast.wants("events")
    broadcast.publish("threats", [{"n": 1}])
    assert asyncio.run(read(threats, 1)) == ([1], 0)


def test_order_is_kept_across_topics() -> None:
    async def collect() -> list[tuple[str, int]]:
        broadcast = Broadcast()
        watcher = broadcast.subscribe(["events", "threats"])
        broadcast.publish("events", [{"n": 1}, {"n": 2}])
        broadcast.publish("threats", [{"n": 3}])
        broadcast.publish("events", [{"n": 4}])
        got: list[tuple[str, int]] = []
        async for topic, records, lost in watcher.batches():
            assert lost == 0
            got += [(topic, number) for number in numbers(records)]
            if len(got) == 4:
                break
        return got

    assert asyncio.run(collect()) == [("events", 1), ("events", 2), ("threats", 3), ("events", 4)]


def test_what_does_not_fit_is_counted_once() -> None:
    broadcast = Broadcast()
    watcher = broadcast.subscribe(["events"])
    for _ in range(10):
        broadcast.publish("events", [{"n": 0}] * (QUEUE_RECORDS // 4))
    got, missed = asyncio.run(read(watcher, QUEUE_RECORDS))
    assert (len(got), missed) == (QUEUE_RECORDS, QUEUE_RECORDS // 4 * 10 - QUEUE_RECORDS)
    assert broadcast.lost_records == missed


def test_publishing_nothing_wakes_nobody() -> None:
    async def wait() -> bool:
        broadcast = Broadcast()
        watcher = broadcast.subscribe(["events"])
        broadcast.publish("events", [])
        try:
            await asyncio.wait_for(anext(watcher.batches()), 0.05)
        except TimeoutError:
            return True
        return False

    assert asyncio.run(wait())


def test_nothing_is_made_for_those_who_do_not_read_and_once_for_those_who_do() -> None:
    broadcast = Broadcast()
    watchers = [broadcast.subscribe(["events"]) for _ in range(40)]
    source = Counted(1000)
    broadcast.publish_source("events", source)
    assert source.made == []
    for watcher in watchers[:3]:
        assert asyncio.run(read(watcher, 1000)) == (list(range(1000)), 0)
    assert source.made == list(range(1000))


def test_a_publication_has_a_bound_and_who_wants_little_gets_all_of_it() -> None:
    broadcast = Broadcast()
    broad, narrow = broadcast.subscribe(["events"]), broadcast.subscribe(["events"], EventFilter(action=Action.DROP))
    source = Counted(50_000)
    broadcast.publish_source("events", source)
    found, lost = asyncio.run(read(narrow, 500))
    assert (found, lost) == (list(range(0, 50_000, 100)), 0)
    got, missed = asyncio.run(read(broad, broad.waiting))
    assert len(got) + missed == 50_000
    assert len(set(got) | set(found)) <= MOST_AT_ONCE
    assert len(source.made) <= MOST_AT_ONCE
    assert max(got) > 40_000, "the end of it is shown as the beginning is"
    assert broadcast.lost_records == missed


def test_what_all_watchers_keep_alive_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKLOG_RECORDS", 1000)
    broadcast = Broadcast()
    slow, narrow = broadcast.subscribe(["events"]), broadcast.subscribe(["events"], EventFilter(action=Action.DROP))
    kept = []
    for _ in range(30):
        source = Counted(100)
        kept.append(weakref.ref(source))
        broadcast.publish_source("events", source)
    del source
    assert sum(ref() is not None for ref in kept) == 10
    for watcher, each in ((slow, 100), (narrow, 1)):
        got, missed = asyncio.run(read(watcher, 10 * each))
        assert (len(got), missed) == (10 * each, 20 * each)
    assert broadcast.lost_records == 20 * 101

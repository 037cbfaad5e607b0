"""Publishing: order, bounds, losses."""

from __future__ import annotations

import asyncio

from trafficmond.control.hub import QUEUE_RECORDS, REPLY_RECORDS, Hub


def test_only_those_who_asked_are_given() -> None:
    hub = Hub()
    events, threats = hub.subscribe(["events"]), hub.subscribe(["threats"])
    assert hub.wants("events")
    hub.unsubscribe(events)
    assert not hub.wants("events")
    hub.publish("threats", [{"n": 1}])

    async def first() -> tuple[str, list[dict[str, object]], int]:
        return await anext(threats.batches())

    assert asyncio.run(first()) == ("threats", [{"n": 1}], 0)


def test_order_is_kept_across_topics() -> None:
    async def collect() -> list[tuple[str, int]]:
        hub = Hub()
        watcher = hub.subscribe(["events", "threats"])
        hub.publish("events", [{"n": 1}, {"n": 2}])
        hub.publish("threats", [{"n": 3}])
        hub.publish("events", [{"n": 4}])
        got: list[tuple[str, int]] = []
        async for topic, records, lost in watcher.batches():
            assert lost == 0
            got += [(topic, record["n"]) for record in records]
            if len(got) == 4:
                return got
        return got

    assert asyncio.run(collect()) == [("events", 1), ("events", 2), ("threats", 3), ("events", 4)]


def test_what_does_not_fit_is_counted_once() -> None:
    async def collect() -> tuple[int, int]:
        hub = Hub()
        watcher = hub.subscribe(["events"])
        for _ in range(10):
            hub.publish("events", [{"n": 0}] * (QUEUE_RECORDS // 4))
        got = missed = 0
        async for _, records, lost in watcher.batches():
            assert len(records) <= REPLY_RECORDS
            got += len(records)
            missed += lost
            if got == QUEUE_RECORDS:
                break
        return got, missed

    assert asyncio.run(collect()) == (QUEUE_RECORDS, QUEUE_RECORDS // 4 * 10 - QUEUE_RECORDS)


def test_publishing_nothing_wakes_nobody() -> None:
    async def wait() -> bool:
        hub = Hub()
        watcher = hub.subscribe(["events"])
        hub.publish("events", [])
        try:
            await asyncio.wait_for(anext(watcher.batches()), 0.05)
        except TimeoutError:
            return True
        return False

    assert asyncio.run(wait())

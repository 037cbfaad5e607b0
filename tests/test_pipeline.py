"""A tick: what becomes of what the ledger gained, and what a part that fails takes with it (nothing)."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opened_store import flushed, opened

from trafficmond import abi
from trafficmond.config.settings import Flows, Settings
from trafficmond.config.streams import Export, Log
from trafficmond.control.broadcast import Broadcast, Subscription
from trafficmond.detect.engine import ThreatUpdate
from trafficmond.export.exports import ExportSet
from trafficmond.flows.batch import DELTA, Batch, Column, empty
from trafficmond.flows.names import Names
from trafficmond.model import Action, Reason, Severity, Threat
from trafficmond.pipeline import EVENTS_PER_S, Pipeline
from trafficmond.protocols import SYN, TCP
from trafficmond.sinks.fanout import SinkSet
from trafficmond.store.reader import Reader
from trafficmond.store.writer import Limits
from trafficmond.tasks import Tasks
from trafficmond.units import Units
from trafficmond.verdict import verdict_word

NOW = 1_700_000_000.0
DROP = verdict_word(Action.DROP, Reason.RULE, 7)
PASS = verdict_word(Action.ALLOW, Reason.DEFAULT)


def deltas(count: int, **columns: Any) -> Batch:
    """`count` new flows of one packet."""
    batch = np.zeros(count, DELTA)
    rest = {"family": 4, "proto": 17, "ifindex": 2, "packets": 1, "bytes": 100, "first": NOW, "last": NOW, "new": True}
    for name, value in {**rest, "src_lo": np.arange(count) + 1, "dst_lo": 9, "verdict": DROP, **columns}.items():
        batch[name] = value
    return batch


class FakeLedger:
    """Gains nothing."""

    def __init__(self) -> None:
        self.known: dict[int, bytes] = {}  # what tunnels carry

    def read_ledger(self) -> Batch:
        return empty(DELTA)

    def inners(self, names: Column) -> dict[int, bytes]:
        return {name: self.known[name] for name in names.tolist() if name in self.known}


class Room:
    """A pipeline among its real neighbours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        settings = Settings(state_dir=folder, logs=(Log(format="jsonl", path=folder / "traffic.jsonl"),))
        self.settings = replace(settings, flows=Flows(idle_timeout=5.0))
        self.store = opened(folder / "flows.db", Limits(86400.0, 1 << 30), clock=lambda: NOW)
        self.sinks = SinkSet(settings.logs)
        self.sinks.start()
        self.broadcast = Broadcast()
        self.responded: list[ThreatUpdate] = []
        self.ledger, self.tasks = FakeLedger(), Tasks()
        outputs = (self.store, self.sinks, ExportSet((), folder), self.broadcast)
        about = (self.responded.append, self.ledger.read_ledger, self.ledger.inners, self.tasks, Units(), NOW - 1)
        self.pipeline = Pipeline(self.settings, *outputs, *about)
        self.pipeline.names = Names({2: "eth0"}, {7: "bad"})
        self.said: list[str] = []
        self.sinks.note = self._note  # type: ignore[method-assign]

    def _note(self, _message: Any, text: str, fields: Any = None, **_: Any) -> None:
        self.said.append(f"{text} {(fields or {}).get('traceback', '')}")

    def tick(self, deltas: Batch, now: float) -> None:
        for _ in self.pipeline.steps(deltas, now):
            pass

    def rows(self, sql: str) -> list[Any]:
        assert flushed(self.store, 5)
        with Reader(self.store.path) as reader:
            return reader.rows(sql)

    def close(self) -> None:
        self.sinks.close(time.monotonic() + 5)
        self.store.close(5)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    made.close()


def test_counts_by_verdict_are_exact_and_add_up(room: Room) -> None:
    big = (1 << 40) + 1
    room.tick(deltas(3, packets=[1, 2, 3], bytes=[100, 200, big]), NOW)
    room.tick(deltas(2, packets=5, bytes=7, verdict=[DROP, PASS]), NOW + 1)
    assert room.pipeline.by_verdict == {DROP: (11, 307 + big), PASS: (5, 7)}


def test_flows_reach_the_store_when_they_are_due(room: Room) -> None:
    room.tick(deltas(2), NOW)
    assert room.rows("SELECT count(*) FROM flows") == [(0,)]
    room.tick(deltas(0), NOW + 6)  # idle for longer than the settings allow
    stored = room.rows("SELECT src_ip, action, rule, interface, packets FROM flows ORDER BY src_ip")
    assert stored == [("0.0.0.1", "drop", "bad", "eth0", 1), ("0.0.0.2", "drop", "bad", "eth0", 1)]


def test_what_tunnels_carry_is_looked_up_for_the_rows_at_hand(room: Room) -> None:
    gre = np.zeros(1, abi.INNER)
    gre["tunnel"], gre["number"], gre["scope"], gre["proto"] = abi.GRE, 7, abi.SCOPE_NUMBERED, 6
    room.ledger.known = {1 << 63: gre.tobytes()}
    room.tick(deltas(5, inner=[0, 1 << 63, 1 << 63, 3, 4], proto=47), NOW)
    asyncio.run(room.pipeline.store_rest(NOW, 5))
    assert room.rows("SELECT tunnel, vni, inner_protocol, count(*) FROM flows GROUP BY 1, 2, 3") == [
        (None, None, None, 3),
        ("gre", 7, "TCP", 2),
    ]
    assert room.pipeline.forgotten_inners == 2
    room.tick(deltas(5), NOW + 1)
    asyncio.run(room.pipeline.store_rest(NOW + 1, 5))
    assert room.pipeline.forgotten_inners == 2


def test_everything_is_stored_when_asked(room: Room) -> None:
    room.tick(deltas(3), NOW)
    asyncio.run(room.pipeline.store_rest(NOW, 5))
    assert room.rows("SELECT sum(packets) FROM flows") == [(3,)]


def test_a_stop_gives_the_store_no_more_than_its_queue_takes(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.store._writer.queue, "most_rows", 1000)
    room.tick(deltas(20_000), NOW)
    room.said.clear()  # the log's queue is small as well
    asyncio.run(room.pipeline.store_rest(NOW, 30))
    assert room.rows("SELECT sum(packets) FROM flows") == [(20_000,)]
    assert room.said == []


def test_a_stop_has_an_end_and_says_what_it_lost(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.store._writer.queue, "most_rows", 0)
    room.tick(deltas(30), NOW)
    asyncio.run(room.pipeline.store_rest(NOW, 0.1))
    assert room.said == [f"{room.store.path} lost 30 records "]


def test_the_moment_is_that_of_the_latest_tick(room: Room) -> None:
    room.tick(deltas(3), NOW + 1)
    moment = room.pipeline.moment
    assert (moment.at, moment.seconds) == (NOW + 1, 2.0)
    assert len(room.pipeline.recent.flows()[0]) == 3
    room.tick(deltas(0), NOW - 86400)  # the wall clock was set back
    assert room.pipeline.moment.seconds == 2.0, "no rate of a thousand times what it is"


def test_events_beyond_the_budget_are_counted(room: Room) -> None:
    room.tick(deltas(EVENTS_PER_S + 500), NOW)
    assert room.pipeline.suppressed_events == 500
    room.tick(deltas(10), NOW + 1)
    assert room.pipeline.suppressed_events == 500


def test_events_reach_the_logs_and_who_watches(room: Room) -> None:
    watching = room.broadcast.subscribe(["events"])
    room.tick(deltas(2), NOW)
    topic, told, lost = asyncio.run(first(watching))
    assert (topic, lost) == ("events", 0)
    room.close()
    assert told == (room.folder / "traffic.jsonl").read_text().splitlines()


async def first(watching: Subscription) -> tuple[str, list[str], int]:
    return await anext(watching.batches())


def test_a_detector_that_fails_is_reported_and_the_rest_continues(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    feed: Callable[..., Any] = room.pipeline.engine.feed
    monkeypatch.setattr(room.pipeline.engine, "feed", lambda *_: 1 / 0)
    room.tick(deltas(2), NOW)
    assert len(room.said) == 1
    assert "detection failed" in room.said[0]
    assert "ZeroDivisionError" in room.said[0]
    monkeypatch.setattr(room.pipeline.engine, "feed", feed)
    room.tick(deltas(0), NOW + 6)
    assert len(room.said) == 1
    assert room.rows("SELECT count(*) FROM flows") == [(2,)]


def test_a_threat_is_stored_told_and_responded_to(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Threat("port_scan", Severity.HIGH, "T1046", "192.0.2.1", None, NOW, NOW, 3, "scans", {"ports": 9}, "t-1")
    update = ThreatUpdate("opened", found)
    monkeypatch.setattr(room.pipeline.engine, "feed", lambda *_: [update])
    watching = room.broadcast.subscribe(["threats"])
    room.tick(deltas(1), NOW)
    assert room.responded == [update]
    assert room.rows("SELECT id, state, severity FROM threats") == [("t-1", "opened", "high")]
    topic, told, _ = asyncio.run(first(watching))
    assert [(topic, json.loads(record)["state"]) for record in told] == [("threats", "opened")]


def test_who_goes_on_is_responded_to_though_that_is_no_news(room: Room) -> None:
    for at, ports in ((NOW, range(1, 21)), (NOW + 4, range(21, 26))):
        probes = {"src_lo": 5, "dport": list(ports), "first_flags": SYN, "tcp_flags": SYN, "first": at, "last": at}
        room.tick(deltas(len(ports), proto=TCP, verdict=PASS, **probes), at)
        room.tick(deltas(0), at + 2)
    assert [each.state for each in room.responded] == ["opened", "continued", "continued"]
    assert room.rows("SELECT state FROM threats") == [("opened",)]


def test_the_exports_get_what_the_store_gets(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, str]] = []
    monkeypatch.setattr(
        room.pipeline.exports, "threat", lambda threat, state: told.append((threat.id, threat.count, state))
    )
    found = Threat("port_scan", Severity.HIGH, "T1046", "192.0.2.1", None, NOW - 9, NOW, 3, "scans", {}, "t-1")
    over = replace(found, id="t-0", src_ip="192.0.2.9", first_seen=NOW - 9e5, last_seen=NOW - 9e5)
    room.pipeline.resume_threats([found, over], NOW)
    assert sorted(told) == [("t-0", 3, "closed"), ("t-1", 3, "updated")], "a kill may have taken what was told last"
    told.clear()
    room.pipeline.store_threats()
    assert told == []
    more = replace(found, count=7)
    monkeypatch.setattr(room.pipeline.engine, "threats", lambda: [more])
    room.pipeline.store_threats()
    monkeypatch.setattr(room.pipeline.engine, "feed", lambda *_: [ThreatUpdate("closed", more)])
    room.tick(deltas(1), NOW)
    assert told == [("t-1", 7, "updated"), ("t-1", 7, "closed")]


def test_what_the_store_lost_is_said(room: Room) -> None:
    room.pipeline.report_store_health()
    assert room.said == []
    room.store.close(5)
    room.tick(deltas(3), NOW)
    asyncio.run(room.pipeline.store_rest(NOW, 5))
    for _ in range(2):
        room.pipeline.report_store_health()
    assert room.said[-1] == f"{room.store.path} lost 3 records "
    assert len(room.said) == 2, "that it is closed, and what it lost: each once"


def test_an_export_that_fails_and_loses_is_said_once(room: Room) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        to = f"ipfix+tcp://127.0.0.1:{nobody.getsockname()[1]}"
        exports = room.pipeline.exports
        exports.configure([Export(to=to, buffer_rows=1000)], 0.0)
        room.tick(deltas(1200), NOW)
        asyncio.run(room.pipeline.store_rest(NOW, 5))
        end = time.monotonic() + 5
        while len(room.said) < 2 and time.monotonic() < end:
            room.pipeline.report_export_health()
        room.pipeline.report_export_health()
        exports.finish(time.monotonic())
        exports.join(time.monotonic())
    assert sorted(text.split(": ")[0] for text in room.said) == [
        f"flows to {to}",
        f"the export to {to} lost 200 records ",
    ]


def test_timeouts_follow_the_settings(room: Room) -> None:
    room.pipeline.configure(replace(room.settings, flows=Flows(idle_timeout=60.0)))
    room.tick(deltas(2), NOW)
    room.tick(deltas(0), NOW + 6)
    assert room.rows("SELECT count(*) FROM flows") == [(0,)]


def test_a_drain_is_ended_although_who_asked_for_it_has_gone(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        done: list[str] = []

        def steps(*_: Any) -> Iterator[None]:
            for name in ("count", "emit", "detect", "store"):
                done.append(name)
                yield

        monkeypatch.setattr(room.pipeline, "steps", steps)
        asked = asyncio.create_task(room.pipeline.read_ledger())
        while not done:
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
        await room.pipeline.read_ledger()  # the next waits for the first to end
        assert done == ["count", "emit", "detect", "store"] * 2

    asyncio.run(run())


def test_everyone_who_asks_before_a_drain_begins_has_the_same(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        readings: list[int] = []
        monkeypatch.setattr(room.pipeline, "steps", lambda *_: iter(readings.append(1) or ()))  # type: ignore[func-returns-value]
        await asyncio.gather(*(room.pipeline.read_ledger() for _ in range(5)))
        assert readings == [1]

    asyncio.run(run())


def test_a_drain_that_fails_is_said(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.pipeline, "_read", lambda: 1 / 0)
    asyncio.run(room.pipeline.read_ledger())
    (said,) = room.said
    assert said.startswith("reading the flow ledger failed; will retry at the next interval")

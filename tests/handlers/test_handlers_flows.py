"""Answers of flows.db as they reach a client: page by page, and over when the client goes."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from asking import CALLER, Asked, asking
from opened_store import flushed

from trafficmond import questions
from trafficmond.control import dispatch
from trafficmond.control.call import Call
from trafficmond.flows.batch import DELTA, V4_MAPPED, Batch
from trafficmond.store import store
from trafficmond.store.reader import Reader

FLOWS = 2500


def many() -> Batch:
    """FLOWS flows of a packet each."""
    batch = np.zeros(FLOWS, DELTA)
    batch["src_lo"], batch["dst_lo"], batch["family"] = V4_MAPPED | np.arange(FLOWS, dtype=np.uint64), V4_MAPPED, 4
    batch["proto"], batch["ifindex"], batch["packets"], batch["bytes"], batch["new"] = 17, 2, 1, 100, True
    batch["first"] = batch["last"] = time.time()
    return batch


class Watched(Reader):
    """Knows which of it are open."""

    open: ClassVar[set[Reader]] = set()

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.open.add(self)

    def close(self) -> None:
        super().close()
        self.open.discard(self)


def test_rows_come_in_pages_and_a_client_that_goes_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "Reader", Watched)

    async def run() -> None:
        async with asking(tmp_path) as ask:
            ask.datapath.deltas.append(many())
            replies = await ask.replies("Flows", limit=10_000)
            assert [len(reply["parameters"]["rows"]) for reply in replies] == [1000, 1000, 500]
            request = dispatch.Request("io.trafficmon.Flows", {"limit": 10_000}, more=True)
            answer: AsyncGenerator[Any, None] = dispatch.answer(request, ask.service, Call(CALLER, True), True)
            await anext(answer)
            await answer.aclose()
            assert not Watched.open

    asyncio.run(run())


QUESTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"sort": "-first_seen", "limit": 7},
    {"sort": "bytes", "limit": 3},
    {"sort": "packets", "src": "0.0.4.0/22"},
    {"sort": "dst_port", "limit": 5},
    {"host": "0.0.0.7"},
    {"dst": "0.0.0.0/8", "port": 53},
    {"proto": "tcp", "action": "monitor", "interface": "eth0"},
    {"interface": "eth1"},
    {"action": "drop"},
    {"rule": "allow"},
    {"group_by": ["protocol"]},
    {"group_by": ["dst_port", "interface"], "sort": "flows", "limit": 2},
    {"since": 1.0, "until": 2.0},
)


def talk(now: float, first: int, count: int) -> Batch:
    """Flows with something to filter and sort by."""
    batch = np.zeros(count, DELTA)
    number = np.arange(first, first + count)
    batch["src_lo"], batch["dst_lo"], batch["family"] = (
        V4_MAPPED | number.astype(np.uint64),
        V4_MAPPED | np.uint64(1 << 20),
        4,
    )
    batch["sport"], batch["dport"] = 1024 + number, np.where(number % 3, 53, 443)
    batch["proto"], batch["ifindex"], batch["new"] = np.where(number % 2, 17, 6), 2, True
    batch["packets"], batch["bytes"] = 1 + number % 5, 60 + number
    batch["first"] = batch["last"] = now + number / 1e4
    return batch


def told(answer: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Its rows, those that sort alike in any order."""
    return sorted(tuple(row.values()) for row in answer["rows"])


def test_who_answers_is_seen_and_has_sent_something(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            asked = talk(time.time() - 1, 9, 1)
            answer = asked.copy()
            for one, other in (("src_lo", "dst_lo"), ("sport", "dport")):
                answer[one], answer[other] = asked[other], asked[one]
            answer["packets"], answer["bytes"], answer["direction"] = 3, 900, 1
            ask.datapath.deltas.append(np.concatenate([asked, answer]))
            await ask.parts.pipeline.read_ledger()
            server, client = [await ask("Explain", address=each) for each in ("0.16.0.0", "0.0.0.9")]
            assert (server["packets"], server["bytes"], server["dropped_packets"]) == (3, 900, 0)
            assert (client["packets"], client["bytes"]) == (5, 69)
            assert server["last_seen"] == client["last_seen"] is not None

    asyncio.run(run())


def test_looking_stores_nothing_and_tells_what_storing_would_have_told(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            kept, pipeline, now = ask.parts.store, ask.parts.pipeline, time.time() - 1
            ask.datapath.deltas.append(talk(now, 0, 300))  # stored,
            await ask.parts.pipeline.read_ledger()
            await pipeline.store_rest(time.time(), 5)
            assert flushed(kept, 5)
            ask.datapath.deltas.append(talk(now, 200, 300))  # partly known and pending
            before = [await ask("Flows", **question) for question in QUESTIONS]
            explained = await ask("Explain", address="0.0.0.250")
            for _ in range(50):
                await ask("Flows", limit=1)
                await ask("Explain", address="0.0.0.9")
                await ask("Top")
            assert flushed(kept, 5)
            assert kept.status().rows == 300
            assert sum(row["packets"] for row in before[11]["rows"]) == 2 * 300 * 3
            assert (explained["packets"], len(explained["flows"])) == (2, 2)

            await pipeline.store_rest(time.time(), 5)
            assert flushed(kept, 5)
            assert kept.status().rows == 600
            for question, answer in zip(QUESTIONS, before, strict=True):
                again = await ask("Flows", **question)
                if question.get("sort") == "dst_port":  # of which many are alike: any of them will do
                    assert [row["dst_port"] for row in answer["rows"]] == [row["dst_port"] for row in again["rows"]]
                else:
                    assert told(answer) == told(again), question

    asyncio.run(run())


def test_what_waits_to_be_stored_is_reported_once(tmp_path: Path) -> None:
    """Whatever the writer does meanwhile: each answer has each row once."""

    async def run() -> None:
        async with asking(tmp_path) as ask:
            pipeline, now = ask.parts.pipeline, time.time() - 4
            for round_ in range(30):
                ask.datapath.deltas.append(talk(now, round_ * 1000, 1000))
                (row,) = (await ask("Flows", group_by=["interface"]))["rows"]
                assert row["flows"] == (round_ + 1) * 1000
                await pipeline.store_rest(time.time(), 5)

    asyncio.run(run())


def test_a_disk_that_takes_nothing_hides_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            with contextlib.closing(sqlite3.connect(tmp_path / "flows.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                ask.datapath.deltas.append(many())
                await ask.parts.pipeline.read_ledger()
                await ask.parts.pipeline.store_rest(time.time(), 5)
                began = time.monotonic()
                (row,) = (await ask("Flows", group_by=["interface"]))["rows"]
                assert row["packets"] == FLOWS
                assert time.monotonic() - began < 2
                other.execute("ROLLBACK")

    asyncio.run(run())


async def read(ask: Asked, work: Callable[[Reader], Any]) -> Any:
    with ask.parts.questions.counted():
        return await ask.parts.questions.ask(lambda: Reader(ask.parts.store.path), work)


def test_too_many_questions_are_refused_with_a_word(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            gate = threading.Event()

            async def hold() -> None:
                await read(ask, lambda _: gate.wait(10))

            held = [asyncio.ensure_future(hold()) for _ in range(questions.THREADS + questions.MOST_WAITING)]
            await asyncio.sleep(0.05)
            assert sum(each.name.startswith("question") for each in threading.enumerate()) == questions.THREADS
            name, said = await ask.refused("Audit")
            assert (name, "try again" in said) == ("Busy", True)
            await ask("Rules")  # which asks nothing of the file
            held[-1].cancel()  # a client that goes gives its place back
            await asyncio.sleep(0)
            asked = asyncio.ensure_future(ask("Audit"))
            await asyncio.sleep(0)
            gate.set()
            assert (await asked)["entries"] == []
            await asyncio.gather(*held, return_exceptions=True)

    asyncio.run(run())


def test_a_client_that_goes_ends_its_question(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"

    async def run() -> float:
        async with asking(tmp_path) as ask:
            asked = asyncio.ensure_future(read(ask, lambda reader: reader.rows(endless)))
            await asyncio.sleep(0.1)
            began = time.monotonic()
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            await asyncio.gather(*(ask("Audit") for _ in range(questions.THREADS)))
            return time.monotonic() - began

    assert asyncio.run(run()) < 5

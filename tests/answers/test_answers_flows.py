"""Answers of flows.db as they reach a client: page by page, and over when the client goes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from answering import CALLER, CONTROL, asking

from trafficmond.answers import flows
from trafficmond.control import dispatch
from trafficmond.control.call import Call, Service
from trafficmond.flows.batch import DELTA, V4_MAPPED, Batch
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


async def all_closed() -> bool:
    """Whether no reader and no thread of an answer is left, before long."""
    end = time.monotonic() + 5
    while Watched.open or any(each.name.startswith("answer") for each in threading.enumerate()):
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.01)
    return True


def test_rows_come_in_pages_and_a_client_that_goes_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "Reader", Watched)

    async def run() -> None:
        async with asking(tmp_path) as ask:
            ask.daemon.deltas.append(many())
            replies = await ask.replies("Flows", limit=10_000)
            assert [len(reply["parameters"]["rows"]) for reply in replies] == [1000, 1000, 500]
            assert await all_closed()

            service = Service(ask.answers, ask.daemon.hub, lambda: CONTROL)
            request = dispatch.Request("io.trafficmon.Flows", {"limit": 10_000}, more=True)
            answer: AsyncGenerator[Any, None] = dispatch.answer(request, Call(service, CALLER, True), True)
            await anext(answer)
            assert len(Watched.open) == 1
            await answer.aclose()
            assert await all_closed()

    asyncio.run(run())

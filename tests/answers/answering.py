"""A daemon without a kernel: rulebook, bans, pipeline, store and logs are real; the data path is what a test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from trafficmond import abi
from trafficmond.answers import Answers
from trafficmond.banlist import BanList
from trafficmond.config.settings import Log, Settings
from trafficmond.control import dispatch, idl
from trafficmond.control.call import Call, Service
from trafficmond.control.hub import Hub
from trafficmond.control.server import Server
from trafficmond.control.view import Caller
from trafficmond.daemon import Daemon
from trafficmond.datapath.attachments import FAILED, Change
from trafficmond.datapath.datapath import Accounting
from trafficmond.datapath.ledger import Sums
from trafficmond.datapath.loader import Sizes
from trafficmond.errors import ConfigError, DatapathError
from trafficmond.export.exports import ExportSet
from trafficmond.flows.batch import DELTA, Batch, empty
from trafficmond.flows.names import Names
from trafficmond.metrics.http import MetricsServer
from trafficmond.pipeline import Pipeline
from trafficmond.responder import Responder
from trafficmond.rulebook import Rulebook
from trafficmond.sinks.fanout import SinkSet
from trafficmond.store import records
from trafficmond.store.store import Store
from trafficmond.store.writer import Limits

INTERFACE = idl.load("io.trafficmon")
CONTROL = dict.fromkeys(("clients", "accepted", "refused", "evicted", "bad", "slow", "lost_records"), 0)
CALLER = Caller(1000, 1000, 77, "someone")


class FakeDatapath:
    """One attached interface, one that was refused, and round figures."""

    def __init__(self) -> None:
        self.sizes = Sizes(2, 64, 64)
        self.ledger = SimpleNamespace(used=lambda: 5, evicted_records=lambda: 7)
        self.loaded = SimpleNamespace(loader="libbpf", notes=[])
        self.attached = {2: SimpleNamespace(name="eth0", ifindex=2, mode="native", egress="tcx", notes=["a note"])}
        self.refused = {3: Change(FAILED, "eth1", "cannot attach to eth1")}
        self.totals = np.zeros((2, 2), abi.TOTALS)
        self.totals["seen"]["packets"] = 10

    def accounting(self) -> Accounting:
        return Accounting(
            Sums(40, 4000), Sums(30, 3000), Sums(1, 60), Sums(4, 400), Sums(5, 500), Sums(2, 9), {"short_ip": 5}
        )

    def interface_totals(self, ifindex: int) -> Any:
        assert ifindex == 2
        return self.totals


class FakeDaemon:
    """What the answers ask of `daemon.Daemon`."""

    def __init__(self, folder: Path, guard: tuple[tuple[str, str], ...]) -> None:
        (folder / "cidr.d").mkdir()
        self.settings = Settings(
            cidr_dir=folder / "cidr.d", state_dir=folder, logs=(Log(format="jsonl", path=folder / "traffic.jsonl"),)
        )
        self.started_at = time.time()
        self.warnings: dict[str, str] = {}
        self.files_note = ""
        self.hub = Hub()
        self.datapath = FakeDatapath()
        self.store = Store.open(folder / "flows.db", Limits(86400.0, 1 << 30))
        self.sinks = SinkSet(self.settings.logs)
        self.sinks.start()
        self.exports = ExportSet((), folder)
        self.rulebook = Rulebook(self.settings, lambda _: None, lambda epoch: int(epoch * 250), lambda _: guard)
        self.kernel = FakeKernel()
        self.bans = BanList(self.kernel, self.store.change_bans)
        parts = (self.rulebook, self.bans, self.sinks, self.store)
        self.responder = Responder(self.settings.response, *parts, lambda: self.peers)
        told: tuple[Callable[[Any], None], Callable[[Any], dict[int, bytes]]] = (self.responder.respond, lambda _: {})
        self.pipeline = Pipeline(self.settings, self.store, self.sinks, self.exports, self.hub, *told, time.time() - 1)
        self.pipeline.names = Names({2: "eth0"}, {})
        self.metrics = MetricsServer(self.no_metrics)
        self.server = Server(None, self.hub)  # type: ignore[arg-type]
        self.deltas: list[Batch] = []
        self.peers: set[str] = set()
        self.guests: set[str] = set()  # connected to SSH's port
        self.jump = 0.0  # of the clock
        self.reloads: list[str] = []
        self.network = SimpleNamespace(only_from=[])
        self.shut: list[str] = []  # what nobody can reach any more
        self.reloader = self  # for which the rulebook alone is read again
        self.broken: ConfigError | None = None

    async def no_metrics(self) -> str:
        raise AssertionError("nobody listens")

    async def tick(self) -> None:
        self.pipeline.tick(np.concatenate([empty(DELTA), *self.deltas]), time.time())
        self.deltas.clear()

    async def to_the_end(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.shield(asyncio.ensure_future(work))

    async def audit(self, change: records.Change) -> bool:
        return await Daemon.audit(self, change)  # type: ignore[arg-type]

    async def reload(self, why: str, _caller: Caller) -> list[str]:
        if self.broken:
            raise self.broken
        self.reloads.append(why)
        await self.rulebook.load()
        return ["1 rule in force"]

    def refresh_names(self) -> None:
        self.pipeline.names = Names({2: "eth0"}, self.rulebook.names())

    def unwatched(self) -> list[str]:
        return ["eth1 is not watched: cannot attach to eth1"]

    def look_at_doors(self) -> list[str]:
        return self.shut

    def missing_interfaces(self) -> list[str]:
        return ["tun9"]

    def logins(self) -> set[str]:
        return self.peers

    def ssh_peers(self) -> set[str]:
        return self.peers | self.guests

    def follow_clock(self) -> None:
        if self.jump:
            self.bans.shift(self.jump)
            self.jump = 0.0

    def close(self) -> None:
        self.sinks.close(time.monotonic() + 5)
        self.store.close(5)


class FakeKernel:
    """A table of bans."""

    def __init__(self) -> None:
        self.held: dict[Any, Any] = {}
        self.full = False

    def put(self, ban: Any) -> None:
        if self.full:
            raise DatapathError("full")
        self.held[ban.network] = ban

    def remove(self, network: Any) -> bool:
        return self.held.pop(network, None) is not None

    def __iter__(self) -> Any:
        return iter(list(self.held.values()))


class Asked:
    """The daemon's answers, as a client gets them: through the dispatcher, each checked against the description."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self.daemon = daemon
        self.answers = Answers(daemon)  # type: ignore[arg-type]

    async def replies(self, method: str, **parameters: Any) -> list[dict[str, Any]]:
        service = Service(self.answers, self.daemon.hub, lambda: CONTROL)
        request = dispatch.Request(f"io.trafficmon.{method}", parameters, more=True)
        return [reply async for reply in dispatch.answer(request, Call(service, CALLER, True), True)]

    async def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The one reply, or all of a stream's joined."""
        joined: dict[str, Any] = {}
        for reply in await self.replies(method, **parameters):
            assert "error" not in reply, reply
            INTERFACE.check(INTERFACE.methods[method].gives, reply["parameters"])
            for name, value in reply["parameters"].items():
                joined[name] = [*joined[name], *value] if isinstance(value, list) and name in joined else value
        return joined

    async def refused(self, method: str, **parameters: Any) -> tuple[str, str]:
        """(the error's last name, all it says)."""
        (reply,) = await self.replies(method, **parameters)
        return reply["error"].rpartition(".")[2], str(reply["parameters"])


@asynccontextmanager
async def asking(folder: Path, guard: tuple[tuple[str, str], ...] = ()) -> AsyncIterator[Asked]:
    daemon = FakeDaemon(folder, guard)
    asked = Asked(daemon)
    try:
        await daemon.rulebook.load()
        yield asked
    finally:
        asked.answers.close()
        daemon.close()

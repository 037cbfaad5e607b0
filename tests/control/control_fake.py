"""Toy handlers, served over a real socket in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from control_replies import BAN, FLOW, LIVE_RATES, REPLIES, RULE, STATUS, T0, THREAT, TOLD_THREAT, TOP

from trafficmond import networks
from trafficmond.choice import EventFilter
from trafficmond.control import idl
from trafficmond.control.broadcast import TOPICS, Broadcast
from trafficmond.control.call import Answer, Call, Method, Reply, Row, Service, methods_of
from trafficmond.control.clients import Clients
from trafficmond.control.listen import open_socket
from trafficmond.control.peers import Caller
from trafficmond.control.server import Server
from trafficmond.errors import ConfigError, Mistake, NotFound, Refused
from trafficmond.handlers import classes
from trafficmond.handlers.handler import paged
from trafficmond.model import Action
from trafficmond.tasks import Tasks

CHANGING = {name for each in classes() for name, method in methods_of(each).items() if method.changes}


FULL = "203.0.113.66/32"  # no rule can be added on it


class Canned:
    """Toy handlers: they answer from `control_replies` and remember what they were asked."""

    def __init__(self, broadcast: Broadcast) -> None:
        self.broadcast = broadcast
        self.replies: dict[str, Row | Exception] = dict(REPLIES)  # for a test to change
        self.asked: list[tuple[str, Row]] = []
        self.callers: list[Caller] = []
        self.runtime: dict[str, Row] = {}
        self.flow_rows = 3
        self.live: list[Row] = []  # flows that are not stored yet
        self.samples = 0
        self.delay_s = 0.0

    def service(self) -> Service:
        """All methods of the interface."""
        names = idl.load("io.trafficmon").methods
        answers: dict[str, Answer] = {name: getattr(self, name, partial(self.canned, name)) for name in names}
        methods = {
            name: Method(name, partial(self.noted, name, answer), name in CHANGING, name == "Watch")
            for name, answer in answers.items()
        }
        return Service("0.2.0", methods, Tasks().shielded)

    def noted(self, name: str, answer: Answer, call: Call, **given: Any) -> Any:
        self.asked.append((name, given))
        self.callers.append(call.caller)
        return answer(call, **given)

    async def canned(self, name: str, _: Call, **__: Any) -> Reply:
        await asyncio.sleep(self.delay_s)
        reply = self.replies[name]
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def Rules(self, call: Call, **_: Any) -> AsyncIterator[Reply]:
        async def pages() -> AsyncIterator[Sequence[Row]]:
            yield [RULE]
            yield list(self.runtime.values())

        async for page in paged(call, pages()):
            yield {"rules": page}

    async def AddCidr(self, _: Call, cidr: str, force: bool = False, **rule: Any) -> Reply:
        if "/" not in cidr:
            wrong = [Mistake("cidr", f"{cidr!r} is not a valid prefix"), Mistake("action", "is odd too")]
            raise ConfigError(wrong, hint="write it like 192.0.2.0/24")
        if cidr == "0.0.0.0/0" and not force and "ports" not in rule:
            raise Refused("0.0.0.0/0 would cut off this host", hint="use --force to do it anyway")
        if cidr == FULL:
            raise Refused("there is no room for more")
        row = {**RULE, "cidr": str(networks.parse(cidr)), "source": "runtime"}
        row |= {"action": rule.get("action", "drop"), "label": rule.get("label", "")}
        if "ttl_s" in rule:
            row["expires"] = T0 + rule["ttl_s"]
        self.runtime[row["cidr"]] = row
        lasting = rule.get("save") or "ttl_s" in rule
        return {"rule": row, "notes": [] if lasting else ["it ends at the next restart (--save keeps it)"]}

    async def RemoveCidr(self, _: Call, cidr: str, **__: Any) -> Reply:
        if cidr not in self.runtime:
            raise NotFound(f"no run-time rule on {cidr}", hint="see trafficctl rules")
        return {"removed": [self.runtime.pop(cidr)], "notes": []}

    async def Flows(
        self,
        call: Call,
        limit: int = 100,
        sort: str = "",
        sql_only: bool = False,
        unstored: bool = False,
        group_by: Sequence[str] = (),
        **_: Any,
    ) -> AsyncIterator[Reply]:
        row = FLOW | {name: FLOW.get(name) for name in group_by} | {"up_bytes": 1_200, "down_bytes": 64_000}
        row |= {"peer": FLOW["dst_ip"], "host": FLOW["src_ip"]}
        if sort == "nonsense":
            raise ConfigError([Mistake("sort", "'nonsense' is not a column")], hint="see docs/flows-db.md")

        async def pages() -> AsyncIterator[Sequence[Row]]:
            if unstored:
                yield self.live
                return
            left = 0 if sql_only else min(self.flow_rows, limit)
            while left > 0:
                yield [row if group_by else FLOW] * min(left, 500)
                left -= 500

        async for page in paged(call, pages()):
            yield {"sql": "SELECT * FROM flows", "columns": list(FLOW), "rows": page}

    async def Ban(self, call: Call, cidr: str, **ban: Any) -> Reply:
        if cidr == "127.0.0.1/32":
            raise Refused("127.0.0.1 is guarded", hint="the guard protects this host's own lifelines")
        user = call.caller.user
        entry = {**BAN, "cidr": cidr, "by": user, "reason": ban.get("reason", ""), "owner": ban.get("owner", user)}
        if ban.get("forever"):
            entry["expires"] = None
        return {"ban": entry, "notes": ["a connection to SSH's port was open"] if cidr == "203.0.113.22/32" else []}

    async def BanMany(self, _: Call, bans: Sequence[Row], **__: Any) -> Reply:
        guarded = [each["cidr"] for each in bans if each["cidr"] == "127.0.0.1/32"]
        refused = [{"cidr": cidr, "why": f"{cidr} is guarded"} for cidr in guarded]
        return {"banned": len(bans) - len(refused), "refused": refused, "notes": []}

    async def Unban(self, _: Call, cidr: str, everyone: bool = False, **__: Any) -> Reply:
        if cidr != "203.0.113.5/32":
            raise NotFound(f"no ban within {cidr}")
        held = [] if everyone else [{**BAN, "owner": "fail2ban-recidive", "expires": None}]
        return {"lifted": [BAN], "held": held, "notes": []}

    async def UnbanMany(self, _: Call, cidrs: Sequence[str], **__: Any) -> Reply:
        bans = [{**BAN, "cidr": cidr} for cidr in cidrs[:100]]
        return {"lifted": len(cidrs), "held": 0, "notes": [], "bans": bans, "stay": []}

    async def Threat(self, _: Call, id: str) -> Reply:
        if not THREAT["id"].startswith(id):
            raise NotFound(f"no threat {id}", hint="see trafficctl threats")
        return TOLD_THREAT

    async def Top(self, _: Call, **__: Any) -> Reply:
        self.samples += 1
        eth0 = {**STATUS["interfaces"][0], "packets": 1_000 * self.samples, "bytes": 1_500_000 * self.samples}
        return {**TOP, "at": T0 + self.samples, "interfaces": [eth0 | {"rates": LIVE_RATES}]}

    async def Watch(
        self, _: Call, topics: Sequence[str] = TOPICS, action: str | None = None, **__: Any
    ) -> AsyncIterator[Reply]:
        watching = self.broadcast.subscribe(topics, EventFilter(Action.parse(action) if action else None))
        try:
            async for topic, records, lost in watching.batches():
                yield {"topic": topic, "records": records, "lost": lost}
        finally:
            self.broadcast.unsubscribe(watching)


class Running:
    """The server and what a test may do to it from outside its thread."""

    def __init__(self, path: Path, canned: Canned, clients: Clients, loop: asyncio.AbstractEventLoop) -> None:
        self.path, self.canned, self.broadcast, self.clients, self.loop = path, canned, canned.broadcast, clients, loop

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function on the server's loop and wait for its value."""

        async def call() -> Any:
            return function(*args)

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(5)


@contextlib.contextmanager
def serving(path: Path) -> Iterator[Running]:
    """Serve a Canned at `path` for as long as the block lasts."""
    ready, stop = threading.Event(), asyncio.Event()
    running: list[Running] = []

    async def main() -> None:
        canned, clients = Canned(Broadcast()), Clients()
        server = Server(canned.service(), clients)
        await server.start(open_socket(path, {}))
        running.append(Running(path, canned, clients, asyncio.get_running_loop()))
        ready.set()
        await stop.wait()
        await server.stop()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert ready.wait(5), "the server did not start"
    try:
        yield running[0]
    finally:
        running[0].loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        assert not thread.is_alive(), "the server did not stop"

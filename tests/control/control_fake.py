"""Toy handlers, served over a real socket in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trafficmond import networks
from trafficmond.control import idl
from trafficmond.control.call import Answer, Call, Method, Reply, Row, Service, methods_of
from trafficmond.control.clients import Clients
from trafficmond.control.hub import TOPICS, Hub, Wanted
from trafficmond.control.listen import open_socket
from trafficmond.control.paging import paged
from trafficmond.control.peers import Caller
from trafficmond.control.refusals import NotFound, Refused
from trafficmond.control.server import Server
from trafficmond.errors import ConfigError, Mistake
from trafficmond.handlers import classes
from trafficmond.model import Action
from trafficmond.tasks import Tasks

CHANGING = {name for each in classes() for name, method in methods_of(each).items() if method.changes}
T0 = 1_700_000_000.0


CONTROL: Row = {"clients": 1, "accepted": 1, "refused": 0, "evicted": 0, "bad": 0, "slow": 0, "lost_records": 0}


def count(packets: int, octets: int) -> Row:
    return {"packets": packets, "bytes": octets}


TRIAL: Row = {
    **{"what": "apply /etc/trafficmon/cidr.new", "user": "ada", "begun_at": T0, "until": T0 + 60, "left_s": 42.4},
    **{"folder": "/etc/trafficmon/cidr.new", "cidr_dir": "/etc/trafficmon/cidr.d"},
}
STATUS: Row = {
    "version": "0.2.0",
    "pid": 4242,
    "started_at": T0,
    "config": {"path": "/etc/trafficmon/trafficmond.toml", "generation": 7, "loaded_at": T0 + 5, "error": None},
    "loader": "libbpf",
    "loader_reason": None,
    "interfaces": [
        {
            "name": "eth0",
            "ifindex": 2,
            "mode": "native",
            "packets": 123_456_789,
            "bytes": 98_765_432_100,
            "dropped_packets": 4321,
            "dropped_bytes": 432_100,
        }
    ],
    "accounting": {
        "seen": count(123_456_789, 98_765_432_100),
        "in_flows": count(123_450_000, 98_765_000_000),
        "unattributed": count(789, 43_210),
        "not_ip": count(5_000, 300_000),
        "malformed": count(1_000, 88_890),
        "pending": count(0, 0),
        "dropped": count(4321, 432_100),
        "others": {"evicted": count(123_000_000, 98_000_000_000)},
        "malformed_by": {"short_ip": 1_000},
    },
    "rules": {"count": 3, "prefixes": 4_567, "lists": 1, "bans": 1, "default": "monitor"},
    "store": {
        "path": "/var/lib/trafficmon/flows.db",
        "rows": 1_234_567,
        "queue": 12,
        "lost_rows": 0,
        "size_bytes": 345_678_901,
        "state": "ok",
    },
    "logs": [
        {
            "name": "traffic.jsonl",
            "format": "jsonl",
            "path": "/var/log/trafficmon/traffic.jsonl",
            "written": 99_999,
            "queue": 0,
            "lost": 0,
            "state": "ok",
        }
    ],
    "ledger": {"memory_bytes": 33_554_432, "slots": 131_072, "used": 4_096, "evicted": 17, "pressure": 0.03125},
    "threats": {"open": 1, "low": 0, "medium": 0, "high": 1, "critical": 0, "response": "off"},
    "flows": 4_096,
    "memory_bytes": 41_943_040,
    "warnings": [],
}

RULE: Row = {
    "cidr": "203.0.113.0/24",
    "kind": "rule",
    "action": "drop",
    "direction": "ingress",
    "label": "bad neighbours",
    "source": "/etc/trafficmon/cidr.d/10-office.toml:1",
    "expires": None,
    "rate_per_s": None,
    "burst_packets": None,
    "prefixes": None,
    "packets": 4_321,
    "bytes": 432_100,
    "ports": None,
    "shadow": None,
    "would_drop": None,
}

FLOW: Row = {
    "first_seen": T0,
    "last_seen": T0 + 12.5,
    "src_ip": "192.0.2.10",
    "dst_ip": "203.0.113.5",
    "src_port": 51_000,
    "dst_port": 443,
    "protocol": "TCP",
    "protocol_num": 6,
    "packets": 10,
    "bytes": 1_200,
    "reply_packets": 8,
    "reply_bytes": 64_000,
    "action": "monitor",
    "rule": None,
    "interface": "eth0",
    "direction": "egress",
}

USAGE: list[Row] = [
    {
        "period": period,
        "key": "all",
        "flows": 10 * number,
        "packets": 1000 * number,
        "up_bytes": number << 20,
        "down_bytes": number << 22,
        "unsided_bytes": 0,
    }
    for number, period in ((3, "2026-11-27"), (0, "2026-11-26"), (1, "2026-11-25"))
]

THREAT: Row = {
    "id": "t-5f2a91c0",
    "detector": "port_scan",
    "severity": "high",
    "technique": "T1046",
    "src_ip": "203.0.113.5",
    "dst_ip": "192.0.2.10",
    "first_seen": T0,
    "last_seen": T0 + 60,
    "count": 250,
    "summary": "203.0.113.5 tried 250 ports of 192.0.2.10, 1 answered",
    "state": "opened",
    "evidence": {"unit": "ports", "ports": 250, "answered": 1, "sample": [22, 23, 80]},
    "not_banned": "response off",
    "src_country": "XX",
    "src_asn": 64500,
    "src_as_name": "Example Networks",
    "dst_country": None,
    "dst_asn": None,
    "dst_as_name": None,
}

BAN: Row = {
    "cidr": "203.0.113.5/32",
    "by": "port_scan",
    "reason": "port scan",
    "since": T0,
    "expires": T0 + 600,
    "threat": "t-5f2a91c0",
    "count": 1,
    "forced": False,
    "owner": "root",
    "ports": None,
}

LIVE_RATES: list[Row] = [
    {
        "window_s": window,
        "sent_packets_per_s": 400.0,
        "sent_bytes_per_s": 200_000.0,
        "received_packets_per_s": 600.0,
        "received_bytes_per_s": 1_300_000.0 - 100.0 * window,
    }
    for window in (2, 10, 40)
]

LIVE_FLOW: Row = {
    "src_ip": "192.0.2.10",
    "dst_ip": "203.0.113.5",
    "src_port": 51_000,
    "dst_port": 443,
    "protocol": "TCP",
    "interface": "eth0",
    "action": "monitor",
    "packets": 10_000,
    "bytes": 12_000_000,
    "sent_packets": 4_000,
    "sent_bytes": 2_000_000,
    "received_packets": 6_000,
    "received_bytes": 10_000_000,
    "packets_per_s": 1_000.0,
    "bytes_per_s": 1_200_000.0,
    "rates": LIVE_RATES,
    "age_s": 10.0,
    "unit": "nginx.service",
}


TOP: Row = {
    "at": T0,
    "interfaces": STATUS["interfaces"],
    "flows": [LIVE_FLOW],
    "hosts": [
        {"address": "192.0.2.10", "flows": 1, "packets_per_s": 1_000.0, "bytes_per_s": 1_200_000.0, "rates": LIVE_RATES}
    ],
    "units": [
        {
            **{"unit": "nginx.service", "flows": 1, "packets_per_s": 1_000.0, "bytes_per_s": 1_200_000.0},
            "rates": LIVE_RATES,
        }
    ],
    "threats": [THREAT],
    "flow_count": 4_096,
    "rates": LIVE_RATES,
    "moving": 1,
}

TOLD_THREAT: Row = {
    "threat": THREAT,
    "flows": [FLOW],
    "response": ["would have banned 203.0.113.5 for 10m (shadow)"],
}

_DECISION: Row = {"label": None, "source": None, "expires": None, "why": None}
EXPLANATION: Row = {
    "address": "203.0.113.5",
    "direction": "ingress",
    "action": "drop",
    "reason": "rule",
    "decisions": [
        {**_DECISION, "kind": "rule", "prefix": "203.0.113.0/24", "action": "drop", "wins": True}
        | {"source": "/etc/trafficmon/cidr.d/10-office.toml:1", "label": "bad neighbours"},
        {**_DECISION, "kind": "default", "prefix": None, "action": "monitor", "wins": False}
        | {"why": "a rule comes first"},
    ],
    "packets": 4_321,
    "bytes": 432_100,
    "dropped_packets": 4_321,
    "first_seen": T0,
    "last_seen": T0 + 60,
    "flows": [FLOW],
    "threats": [THREAT],
    "listeners": ["nginx.service"],
    "advice": ["to let it in: trafficctl add-cidr 203.0.113.5/32 --action allow"],
}

CHANGE: Row = {
    **{"at": T0, "uid": 0, "user": "root", "pid": 1},
    **{"change": "add-cidr", "subject": "203.0.113.0/24", "before": None, "after": "drop"},
}

RULES_CHANGE: Row = {
    **{"number": 7, "at": T0, "user": "root", "change": "add-cidr", "subject": "203.0.113.0/24"},
    **{"removed": 0, "added": 1},
}
ENTRY: Row = {"cidr": ["203.0.113.0/24"], "action": "drop", "ports": ["tcp/22"], "source": "runtime"}

REPLIES: dict[str, Row] = {
    "Status": {**STATUS, "control": CONTROL},
    "Version": {"version": "0.2.0"},
    "Metrics": {"text": "# TYPE trafficmon_packets counter\ntrafficmon_packets_total 1\n# EOF\n"},
    "Bans": {"bans": [BAN]},
    "Threats": {"threats": [THREAT]},
    "Explain": EXPLANATION,
    "Usage": {"rows": USAGE},
    "Audit": {"entries": [CHANGE]},
    "Apply": {"rules": 3, "lists": 1, "prefixes": 4_567, "probation": TRIAL, "notes": ["2 rules -> 3 rules"]},
    "Confirm": {"confirmed": "apply", "notes": []},
    "Rollback": {"rolled_back": "apply", "notes": []},
    "History": {"changes": [RULES_CHANGE]},
    "RulesAt": {"rules": [{"default": "drop", "source": "policy.default"}, ENTRY]},
    "Undo": {"undone": 7, "done": ["removed: 203.0.113.0/24 drop"], "edits": [], "notes": []},
    "Reload": {
        **{"generation": 8, "rules": 3, "lists": 1, "prefixes": 4_567, "took_s": 0.012},
        "changed": ["cidr.d/10-office.toml"],
    },
}


class Canned:
    """Toy handlers: they answer from the tables above and remember what they were asked."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
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
            wrong = [Mistake("cidr", f"{cidr!r} is no prefix"), Mistake("action", "is odd too")]
            raise ConfigError(wrong, hint="write it like 192.0.2.0/24")
        if cidr == "0.0.0.0/0" and not force and "ports" not in rule:
            raise Refused("0.0.0.0/0 would cut off this host", hint="say --force if you mean it")
        row = {**RULE, "cidr": str(networks.parse(cidr)), "source": "runtime"}
        row |= {"action": rule.get("action", "drop"), "label": rule.get("label", "")}
        if "ttl_s" in rule:
            row["expires"] = T0 + rule["ttl_s"]
        self.runtime[row["cidr"]] = row
        lasting = rule.get("save") or "ttl_s" in rule
        return {"rule": row, "notes": [] if lasting else ["until the next restart (--save keeps it)"]}

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
            raise ConfigError([Mistake("sort", "'nonsense' is no column")], hint="see docs/flows-db.md")

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
        watching = self.hub.subscribe(topics, Wanted(Action.parse(action) if action else None))
        try:
            async for topic, records, lost in watching.batches():
                yield {"topic": topic, "records": records, "lost": lost}
        finally:
            self.hub.unsubscribe(watching)


class Running:
    """The server and what a test may do to it from outside its thread."""

    def __init__(self, path: Path, canned: Canned, clients: Clients, loop: asyncio.AbstractEventLoop) -> None:
        self.path, self.canned, self.hub, self.clients, self.loop = path, canned, canned.hub, clients, loop

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
        canned, clients = Canned(Hub()), Clients()
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

"""A daemon that is only a view, served over a real socket in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trafficmond import networks
from trafficmond.control.call import Service
from trafficmond.control.clients import Clients
from trafficmond.control.hub import Hub
from trafficmond.control.listen import open_socket
from trafficmond.control.server import Server
from trafficmond.control.view import (
    Caller,
    FlowAnswer,
    NewBan,
    NewRule,
    NotFound,
    Refused,
    Row,
    ThreatQuery,
    TopQuery,
    Whose,
)
from trafficmond.errors import ConfigError, Mistake
from trafficmond.model import FlowQuery

T0 = 1_700_000_000.0


CONTROL: Row = {"clients": 1, "accepted": 1, "refused": 0, "evicted": 0, "bad": 0, "slow": 0, "lost_records": 0}


def count(packets: int, octets: int) -> Row:
    return {"packets": packets, "bytes": octets}


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
}

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
    "packets_per_s": 1_000.0,
    "bytes_per_s": 1_200_000.0,
    "age_s": 10.0,
}


class FakeView:
    """Answers from the tables above and remembers what it was asked to change."""

    version = "0.2.0"

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.runtime: dict[str, Row] = {}
        self.flow_rows = 3
        self.samples = 0
        self.delay_s = 0.0

    async def status(self) -> Row:
        await asyncio.sleep(self.delay_s)
        return STATUS

    async def rules(self, within: str | None) -> AsyncIterator[Sequence[Row]]:
        self.asked.append(("rules", within))
        yield [RULE]
        yield list(self.runtime.values())

    async def add_rule(self, rule: NewRule, caller: Caller) -> tuple[Row, list[str]]:
        self.asked.append(("add_rule", rule, caller))
        if "/" not in rule.cidr:
            wrong = [Mistake("cidr", f"{rule.cidr!r} is no prefix"), Mistake("action", "is odd too")]
            raise ConfigError(wrong, hint="write it like 192.0.2.0/24")
        if rule.cidr == "0.0.0.0/0" and not rule.force:
            raise Refused("0.0.0.0/0 would cut off this host", hint="say --force if you mean it")
        row = {
            **RULE,
            "cidr": str(networks.parse(rule.cidr)),
            "action": rule.action,
            "label": rule.label,
            "source": "runtime",
        }
        if rule.ttl_s:
            row["expires"] = T0 + rule.ttl_s
        self.runtime[row["cidr"]] = row
        return row, [] if rule.save or rule.ttl_s else ["until the next restart (--save keeps it)"]

    async def remove_rule(
        self, cidr: str, direction: str | None, save: bool, caller: Caller
    ) -> tuple[Sequence[Row], list[str]]:
        self.asked.append(("remove_rule", cidr, direction, save, caller))
        if cidr not in self.runtime:
            raise NotFound(f"no run-time rule on {cidr}", hint="see trafficctl rules")
        return [self.runtime.pop(cidr)], []

    async def reload(self, caller: Caller) -> Row:
        self.asked.append(("reload", caller))
        counts = {"rules": 3, "lists": 1, "prefixes": 4_567}
        return {"generation": 8, **counts, "took_s": 0.012, "changed": ["cidr.d/10-office.toml"]}

    async def flows(self, query: FlowQuery) -> FlowAnswer:
        self.asked.append(("flows", query))
        if query.sort == "nonsense":
            raise ConfigError([Mistake("sort", "'nonsense' is no column")], hint="see docs/flows-db.md")

        async def pages() -> AsyncIterator[Sequence[Row]]:
            left = min(self.flow_rows, query.limit)
            while left > 0:
                yield [FLOW] * min(left, 500)
                left -= 500

        return FlowAnswer("SELECT * FROM flows", tuple(FLOW), pages())

    async def bans(self) -> Sequence[Row]:
        return [BAN]

    async def ban(self, ban: NewBan, owner: str | None, caller: Caller) -> Row:
        self.asked.append(("ban", ban, owner, caller))
        if ban.cidr == "127.0.0.1/32":
            raise Refused("127.0.0.1 is guarded", hint="the guard protects this host's own lifelines")
        entry = {**BAN, "cidr": ban.cidr, "by": caller.user, "reason": ban.reason, "owner": owner or caller.user}
        if ban.forever:
            entry["expires"] = None
        return {"ban": entry, "notes": ["a connection to SSH's port was open"] if ban.cidr == "203.0.113.22/32" else []}

    async def ban_many(self, bans: Sequence[NewBan], owner: str | None, caller: Caller) -> Row:
        self.asked.append(("ban_many", list(bans), owner, caller))
        refused = [
            {"cidr": each.cidr, "why": f"{each.cidr} is guarded"} for each in bans if each.cidr == "127.0.0.1/32"
        ]
        return {"banned": len(bans) - len(refused), "refused": refused, "notes": []}

    async def unban(self, cidr: str, whose: Whose, caller: Caller) -> Row:
        self.asked.append(("unban", cidr, whose, caller))
        if cidr != "203.0.113.5/32":
            raise NotFound(f"no ban within {cidr}")
        held = [] if whose.everyone else [{**BAN, "owner": "fail2ban-recidive", "expires": None}]
        return {"lifted": [BAN], "held": held, "notes": []}

    async def unban_many(self, cidrs: Sequence[str], whose: Whose, caller: Caller) -> Row:
        self.asked.append(("unban_many", list(cidrs), whose, caller))
        return {"lifted": len(cidrs), "held": 0, "notes": []}

    async def threats(self, query: ThreatQuery) -> Sequence[Row]:
        self.asked.append(("threats", query))
        return [THREAT]

    async def threat(self, ident: str) -> Row:
        if not THREAT["id"].startswith(ident):
            raise NotFound(f"no threat {ident}", hint="see trafficctl threats")
        return {"threat": THREAT, "flows": [FLOW], "response": ["would have banned 203.0.113.5 for 10m (shadow)"]}

    async def top(self, query: TopQuery) -> Row:
        self.asked.append(("top", query))
        self.samples += 1
        eth0 = {**STATUS["interfaces"][0], "packets": 1_000 * self.samples, "bytes": 1_500_000 * self.samples}
        host = {"address": "192.0.2.10", "flows": 1, "packets_per_s": 1_000.0, "bytes_per_s": 1_200_000.0}
        return {
            "at": T0 + self.samples,
            "interfaces": [eth0],
            "flows": [LIVE_FLOW],
            "hosts": [host],
            "threats": [THREAT],
            "flow_count": 4_096,
        }

    async def explain(self, address: str, direction: str) -> Row:
        self.asked.append(("explain", address, direction))
        decision = {"label": None, "source": None, "expires": None, "why": None}
        return {
            "address": address,
            "direction": direction,
            "action": "drop",
            "reason": "rule",
            "decisions": [
                {**decision, "kind": "rule", "prefix": "203.0.113.0/24", "action": "drop", "wins": True}
                | {"source": "/etc/trafficmon/cidr.d/10-office.toml:1", "label": "bad neighbours"},
                {**decision, "kind": "default", "prefix": None, "action": "monitor", "wins": False}
                | {"why": "a rule comes first"},
            ],
            "packets": 4_321,
            "bytes": 432_100,
            "dropped_packets": 4_321,
            "first_seen": T0,
            "last_seen": T0 + 60,
            "flows": [FLOW],
            "threats": [THREAT],
            "advice": ["to let it in: trafficctl add-cidr 203.0.113.5/32 --action allow"],
        }

    async def metrics(self) -> str:
        return "# TYPE trafficmon_packets counter\ntrafficmon_packets_total 1\n# EOF\n"

    async def audit(self, since: float | None, limit: int) -> Sequence[Row]:
        self.asked.append(("audit", since, limit))
        who = {"at": T0, "uid": 0, "user": "root", "pid": 1}
        return [{**who, "change": "add-cidr", "subject": "203.0.113.0/24", "before": None, "after": "drop"}]


class Running:
    """The server and what a test may do to it from outside its thread."""

    def __init__(self, path: Path, view: FakeView, hub: Hub, clients: Clients, loop: asyncio.AbstractEventLoop) -> None:
        self.path, self.view, self.hub, self.clients, self.loop = path, view, hub, clients, loop

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function on the server's loop and wait for its value."""

        async def call() -> Any:
            return function(*args)

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(5)


@contextlib.contextmanager
def serving(path: Path) -> Iterator[Running]:
    """Serve a FakeView at `path` for as long as the block lasts."""
    view, ready, stop = FakeView(), threading.Event(), asyncio.Event()
    running: list[Running] = []

    async def main() -> None:
        hub = Hub()
        clients = Clients()
        server = Server(Service(view, hub, clients), clients)
        await server.start(open_socket(path, {}))
        running.append(Running(path, view, hub, clients, asyncio.get_running_loop()))
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

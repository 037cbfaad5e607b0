"""What the control methods see of the daemon: `control.view.View`, answered from its parts."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trafficmond import __version__
from trafficmond.banlist import ban_seconds
from trafficmond.control.view import (
    Caller,
    FlowAnswer,
    FlowQuery,
    NewBan,
    NewRule,
    NotFound,
    Refused,
    Row,
    ThreatQuery,
    TopQuery,
)
from trafficmond.errors import ConfigError, Mistake, TrafficmonError
from trafficmond.live import top_flows, top_hosts
from trafficmond.model import Direction, Reason, Severity, Threat
from trafficmond.policy.explain import explain, overlapping
from trafficmond.rulebook import Table
from trafficmond.sinks import messages
from trafficmond.store.query import Filter, question
from trafficmond.store.reader import Reader
from trafficmond.store.records import Ban, Change
from trafficmond.store.sql import literal

if TYPE_CHECKING:
    from trafficmond.daemon import Daemon

_PAGE_ROWS = 500
_FLUSH_S = 5.0  # how long a question waits for the latest flows to be stored


class Answers:
    """The daemon as the control methods see it."""

    version = __version__

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    # ---- how it is ----

    async def status(self) -> Row:
        """The reply of `Status`."""
        daemon = self._daemon
        accounting = daemon.datapath.accounting()
        store = daemon.store.status()
        ledger, sizes = daemon.datapath.ledger, daemon.datapath.sizes
        slots = sizes.cpus * sizes.capacity
        used = ledger.used()
        open_threats = daemon.pipeline.engine.threats()
        severities = {str(s): sum(t.severity == s for t in open_threats) for s in Severity}
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started_at": daemon.started_at,
            "config": self._config(),
            "loader": daemon.datapath.loaded.loader,
            "loader_reason": "; ".join(daemon.datapath.loaded.notes) or None,
            "interfaces": self._interfaces(),
            "accounting": {
                "seen": asdict(accounting.seen),
                "in_flows": asdict(accounting.in_flows),
                "unattributed": asdict(accounting.unattributed),
                "not_ip": asdict(accounting.not_ip),
                "malformed": asdict(accounting.malformed),
                "pending": asdict(accounting.pending),
                "dropped": asdict(accounting.dropped),
                "malformed_by": accounting.malformed_by,
            },
            "rules": self._rule_count(),
            "store": {
                "path": store.path,
                "rows": store.rows,
                "queue": store.queue,
                "lost_rows": store.lost_rows,
                "size_bytes": store.size_bytes,
                "state": store.state,
            },
            "logs": [_log_row(log) for log in daemon.sinks.status()],
            "ledger": {
                "memory_bytes": sizes.memory_bytes(),
                "slots": slots,
                "used": used,
                "evicted": ledger.evicted_records(),
                "pressure": used / slots,
            },
            "threats": {"open": len(open_threats), **severities, "response": daemon.settings.response.ban},
            "flows": len(daemon.pipeline.table),
            "memory_bytes": _private_bytes(),
            "warnings": self._warnings(),
        }

    def _config(self) -> Row:
        daemon = self._daemon
        in_force, error = daemon.rulebook.in_force, daemon.rulebook.error
        return {
            "path": str(daemon.settings.source) if daemon.settings.source else None,
            "generation": in_force.generation if in_force else 0,
            "loaded_at": in_force.loaded_at if in_force else daemon.started_at,
            "error": str(error) if error else None,
            "mistakes": [asdict(mistake) for mistake in error.mistakes] if error else None,
        }

    def _interfaces(self) -> list[Row]:
        daemon = self._daemon
        rows = []
        for done in sorted(daemon.datapath.attached.values(), key=lambda each: each.name):
            totals = daemon.datapath.interface_totals(done.ifindex)
            rows.append(
                {
                    "name": done.name,
                    "ifindex": done.ifindex,
                    "mode": done.mode,
                    "packets": int(totals["seen"]["packets"].sum()),
                    "bytes": int(totals["seen"]["bytes"].sum()),
                    "dropped_packets": int(totals["dropped"]["packets"].sum()),
                    "dropped_bytes": int(totals["dropped"]["bytes"].sum()),
                }
            )
        for ifindex, change in daemon.datapath.refused.items():
            rows.append(_absent(change.interface, ifindex, change.text))
        for name in daemon.missing_interfaces():
            rows.append(_absent(name, 0, "there is no such interface; it is watched when it appears"))
        return rows

    def _rule_count(self) -> Row:
        in_force = self._daemon.rulebook.in_force
        rules = in_force.policy.rules if in_force else ()
        return {
            "count": sum(rule.reason is Reason.RULE for rule in rules),
            "prefixes": in_force.table.prefixes if in_force else 0,
            "lists": sum(rule.reason is Reason.LIST for rule in rules),
            "bans": len(self._daemon.bans),
            "default": self._daemon.settings.policy.default,
        }

    def _warnings(self) -> list[str]:
        daemon = self._daemon
        found = list(daemon.warnings.values())
        for done in daemon.datapath.attached.values():
            found += done.notes
        found += [f"{name} does not exist; it is watched when it appears" for name in daemon.missing_interfaces()]
        if daemon.pipeline.suppressed_events:
            found.append(
                f"{daemon.pipeline.suppressed_events:,} log events were suppressed: more than the logs are given"
            )
        if daemon.rulebook.in_force:
            found += [str(note) for note in daemon.rulebook.in_force.policy.notes[:20]]
        return found

    # ---- rules ----

    async def rules(self, within: str | None) -> AsyncIterator[Sequence[Row]]:
        """`Rule` rows in pages, strongest first; a list file is one row."""
        in_force = self._daemon.rulebook.in_force
        if in_force is None:
            return
        policy = in_force.policy
        chosen = range(len(policy.rules))
        if within is not None:
            chosen = sorted({int(policy.owner[row]) for row in overlapping(policy, _prefix(within))})  # type: ignore[assignment]
        counted = self._counted()
        order = sorted(chosen, key=lambda index: (-policy.rules[index].reason, index))
        for at in range(0, len(order), _PAGE_ROWS):
            yield [self._rule_row(index, counted) for index in order[at : at + _PAGE_ROWS]]

    def _counted(self) -> dict[int, tuple[int, int]]:
        """Packets and bytes by rule id since the start, whatever became of the packets."""
        sums: dict[int, tuple[int, int]] = {}
        for word, (packets, octets) in self._daemon.pipeline.by_verdict.items():
            number = word & 0xFFFFFF
            had = sums.get(number, (0, 0))
            sums[number] = (had[0] + packets, had[1] + octets)
        return sums

    def _rule_row(self, index: int, counted: dict[int, tuple[int, int]]) -> Row:
        in_force = self._daemon.rulebook.in_force
        assert in_force is not None
        rule, prefixes = in_force.policy.rules[index], in_force.policy.prefixes_of(index)
        packets, octets = counted.get(int(in_force.rule_ids[index]), (0, 0))
        single = rule.reason is not Reason.LIST and len(prefixes) == 1
        return {
            "cidr": prefixes.text(0) if single else rule.path if rule.reason is Reason.LIST else rule.name,
            "kind": str(rule.reason),
            "action": str(rule.action),
            "direction": str(rule.direction),
            "label": rule.label or None,
            "source": rule.source,
            "expires": rule.expires,
            "rate_per_s": rule.rate_per_s or None,
            "burst_packets": rule.burst or None,
            "prefixes": len(prefixes),
            "packets": packets,
            "bytes": octets,
        }

    async def add_rule(self, rule: NewRule, caller: Caller) -> Row:
        """Put a rule in force; the `Rule` as it stands now. Raises Refused, ConfigError."""
        daemon, now = self._daemon, time.time()
        cidr = _prefix(rule.cidr)
        table = _table(rule, cidr, now)
        if rule.action in ("drop", "limit") and not rule.force:
            self._spare_lifelines(cidr, f"{rule.action} rule")
        forced = ipaddress.ip_network(cidr) if rule.force else None
        in_force = await _writing(daemon.rulebook.add(table, keep=rule.save, forced=forced), "save the rule")
        daemon.rules_changed()
        index = max(
            row_index
            for row_index, each in enumerate(in_force.policy.rules)
            if each.path in ("runtime", str(daemon.rulebook.saved_path)) and _is_on(in_force.policy, row_index, cidr)
        )
        row = self._rule_row(index, self._counted())
        await self._audit(caller, "add-cidr", cidr, None, f"{row['action']} {row['direction']}")
        return row

    async def remove_rule(self, cidr: str, direction: str | None, save: bool, caller: Caller) -> Sequence[Row]:
        """Take the run-time rules on exactly this prefix out of force; what was removed."""
        daemon = self._daemon
        cidr = _prefix(cidr)
        wanted = _direction(direction) if direction else None
        removed = await _writing(daemon.rulebook.remove(cidr, wanted, saved=save), "save the rules")
        if not removed:
            await self._refuse_removal(cidr, save)
        daemon.rules_changed()
        for table in removed:
            await self._audit(caller, "remove-cidr", cidr, table["action"], None)
        return [_table_row(table) for table in removed]

    async def _refuse_removal(self, cidr: str, save: bool) -> None:
        in_force = self._daemon.rulebook.in_force
        if not save and await self._daemon.rulebook.is_saved(cidr):
            raise Refused(f"the rule on {cidr} is a saved one", hint="remove it with --save")
        if in_force is not None:
            for index, rule in enumerate(in_force.policy.rules):
                if rule.reason is Reason.RULE and _is_on(in_force.policy, index, cidr):
                    raise Refused(
                        f"{cidr} is a rule of {rule.source}", hint="edit that file; it is read when it changes"
                    )
        raise NotFound(f"no rule was added on {cidr}", hint="see trafficctl rules")

    def _spare_lifelines(self, cidr: str, what: str) -> None:
        """Raises Refused if `cidr` holds something that this host or its administrator needs."""
        policy = self._daemon.rulebook.in_force
        if policy is None:
            return
        network = ipaddress.ip_network(cidr)
        for row in overlapping(policy.policy, cidr):
            rule = policy.policy.rules[int(policy.policy.owner[row])]
            inner = ipaddress.ip_network(policy.policy.prefixes.text(int(row)))
            if rule.reason is Reason.GUARD and inner.subnet_of(network):  # type: ignore[arg-type]
                raise Refused(
                    f"{cidr} holds {inner.network_address}, {rule.name} of this host",
                    hint=f"the guard lets that pass in any case; say --force for a {what} that takes it too",
                )
        for peer in self._daemon.ssh_peers():
            if ipaddress.ip_address(peer) in network:
                raise Refused(
                    f"{cidr} holds {peer}, from where an SSH session is open", hint="say --force if you mean it"
                )

    async def reload(self, caller: Caller) -> Row:
        """The reply of `Reload`."""
        began = time.monotonic()
        changed = await self._daemon.reload(f"asked by {caller.user}")
        in_force = self._daemon.rulebook.in_force
        assert in_force is not None
        await self._audit(caller, "reload", str(self._daemon.settings.source or "defaults"), None, None)
        return {
            "generation": in_force.generation,
            "rules": len(in_force.policy.rules),
            "prefixes": len(in_force.policy.prefixes),
            "took_s": time.monotonic() - began,
            "changed": changed,
        }

    # ---- flows and threats ----

    async def flows(self, query: FlowQuery) -> FlowAnswer:
        """Ask flows.db, the latest flows included."""
        asked = question(Filter(**asdict(query)))
        await self._store_latest()

        async def pages() -> AsyncIterator[Sequence[Row]]:
            for page in await _in_thread(lambda: self._read(lambda reader: list(reader.pages(asked)))):
                yield page

        return FlowAnswer(asked.sql, asked.columns, pages())

    async def _store_latest(self) -> None:
        """Brings what the kernel and the flow table still hold into flows.db."""
        daemon = self._daemon
        daemon.tick()
        daemon.pipeline.store_due(time.time(), everything=True)
        await _in_thread(lambda: daemon.store.flush(_FLUSH_S))

    def _read(self, work: Any) -> Any:
        with Reader(self._daemon.store.path) as reader:
            return work(reader)

    async def _rows(self, columns: Sequence[str], rest: str) -> list[Row]:
        quoted = ", ".join(f'"{name}"' for name in columns)
        rows = await _in_thread(lambda: self._read(lambda reader: reader.rows(f"SELECT {quoted} {rest}")))
        return [dict(zip(columns, row, strict=True)) for row in rows]

    async def threats(self, query: ThreatQuery) -> Sequence[Row]:
        """`ThreatEntry` rows, latest first."""
        network = ipaddress.ip_network(_prefix(query.host)) if query.host else None
        least = _severity(query.min_severity)
        rows = await self._stored_threats(query.since)
        chosen = []
        for row in rows:
            if query.detector and row["detector"] != query.detector:
                continue
            if Severity[row["severity"].upper()] < least or (query.open_only and row["state"] == "closed"):
                continue
            if network is not None and not _touches(row, network):
                continue
            chosen.append(row)
        return chosen[: query.limit]

    async def _stored_threats(self, since: float | None) -> list[Row]:
        await _in_thread(lambda: self._daemon.store.flush(_FLUSH_S))
        where = f"WHERE last_seen >= {literal(since)}" if since is not None else ""
        rows = await self._rows(_THREAT_COLUMNS, f"FROM threats {where} ORDER BY last_seen DESC LIMIT 10000")
        live = {threat.id: threat for threat in self._daemon.pipeline.engine.threats()}
        return [_threat_row(live[row["id"]], row["state"]) if row["id"] in live else _parsed(row) for row in rows]

    async def threat(self, ident: str) -> Row:
        """A threat, the flows behind it and what was done about it."""
        found = [row for row in await self._stored_threats(None) if row["id"].startswith(ident)]
        if not found:
            raise NotFound(f"there is no threat {ident}", hint="see trafficctl threats")
        if len({row["id"] for row in found}) > 1:
            ids = ", ".join(row["id"] for row in found[:5])
            raise NotFound(f"{ident} begins the ids of several threats: {ids}", hint="write more of the id")
        threat = found[0]
        await self._store_latest()
        wanted = Filter(
            since=threat["first_seen"] - 1,
            until=threat["last_seen"] + 1,
            src=threat["src_ip"],
            dst=threat["dst_ip"],
            limit=50,
        )
        asked = question(wanted)
        pages = await _in_thread(lambda: self._read(lambda reader: list(reader.pages(asked))))
        bans = [ban for ban in self._daemon.bans.all() if ban.threat == threat["id"]]
        return {
            "threat": threat,
            "flows": [row for page in pages for row in page],
            "response": [f"banned {ban.cidr} ({ban.reason})" for ban in bans],
        }

    async def top(self, query: TopQuery) -> Row:
        """The moment's interfaces, flows, hosts and open threats."""
        pipeline = self._daemon.pipeline
        moment = pipeline.moment
        flows = top_flows(moment.flows, moment.seconds, moment.at, pipeline.names, query.sort, query.match, query.limit)
        hosts = top_hosts(moment.flows, moment.seconds, query.sort, query.match, query.limit)
        return {
            "at": moment.at,
            "interfaces": self._interfaces(),
            "flows": flows,
            "hosts": hosts,
            "threats": [_threat_row(threat, "open") for threat in pipeline.engine.threats()[: query.limit]],
            "flow_count": len(pipeline.table),
        }

    async def explain(self, address: str, direction: str) -> Row:
        """What happens to packets of an address, and why."""
        daemon = self._daemon
        way = _direction(direction)
        try:
            host = str(ipaddress.ip_address(address))
        except ValueError:
            raise ConfigError(
                [Mistake("address", f"{address!r} is no address; write 192.0.2.7 or 2001:db8::1")]
            ) from None
        in_force = daemon.rulebook.in_force
        assert in_force is not None
        decisions = explain(in_force.policy, host, way, time.time())
        rows = [
            {
                "kind": str(each.reason),
                "prefix": each.prefix or None,
                "action": str(each.action),
                "label": each.rule.name if each.rule else None,
                "source": each.rule.source if each.rule else None,
                "expires": each.rule.expires if each.rule else None,
                "wins": False,
                "why": None,
            }
            for each in decisions
        ]
        if way is Direction.INGRESS:
            strong = sum(each.reason in (Reason.GUARD, Reason.ALLOWLIST) for each in decisions)
            rows[strong:strong] = [_ban_decision(ban) for ban in daemon.bans.covering(host)]
        for place, row in enumerate(rows):
            row["wins"] = place == 0
            row["why"] = (
                None if place == 0 else f"{rows[0]['kind']} {rows[0]['prefix'] or ''} comes before".replace("  ", " ")
            )
        await self._store_latest()
        flows, sums = await _in_thread(lambda: self._read(lambda reader: _about(reader, host)))
        return {
            "address": host,
            "direction": str(way),
            "action": rows[0]["action"],
            "reason": rows[0]["kind"],
            "decisions": rows,
            **sums,
            "flows": flows,
            "threats": [row for row in await self._stored_threats(None) if host in (row["src_ip"], row["dst_ip"])][:20],
            "advice": _advice(rows[0], host),
        }

    # ---- bans ----

    async def bans(self) -> Sequence[Row]:
        """`BanEntry` rows in force."""
        return [asdict(ban) for ban in self._daemon.bans.all()]

    async def ban(self, ban: NewBan, caller: Caller) -> Row:
        """Ban a prefix; the `BanEntry`. Raises Refused for the guard and the allowlist."""
        daemon, now = self._daemon, time.time()
        cidr = _prefix(ban.cidr)
        if not ban.force:
            self._spare_lifelines(cidr, "ban")
        else:
            await daemon.rulebook.force(ipaddress.ip_network(cidr))
        seconds = ban_seconds(daemon.settings.response, 0) if ban.ttl_s is None else ban.ttl_s
        done = daemon.bans.add(Ban(cidr, caller.user, ban.reason, now, now + seconds))
        fields = {"prefix": cidr, "by": caller.user, "expires": done.expires}
        daemon.sinks.note(messages.BANNED, f"{caller.user} banned {cidr} for {seconds:.0f} s", fields)
        await self._audit(caller, "ban", cidr, None, f"{seconds:.0f} s {ban.reason}".rstrip())
        return asdict(done)

    async def unban(self, cidr: str, caller: Caller) -> Sequence[Row]:
        """Lift the bans within a prefix; what was lifted. Raises NotFound."""
        network = ipaddress.ip_network(_prefix(cidr))
        lifted = self._daemon.bans.lift(network)
        if not lifted:
            raise NotFound(f"no ban lies within {network}", hint="see trafficctl bans")
        for ban in lifted:
            text = f"{caller.user} lifted the ban of {ban.cidr}"
            self._daemon.sinks.note(messages.UNBANNED, text, {"prefix": ban.cidr, "by": caller.user})
            await self._audit(caller, "unban", ban.cidr, ban.reason or ban.by, None)
        return [asdict(ban) for ban in lifted]

    # ---- the rest ----

    async def metrics(self) -> str:
        """OpenMetrics text."""
        from trafficmond.metrics import render

        return render(await self.status())

    async def audit(self, since: float | None, limit: int) -> Sequence[Row]:
        """`AuditEntry` rows, latest first."""
        where = f'WHERE "at" >= {literal(since)}' if since is not None else ""
        return await self._rows(_AUDIT_COLUMNS, f'FROM audit {where} ORDER BY "at" DESC LIMIT {int(limit)}')

    async def _audit(self, caller: Caller, change: str, subject: str, before: str | None, after: str | None) -> None:
        """Records a change; when this returns it is on the disk, unless the disk refuses (the store says so then)."""
        entry = Change(time.time(), caller.uid, caller.user, caller.pid, change, subject, before, after)
        done = asyncio.wrap_future(self._daemon.store.audit(entry))
        await asyncio.wait([done], timeout=_FLUSH_S)


_THREAT_COLUMNS = (
    *("id", "detector", "severity", "technique", "src_ip", "dst_ip", "first_seen", "last_seen", "count", "summary"),
    *("state", "evidence"),
)
_AUDIT_COLUMNS = ("at", "uid", "user", "pid", "change", "subject", "before", "after")


def _private_bytes() -> int:
    """Memory of this process that nothing else has a copy of (RssAnon)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def _prefix(text: str) -> str:
    """The canonical form of a prefix. Raises ConfigError."""
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        what = f"{text!r} is no prefix; write 192.0.2.0/24, 2001:db8::/32 or a single address"
        raise ConfigError([Mistake("cidr", what)]) from None


def _direction(text: str) -> Direction:
    try:
        return Direction.parse(text)
    except ValueError as error:
        raise ConfigError([Mistake("direction", str(error))]) from None


def _severity(text: str) -> Severity:
    try:
        return Severity[text.upper()]
    except KeyError:
        what = f"{text!r} is no severity; use {', '.join(str(each) for each in Severity)}"
        raise ConfigError([Mistake("min_severity", what)]) from None


def _table(rule: NewRule, cidr: str, now: float) -> Table:
    table: Table = {"cidr": cidr, "action": rule.action, "direction": rule.direction}
    if rule.label:
        table["label"] = rule.label
    if rule.ttl_s is not None:
        table["expires"] = now + rule.ttl_s
    if rule.rate_per_s is not None:
        table["limit"] = f"{rule.rate_per_s}/s"
    if rule.burst_packets is not None:
        table["burst"] = rule.burst_packets
    return table


def _table_row(table: Table) -> Row:
    expires = table.get("expires")
    return {
        "cidr": table["cidr"],
        "kind": "rule",
        "action": table["action"],
        "direction": table.get("direction", "ingress"),
        "label": table.get("label"),
        "source": "runtime",
        "expires": expires.timestamp() if isinstance(expires, datetime) else expires,
    }


def _is_on(policy: Any, index: int, cidr: str) -> bool:
    prefixes = policy.prefixes_of(index)
    return len(prefixes) == 1 and _prefix(prefixes.text(0)) == cidr


def _absent(name: str, ifindex: int, why: str) -> Row:
    return {"name": name, "ifindex": ifindex, "mode": why, "packets": 0, "bytes": 0, "dropped_packets": 0}


def _log_row(log: dict[str, Any]) -> Row:
    return {
        "name": str(log["path"] or log["format"]),
        "format": log["format"],
        "path": log["path"],
        "written": log["written"],
        "queue": log["queue"],
        "lost": log["lost"],
        "state": log["error"],
    }


def _threat_row(threat: Threat, state: str) -> Row:
    return {**asdict(threat), "severity": str(threat.severity), "state": state}


def _parsed(row: Row) -> Row:
    import json

    return {**row, "evidence": json.loads(row["evidence"])}


def _touches(row: Row, network: Any) -> bool:
    for side in (row["src_ip"], row["dst_ip"]):
        if side is not None:
            other = ipaddress.ip_network(side)
            if other.version == network.version and other.overlaps(network):
                return True
    return False


def _ban_decision(ban: Ban) -> Row:
    return {
        "kind": "ban",
        "prefix": ban.cidr,
        "action": "drop",
        "label": ban.reason or None,
        "source": ban.by,
        "expires": ban.expires,
        "wins": False,
        "why": None,
    }


def _about(reader: Reader, host: str) -> tuple[list[Row], Row]:
    asked = question(Filter(host=host, limit=20))
    flows = [row for page in reader.pages(asked) for row in page]
    who = literal(host)
    sql = (
        "SELECT sum(packets), sum(bytes), sum(CASE WHEN action = 'drop' THEN packets ELSE 0 END), "
        f"min(first_seen), max(last_seen) FROM flows WHERE src_ip = {who}"
    )
    packets, octets, dropped, first, last = reader.rows(sql)[0]
    return flows, {
        "packets": packets or 0,
        "bytes": octets or 0,
        "dropped_packets": dropped or 0,
        "first_seen": first,
        "last_seen": last,
    }


def _advice(winner: Row, host: str) -> list[str]:
    if winner["kind"] == "guard":
        return ["the guard protects it: only a rule or ban with --force takes it"]
    if winner["kind"] == "ban":
        return [f"trafficctl unban {winner['prefix']} lifts the ban"]
    if winner["action"] == "drop":
        return [f"trafficctl add-cidr {host} --action allow lets it pass"]
    return [
        f"trafficctl add-cidr {host} --action drop drops it",
        f"trafficctl ban {host} --ttl 1h drops it for an hour",
    ]


async def _writing(work: Any, what: str) -> Any:
    try:
        return await work
    except OSError as error:
        raise TrafficmonError(f"cannot {what}: {error.strerror or error}", hint="see to state_dir") from error


async def _in_thread(work: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, work)

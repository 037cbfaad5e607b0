"""The methods for rules."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from datetime import datetime
from typing import TypeVar

from trafficmond import figures, networks, services
from trafficmond.control.bounds import note
from trafficmond.control.call import Call, Reply, Row, method
from trafficmond.dataclass import asdict
from trafficmond.errors import NotFound, Refused, TrafficmonError
from trafficmond.handlers.handler import (
    Handler,
    named_ports,
    paged,
    parse_direction,
    parse_network,
    parse_probation,
    parse_ttl,
    parsed,
)
from trafficmond.model import Action, Direction, FlowQuery, Reason
from trafficmond.pipeline import Moment
from trafficmond.policy.explain import exactly, overlapping
from trafficmond.policy.geography import By
from trafficmond.policy.load import Policy
from trafficmond.policy.prefixes import Prefixes
from trafficmond.policy.rules import Rule
from trafficmond.policy.shadows import still_allowed
from trafficmond.policy.table import CROWDED
from trafficmond.policy.tables import Table
from trafficmond.ruleset import InForce
from trafficmond.shadow import Sums, sums_of
from trafficmond.store.query import MAX_LIMIT
from trafficmond.store.sql import literal

T = TypeVar("T")

_PAGE_ROWS = 100  # rows of one page: a few milliseconds of work
_EDIT = "edit that file; it is read when it changes"


class Rules(Handler):
    _ordered: tuple[InForce, list[int]] | None = None
    _sums: tuple[Moment, Sums] | None = None

    @method("Rules")
    async def rules(
        self, call: Call, within: str | None = None, unused_s: float | None = None
    ) -> AsyncGenerator[Reply, None]:
        """`unused_s`: only rules that no flow has matched for so long."""
        used, notes = None, list[str]()
        if unused_s is not None:
            used, notes = await self._used(time.time() - parse_ttl(unused_s, "unused_s"))
        async for page in paged(call, self._pages(within, used)):
            yield {"rules": page, "notes": notes or None}
            notes = []

    async def _used(self, since: float) -> tuple[set[str], list[str]]:
        """The names of rules that flows have matched since then, and notes on what is not known."""
        sql = f"SELECT DISTINCT rule FROM flows WHERE last_seen >= {literal(since)}"
        oldest = "SELECT min(first_seen) FROM partitions"
        wanted = FlowQuery(since=since, limit=MAX_LIMIT)
        names, first = await self._stored.read_all(wanted, lambda reader: (reader.rows(sql), reader.rows(oldest)[0][0]))
        notes = []
        if first is None or first > since:
            known = "no flow is stored yet" if first is None else f"flows are stored since {figures.clock(first)} only"
            notes = [f"{known}: what matched before is unknown"]
        return {name for (name,) in names}, notes

    async def _pages(self, within: str | None, used: set[str] | None) -> AsyncIterator[Sequence[Row]]:
        await self._parts.follow_clock()
        in_force = self._in_force()
        policy = in_force.policy
        order = self._by_strength(in_force)
        if within is not None:
            chosen = {int(policy.owner[row]) for row in overlapping(policy, str(parse_network(within)))}
            order = [index for index in order if index in chosen]
        if used is not None:
            written = (Reason.RULE, Reason.LIST)
            order = [at for at in order if policy.rules[at].reason in written and policy.rules[at].name not in used]
        counted = self._counted()
        now = time.time()
        order = [index for index in order if (policy.rules[index].expires or now + 1) > now]
        for at in range(0, len(order), _PAGE_ROWS):
            await asyncio.sleep(0)  # other clients are served between two pages
            yield [self._rule_row(in_force, index, counted) for index in order[at : at + _PAGE_ROWS]]

    def _by_strength(self, in_force: InForce) -> list[int]:
        """The indices of the rules, strongest first; computed once for each set of rules."""
        if self._ordered is None or self._ordered[0] is not in_force:
            rules = in_force.policy.rules
            order = sorted(range(len(rules)), key=lambda index: (-rules[index].by, -rules[index].reason, -index))
            self._ordered = in_force, order
        return self._ordered[1]

    def _counted(self) -> Sums:
        moment = self._parts.pipeline.moment
        if self._sums is None or self._sums[0] is not moment:
            self._sums = moment, sums_of(self._parts)
        return self._sums[1]

    def _rule_row(self, in_force: InForce, index: int, counted: Sums) -> Row:
        rule, prefixes = in_force.policy.rules[index], in_force.policy.prefixes_of(index)
        number = int(in_force.numbered.numbers[index])
        packets, octets = (counted.watched if rule.shadow else counted.decided).get(number, (0, 0))
        would_drop = counted.would_drop.get(number, (0, 0))
        return {
            "cidr": _about(rule, prefixes),
            "kind": rule.kind,
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
            "ports": services.text(rule.services) or None,
            "shadow": rule.shadow or None,
            "would_drop": dict(zip(("packets", "bytes"), would_drop, strict=True)) if rule.shadow else None,
        }

    @method("AddCidr", changes=True)
    async def add_cidr(
        self,
        call: Call,
        cidr: str,
        action: str = "drop",
        direction: str = "ingress",
        label: str = "",
        ttl_s: float | None = None,
        rate_per_s: int | None = None,
        burst_packets: int | None = None,
        save: bool = False,
        force: bool = False,
        ports: list[str] | None = None,
        confirm_within_s: float | None = None,
        shadow: bool = False,
    ) -> Reply:
        parts, prefix = self._parts, str(parse_network(cidr))
        action, direction = str(parsed("action", Action.parse, action)), str(parse_direction(direction))
        await parts.follow_clock()
        since = None if ttl_s is None else time.time()
        expires = None if ttl_s is None else time.time() + parse_ttl(ttl_s)
        limit = None if rate_per_s is None else f"{rate_per_s}/s"
        words: Table = {"cidr": prefix, "action": action, "direction": direction, "label": note("label", label) or None}
        words |= {"since": since, "expires": expires, "limit": limit, "burst": burst_packets, "force": force or None}
        words |= {"ports": named_ports(ports, force) if ports else None, "shadow": shadow or None}
        table = {name: value for name, value in words.items() if value is not None}
        if action in ("drop", "limit") and not (force or ports or shadow):
            self._spared().refuse(networks.parse(prefix), f"{action} rule")
        begin = self._begin(call, f"add-cidr {prefix}", confirm_within_s)
        done = await _writing(parts.rulebook.add(table, keep=save, begin=begin), "save the rule")
        # The rule is in force: from here on nothing may fail.
        notes = []
        if networks.has_host_bits(cidr):
            notes.append(f"{cidr.strip()} had host bits set; it is read as its network, {prefix}")
        if done.already:
            row = self._added(table, str(parts.rulebook.saved_path) if save else "")
            lasts = "" if row["source"] != "runtime" else "; it ends at the next restart (--save keeps it)"
            return {"rule": row, "notes": [*notes, f"the rule on {networks.shown(prefix)} is in force already{lasts}"]}
        parts.host.refresh_names()
        row = self._added(table, str(parts.rulebook.saved_path) if save else "runtime")
        before = _in_words(_table_row(done.before[-1])) if done.before else None
        if before and before != _in_words(row):
            notes.append(f"the rule on {networks.shown(prefix)} replaces the one that was there: {before}")
        if ttl_s is None and not save:
            notes.append("it ends at the next restart (--save keeps it)")
        if self._in_force().table.crowded:
            notes.append(CROWDED)
        if action in ("drop", "limit") and (ports or shadow) and not force:
            notes += self._spared().exempt(networks.parse(prefix))
        if ports and (action, direction) == ("drop", "ingress"):
            notes += still_allowed(self._in_force().policy, prefix, services.parse(ports), time.time())
        notes += [*done.notes, *parts.exposure.check()]
        notes += await self._audited(call, "add-cidr", prefix, before, _in_words(row), done.on_probation)
        return {"rule": row, "notes": notes}

    def _added(self, table: Table, path: str) -> Row:
        """The `Rule` row for the rule of `table`; made of the table if the rule has expired already. `path` is the file
        of the rule; "": by hand, saved or not."""
        policy, own = self._in_force().policy, ("runtime", str(self._parts.rulebook.saved_path))
        way, ports = parse_direction(table["direction"]), table.get("ports", [])
        for index in exactly(policy, table["cidr"]):
            found = policy.rules[index]
            same = found.direction is way and services.text(found.services) == ports
            if same and found.path in ((path,) if path else own):
                return self._rule_row(self._in_force(), index, self._counted())
        return _table_row(table)

    @method("RemoveCidr", changes=True)
    async def remove_cidr(
        self, call: Call, cidr: str, direction: str | None = None, save: bool = False, ports: list[str] | None = None
    ) -> Reply:
        parts, cidr = self._parts, str(parse_network(cidr))
        wanted = parse_direction(direction) if direction else None
        only = None if ports is None else named_ports(ports)
        begin = self._begin(call, f"remove-cidr {cidr}", None)
        done = await _writing(parts.rulebook.remove(cidr, wanted, only, saved=save, begin=begin), "save the rules")
        if not done.before:
            await self._refuse_removal(cidr, wanted, only, save)
        parts.host.refresh_names()
        own, notes = len(done.before) - done.saved, [*done.notes, *parts.exposure.check()]
        rows = [_table_row(table) for table in done.before[:own]]
        rows += [_table_row(table, str(parts.rulebook.saved_path)) for table in done.before[own:]]
        for row in rows:
            notes += await self._audited(call, "remove-cidr", cidr, _in_words(row), None, done.on_probation)
        return {"removed": rows, "notes": list(dict.fromkeys(notes))}

    async def _refuse_removal(
        self, cidr: str, direction: Direction | None, ports: list[str] | None, save: bool
    ) -> None:
        """Raises NotFound or Refused, naming the rules on or around the prefix (for `ports`) and how to remove them."""
        policy, name = self._in_force().policy, networks.shown(cidr)
        if not save and await self._parts.rulebook.is_saved(cidr, ports):
            raise Refused(f"the rule on {name} is saved", hint="remove it with --save")
        for rule in (policy.rules[index] for index in exactly(policy, cidr)):
            if rule.reason is not Reason.RULE or ports not in (None, services.text(rule.services)):
                continue
            if rule.path == "runtime" and direction not in (None, rule.direction):
                raise NotFound(f"the rule on {name} is of direction {rule.direction}", hint="see trafficctl rules")
            if rule.path != "runtime":
                raise Refused(f"{name} is a rule of {rule.source}", hint=_EDIT)
        none = f"add-cidr made no rule on {name}{_for(ports)}"
        around = _around(policy, cidr, services.parse(ports or ()))
        banned = next(iter(self._parts.bans.covering(cidr)), None)
        if banned is not None:
            raise NotFound(f"{none}; it is banned", hint=f"trafficctl unban {networks.shown(banned.cidr)} lifts a ban")
        if around is None:
            raise NotFound(none, hint="see trafficctl rules")
        wider, rule = around
        own, saved = services.text(rule.services), rule.path == str(self._parts.rulebook.saved_path)
        made = ", which add-cidr made" if rule.path == "runtime" else f"; that rule is in {rule.source}"
        what = f"{none}; the {rule.action} rule on {wider}{_for(own)} covers it{made}"
        exactly_it = f"{wider}{' --port ' + ','.join(own) if own else ''}{' --save' if saved else ''}"
        hint = f"trafficctl remove-cidr {exactly_it} removes that one"
        raise NotFound(what, hint=hint if saved or rule.path == "runtime" else f"for that one, {_EDIT}")

    @method("Reload", changes=True)
    async def reload(self, call: Call, confirm_within_s: float | None = None) -> Reply:
        began = time.monotonic()
        if confirm_within_s is None:
            changed = await self._reloader.reload(f"asked by {call.caller.user}", call.caller)
        else:
            within_s = parse_probation(confirm_within_s)
            changed = await self._reloader.try_out("reload", call.caller, "", within_s)
        in_force = self._in_force()
        warnings = dict.fromkeys([*in_force.policy.warnings, *self._parts.warnings.values()])
        return {
            "generation": in_force.generation,
            **asdict(in_force.policy.counts),
            "took_s": time.monotonic() - began,
            "changed": changed,
            "warnings": [text for text in warnings if text not in changed],
        }


def _for(ports: list[str] | None) -> str:
    return f" for {', '.join(ports)}" if ports else ""


def _around(policy: Policy, cidr: str, asked: services.Places) -> tuple[str, Rule] | None:
    """The narrowest prefix around this one that has a rule or list for these services, and that rule."""
    length, now = networks.parse(cidr).prefixlen, time.time()
    found: tuple[int, int] | None = None
    for row in overlapping(policy, cidr):
        rule, plen = policy.rules[int(policy.owner[row])], int(policy.prefixes.plen[row])
        written = rule.reason in (Reason.RULE, Reason.LIST) and (rule.expires or now + 1) > now
        written = written and services.contains(rule.services, asked)
        if written and plen <= length and (found is None or plen >= found[0]):
            found = plen, int(row)
    if found is None:
        return None
    return policy.prefixes.text(found[1]), policy.rules[int(policy.owner[found[1]])]


def _about(rule: Rule, prefixes: Prefixes) -> str:
    """The subject of a rule: country or system, path of a list, or its first prefix."""
    if rule.by is not By.CIDR:
        return f"{rule.by} {', '.join(map(str, rule.places))}"
    return rule.path if rule.reason is Reason.LIST else prefixes.text(0)


def _table_row(table: Table, source: str = "runtime") -> Row:
    expires = table.get("expires")
    network = networks.parse(table["cidr"])
    rate = table.get("limit")
    return {
        "cidr": str(network.network_address if network.num_addresses == 1 else network),
        "kind": "rule",
        "action": table["action"],
        "direction": table.get("direction", "ingress"),
        "label": table.get("label"),
        "source": source,
        "expires": expires.timestamp() if isinstance(expires, datetime) else expires,
        "rate_per_s": int(rate.removesuffix("/s")) if rate else None,
        "burst_packets": table.get("burst"),
        "ports": table.get("ports"),
        "shadow": table.get("shadow"),
    }


def _in_words(rule: Row) -> str:
    words = [rule["action"], rule["direction"]]
    words += ["in shadow"] if rule.get("shadow") else []
    words += [f"{rule['rate_per_s']}/s"] if rule.get("rate_per_s") else []
    words += [", ".join(rule["ports"])] if rule.get("ports") else []
    words += [repr(rule["label"])] if rule["label"] else []
    words += [f"until {figures.clock(rule['expires'])}"] if rule["expires"] else []
    return " ".join(words)


async def _writing(work: Awaitable[T], what: str) -> T:
    try:
        return await work
    except OSError as error:
        hint = "check that state_dir is writable and its disk is not full"
        raise TrafficmonError(f"cannot {what}: {error.strerror or error}", hint=hint) from error

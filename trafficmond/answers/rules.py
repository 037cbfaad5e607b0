"""The rules in force, and their changes."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TypeVar

from trafficmond.answers.part import Part, direction_of, lasting, prefix_of, to_the_end
from trafficmond.control.view import Caller, NewRule, NotFound, Refused, Row
from trafficmond.errors import TrafficmonError
from trafficmond.model import Direction, Reason
from trafficmond.policy.counts import count
from trafficmond.policy.explain import overlapping
from trafficmond.policy.load import Policy
from trafficmond.rulebook import Table

T = TypeVar("T")

_PAGE_ROWS = 500


class RuleAnswers(Part):
    """`Rules`, `AddCidr`, `RemoveCidr` and `Reload`."""

    async def rules(self, within: str | None) -> AsyncIterator[Sequence[Row]]:
        """`Rule` rows in pages, strongest first; a list file is one row."""
        in_force = self._daemon.rulebook.in_force
        if in_force is None:
            return
        policy = in_force.policy
        chosen = range(len(policy.rules))
        if within is not None:
            chosen = sorted({int(policy.owner[row]) for row in overlapping(policy, prefix_of(within))})  # type: ignore[assignment]
        counted = self._counted()
        order = sorted(chosen, key=lambda index: (-policy.rules[index].reason, -index))
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
        return {
            "cidr": rule.path if rule.reason is Reason.LIST else prefixes.text(0),
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

    @to_the_end
    async def add_rule(self, rule: NewRule, caller: Caller) -> Row:
        """Put a rule in force; the `Rule` as it stands now. Raises Refused, ConfigError."""
        daemon, now = self._daemon, time.time()
        cidr = prefix_of(rule.cidr)
        table = _table(rule, cidr, now)
        if rule.action in ("drop", "limit") and not rule.force:
            self._spare_lifelines(cidr, f"{rule.action} rule")
        forced = ipaddress.ip_network(cidr) if rule.force else None
        before = self._added(cidr, direction_of(rule.direction))
        await _writing(daemon.rulebook.add(table, keep=rule.save, forced=forced), "save the rule")
        daemon.refresh_names()
        (*_, row) = self._added(cidr, direction_of(rule.direction))
        await self._audit(caller, "add-cidr", cidr, _in_words(before[-1]) if before else None, _in_words(row))
        return row

    def _added(self, cidr: str, direction: Direction) -> list[Row]:
        """The rules that clients have added on exactly this prefix and direction, as `Rule` rows; the last holds."""
        in_force, counted = self._daemon.rulebook.in_force, self._counted()
        if in_force is None:
            return []
        return [
            self._rule_row(index, counted)
            for index, each in enumerate(in_force.policy.rules)
            if each.path in ("runtime", str(self._daemon.rulebook.saved_path))
            and each.direction is direction
            and _is_on(in_force.policy, index, cidr)
        ]

    @to_the_end
    async def remove_rule(self, cidr: str, direction: str | None, save: bool, caller: Caller) -> Sequence[Row]:
        """Take the run-time rules on exactly this prefix out of force; what was removed."""
        daemon = self._daemon
        cidr = prefix_of(cidr)
        wanted = direction_of(direction) if direction else None
        removed = await _writing(daemon.rulebook.remove(cidr, wanted, saved=save), "save the rules")
        if not removed:
            await self._refuse_removal(cidr, save)
        daemon.refresh_names()
        for table in removed:
            await self._audit(caller, "remove-cidr", cidr, _in_words(_table_row(table)), None)
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

    @to_the_end
    async def reload(self, caller: Caller) -> Row:
        """The reply of `Reload`."""
        began = time.monotonic()
        changed = await self._daemon.reloader.reload(f"asked by {caller.user}", caller)
        in_force = self._daemon.rulebook.in_force
        assert in_force is not None
        return {
            "generation": in_force.generation,
            **asdict(count(in_force.policy)),
            "took_s": time.monotonic() - began,
            "changed": changed,
        }


def _table(rule: NewRule, cidr: str, now: float) -> Table:
    table: Table = {"cidr": cidr, "action": rule.action, "direction": rule.direction}
    if rule.label:
        table["label"] = rule.label
    if rule.ttl_s is not None:
        table["expires"] = now + lasting(rule.ttl_s)
    if rule.rate_per_s is not None:
        table["limit"] = f"{rule.rate_per_s}/s"
    if rule.burst_packets is not None:
        table["burst"] = rule.burst_packets
    return table


def _table_row(table: Table) -> Row:
    expires = table.get("expires")
    network = ipaddress.ip_network(table["cidr"])
    return {
        "cidr": str(network.network_address if network.num_addresses == 1 else network),
        "kind": "rule",
        "action": table["action"],
        "direction": table.get("direction", "ingress"),
        "label": table.get("label"),
        "source": "runtime",
        "expires": expires.timestamp() if isinstance(expires, datetime) else expires,
    }


def _in_words(rule: Row) -> str:
    """For the audit."""
    words = [rule["action"], rule["direction"]]
    words += [f"{rule['rate_per_s']}/s"] if rule.get("rate_per_s") else []
    words += [repr(rule["label"])] if rule["label"] else []
    words += [f"until @{rule['expires']:.0f}"] if rule["expires"] else []
    return " ".join(words)


def _is_on(policy: Policy, index: int, cidr: str) -> bool:
    prefixes = policy.prefixes_of(index)
    return len(prefixes) == 1 and prefix_of(prefixes.text(0)) == cidr


async def _writing(work: Awaitable[T], what: str) -> T:
    try:
        return await work
    except OSError as error:
        raise TrafficmonError(f"cannot {what}: {error.strerror or error}", hint="see to state_dir") from error

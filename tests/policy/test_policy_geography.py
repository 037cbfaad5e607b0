"""Rules by country below rules that let them show: what the country drops, it drops for all that those do not judge."""

from __future__ import annotations

import pytest
from policy_reference import NOW, columns, compiled

from trafficmond.model import Action, Direction
from trafficmond.policy import prefixes
from trafficmond.policy.explain import explain
from trafficmond.policy.load import Files, Policy, make_policy
from trafficmond.policy.rules import read_tables
from trafficmond.policy.walk import lookup

ADDRESSES = [
    "192.0.2.1",
    "192.0.3.0",
    "203.0.113.7",
    "203.0.114.0",
    "2001:db8::1",
    "2001:db8:bad::7",
    "2001:db8:bad:0:1::",
]


class Places:
    """A database in which XX has three networks."""

    mark = "one"
    notes = ()

    def knows(self, kind: str) -> bool:
        return kind == "country"

    def values(self, kind: str) -> list[object]:
        return ["XX"] if self.knows(kind) else []

    def sources(self, kind: str) -> str:
        return f"a database of {kind}"

    def prefixes_of(self, kind: str, wanted: object) -> prefixes.Prefixes:
        assert (kind, wanted) == ("country", {"XX"})
        return prefixes.parse(["192.0.2.0/24", "203.0.113.0/24", "2001:db8:bad::/80"]).prefixes


@pytest.mark.parametrize("wide", ["0.0.0.0/0", "192.0.2.0/23", "203.0.112.0/20", "::/0", "2001:db8::/32"])
@pytest.mark.parametrize(
    "shows", [{"shadow": True}, {"expires": NOW + 10}, {"ports": ["tcp/443"]}], ids=["shadow", "end", "services"]
)
@pytest.mark.parametrize("action", ["drop", "allow"])
def test_the_country_decides_what_a_wider_rule_does_not(wide: str, shows: dict[str, object], action: str) -> None:
    tables = [{"country": "XX", "action": "drop"}, {"cidr": wide, "action": action, **shows}]
    rules = read_tables(tables, "rules.toml", geography=Places())
    assert not rules.mistakes
    policy = make_policy(Files((rules,)), default=Action.MONITOR)
    table, _ = compiled(policy)
    for now in (NOW, NOW + 20):
        for family in (4, 6):
            at, hi, lo = columns(ADDRESSES, family)
            for what in (22, 443):
                found, _ = lookup(table.words, family, Direction.INGRESS, hi, lo, int(now * 10), what=what)
                for index, word in zip(at, found.tolist(), strict=True):
                    decided = _decision(policy, ADDRESSES[index], now, applies="ports" not in shows or what == 443)
                    assert word >> 28 == decided, (ADDRESSES[index], now, what)


def _decision(policy: Policy, address: str, now: float, *, applies: bool) -> Action:
    for each in explain(policy, address, Direction.INGRESS, now):
        if not each.shadow and (each.applies or applies):
            return each.action
    raise AssertionError("the default decides at last")

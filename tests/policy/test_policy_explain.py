"""Explanations agree with the table, and name everything that has a say."""

from __future__ import annotations

import ipaddress
import random

import pytest
from policy_loading import load_policy
from policy_reference import NOW, columns, compiled, jiffies, random_tables, telling_addresses

from trafficmond.model import Action, Direction, Reason
from trafficmond.policy.explain import explain, overlapping
from trafficmond.policy.walk import lookup
from trafficmond.verdict import verdict_word


def test_first_decision_is_the_table_s() -> None:
    rng = random.Random(5)
    policy = load_policy(None, runtime=random_tables(rng, 300), allowlist=["10.0.0.0/9"], guard=[("::1", "loopback")])
    table, ids = compiled(policy)
    addresses = telling_addresses(rng, policy, 1000)
    for direction in (Direction.INGRESS, Direction.EGRESS):
        for now in (NOW, NOW + 20):
            for family in (4, 6):
                positions, hi, lo = columns(addresses, family)
                words, _ = lookup(table.words, family, direction, hi, lo, jiffies(now))
                for position, word in zip(positions, words.tolist(), strict=True):
                    first = explain(policy, addresses[position], direction, now)[0]
                    number = int(ids[first.index]) if first.rule else 0
                    assert word == verdict_word(first.action, first.reason, number)


def test_everything_that_has_a_say() -> None:
    policy = load_policy(
        None,
        default=Action.DROP,
        runtime=[
            {"cidr": "10.0.0.0/8", "action": "monitor", "label": "wide"},
            {"cidr": "10.1.0.0/16", "action": "drop", "label": "first"},
            {"cidr": "10.1.0.0/16", "action": "allow", "label": "second", "expires": 50.0},
            {"cidr": "10.1.0.0/16", "action": "allow", "label": "ended", "expires": 10.0},
            {"cidr": "10.1.0.0/16", "action": "allow", "label": "out", "direction": "egress"},
            {"cidr": "10.2.0.0/16", "action": "allow", "label": "elsewhere"},
        ],
        allowlist=["10.0.0.0/7"],
    )
    found = explain(policy, "10.1.2.3", Direction.INGRESS, 10.0)
    assert [decision.rule.name if decision.rule else "default" for decision in found] == [
        "allowlist",
        "second",
        "first",
        "wide",
        "default",
    ]
    assert [decision.prefix for decision in found] == ["10.0.0.0/7", "10.1.0.0/16", "10.1.0.0/16", "10.0.0.0/8", ""]
    assert (found[-1].action, found[-1].reason) == (Action.DROP, Reason.DEFAULT)
    assert explain(policy, "192.0.2.1", Direction.EGRESS, 10.0)[0].action is Action.ALLOW
    with pytest.raises(ValueError, match="one address"):
        explain(policy, "10.0.0.0/8", Direction.INGRESS, 10.0)


def test_overlapping_is_ipaddress_s() -> None:
    rng = random.Random(6)
    policy = load_policy(None, runtime=random_tables(rng, 300))
    networks = [ipaddress.ip_network(policy.prefixes.text(row)) for row in range(len(policy.prefixes))]
    for query in [*rng.sample(networks, 100), ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]:
        expected = [
            row
            for row, own in enumerate(networks)
            if own.version == query.version and own.overlaps(query)  # type: ignore[arg-type]
        ]
        assert overlapping(policy, str(query)).tolist() == expected

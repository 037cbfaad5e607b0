"""From where connections can still begin, of policies made of tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trafficmond.model import Action
from trafficmond.policy.admission import MOST, Admission, Admissions
from trafficmond.policy.leaves import RuleColumns
from trafficmond.policy.load import Files, Policy, make_policy
from trafficmond.policy.table import compile_table

NOW = 1_000_000.0


def columns_of(policy: Policy) -> RuleColumns:
    return RuleColumns.of(policy.rules, np.arange(len(policy.rules), dtype=np.uint32))


def admitted(*rules: tuple[Any, ...], default: Action = Action.DROP, **more: Any) -> Admission | None:
    """Of rules (prefix, action, what else)."""
    tables = [{"cidr": cidr, "action": action, **dict(*rest)} for cidr, action, *rest in rules]
    policy = make_policy(Files(), default=default, runtime=tables, **more)
    table = compile_table(policy, np.arange(len(policy.rules), dtype=np.uint32), NOW, int)
    found = Admissions(policy, columns_of(policy), table, NOW)
    there = found.to(6, 22)
    assert found.any_closed or not there.let_in
    return there if there.let_in else None


def told(*rules: tuple[Any, ...], **more: Any) -> dict[int, list[str]]:
    found = admitted(*rules, **more)
    assert found is not None
    return {family: [str(each) for each in let_in] for family, let_in in found.let_in.items()}


def test_a_default_of_drop_without_rules_lets_nobody_in() -> None:
    assert told() == {4: [], 6: []}
    assert admitted(default=Action.MONITOR) is None
    assert admitted(default=Action.ALLOW) is None


@pytest.mark.parametrize("action", ["allow", "monitor", "limit"])
def test_whatever_passes_lets_in(action: str) -> None:
    limit = {"limit": "10/s"} if action == "limit" else {}
    assert told(("192.0.2.0/24", action, limit)) == {4: ["192.0.2.0/24"], 6: []}


def test_what_does_not_let_in() -> None:
    assert told(("192.0.2.0/24", "drop")) == {4: [], 6: []}
    assert told(("192.0.2.0/24", "allow", {"direction": "egress"})) == {4: [], 6: []}
    assert told(("192.0.2.0/24", "allow", {"expires": NOW - 1})) == {4: [], 6: []}
    assert told(guard=[("192.0.2.1/32", "own address")]) == {4: [], 6: []}


def test_the_allowlist_and_rules_for_both_directions_do() -> None:
    both = ("2001:db8::/32", "allow", {"direction": "both", "expires": NOW + 60})
    assert told(both, allowlist=["192.0.2.9/32"]) == {4: ["192.0.2.9/32"], 6: ["2001:db8::/32"]}


def test_a_stronger_rule_takes_it_back() -> None:
    allowed, dropped = ("192.0.2.0/24", "allow"), ("192.0.2.0/24", "drop")
    assert told(allowed, dropped) == {4: [], 6: []}, "of two on one prefix the later wins"
    assert told(dropped, allowed)[4] == ["192.0.2.0/24"]
    assert told(allowed, ("192.0.2.0/25", "drop"), ("192.0.2.128/25", "drop"))[4] == []
    assert told(allowed, ("192.0.2.0/32", "drop"))[4] == ["192.0.2.0/24"], "nearly all of it gets in"


def test_a_whole_family_that_a_rule_lets_in_is_open() -> None:
    assert told(("0.0.0.0/0", "monitor")) == {6: []}
    assert admitted(("0.0.0.0/0", "allow"), ("::/0", "limit", {"limit": "5/s"})) is None
    assert told(("0.0.0.0/1", "allow"), ("128.0.0.0/1", "allow")) == {6: []}


def test_a_rule_that_drops_everybody_is_a_default_of_drop() -> None:
    rules = ("0.0.0.0/0", "drop"), ("198.51.100.0/24", "allow")
    assert told(*rules, default=Action.MONITOR) == {4: ["198.51.100.0/24"]}


HALVES = [("0.0.0.0/1", "drop"), ("128.0.0.0/1", "drop")]


@pytest.mark.parametrize(
    ("rules", "shut"),
    [
        (HALVES, {4: []}),
        ([*HALVES, ("::/1", "drop"), ("8000::/2", "drop"), ("c000::/2", "drop")], {4: [], 6: []}),
        ([(f"{n}.0.0.0/8", "drop") for n in reversed(range(256))], {4: []}),
        ([*HALVES, ("10.0.0.0/8", "allow")], {4: ["10.0.0.0/8"]}),
        ([("0.0.0.0/0", "allow"), *HALVES], {4: []}),
        ([("0.0.0.0/1", "drop", {"ports": ["tcp/22"]}), HALVES[1]], {4: []}),
    ],
)
def test_everybody_dropped_in_parts_is_a_default_of_drop(
    rules: list[tuple[Any, ...]], shut: dict[int, list[str]]
) -> None:
    assert told(*rules, default=Action.MONITOR) == shut


@pytest.mark.parametrize(
    "rules",
    [
        [HALVES[0], HALVES[0]],
        [HALVES[0], ("128.0.0.0/2", "drop"), ("224.0.0.0/3", "drop")],
        [(f"{n}.0.0.0/8", "drop") for n in range(256) if n != 100] + [("100.0.0.0/9", "drop"), ("1.0.0.0/8", "drop")],
        [HALVES[0], ("128.0.0.0/1", "drop", {"direction": "egress"})],
        [HALVES[0], ("128.0.0.0/1", "drop", {"expires": NOW - 1})],
        [HALVES[0], ("128.0.0.0/1", "drop", {"ports": ["tcp/80"]})],
        [*HALVES, *((cidr, "allow") for cidr, _ in HALVES)],
    ],
)
def test_parts_with_a_gap_leave_it_open(rules: list[tuple[Any, ...]]) -> None:
    assert admitted(*rules, default=Action.MONITOR) is None


def test_neighbours_are_joined_and_the_rest_is_counted() -> None:
    assert told(("192.0.2.0/25", "allow"), ("192.0.2.128/25", "allow"))[4] == ["192.0.2.0/24"]
    many = [(f"10.{high}.{low}.1/32", "allow") for high in range(5) for low in range(250)]
    found = admitted(*many)
    assert found is not None
    assert found.more == len(many) - MOST


def test_rules_that_name_services_let_in_to_those_alone() -> None:
    tables = [
        {"cidr": "0.0.0.0/0", "action": "allow", "ports": ["tcp/443"]},
        {"cidr": "192.0.2.0/24", "action": "allow", "ports": ["tcp/22"]},
        {"cidr": "198.51.100.0/24", "action": "allow"},
        {"cidr": "198.51.100.0/25", "action": "drop", "ports": ["tcp/22", "udp/53"]},
    ]
    policy = make_policy(Files(), default=Action.DROP, runtime=tables)
    table = compile_table(policy, np.arange(len(policy.rules), dtype=np.uint32), NOW, int)
    found = Admissions(policy, columns_of(policy), table, NOW)

    def to(protocol: int, port: int) -> dict[int, list[str]]:
        return {family: [str(each) for each in let_in] for family, let_in in found.to(protocol, port).let_in.items()}

    assert to(6, 443) == {6: []}, "everybody over IPv4"
    assert to(6, 22) == {4: ["192.0.2.0/24", "198.51.100.0/24"], 6: []}
    assert to(17, 22) == {4: ["198.51.100.0/24"], 6: []}
    assert to(132, 2905) == {4: ["198.51.100.0/24"], 6: []}
    assert found.anybody
    shut = make_policy(Files(), runtime=[{"cidr": "0.0.0.0/0", "action": "drop", "ports": ["tcp/22"]}])
    found = Admissions(shut, columns_of(shut), compile_table(shut, np.zeros(1, np.uint32), NOW, int), NOW)
    assert (to(6, 22), to(6, 80), found.any_closed) == ({4: []}, {}, True)

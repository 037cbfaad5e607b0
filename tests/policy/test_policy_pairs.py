"""Rules in shadow: what lies beneath judges as if they were not there, and both are told by one number."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from policy_reference import NOW, columns, jiffies, random_places, random_tables, telling_addresses

from trafficmond import abi
from trafficmond.model import Action, Direction, Reason
from trafficmond.policy.ids import Pairs, RuleIds
from trafficmond.policy.layout import LEAF_INDEX, LEAF_RECORD, UNIT_WORDS
from trafficmond.policy.leaves import RuleColumns
from trafficmond.policy.load import Files, Policy, make_policy
from trafficmond.policy.patch import Source, patched
from trafficmond.policy.table import VerdictTable, compile_table
from trafficmond.policy.walk import leaves, lookup
from trafficmond.verdict import Pair, taken_apart, verdict_word


def compiled(tables: list[dict[str, Any]], pairs: Pairs, **more: Any) -> tuple[Policy, VerdictTable, Any]:
    policy = make_policy(Files(), runtime=tables, **more)
    ids = RuleIds().number(policy.rules, NOW).numbers
    return policy, compile_table(policy, ids, NOW, jiffies, 7, pairs), ids


@pytest.mark.parametrize("seed", range(3))
def test_what_lies_beneath_judges(seed: int) -> None:
    rng = random.Random(seed)
    tables = random_tables(rng, 250, 0.3)
    shadowed = [table | ({"shadow": True} if rng.random() < 0.3 else {}) for table in tables]
    with_shadows, table, _ = compiled(shadowed, Pairs())
    _, without, _ = compiled([each for each in shadowed if "shadow" not in each], Pairs())
    addresses = telling_addresses(rng, with_shadows, 3000)
    for family in (4, 6):
        at, hi, lo = columns(addresses, family)
        what = np.array(random_places(rng, len(at)), np.uint32)
        for way in (Direction.INGRESS, Direction.EGRESS):
            for moment in (NOW, NOW + 25, NOW + 60):
                args = family, way, hi, lo, jiffies(moment), what
                assert np.array_equal(lookup(table.words, *args)[0], lookup(without.words, *args)[0])


def test_a_change_of_one_rule_is_as_if_all_were_compiled() -> None:
    rng = random.Random(7)
    tables = [
        {"cidr": f"10.{at}.0.0/16", "action": "drop", "label": f"r{at}"} | ({"shadow": True} if at % 3 else {})
        for at in range(200)
    ]
    pairs, ids = Pairs(), RuleIds()

    def source(rules: list[dict[str, Any]]) -> tuple[Source, Any]:
        policy = make_policy(Files(), runtime=rules)
        numbers = ids.number(policy.rules, NOW).numbers
        return Source(policy, RuleColumns.of(policy.rules, numbers)), numbers

    before, numbers = source(tables)
    table = compile_table(before.policy, numbers, NOW, jiffies, 1, pairs)
    for changed in ([*tables, {"cidr": "10.7.0.0/20", "action": "drop", "shadow": True}], tables[:-1]):
        after, numbers = source(changed)
        edited = patched(table, before, after, NOW, jiffies, 2, pairs)
        assert edited is not None
        whole = compile_table(after.policy, numbers, NOW, jiffies, 2, pairs)
        _, hi, lo = columns(telling_addresses(rng, after.policy, 500), 4)
        for found, expected in zip(_noted(edited.words, hi, lo), _noted(whole.words, hi, lo), strict=True):
            assert found == expected


def _noted(words: Any, hi: Any, lo: Any) -> list[tuple[int, int]]:
    """What the record of each address says of a rule in shadow: what it would do, and the pair's number."""
    leaf = leaves(words, 4, Direction.INGRESS, hi, lo)
    records = words[int(words[abi.HDR_RECORDS]) * UNIT_WORDS :].view(abi.RECORD)
    found = []
    for each in leaf.tolist():
        record = records[each & int(LEAF_INDEX)] if each & int(LEAF_RECORD) else None
        found.append((int(record["shadow"]), int(record["verdict"])) if record is not None else (0, each))
    return found


def test_a_number_tells_who_judged_and_what_would_have_been() -> None:
    pairs = Pairs()
    drop, limit = verdict_word(Action.DROP, Reason.RULE, 11), verdict_word(Action.LIMIT, Reason.RULE, 12)
    first, second = pairs.number(Pair(drop, (5, 0)), NOW), pairs.number(Pair(limit, (0,)), NOW)
    assert first is not None
    assert second is not None
    assert first != second
    assert pairs.number(Pair(drop, (5, 0)), NOW) == first == Pairs().number(Pair(drop, (5, 0)), NOW)

    def told(number: int, action: Action, reason: Reason) -> tuple[int, int, str]:
        apart = taken_apart(abi.SHADOWED | verdict_word(action, reason, number), pairs.known)
        assert apart is not None
        return apart.judge, apart.rule, str(apart.would)

    assert told(first, Action.ALLOW, Reason.RULE) == (5, 11, "drop")
    assert told(first + 1, Action.ALLOW, Reason.RULE) == (5, 11, "allow")
    assert told(first + 2, Action.MONITOR, Reason.DEFAULT) == (0, 11, "drop")
    assert told(first, Action.ALLOW, Reason.ESTABLISHED) == (0, 11, "drop"), "a reply, whatever rule lies there"
    assert told(second, Action.MONITOR, Reason.DEFAULT) == (0, 12, "drop"), "over its rate"
    assert told(second + 1, Action.MONITOR, Reason.DEFAULT) == (0, 12, "allow")
    assert taken_apart(abi.SHADOWED | verdict_word(Action.DROP, Reason.RULE, first + 4), pairs.known) is None
    pairs.forget(NOW + 7200)
    assert not pairs.known


def test_pairs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trafficmond.policy.ids.MOST_PAIRS", 3)
    tables = [{"cidr": f"10.0.{at}.0/24", "action": "drop", "shadow": True, "label": f"r{at}"} for at in range(5)]
    pairs = Pairs()
    policy, table, _ = compiled(tables, pairs)
    assert len(pairs.known) == 3
    _, hi, lo = columns([policy.prefixes.text(row).partition("/")[0] for row in range(5)], 4)
    assert sum(would != 0 for would, _ in _noted(table.words, hi, lo)) == 3, "the rest is what it would be without"


def test_shadow_is_a_truth_and_nothing_else() -> None:
    from trafficmond.policy.rules import read_tables

    wrong = read_tables([{"cidr": "10.0.0.0/8", "action": "drop", "shadow": "yes"}], "x")
    assert "write shadow = true" in wrong.mistakes[0].what
    policy = make_policy(Files(), default=Action.DROP, default_shadow=True)
    assert (policy.default, policy.default_shadow) == (Action.MONITOR, Action.DROP)

"""Rules keep their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from trafficmond import npt
from trafficmond.model import Action, Reason
from trafficmond.policy import ids
from trafficmond.policy.ids import MAX_ID, RuleIds
from trafficmond.policy.rules import Rule


def rule(name: str, path: str = "a.toml", line: int = 1, action: Action = Action.DROP) -> Rule:
    return Rule(action, Reason.RULE, name, path=path, line=line)


def assign(registry: RuleIds, rules: Sequence[Rule], now: float) -> npt.NDArray[np.uint32]:
    """The numbers of rules that come in force."""
    numbered = registry.number(rules, now)
    registry.use([numbered], now)
    return numbered.numbers


def test_numbers_outlive_reloads_edits_and_restarts() -> None:
    registry = RuleIds()
    before = assign(registry, [rule("a", line=1), rule("b", line=5)], 0.0).tolist()
    edited = [rule("new", line=1), rule("b", line=9, action=Action.ALLOW), rule("a", line=20)]
    after = assign(registry, edited, 1.0).tolist()
    assert after[1:] == before[::-1]
    assert assign(RuleIds(), edited, 0.0).tolist() == after


def test_equal_names_are_distinguished() -> None:
    numbers = assign(RuleIds(), [rule("a"), rule("a"), rule("a", path="b.toml"), rule("a")], 0.0).tolist()
    assert len(set(numbers)) == 4
    assert all(1 <= number <= MAX_ID for number in numbers)


def test_vanished_rules_stay_named_for_a_while() -> None:
    registry = RuleIds()
    [number] = assign(registry, [rule("a")], 0.0).tolist()
    assign(registry, [], 10.0)
    assign(registry, [], 3609.0)
    assert registry.names() == {number: "a"}
    assign(registry, [], 3610.0)
    assert registry.names() == {}


def test_a_rule_that_comes_back_is_not_forgotten_later() -> None:
    registry = RuleIds()
    [number] = assign(registry, [rule("a")], 0.0).tolist()
    assign(registry, [], 10.0)
    assert assign(registry, [rule("a")], 20.0).tolist() == [number]
    assign(registry, [rule("a")], 10_000.0)
    assert registry.names() == {number: "a"}
    assign(registry, [], 10_010.0)
    assign(registry, [], 10_020.0)
    assert registry.names() == {number: "a"}


def test_the_vanished_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_KEEP_MOST", 10)
    registry = RuleIds()
    for generation in range(30):
        assign(registry, [rule(f"{generation}")], float(generation))
    assert sorted(map(int, registry.names().values())) == list(range(19, 30))


def test_colliding_numbers_are_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids.zlib, "crc32", lambda _: MAX_ID)
    numbers = assign(RuleIds(), [rule("a"), rule("b"), rule("c")], 0.0).tolist()
    assert numbers == [MAX_ID, 1, 2]


def test_readers_of_other_threads_iterate_over_what_stays() -> None:
    registry = RuleIds()
    assign(registry, [rule("a")], 0.0)
    names = registry.names()
    before = dict(names)
    assign(registry, [rule("b"), rule("c")], 1.0)
    assert names == before


def test_names_of_undecodable_paths() -> None:
    assert assign(RuleIds(), [rule("a", path="\udcff.toml")], 0.0)[0] > 0

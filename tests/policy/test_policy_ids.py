"""Rules keep their numbers."""

from __future__ import annotations

import pytest

from trafficmond.model import Action, Reason
from trafficmond.policy import ids
from trafficmond.policy.ids import MAX_ID, RuleIds
from trafficmond.policy.rules import Rule


def rule(name: str, path: str = "a.toml", line: int = 1, action: Action = Action.DROP) -> Rule:
    return Rule(action, Reason.RULE, name, path=path, line=line)


def test_numbers_outlive_reloads_edits_and_restarts() -> None:
    registry = RuleIds()
    before = registry.assign([rule("a", line=1), rule("b", line=5)], 0.0).tolist()
    edited = [rule("new", line=1), rule("b", line=9, action=Action.ALLOW), rule("a", line=20)]
    after = registry.assign(edited, 1.0).tolist()
    assert after[1:] == before[::-1]
    assert RuleIds().assign(edited, 0.0).tolist() == after


def test_equal_names_are_distinguished() -> None:
    numbers = RuleIds().assign([rule("a"), rule("a"), rule("a", path="b.toml"), rule("a")], 0.0).tolist()
    assert len(set(numbers)) == 4
    assert all(1 <= number <= MAX_ID for number in numbers)


def test_vanished_rules_stay_named_for_a_while() -> None:
    registry = RuleIds()
    [number] = registry.assign([rule("a")], 0.0).tolist()
    registry.assign([], 10.0)
    registry.assign([], 3609.0)
    assert registry.names() == {number: "a"}
    registry.assign([], 3610.0)
    assert registry.names() == {}


def test_a_rule_that_comes_back_is_not_forgotten_later() -> None:
    registry = RuleIds()
    [number] = registry.assign([rule("a")], 0.0).tolist()
    registry.assign([], 10.0)
    assert registry.assign([rule("a")], 20.0).tolist() == [number]
    registry.assign([rule("a")], 10_000.0)
    assert registry.names() == {number: "a"}
    registry.assign([], 10_010.0)
    registry.assign([], 10_020.0)
    assert registry.names() == {number: "a"}


def test_the_vanished_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_KEEP_MOST", 10)
    registry = RuleIds()
    for generation in range(30):
        registry.assign([rule(f"{generation}")], float(generation))
    assert sorted(map(int, registry.names().values())) == list(range(19, 30))


def test_colliding_numbers_are_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids.zlib, "crc32", lambda _: MAX_ID)
    numbers = RuleIds().assign([rule("a"), rule("b"), rule("c")], 0.0).tolist()
    assert numbers == [MAX_ID, 1, 2]


def test_readers_of_other_threads_iterate_over_what_stays() -> None:
    registry = RuleIds()
    registry.assign([rule("a")], 0.0)
    names = registry.names()
    before = dict(names)
    registry.assign([rule("b"), rule("c")], 1.0)
    assert names == before


def test_names_of_undecodable_paths() -> None:
    assert RuleIds().assign([rule("a", path="\udcff.toml")], 0.0)[0] > 0

"""One number for the rules, whoever tells it."""

from __future__ import annotations

from pathlib import Path

from policy_loading import load_policy

from trafficmond.model import Action
from trafficmond.policy.load import RuleCounts
from trafficmond.policy.rules import ListSource


def test_what_somebody_wrote_is_counted_and_the_guard_is_not(tmp_path: Path) -> None:
    (tmp_path / "bad.netset").write_text("192.0.2.0/24\n192.0.2.77\n203.0.113.0/24\n")
    policy = load_policy(
        None,
        lists=[ListSource(tmp_path / "bad.netset", Action.DROP)],
        runtime=[{"cidr": ["10.0.0.0/8", "11.0.0.0/8"], "action": "drop"}],
        allowlist=["198.51.100.1"],
        guard=[("127.0.0.0/8", "loopback"), ("::1", "loopback")],
    )
    assert policy.counts == RuleCounts(rules=2, lists=1, prefixes=6)
    assert load_policy(None, guard=[("::1", "loopback")]).counts == RuleCounts()


def test_in_words() -> None:
    assert str(RuleCounts(1, 0, 1)) == "1 rule, 1 prefix"
    assert str(RuleCounts()) == "0 rules"
    assert str(RuleCounts(0, 2, 1_062_046)) == "2 lists, 1,062,046 prefixes"

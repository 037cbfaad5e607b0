"""What becomes of conversations, against the rules' own words and what the kernel does with replies."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from policy_reference import NOW, Reference, random_tables, telling_addresses

from trafficmond import abi
from trafficmond.model import Action, Direction, Reason
from trafficmond.policy.judge import Conversations, Judge, kinds
from trafficmond.policy.load import Files, Policy, make_policy
from trafficmond.policy.prefixes import parse_address
from trafficmond.services import place
from trafficmond.verdict import reason_of, verdict_word

TCP, UDP, ICMP, ICMPV6, GRE = 6, 17, 1, 58, 47
SYN = 2


def conversation(peer: str, proto: int, near: int, far: int, *, egress: bool, answered: bool, flags: int = SYN) -> Any:
    hi, lo, family = parse_address(peer)
    return hi, lo, family == 6, proto, near, far, egress, True, answered, flags


def rows_of(rows: list[Any]) -> Conversations:
    kinds = np.uint64, np.uint64, np.bool_, *(np.int64,) * 3, *(np.bool_,) * 3, np.int64
    return Conversations(*(np.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)))


def judged(policy: Policy, rows: list[Any], bans: Policy | None = None, *, established: bool = True) -> list[int]:
    verdicts: list[int] = Judge(policy, bans, established=established, now=NOW).verdicts(rows_of(rows)).tolist()
    return verdicts


@pytest.mark.parametrize("default", [Action.MONITOR, Action.DROP])
def test_both_sides_are_judged_as_the_rules_say(default: Action) -> None:
    rng = random.Random(int(default))
    policy = make_policy(Files(), default=default, runtime=random_tables(rng, 300, 0.5))
    ids = np.arange(1, len(policy.rules) + 1, dtype=np.uint32)
    inward, outward = (Reference(policy, ids, way, NOW) for way in (Direction.INGRESS, Direction.EGRESS))
    rows, expected = [], []
    for peer in telling_addresses(rng, policy, 4000):
        proto, egress, answered = rng.choice((TCP, UDP, GRE)), rng.random() < 0.5, rng.random() < 0.5
        near, far = (0, 0) if proto == GRE else (rng.choice((1024, 443)), rng.choice((22, 53, 80, 443, 8050, 1500)))
        rows.append(conversation(peer, proto, near, far, egress=egress, answered=answered))
        first = (outward if egress else inward)(peer, place(proto, far))
        back = (inward if egress else outward)(peer, place(proto, near)) if answered else 0
        reply = egress and proto != GRE and back >> 28 == Action.DROP and not reason_of(back)
        if reply and first >> 28 != Action.DROP:
            back = verdict_word(Action.ALLOW, Reason.ESTABLISHED)
        weigh = {Action.DROP: 2, Action.LIMIT: 1}
        second = answered and weigh.get(Action(back >> 28), 0) > weigh.get(Action(first >> 28), 0)
        expected.append(back if second else first)
    assert judged(policy, rows) == expected
    assert len({word & abi.RULE_MASK for word in expected}) > 100, "few of the rules decide anything"


def test_what_a_default_of_drop_lets_in() -> None:
    policy = make_policy(Files(), default=Action.DROP, guard=[("192.0.2.1", "gateway")])
    established, guard = (verdict_word(Action.ALLOW, reason) for reason in (Reason.ESTABLISHED, Reason.GUARD))
    dropped, passed = verdict_word(Action.DROP), verdict_word(Action.ALLOW)
    told = [
        (conversation("203.0.113.1", TCP, 1024, 443, egress=False, answered=True), dropped),
        (conversation("203.0.113.1", TCP, 1024, 443, egress=True, answered=True), passed),
        (conversation("203.0.113.1", GRE, 0, 0, egress=True, answered=True), dropped),
        (conversation("203.0.113.1", ICMP, 8, 0, egress=True, answered=True), passed),
        (conversation("203.0.113.1", ICMP, 13, 0, egress=True, answered=True), dropped),
        (conversation("203.0.113.1", ICMP, 3, 1, egress=False, answered=False), established),
        (conversation("2001:db8::1", ICMPV6, 2, 0, egress=False, answered=False), established),
        (conversation("2001:db8::1", ICMPV6, 135, 0, egress=False, answered=True), guard),
        (conversation("2001:db8::1", ICMPV6, 143, 0, egress=False, answered=False), dropped),
        (conversation("fe80::1", ICMPV6, 143, 0, egress=False, answered=False), guard),
        (conversation("192.0.2.7", UDP, 67, 68, egress=False, answered=False), guard),
        (conversation("192.0.2.7", 2, 0, 0, egress=False, answered=False), guard),
        # Nobody saw who began: known from the next packet that this host sends.
        (conversation("203.0.113.1", TCP, 1024, 443, egress=False, answered=True, flags=16), established),
        (conversation("203.0.113.1", TCP, 1024, 443, egress=False, answered=False, flags=16), dropped),
    ]
    words = judged(policy, [row for row, _ in told])
    assert [word & ~abi.RULE_MASK for word in words] == [word for _, word in told]
    by_guard = judged(policy, [conversation("192.0.2.1", TCP, 1024, 22, egress=False, answered=False)])
    assert reason_of(by_guard[0]) == Reason.GUARD
    without = judged(policy, [told[1][0]], established=False)
    assert without == [dropped]


def test_bans_come_between_allowlist_and_rules() -> None:
    bans = make_policy(Files(), runtime=[{"cidr": "203.0.113.0/24", "action": "drop"}])
    rule = {"cidr": "203.0.113.5", "action": "allow"}
    policy = make_policy(Files(), allowlist=["203.0.113.9"], runtime=[rule])
    rows = [conversation(f"203.0.113.{at}", TCP, 1024, 443, egress=False, answered=False) for at in (5, 9)]
    rows.append(conversation("203.0.113.5", TCP, 1024, 443, egress=True, answered=True))
    words = np.array(judged(policy, rows, bans), np.uint32)
    assert kinds(words).tolist() == [2, 0, 2]
    assert reason_of(words).tolist() == [Reason.BAN, Reason.ALLOWLIST, Reason.BAN]

"""Tables that are compiled with the loops in C and with numpy are the same, word for word."""

from __future__ import annotations

import random

import numpy as np
import policy_referee
import pytest
from policy_loading import load_policy
from policy_reference import NOW, compiled, jiffies, random_tables

from trafficmond.model import Action
from trafficmond.policy import compiled as in_c
from trafficmond.policy.leaves import RuleColumns
from trafficmond.policy.prefixes import Prefixes, concat, masked, parse_one
from trafficmond.policy.table import Rows, compile_columns


def with_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on."""
    for loop in policy_referee.LOOPS:
        monkeypatch.setattr(in_c, loop.__name__, loop)


@pytest.mark.parametrize("ports", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_rules_of_every_kind(seed: int, ports: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    policy = load_policy(
        None,
        runtime=random_tables(rng, (3, 60, 700, 3000)[seed], with_ports=ports),
        default=rng.choice((Action.ALLOW, Action.DROP)),
        allowlist=["10.0.0.0/9", "2001:db8::/48", *(table["cidr"] for table in random_tables(rng, 20)[5:])],
        guard=[("10.1.2.3", "gateway"), ("fe80::/10", "neighbours"), ("2001:db8::1", "resolver")],
    )
    with_loops, _ = compiled(policy)
    with_numpy(monkeypatch)
    without, _ = compiled(policy)
    assert np.array_equal(with_loops.words, without.words)
    assert with_loops.records == without.records


@pytest.mark.parametrize("rules", [1, 7, 400])
@pytest.mark.parametrize("family", [4, 6])
def test_many_prefixes_of_lists(rules: int, family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dense and sparse, nested and doubled, more rules than the palette has room for; none of it in order."""
    rng = np.random.default_rng(rules)
    count = 60_000
    lengths = [0, 8, 15, 16, 17, 20, 24, 25, 30, 32, *([33, 48, 64, 65, 96, 128] if family == 6 else [])]
    plen = rng.choice(np.array(lengths), count)
    hi = rng.integers(0, 1 << 64, count, np.uint64, endpoint=False)
    hi[: count // 2] = hi[: count // 2] >> np.uint64(44) | np.uint64(10 << 56)
    lo = rng.integers(0, 1 << 64, count, np.uint64, endpoint=False)
    if family == 4:
        hi, lo = hi & np.uint64(0xFFFFFFFF << 32), np.zeros(count, np.uint64)
    rows, _ = masked(Prefixes(hi, lo, plen.astype(np.uint8), np.full(count, family, np.uint8)))
    lists = [{"cidr": f"192.0.2.{number % 256}", "action": "drop"} for number in range(rules)]
    of_rules = RuleColumns.of(load_policy(None, runtime=lists).rules, np.arange(1, rules + 1, dtype=np.uint32))
    owner = rng.integers(0, rules, count, np.int32)
    given = rows, owner, of_rules, Action.ALLOW, NOW, jiffies
    with_loops = compile_columns(*given)
    with_numpy(monkeypatch)
    assert np.array_equal(with_loops.words, compile_columns(*given).words)


def test_boundaries_at_both_ends_and_in_one_another() -> None:
    whole, half, last = (0, 0), (0, 1 << 63), ((1 << 64) - 1, 0)
    rows = [whole, whole, half, (1 << 62, 1 << 63), (1 << 63, 0), (3 << 62, 0), ((1 << 64) - 2, 0), last]
    first, past = (np.array(column, np.uint64) for column in zip(*rows, strict=True))
    for groups in ([], [0], [(1 << 64) - 1], [0, 1, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 2, (1 << 64) - 1]):
        alone = np.array(groups, np.uint64)
        found = in_c.bounds(first, past, alone)
        for mine, other in zip(found, policy_referee.bounds(first, past, alone), strict=True):
            assert mine.tolist() == other.tolist()


def test_equal_prefixes_stay_in_the_order_of_the_policy() -> None:
    few = ["10.0.0.0/8", "10.0.0.0/8", "2001:db8::/32", "10.0.0.0/9", "0.0.0.0/0", "2001:db8::1/128", "2001:db8::2/128"]
    rows = concat([parse_one(text) for text in few * 50])
    lists = [{"cidr": "192.0.2.1", "action": "drop"}] * len(rows)
    of_rules = RuleColumns.of(load_policy(None, runtime=lists).rules, np.arange(len(rows), dtype=np.uint32))
    found = Rows.of(rows, np.arange(len(rows), dtype=np.int32), of_rules, NOW)
    told = [(int(found.prefixes.family[at]), found.prefixes.text(at), int(found.owner[at])) for at in range(len(rows))]
    keys = np.lexsort((rows.plen, rows.lo, rows.hi, rows.family)).tolist()
    assert told == [(int(rows.family[at]), rows.text(at), at) for at in keys]
    assert (told[0][1], told[-1][1]) == ("0.0.0.0/0", "2001:db8::2")

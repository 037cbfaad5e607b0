"""The compiled table, walked by the kernel's own code, against what the rules mean; and the layout it must keep."""

from __future__ import annotations

import gzip
import os
import random
import re
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_loading import ROOT, Judge, load_policy
from policy_reference import (
    MOMENTS,
    NOW,
    agrees,
    columns,
    compiled,
    jiffies,
    longest,
    random_places,
    random_tables,
    telling_addresses,
    telling_columns,
    within_others,
)

from trafficmond import abi
from trafficmond.model import Action, Direction, Reason
from trafficmond.policy import layout, trie
from trafficmond.policy.classes import Classes
from trafficmond.policy.leaves import RuleColumns, RuleLeaves
from trafficmond.policy.listfile import parse_list
from trafficmond.policy.load import Policy
from trafficmond.policy.prefixes import Prefixes, concat, masked
from trafficmond.policy.table import Rows, VerdictTable, compile_columns
from trafficmond.policy.walk import lookup
from trafficmond.verdict import verdict_word

LISTS = ROOT.parent / "shared" / "data" / "cidr"
LOOKUPS = int(os.environ.get("TRAFFICMON_LOOKUPS", "1000000"))  # in real lists


def no_shadow(count: int) -> npt.NDArray[np.bool_]:
    return np.zeros(count, np.bool_)


def no_services(count: int) -> npt.NDArray[np.object_]:
    """A column of rules that name none."""
    return np.fromiter([()] * count, np.object_, count)


def verdicts(table: VerdictTable, addresses: list[str], direction: Direction, now: float = NOW) -> list[int]:
    """Words by the walk in Python."""
    words = [0] * len(addresses)
    for family in (4, 6):
        positions, hi, lo = columns(addresses, family)
        found, _ = lookup(table.words, family, direction, hi, lo, jiffies(now))
        for position, word in zip(positions, found.tolist(), strict=True):
            words[position] = word
    return words


def policy_of(tables: list[dict[str, object]], **more: object) -> Policy:
    return load_policy(None, runtime=tables, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("seed", "at_once"), [(0, 1 << 15), (1, 40)])
def test_equals_reference(seed: int, at_once: int, kernel_judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 nested prefixes of both families, 50,000 telling addresses, both directions, at several moments; compiled
    at once or in parts."""
    monkeypatch.setattr("trafficmond.policy.table._AT_ONCE", at_once)
    rng = random.Random(seed)
    policy = policy_of(
        random_tables(rng, 1000),
        default=rng.choice((Action.ALLOW, Action.MONITOR, Action.DROP)),
        allowlist=["10.0.0.0/9", "2001:db8::/48", *(table["cidr"] for table in random_tables(rng, 20)[5:])],
        guard=[("10.1.2.3", "gateway"), ("fe80::/10", "neighbours"), ("2001:db8::1", "resolver")],
    )
    agrees(compiled(policy), policy, telling_addresses(rng, policy, 50_000), MOMENTS, kernel_judge)


@pytest.mark.parametrize("seed", range(4))
def test_services_equal_reference(seed: int, kernel_judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 nested rules, most of which name services: each telling address with a service of its own."""
    monkeypatch.setattr("trafficmond.policy.table._AT_ONCE", (1 << 15, 1 << 15, 1 << 15, 30)[seed])
    rng = random.Random(seed)
    policy = policy_of(
        random_tables(rng, (3, 60, 500, 500)[seed], with_ports=0.7),
        default=rng.choice((Action.ALLOW, Action.MONITOR, Action.DROP)),
        allowlist=["10.0.0.0/9", "2001:db8::/48", *(table["cidr"] for table in random_tables(rng, 20)[5:])],
    )
    made, ids = compiled(policy)
    assert made.classes.count > 3
    addresses = telling_addresses(rng, policy, 10_000)
    agrees((made, ids), policy, addresses, MOMENTS, kernel_judge, random_places(rng, len(addresses)))


@pytest.mark.parametrize("seed", range(4))
def test_services_of_many_rules_on_one_prefix_equal_reference(seed: int, kernel_judge: Judge) -> None:
    """Those that last and those that end are painted as one, over those without services."""
    rng = random.Random(seed)
    few = ["0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/32", "2001:db8::/32", "2001:db8::1/128"]
    tables = [
        table | {"cidr": rng.choice(few)} for table in random_tables(rng, (40, 200, 400, 400)[seed], with_ports=0.9)
    ]
    if seed == 2:
        tables = [{key: value for key, value in table.items() if key != "expires"} for table in tables]
    if seed == 3:
        tables = [{**table, "expires": NOW + 10 * rng.randrange(1, 5)} for table in tables]
    policy = policy_of(tables, default=Action.DROP)
    addresses = telling_addresses(rng, policy, 3_000)
    moments = dict.fromkeys((Direction.INGRESS, Direction.EGRESS), (NOW, NOW + 20, *([NOW + 35] if seed == 3 else ())))
    agrees(compiled(policy), policy, addresses, moments, kernel_judge, random_places(rng, len(addresses)))


@pytest.mark.parametrize("ends", [False, True])
def test_rules_for_services_on_one_prefix_are_one_layer(ends: bool) -> None:
    """However many: each layer costs about as all the rest. Of those that end only what can decide is kept."""
    tables: list[dict[str, object]] = [
        {"cidr": "0.0.0.0/0", "action": "allow", "ports": [f"tcp/{number % 200}"]} for number in range(1000)
    ]
    if ends:
        tables = [{**table, "expires": NOW + 1 + number} for number, table in enumerate(tables)]
    policy = policy_of([{"cidr": "0.0.0.0/0", "action": "monitor"}, *tables])
    table_columns = RuleColumns.of(policy.rules, np.arange(len(policy.rules), dtype=np.uint32))
    classes = Classes.of(table_columns.services.tolist())
    rows = Rows.of(policy.prefixes, policy.owner, table_columns, NOW)
    layered = rows.layered(rows.select(4, Direction.INGRESS), RuleLeaves(table_columns, classes, jiffies))
    assert len(layered.layer) == len(set(layered.layer.tolist())) == 2
    assert compiled(policy)[0].records == (200 if ends else 0)


# Few values, so that prefixes meet and nest on both sides of the middle.
HALF = st.one_of(st.sampled_from((0, 1, 2**63, 2**64 - 1)), st.integers(0, 70).map(lambda part: part << 57 | part))
PREFIX = st.one_of(
    st.tuples(st.just(4), HALF.map(lambda half: half & 0xFFFFFFFF << 32), st.just(0), st.integers(0, 32)),
    st.tuples(st.just(6), HALF, HALF, st.integers(0, 128)),
)
ITEM = st.tuples(PREFIX, st.integers(0, 2), st.sampled_from((np.inf, 1.0, 2.0, 3.0)))


@settings(max_examples=200)
@given(
    items=st.lists(ITEM, min_size=1, max_size=60),
    chunk=st.sampled_from((abi.CHUNK_MAX, 3, 1)),
    crowd=st.integers(0, 9),
    few=st.integers(0, 10),
    palette=st.sampled_from((abi.PALETTE_MAX, 5, 3)),
)
def test_any_prefixes(
    items: list[tuple[tuple[int, int, int, int], int, float]], chunk: int, crowd: int, few: int, palette: int
) -> None:
    """Whatever nests in whatever, at every moment: the strongest class, then the longest, then the last one alive.

    Small chunks make of few prefixes what a million make of real ones: blocks below blocks, and chunks in pairs. A
    small palette lets blocks of bytes and of words stand side by side.
    """
    hi, lo = (np.array([item[0][part] for item in items], np.uint64) for part in (1, 2))
    plen, family = (np.array([item[0][part] for item in items], np.uint8) for part in (3, 0))
    rows, _ = masked(Prefixes(hi, lo, plen, family))
    count = len(items)
    rank = np.array([item[1] for item in items])
    expires = np.array([item[2] for item in items], np.float64)
    zero = np.zeros(count, np.uint32)
    word = np.arange(1, count + 1, dtype=np.uint32)
    rules = RuleColumns(
        rank, np.full(count, Direction.BOTH, np.uint8), expires, word, zero, zero, no_shadow(count), no_services(count)
    )
    pair = {"_PAIR_STEP": chunk + 1, "_PAIR_MAX": (chunk + 1) ** 2 - 1, "_CROWD": crowd, "_FEW": few}
    with mock.patch.multiple(abi, CHUNK_MAX=chunk, PALETTE_MAX=palette), mock.patch.multiple(trie, **pair):
        table = compile_columns(rows, np.arange(count, dtype=np.int32), rules, Action.ALLOW, 0.0, int)
    for family_ in (4, 6):
        step, width = (96, 32) if family_ == 4 else (0, 128)
        own = [
            (int(rows.hi[i]) << 64 | int(rows.lo[i]), step + width - int(rows.plen[i]), i)
            for i in np.flatnonzero(rows.family == family_).tolist()
        ]
        edges = {base + (past << host) - back for base, host, _ in own for past in (0, 1) for back in (0, 1 << step)}
        addresses = sorted(edge for edge in edges if 0 <= edge < 1 << 128)
        hi, lo = (np.array([a >> shift & 2**64 - 1 for a in addresses], np.uint64) for shift in (64, 0))
        for now in range(4):
            found, _ = lookup(table.words, family_, Direction.INGRESS, hi, lo, now)
            for address, seen in zip(addresses, found.tolist(), strict=True):
                covering = [
                    (rank[i], -host, i) for base, host, i in own if base >> host == address >> host and expires[i] > now
                ]
                assert seen == (max(covering)[2] + 1 if covering else 0)


def test_expired_rules_fall_back_through_nine_levels(kernel_judge: Judge) -> None:
    """Each level ends before the one around it, so that all ten verdicts are seen in turn."""
    tables: list[dict[str, object]] = [
        {"cidr": f"10.0.0.0/{8 + 2 * level}", "action": "drop", "label": f"level {level}", "expires": NOW + 100 - level}
        for level in range(9)
    ]
    policy = policy_of(tables)
    table, ids = compiled(policy)
    hi, lo = np.array([10 << 56], np.uint64), np.zeros(1, np.uint64)
    for level in range(8, -1, -1):
        before = jiffies(NOW + 100 - level) - 1
        found, _ = kernel_judge(table.words, 4, Direction.INGRESS, hi, lo, before)
        assert found[0] == verdict_word(Action.DROP, Reason.RULE, int(ids[level]))
    found, _ = kernel_judge(table.words, 4, Direction.INGRESS, hi, lo, jiffies(NOW + 100))
    assert found[0] == verdict_word(Action.MONITOR, Reason.DEFAULT)


def test_dead_parents_are_not_visited() -> None:
    """A chain holds only records that outlive the one before."""
    tables: list[dict[str, object]] = [
        {"cidr": f"10.0.0.0/{length}", "action": "drop", "expires": NOW + length} for length in range(8, 33)
    ]
    table, _ = compiled(policy_of(tables))
    start = int(table.words[abi.HDR_RECORDS]) * 8
    records = table.words[start : start + 8 * table.records].view(abi.RECORD)
    assert table.records == 25
    assert not (records["parent"] & np.uint32(abi.LEAF_RECORD)).any()


def test_a_chain_is_never_longer_than_the_kernel_follows(kernel_judge: Judge) -> None:
    """25 nested rules that end from the inside out: whatever is left out, an expired rule never decides."""
    tables: list[dict[str, object]] = [
        {"cidr": f"10.0.0.0/{length}", "action": "drop", "expires": NOW + 100 - length} for length in range(8, 33)
    ]
    table, _ = compiled(policy_of(tables, default=Action.MONITOR))
    hi, lo = np.array([10 << 56], np.uint64), np.zeros(1, np.uint64)
    found, _ = kernel_judge(table.words, 4, Direction.INGRESS, hi, lo, jiffies(NOW + 200))
    assert found[0] == verdict_word(Action.MONITOR, Reason.DEFAULT)
    found, _ = kernel_judge(table.words, 4, Direction.INGRESS, hi, lo, jiffies(NOW + 80))
    assert Action(found[0] >> 28) is Action.DROP


def test_limits_reach_the_kernel(kernel_judge: Judge) -> None:
    policy = policy_of(
        [
            {"cidr": "192.0.2.0/24", "action": "limit", "limit": "100/s", "burst": 7},
            {"cidr": "198.51.100.0/24", "action": "limit", "limit": "9/s", "expires": NOW + 10},
        ]
    )
    table, ids = compiled(policy)
    _, hi, lo = columns(["192.0.2.1", "198.51.100.1", "203.0.113.1"], 4)
    found, limit = kernel_judge(table.words, 4, Direction.INGRESS, hi, lo, jiffies(NOW))
    monitor = verdict_word(Action.MONITOR, Reason.DEFAULT)
    expected = [verdict_word(Action.LIMIT, Reason.RULE, int(number)) for number in ids]
    assert found.tolist() == [*expected, monitor]
    assert limit.tolist() == [[100, 7], [9, 9], [0, 0]]
    found, _ = kernel_judge(table.words, 4, Direction.INGRESS, hi, lo, jiffies(NOW + 10))
    assert found.tolist() == [expected[0], monitor, monitor]


@pytest.mark.parametrize(
    ("default", "egress"), [("allow", Action.ALLOW), ("monitor", Action.MONITOR), ("drop", Action.ALLOW)]
)
def test_default_never_drops_egress(default: str, egress: Action) -> None:
    table, _ = compiled(policy_of([], default=Action.parse(default)))
    both = ["192.0.2.1", "2001:db8::1"]
    assert verdicts(table, both, Direction.INGRESS) == [verdict_word(Action.parse(default), Reason.DEFAULT)] * 2
    assert verdicts(table, both, Direction.EGRESS) == [verdict_word(egress, Reason.DEFAULT)] * 2


def test_precedence(tmp_path: Path) -> None:
    """Guard, allowlist, runtime, a later file, an earlier one, a list: each in turn is what decides."""
    (tmp_path / "10-a.toml").write_text('[[rule]]\ncidr = "192.0.2.0/24"\naction = "drop"\nlabel = "a"\n')
    (tmp_path / "20-b.toml").write_text('[[rule]]\ncidr = "192.0.2.0/24"\naction = "monitor"\nlabel = "b"\n')
    runtime = [{"cidr": "192.0.2.0/24", "action": "allow", "label": "c"}]
    known = {"allowlist": ["192.0.0.0/8"], "guard": [("192.0.0.0/6", "guard")]}
    chosen = {
        (): "b",
        ("runtime",): "c",
        ("runtime", "allowlist"): "allowlist",
        ("runtime", "allowlist", "guard"): "guard",
    }
    for keys, winner in chosen.items():
        more = {key: {"runtime": runtime, **known}[key] for key in keys}
        policy = load_policy(tmp_path, **more)  # type: ignore[arg-type]
        table, ids = compiled(policy)
        [word] = verdicts(table, ["192.0.2.1"], Direction.INGRESS)
        assert policy.rules[ids.tolist().index(word & abi.RULE_MASK)].name == winner


def test_bounds_are_the_kernel_s() -> None:
    header = (ROOT / "bpf" / "table.h").read_text()
    defined = dict(re.findall(r"#define (TM_\w+) (\d+)", header))
    assert {4: int(defined["TM_STEPS_SMALL"]), 6: int(defined["TM_STEPS"])} == layout.STEPS_MAX
    assert int(defined["TM_PARENTS_MAX"]) == layout.PARENTS_MAX


def test_header_and_pages() -> None:
    table, _ = compiled(policy_of([{"cidr": "192.0.2.0/24", "action": "drop", "expires": NOW + 1}]))
    assert table.words.dtype == np.uint32
    assert len(table.words) % abi.PAGE_WORDS == 0
    assert table.words[abi.HDR_MAGIC] == abi.TABLE_MAGIC
    assert table.words[abi.HDR_GENERATION] == 7
    assert table.words[abi.HDR_RECORD_COUNT] == table.records == 1


def test_identical_trees_are_kept_once() -> None:
    root = abi.HDR_ROOT
    empty, _ = compiled(policy_of([]))
    assert len(set(empty.words[root : root + 4].tolist())) == 1
    both, _ = compiled(policy_of([{"cidr": "192.0.2.0/24", "action": "drop", "direction": "both"}]))
    assert both.words[root] == both.words[root + 2]
    assert both.words[root + 1] == both.words[root + 3]
    one_way, _ = compiled(policy_of([{"cidr": "192.0.2.0/24", "action": "drop"}]))
    assert one_way.words[root] != one_way.words[root + 2]


def test_crowded_prefixes_stay_compact(kernel_judge: Judge) -> None:
    """100,000 hosts, 20 in each of 5,000 distant /120s: no chain of nearly empty blocks leads to each."""
    rng = np.random.default_rng(1)
    host = np.arange(20, dtype=np.uint64) * np.uint64(3)
    hi = np.repeat(rng.integers(0, 2**64, 5000, np.uint64), 20)
    lo = np.repeat(rng.integers(0, 2**56, 5000, np.uint64) << np.uint64(8), 20) + np.tile(host, 5000)
    rows = Prefixes(hi, lo, np.full(100_000, 128, np.uint8), np.full(100_000, 6, np.uint8))
    table, word = compile_numbered(rows)
    assert table.words.nbytes < 100 * len(rows)
    found, _ = kernel_judge(table.words, 6, Direction.INGRESS, hi, lo, 0)
    assert np.array_equal(found, word)
    found, _ = kernel_judge(table.words, 6, Direction.INGRESS, hi, lo + np.uint64(1), 0)
    assert not found.any()


def compile_numbered(rows: Prefixes, count: int | None = None) -> tuple[VerdictTable, npt.NDArray[np.uint32]]:
    """Each prefix with a verdict of its own, or `count` of them dealt out in turn, and these; the default is 0."""
    count = count or len(rows)
    zero = np.zeros(count, np.uint32)
    numbers = np.arange(1, count + 1, dtype=np.uint32)
    rules = RuleColumns(
        np.zeros(count, np.int64),
        zero.astype(np.uint8),
        np.full(count, np.inf),
        numbers,
        zero,
        zero,
        no_shadow(count),
        no_services(count),
    )
    owner = np.arange(len(rows), dtype=np.int32) % count
    return compile_columns(rows, owner, rules, Action.ALLOW, 0.0, int), numbers[owner]


def test_a_list_is_written_in_bytes(kernel_judge: Judge) -> None:
    """Every other /24 of 500 /16s: of one list a quarter as large as where each has a verdict of its own."""
    hi = (np.arange(500 * 128, dtype=np.uint64) << np.uint64(41)) + np.uint64(1 << 56)
    rows = Prefixes(hi, np.zeros_like(hi), np.full(len(hi), 24, np.uint8), np.full(len(hi), 4, np.uint8))
    roots = 2 * (4 << 16)  # of IPv4 one with rules, and an empty one for all else
    own, _ = compile_numbered(rows)
    for rules in (1, 200):
        table, word = compile_numbered(rows, rules)
        assert table.words.nbytes - roots < (own.words.nbytes - roots) / 3.5
        found, _ = kernel_judge(table.words, 4, Direction.INGRESS, hi + np.uint64(255 << 32), hi, 0)
        assert np.array_equal(found, word)
        found, _ = kernel_judge(table.words, 4, Direction.INGRESS, hi + np.uint64(256 << 32), hi, 0)
        assert not found.any()


@pytest.mark.parametrize("rules", [None, 40])
def test_real_lists_together(rules: int | None, kernel_judge: Judge) -> None:
    """The full BGP table, all countries and FireHOL level 4, each prefix a rule of its own or of 40 lists: a million
    addresses, at and around the ends of prefixes that lie in one another for the most part. `make soak` takes ten
    million."""
    if not LISTS.is_dir():
        pytest.skip(f"needs the public prefix lists in {LISTS}")
    texts = [
        gzip.decompress((LISTS / name).read_bytes())
        for name in ("bgp_full_table.txt.gz", "country_all_ipv4.txt.gz", "country_all_ipv6.txt.gz")
    ]
    texts.append((LISTS / "firehol_level4.netset").read_bytes())
    parsed = [parse_list(text, "list") for text in texts]
    assert [part.wrong for part in parsed] == [0] * 4
    rows = concat([part.prefixes for part in parsed])
    table, word = compile_numbered(rows, rules)
    assert table.words.nbytes <= 24 << 20
    rng = np.random.default_rng(2)
    looked_up = {4: 0, 6: 0}
    for family, share in ((4, 0.6), (6, 0.4)):
        mine = np.flatnonzero(rows.family == family)
        inner = mine[within_others(rows.hi[mine], rows.plen[mine])]
        assert len(inner) > len(mine) / 4
        while looked_up[family] < LOOKUPS * share:
            drawn = np.concatenate([rng.choice(inner, 70_000), rng.choice(mine, 30_000)])
            hi, lo = telling_columns(rng, rows.take(drawn), family)
            found, _ = kernel_judge(table.words, family, Direction.INGRESS, hi, lo, 0)
            assert np.array_equal(found, longest(rows, word, family, hi, lo, 0))
            looked_up[family] += len(hi)
    size = f"{len(rows):,} prefixes of {rules or 'as many'} rules, {table.words.nbytes / 2**20:.1f} MiB"
    print(f"{size}; {looked_up[4]:,} IPv4 and {looked_up[6]:,} IPv6 look-ups, 0 differ")

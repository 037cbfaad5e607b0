"""A patched table says what a freshly compiled one says, of every address, at every moment."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from policy_loading import Judge, load_policy
from policy_reference import NOW, columns, jiffies, random_places, random_tables, telling_addresses

from trafficmond import abi
from trafficmond.model import Action, Direction
from trafficmond.policy.ids import RuleIds
from trafficmond.policy.leaves import RuleColumns
from trafficmond.policy.patch import Source, patched
from trafficmond.policy.table import VerdictTable, compile_columns

Tables = list[dict[str, Any]]


class World:
    """Rules that change, and what is in force for them."""

    def __init__(self, tables: Tables, *, live: bool = False, **more: Any) -> None:
        """`live`: a kernel reads the words, with room behind them."""
        self._live = live
        self._ids = RuleIds()
        self._more = more
        self.generation = 1
        self.source = self._source(tables)
        self.table = self._installed(self.whole())

    def _installed(self, table: VerdictTable) -> VerdictTable:
        if not self._live:
            return table
        room = np.zeros(len(table.words) // 4 // abi.PAGE_WORDS * abi.PAGE_WORDS, np.uint32)
        return replace(table, words=np.concatenate([table.words, room]), live=True)

    def _source(self, tables: Tables) -> Source:
        policy = load_policy(None, runtime=tables, **self._more)
        return Source(policy, RuleColumns.of(policy.rules, self._ids.number(policy.rules, NOW).numbers))

    def whole(self, now: float = NOW) -> VerdictTable:
        policy = self.source.policy
        rest = self.source.columns, policy.default, now, jiffies, self.generation
        return compile_columns(policy.prefixes, policy.owner, *rest)

    def change(self, tables: Tables, now: float = NOW, **more: Any) -> VerdictTable | None:
        """To these rules; the patched table, which is in force then, or None where all was compiled."""
        before, self._more = self.source, self._more | more
        self.source, self.generation = self._source(tables), self.generation + 1
        found = patched(self.table, before, self.source, now, jiffies, self.generation)
        if found is not None and found.edit is not None:
            assert found.words is self.table.words
            found.edit.apply(found.words)
            self.table = found
        else:
            self.table = self._installed(found or self.whole(now))
        return found

    def check(self, judge: Judge, addresses: list[str], now: float = NOW) -> None:
        whole = self.whole(now)
        for family in (4, 6):
            _, hi, lo = columns(addresses, family)
            what = np.array(random_places(random.Random(len(hi)), len(hi)), np.uint32)
            for direction in (Direction.INGRESS, Direction.EGRESS):
                for moment in (now, *(later for later in (NOW + 20, NOW + 100) if later >= now)):
                    at = family, direction, hi, lo, jiffies(moment), what
                    assert judge(self.table.words, *at)[0].tolist() == judge(whole.words, *at)[0].tolist()


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(("seed", "services"), [(0, 0.0), (1, 0.0), (2, 0.6), (3, 0.9)])
def test_any_changes(seed: int, services: float, live: bool, kernel_judge: Judge) -> None:
    """A change that makes no new class of services is a patch."""
    rng = random.Random(seed)
    few: list[list[str]] = [["tcp/443"], ["tcp/443", "80"], ["udp/53"], ["1000-2000", "tcp/22"], ["icmp", "gre"]]

    def some_tables(count: int) -> Tables:
        tables = random_tables(rng, count, services)
        return [each | {"ports": rng.choice(few)} if "ports" in each else each for each in tables]

    tables = some_tables(300)
    default = rng.choice((Action.ALLOW, Action.MONITOR, Action.DROP))
    lifelines: dict[str, Any] = {"allowlist": ["10.0.0.0/9"], "guard": [("10.1.2.3", "gateway")]}
    world = World(tables, live=live, default=default, **lifelines)
    patches = in_place = 0
    for number in range(30):
        at, fresh = rng.randrange(len(tables)), some_tables(rng.randint(1, 4))
        for each in fresh:
            each["label"] = f"c{number} {each['label']}"
        tables = tables[:at] + fresh * rng.randint(0, 1) + tables[at + rng.randint(0, 3) :]
        guard = [("10.1.2.3", "gateway"), ("2001:db8::1", "resolver")][: 1 + (number > 20)]
        now = NOW + number / 10
        found = world.change(tables, now, guard=guard)
        patches += found is not None
        in_place += found is not None and found.edit is not None
        world.check(kernel_judge, telling_addresses(rng, world.source.policy, 1500), now)
    assert patches > 10
    assert bool(in_place) is live


def drop(cidr: str, **more: Any) -> dict[str, Any]:
    return {"cidr": cidr, "action": "drop", **more}


MANY = [drop(f"198.51.{n >> 8}.{n & 255}") for n in range(2000)]


def test_a_rule_costs_itself() -> None:
    """And what is below the same slot of the root: it adds little to the table, and takes nothing out of order."""
    world = World(MANY)
    table = world.change([*MANY, drop("192.0.2.1")])
    assert table is not None
    assert table.units - table.whole < 8
    assert table.prefixes == 2001
    assert table.words[abi.HDR_GENERATION] == 2
    assert np.array_equal(table.palette, table.words[abi.HDR_PALETTE :][: len(table.palette)])


def test_in_place_nothing_counts_before_the_last_word(kernel_judge: Judge) -> None:
    """So that a packet sees the rules of before or those of after."""
    addresses = ["192.0.2.1", "192.0.2.2", "192.0.3.1", "198.51.0.7", "2001:db8::1"]
    world = World([drop("192.0.2.0/24", expires=NOW + 30), *MANY], live=True)
    before, source = world.table, world.source
    after = World([drop("192.0.2.0/24", expires=NOW + 30), *MANY, drop("192.0.2.1", action="allow", expires=NOW + 9)])
    found = patched(before, source, after.source, NOW, jiffies, 2)
    assert found is not None
    assert found.edit is not None
    assert found.edit.last is not None
    replace(found.edit, last=None).apply(found.words)
    world.check(kernel_judge, addresses)
    found.edit.apply(found.words)
    after.table = found
    after.check(kernel_judge, addresses)


def test_what_touches_two_places_is_swapped_and_not_edited() -> None:
    world = World(MANY, live=True)
    found = world.change([*MANY, drop("192.0.2.1"), drop("203.0.113.1")])
    assert found is not None
    assert found.edit is None
    assert not found.live
    assert found.words is not world.table.words


def test_another_class_of_services_compiles_all(kernel_judge: Judge) -> None:
    web = drop("192.0.2.0/24", ports=["tcp/443"])
    world = World([web, *MANY])
    assert world.change([web, drop("192.0.2.1", ports=["tcp/443"]), *MANY]) is not None
    assert world.change([web, drop("192.0.2.1", ports=["tcp/80"]), *MANY]) is None
    assert (
        world.change([web, drop("192.0.2.1", ports=["tcp/80"]), drop("192.0.2.2", ports=["tcp/443"]), *MANY])
        is not None
    )
    world.check(kernel_judge, ["192.0.2.1", "192.0.2.0", "192.0.2.2", "198.51.0.7"] * 20)


def test_a_removal_gives_back_what_was_below(kernel_judge: Judge) -> None:
    world = World([drop("192.0.2.0/24"), drop("192.0.2.1", action="allow"), *MANY])
    assert world.change([drop("192.0.2.0/24"), *MANY]) is not None
    world.check(kernel_judge, ["192.0.2.1", "192.0.2.0", "192.0.3.0", "198.51.0.7", "2001:db8::1"])


def test_records_move_when_there_is_no_more_room(kernel_judge: Judge) -> None:
    tables = [*MANY]
    world = World(tables)
    rooms = []
    for number in range(100):
        tables = [*tables, drop(f"203.0.113.{number}", expires=NOW + 10 + number)]
        if world.change(tables) is not None:
            rooms.append(world.table.room)
        assert world.table.words[abi.HDR_RECORD_COUNT] == world.table.records <= world.table.room
    assert len(set(rooms)) > 1
    world.check(kernel_judge, [f"203.0.113.{number}" for number in range(101)])


def test_what_lies_unused_stays_bounded() -> None:
    """A slot that is crowded is written again with each change; before that fills memory, all is compiled again."""
    world = World(MANY)
    patches = 0
    for number in range(200):
        patches += world.change([*MANY, drop(f"198.51.100.{number}")]) is not None
        assert world.table.units <= 1.5 * world.table.whole
    assert 100 < patches < 200


@pytest.mark.parametrize(
    "changed",
    [
        [drop("0.0.0.0/1"), *MANY],  # too much of the address space
        [*MANY, drop("192.0.2.1", direction="egress")],  # of a tree that both families and one direction share
        [MANY[0], *MANY[2:1000], MANY[1], *MANY[1000:]],  # in two places
    ],
)
def test_much_is_compiled_as_a_whole_or_right(changed: Tables, kernel_judge: Judge) -> None:
    world = World(MANY)
    world.change(changed)
    world.check(kernel_judge, ["192.0.2.1", "198.51.0.1", "198.51.3.232", "10.0.0.1", "200.0.0.1", "2001:db8::1"])


def test_a_rule_that_names_other_prefixes_than_before_is_another(kernel_judge: Judge) -> None:
    """Though its number, its label and all else are the same."""
    world = World([{"cidr": ["192.0.2.1", "192.0.2.2"], "action": "drop", "label": "bad"}, *MANY])
    other = [{"cidr": ["192.0.2.1", "192.0.2.3"], "action": "drop", "label": "bad"}, *MANY]
    assert world.change(other) is not None
    world.check(kernel_judge, ["192.0.2.1", "192.0.2.2", "192.0.2.3"])


def test_prefixes_that_go_from_rule_to_rule(kernel_judge: Judge) -> None:
    """Rules stay in their order, while what each names changes, in several places at once."""
    rng = random.Random(7)
    addresses = [f"198.51.{n >> 8}.{n & 255}" for n in range(600)] + [f"2001:db8::{n:x}" for n in range(200)]
    world, patches = World([]), 0
    for _ in range(20):
        rng.shuffle(addresses)
        cuts = sorted(rng.sample(range(1, len(addresses)), 3))
        parts = [addresses[a:b] for a, b in zip([0, *cuts[:2]], cuts, strict=True)]
        tables = [
            drop("0.0.0.0/0"),
            *MANY[600:],
            *({"cidr": each, "action": "drop", "label": f"l{n}"} for n, each in enumerate(parts)),
        ]
        tables[-1]["action"] = "allow"
        patches += world.change(tables) is not None
        world.check(kernel_judge, addresses)
    assert patches > 10


def test_a_list_that_is_nearly_what_it_was_costs_the_difference() -> None:
    """In whatever order it is written."""
    addresses = [f"{n % 200 + 1}.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(100_000)]
    world = World([{"cidr": addresses, "action": "drop", "label": "list"}], live=True)
    table = world.change([{"cidr": [*addresses[::-1], "200.0.0.9"], "action": "drop", "label": "list"}])
    assert table is not None
    assert table.edit is not None
    assert table.prefixes == 100_001


def test_another_default_is_everywhere() -> None:
    world = World(MANY)
    assert world.change(MANY, default=Action.DROP) is None


def test_two_ways_that_part_no_longer_share_a_tree(kernel_judge: Judge) -> None:
    both = [drop("198.51.100.0/24", direction="both"), drop("2001:db8::/32", direction="both")]
    world = World(both)
    assert world.change([*both, drop("192.0.2.1", direction="both")]) is not None  # still of both
    assert world.change([*both, drop("192.0.2.1")]) is None
    world.check(kernel_judge, ["192.0.2.1", "198.51.100.1", "2001:db8::1"])

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trafficmond.detect.windows import (
    NOWHERE,
    BoundedTable,
    Columns,
    Grouped,
    decay,
    estimate,
    mark,
    members,
    mix,
)


def keys(*numbers: int) -> np.ndarray:
    return mix(np.array(numbers, np.uint64))


@given(st.lists(st.integers(0, 20), min_size=1, max_size=200))
def test_grouping_agrees_with_a_dictionary(numbers: list[int]) -> None:
    column = np.array(numbers, np.uint64)
    values = np.arange(len(numbers), dtype=float)
    groups = Grouped(column)
    expected = {number: [v for n, v in zip(numbers, values, strict=True) if n == number] for number in numbers}
    assert groups.keys.tolist() == sorted(expected)
    assert groups.keys[groups.of].tolist() == numbers
    assert column[groups.first].tolist() == groups.keys.tolist()
    for name, function in (("sum", sum), ("max", max), ("min", min)):
        assert getattr(groups, name)(values).tolist() == [function(expected[key]) for key in sorted(expected)]


def test_hash_depends_on_every_word_and_their_order() -> None:
    one, two = np.array([1], np.uint64), np.array([2], np.uint64)
    assert len({int(mix(*words)[0]) for words in ((one,), (two,), (one, two), (two, one), (one, one))}) == 5


def test_columns_take_and_rows_agree_with_the_batch() -> None:
    batch = np.array([(1, 2.0), (3, 4.0), (5, 6.0), (7, 8.0)], [("a", "i8"), ("b", "f8")])
    taken = Columns(batch).take(np.array([True, False, True, True])).take(np.array([2, 0]))
    assert taken["a"].tolist() == [7, 1]
    assert taken["b"].flags.c_contiguous
    assert taken.rows(np.array([1])).tolist() == [(1, 2.0)]
    assert len(taken) == 2


class TestTable:
    def test_known_keys_are_found_and_unknown_ones_are_not(self) -> None:
        table = BoundedTable([("n", "f8")], 64, 10.0)
        slots = table.admit(keys(1, 2, 3), np.ones(3), 0.0, np.inf)
        assert len(set(slots.tolist())) == 3
        assert table.find(keys(3, 1)).tolist() == [slots[2], slots[0]]
        assert table.find(keys(9)).tolist() == [NOWHERE]

    def test_a_key_without_weight_is_not_taken_in(self) -> None:
        table = BoundedTable([("n", "f8")], 64, 10.0)
        assert table.admit(keys(1), np.zeros(1), 0.0, np.inf).tolist() == [NOWHERE]
        assert len(table) == 0

    @settings(max_examples=25)
    @given(st.lists(st.lists(st.integers(0, 400), min_size=1, max_size=100, unique=True), min_size=1, max_size=20))
    def test_no_two_keys_share_a_slot_and_sums_are_of_one_key(self, rounds: list[list[int]]) -> None:
        table = BoundedTable([("number", "f8")], 64, 1.0)
        for now, numbers in enumerate(rounds):
            batch = keys(*numbers)
            slots = table.admit(batch, np.ones(len(batch)), float(now), np.inf)
            here = slots != NOWHERE
            placed, mine = slots[here], 1 + np.array(numbers)[here]
            assert len(set(placed.tolist())) == len(placed)
            assert table.find(batch[here]).tolist() == placed.tolist()
            held = table.rows["number"][placed]
            assert ((held == 0) | (held == mine)).all()
            table.rows["number"][placed] = mine
        assert len(table) <= table.capacity

    def test_a_flood_of_strangers_does_not_push_out_the_one_under_observation(self) -> None:
        table = BoundedTable([("n", "f8")], 64, 10.0)
        scanner = keys(7)
        slot = table.admit(scanner, np.array([50.0]), 0.0, np.inf)
        table.rows["n"][slot] = 42
        for now in range(1, 30):
            strangers = mix(np.arange(5000, dtype=np.uint64) + np.uint64(now * 10000))
            table.admit(strangers, np.ones(5000), float(now), np.inf)
        assert table.rows["n"][table.find(scanner)].tolist() == [42]
        assert table.evicted > 0
        assert table.refused > 0
        assert len(table) == table.capacity

    def test_the_heavier_newcomers_win(self) -> None:
        table = BoundedTable([("n", "f8")], 8, 10.0)
        batch = keys(*range(100))
        weight = np.ones(100)
        weight[90:98] = 5
        slots = table.admit(batch, weight, 0.0, np.inf)
        assert np.flatnonzero(slots != NOWHERE).tolist() == list(range(90, 98))
        assert table.refused == 92

    def test_a_window_that_is_over_begins_anew(self) -> None:
        table = BoundedTable([("n", "f8")], 64, 10.0)
        slot = table.admit(keys(1), np.ones(1), 0.0, 60.0)
        table.add("n", np.array([slot[0], slot[0]]), np.array([1.0, 2.0]))
        assert table.rows["n"][slot].tolist() == [3]
        assert table.admit(keys(1), np.ones(1), 61.0, 60.0).tolist() == slot.tolist()
        assert table.rows["n"][slot].tolist() == [0]
        assert table.rows["since"][slot].tolist() == [61.0]

    @pytest.mark.parametrize("count", [3, 500])
    def test_additions_to_one_slot_add_up(self, count: int) -> None:
        table = BoundedTable([("n", "f8")], 64, 10.0)
        slot = table.admit(keys(1), np.ones(1), 0.0, np.inf)
        table.add("n", np.repeat(slot, count), np.ones(count))
        assert table.rows["n"][slot].tolist() == [count]


def test_marks_count_distinct_things_nearly() -> None:
    maps = np.zeros((2, 1024), np.uint8)
    things = mix(np.arange(1000, dtype=np.uint64))
    first = mark(maps, np.zeros(1000, np.intp), things) == 0
    assert 600 < np.count_nonzero(first) < 700  # 1024 x (1 - 1/e)
    assert mark(maps, np.zeros(1000, np.intp), things).all()
    assert abs(estimate(maps[0]) - 1000) < 80
    assert estimate(maps[1]) == 0
    mark(maps, np.ones(3, np.intp), things[:3])
    assert estimate(maps[1]) == 3


def test_of_equal_rows_in_one_call_only_one_is_new() -> None:
    maps = np.zeros((1, 64), np.uint8)
    marks = np.arange(1, 6, dtype=np.uint8)
    assert mark(maps, np.zeros(5, np.intp), keys(1, 1, 2, 1, 1), marks).tolist() == [0, 1, 0, 2, 4]
    before = maps.copy()
    assert mark(maps, np.array([NOWHERE, 1, 1 << 40]), keys(7, 8, 9)).tolist() == [0, 0, 0]
    assert maps.tolist() == before.tolist()


def test_fields_fade_by_e_in_a_window_and_never_grow_when_the_clock_goes_back() -> None:
    rows = np.zeros(1, [("at", "f8"), ("n", "f8")])
    rows["n"] = 100
    decay(rows, np.array([0]), 10.0, 10.0, ("n",))
    assert rows["n"][0] == pytest.approx(36.788, abs=0.01)
    decay(rows, np.array([0]), 5.0, 10.0, ("n",))
    assert rows["n"][0] == pytest.approx(36.788, abs=0.01)


def test_members_tell_by_index() -> None:
    table = members(3, 5, size=8)
    assert np.flatnonzero(table).tolist() == [3, 5]

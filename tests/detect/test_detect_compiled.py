"""The detectors' loops in C against the same in numpy: tables and groups are the same."""

from __future__ import annotations

import detect_referee
import numpy as np
import pytest
from detect_referee import Table, groups

from trafficmond.detect.attempts import ATTEMPT
from trafficmond.detect.windows import NOWHERE, BoundedTable, Columns, Grouped, mix
from trafficmond.flows import compiled
from trafficmond.flows.batch import DELTA, FLOW

FIELDS = [("count", "f8"), ("map", "u1", 16)]


def weights(pick: np.random.Generator, count: int) -> np.ndarray:
    """Whole numbers that differ, for among equals either may have the place; some are nothing."""
    return pick.permutation(3 * count)[:count] * (pick.random(count) < 0.9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("capacity", [8, 64, 4096])
def test_a_table_watches_the_same_entities(seed: int, capacity: int) -> None:
    pick = np.random.default_rng(seed)
    in_c, in_numpy = BoundedTable(FIELDS, capacity, 30.0), Table(FIELDS, capacity, 30.0)
    strangers = pick.integers(1, 1 << 63, 3000, dtype=np.uint64)
    for turn in range(30):
        keys = np.unique(pick.choice(strangers, int(pick.choice([0, 1, 5, 700]))))
        weight = weights(pick, len(keys))
        now = 1000.0 + 7 * turn + (pick.random(len(keys)) if seed == 3 else np.zeros(len(keys)))
        slots = in_c.admit(keys, weight, now, 40.0)
        assert slots.tolist() == in_numpy.admit(keys, weight, now, 40.0).tolist()
        for table in (in_c, in_numpy):
            table.rows["count"][slots[slots >= 0]] += 1
        assert in_c.rows.tobytes() == in_numpy.rows.tobytes()
        assert in_c._keys.tolist() == in_numpy._keys.tolist()
        assert np.allclose(in_c._worth[in_c._keys != 0], in_numpy._worth[in_c._keys != 0], rtol=0, atol=1e-6)
        assert (in_c.evicted, in_c.refused) == (in_numpy.evicted, in_numpy.refused)
    assert capacity > 1000 or in_c.evicted + in_c.refused > 0


@pytest.mark.parametrize("count", [0, 1, 2, 17, 5000])
@pytest.mark.parametrize("distinct", [1, 3, 1 << 63])
def test_rows_are_grouped_the_same(count: int, distinct: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pick = np.random.default_rng(count)
    keys = pick.integers(0, distinct, count, dtype=np.uint64) * np.uint64(1 if distinct > 3 else 0x9E3779B97F4A7C15)
    values = pick.random(count)
    in_c = Grouped(keys)
    monkeypatch.setattr(compiled, "groups", groups)
    in_numpy = Grouped(keys)
    for name in ("keys", "first", "of"):
        assert getattr(in_c, name).tolist() == getattr(in_numpy, name).tolist()
    for what in ("sum", "max", "min"):
        assert getattr(in_c, what)(values).tolist() == getattr(in_numpy, what)(values).tolist()
    assert in_c.keys.tolist() == np.unique(keys).tolist()


@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("rows", [0, 3, 5000])
def test_amounts_are_added_as_one_sum_for_each_slot(kind: str, rows: int) -> None:
    pick = np.random.default_rng(rows)
    table = BoundedTable([("tag", "u1"), ("count", kind)], 64, 30.0)
    table.rows["count"] = expected = pick.random(table.capacity).astype(kind)
    slots, amounts = pick.integers(NOWHERE, 40, rows), pick.random(rows)
    there = slots != NOWHERE
    expected = (expected + np.bincount(slots[there], amounts[there], table.capacity)).astype(kind)
    table.add("count", slots, amounts)
    assert table.rows["count"].tolist() == expected.tolist()
    assert not table.rows["tag"].any()


@pytest.mark.parametrize("dtype", [FLOW, DELTA])
@pytest.mark.parametrize("count", [0, 1, 255, 1024, 1025, 5000])
def test_rows_are_taken_apart_the_same(count: int, dtype: np.dtype) -> None:
    rows = np.frombuffer(np.random.default_rng(count).bytes(count * dtype.itemsize), dtype)
    made = compiled.columns(rows)
    assert made is not None
    assert list(made) == list(dtype.names)
    for batch in (rows, rows[::2], rows[count // 2 :]):
        seen = Columns(batch)
        seen.put("src", np.arange(len(batch)))  # what was put stays, whatever is asked for
        for name in dtype.names:
            assert made[name].tobytes() == np.ascontiguousarray(rows[name]).tobytes()
            assert seen[name].dtype == rows[name].dtype
            assert seen[name].tobytes() == np.ascontiguousarray(batch[name]).tobytes()
        assert seen["src"].tolist() == list(range(len(batch)))


def test_fields_that_are_no_numbers_stay_where_they_are() -> None:
    rows = np.zeros(2000, [("count", "f8"), ("map", "u1", 16), ("text", "S4")])
    assert compiled.columns(rows) is None
    assert Columns(rows)["map"].shape == (2000, 16)


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_hashes_are_the_same(count: int) -> None:
    pick = np.random.default_rng(count)
    words = [
        pick.integers(0, 1 << 63, count, dtype=np.uint64) * np.uint64(2),
        pick.integers(0, 256, count).astype(np.uint8),
        pick.integers(-5, 5, count),
        pick.random(count) < 0.5,
    ]
    for given in (words, words[:1], [words[1], 7], [3, words[0][::2], 4], [5]):
        assert mix(*given).tolist() == detect_referee.mix(*given).tolist()


@pytest.mark.parametrize(
    "names", [("src_lo", "dst_lo", "sport", "family"), ("first_len",), ("packets", "reply_packets")]
)
def test_fields_are_gathered_the_same(names: tuple[str, ...]) -> None:
    pick = np.random.default_rng(1)
    rows = np.frombuffer(pick.bytes(200 * FLOW.itemsize), FLOW)
    at, some, few = pick.integers(0, 200, 77), pick.permutation(200), np.arange(9)[::-1]
    pairs = (*((name, name) for name in names), ("first", "at"))
    in_c, in_numpy = (np.zeros(77, ATTEMPT) for _ in range(2))
    compiled.gather(rows, at, in_c, pairs)
    for ours, theirs in pairs:
        in_numpy[theirs] = rows[ours][at]
    assert in_c.tobytes() == in_numpy.tobytes()
    of_columns = np.zeros(9, ATTEMPT)
    Columns(rows).take(some).take(np.arange(200)).take(few).gather(of_columns, names)
    assert of_columns[list(names)].tolist() == rows[some[few]][list(names)].tolist()


def test_fields_of_another_type_are_not_gathered() -> None:
    with pytest.raises(TypeError, match="sport"):
        compiled.gather(np.zeros(3, FLOW), np.arange(2), np.zeros(2, [("sport", "f8")]), (("sport", "sport"),))


def test_what_is_taken_whole_is_a_set_of_columns_of_its_own() -> None:
    rows = np.zeros(3, FLOW)
    rows["sport"] = 1, 2, 3
    whole = Columns(rows)
    taken = whole.take(np.ones(3, bool))
    taken.put("sport", np.array([7, 8, 9]))
    turned = taken.take(np.array([2, 1, 0]))
    assert (whole["sport"].tolist(), taken["sport"].tolist()) == ([1, 2, 3], [7, 8, 9])
    assert (turned["sport"].tolist(), turned.rows(np.array([0]))["sport"].tolist()) == ([9, 8, 7], [3])
    assert (len(taken), taken.some("sport", np.array([1])).tolist()) == (3, [8])

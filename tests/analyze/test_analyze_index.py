"""Places of keys in tables that grow."""

from __future__ import annotations

import numpy as np

from trafficmond.analyze.tally import Index
from trafficmond.flows import compiled


def test_keys_have_places_in_the_order_in_which_they_came() -> None:
    index = Index()
    known: dict[int, int] = {}
    pick = np.random.default_rng(1)
    for count in (0, 1, 3, 5000, 0, 20000, 7):
        keys = pick.choice(np.array([*range(3000), *((1 << 64) - 1 - at for at in range(3000))], np.uint64), count)
        before = len(known)
        wanted = [known.setdefault(key, len(known)) for key in keys.tolist()]
        places, fresh = index.place(keys)
        assert places.tolist() == wanted
        assert keys[fresh].tolist() == list(known)[before:]
        assert len(index) == len(known)
    assert index.keys.tolist() == list(known)


def test_keys_of_one_hash_are_distinguished() -> None:
    keys = np.arange(3000, dtype=np.uint64) << np.uint64(52)
    index = Index()
    assert index.place(keys)[0].tolist() == list(range(3000))
    assert index.place(keys[::-1])[0].tolist() == list(range(3000))[::-1]


def test_sums_go_over_the_rows_several_times() -> None:
    sums = np.ones((2, 2), np.int64)
    compiled.sum_up(np.array([0, 1, 1, 1]), np.array([[1, 10], [2, 20]]), sums)
    assert sums.tolist() == [[2, 11], [6, 51]]

"""What only one of two sets of prefixes has: as Python's sets say it, of any rows, in parts or at once."""

from __future__ import annotations

import random

import numpy as np
import pytest

from trafficmond.policy import difference, prefixes
from trafficmond.policy.difference import ends_alike, only_in_one


def some(rng: random.Random, count: int) -> list[str]:
    four = [
        f"{rng.randrange(256)}.{rng.randrange(3)}.0.{rng.randrange(4)}/{rng.choice((8, 20, 32))}" for _ in range(count)
    ]
    return [
        *four,
        *(f"{rng.randrange(1, 9):x}::{rng.randrange(9):x}/{rng.choice((3, 64, 127, 128))}" for _ in range(count)),
    ]


def texts(rows: prefixes.Prefixes) -> list[str]:
    return [rows.text(row) for row in range(len(rows))]


@pytest.mark.parametrize("at_once", [1, 50, 1 << 16])
@pytest.mark.parametrize("seed", range(10))
def test_as_sets_say(seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difference, "_AT_ONCE", at_once)
    rng = random.Random(seed)
    shared = some(rng, 200)
    one, other = (prefixes.parse([*shared, *some(rng, rng.randrange(9))]).prefixes for _ in range(2))
    order = rng.sample(range(len(other)), len(other) - rng.randrange(9))
    other = other.take(np.array(order))
    found = only_in_one(one, other, 1000)
    assert found is not None
    assert len(found) == len(set(texts(found)))
    assert set(texts(found)) == set(texts(one)) ^ set(texts(other))


def test_too_many_are_not_told() -> None:
    one, other = (prefixes.parse([f"{top}.0.0.{n}" for n in range(200)]).prefixes for top in (10, 11))
    assert only_in_one(one, other, 400) is not None
    assert only_in_one(one, other, 399) is None


@pytest.mark.parametrize(
    ("one", "other", "ends"),
    [("", "", (0, 0)), ("abc", "abc", (3, 0)), ("abc", "abxc", (2, 1)), ("abab", "ab", (2, 0)), ("a", "", (0, 0))],
)
def test_what_both_begin_and_end_with(one: str, other: str, ends: tuple[int, int]) -> None:
    rows = [prefixes.parse([f"10.0.0.{ord(each)}" for each in text]).prefixes for text in (one, other)]
    assert ends_alike(*rows) == ends

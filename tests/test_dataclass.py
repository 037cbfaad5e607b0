"""Data classes that are cheap to define behave as those of the standard library."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from trafficmond import dataclass as ours

OPTIONS: list[dict[str, bool]] = [
    {},
    {"frozen": True},
    {"frozen": True, "slots": True},
    {"slots": True},
    {"eq": False},
    {"frozen": True, "slots": True, "eq": False},
]


def made(decorator: Callable[..., Any], options: dict[str, bool]) -> Any:
    @decorator(**options)
    class Point:
        x: Any
        y: float = 1.5

    return Point


def hashed(one: Any) -> bool | None:
    """Whether equal ones have one hash; None if they have none."""
    try:
        return hash(one) == hash(type(one)(one.x, one.y))
    except TypeError:
        return None


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_they_are_what_the_standard_library_makes(options: dict[str, bool]) -> None:
    mine, standard = made(ours.dataclass, options), made(dataclasses.dataclass, options)
    for a, b in (((1, 2.0), (1, 2.0)), ((1, 2.0), (2, 2.0)), ((1,), (1, 1.5)), (([],), ([],))):
        assert (mine(*a) == mine(*b)) is (standard(*a) == standard(*b))
    assert mine(1) != standard(1)
    assert mine(1).__eq__(1) is standard(1).__eq__(1)
    assert hashed(mine(1)) is hashed(standard(1))
    assert repr(mine(1)) == repr(standard(1)) == "made.<locals>.Point(x=1, y=1.5)"
    assert ours.astuple(ours.replace(mine(1), x=3)) == (3, 1.5)
    assert hasattr(mine(1), "__dict__") is hasattr(standard(1), "__dict__")
    assert mine.__match_args__ == standard.__match_args__


@ours.dataclass(frozen=True, slots=True)
class Kept:
    x: int
    of: tuple[str, ...] = ()


def test_they_can_be_copied_and_pickled() -> None:
    one = Kept(1, ("a",))
    assert one == pickle.loads(pickle.dumps(one)) == copy.deepcopy(one)
    assert {one: 1}[Kept(1, ("a",))] == 1


def test_only_init_is_compiled_for_each_class() -> None:
    methods = (each for each in vars(Kept).values() if hasattr(each, "__code__"))
    assert [each.__name__ for each in methods if each.__code__.co_filename == "<string>"] == ["__init__"]

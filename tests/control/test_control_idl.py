"""The interface description: read as the reference reads it, and enforced."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from varlink.scanner import Interface as ReferenceInterface

from trafficmond.control import idl

NAMES = ("io.trafficmon", "org.varlink.service")


@pytest.mark.parametrize("name", NAMES)
def test_same_members_as_the_reference_parser(name: str) -> None:
    ours = idl.load(name)
    reference = ReferenceInterface(ours.text)
    assert {*ours.types, *ours.methods, *ours.errors} == set(reference.members)
    for method, described in ours.methods.items():
        assert list(described.takes.fields) == list(reference.get_method(method).in_type.fields)
        assert list(described.gives.fields) == list(reference.get_method(method).out_type.fields)


def test_every_named_type_exists() -> None:
    interface = idl.load("io.trafficmon")

    def walk(declared: idl.Type) -> None:
        match declared:
            case idl.Nullable(inner) | idl.Array(inner) | idl.Map(inner):
                walk(inner)
            case idl.Struct(fields):
                for field in fields.values():
                    walk(field)
            case idl.Basic(name):
                assert name in interface.types or name in {"bool", "int", "float", "string", "object"}

    for declared in (*interface.types.values(), *interface.errors.values()):
        walk(declared)
    for method in interface.methods.values():
        walk(method.takes)
        walk(method.gives)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("method A() -> ()", "expected interface"),
        ("interface a.b method A() -> (", "the end"),
        ("interface a.b type T (x: int) type T (y: int)", "declared twice"),
        ("interface a.b type T (x: int, y)", "neither"),
        ("interface a.b method A(x, y) -> ()", "expected fields"),
        ("interface a.b %", "unexpected '%'"),
        ("interface a.b thing T ()", "expected type, method or error"),
    ],
)
def test_bad_descriptions_are_named(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        idl.parse(text)


SAMPLE = idl.parse("""
interface a.b
type T (n: int, e: (one, two), m: ?[string]int, list: []?string, o: ?object, f: ?float, b: ?bool)
method M(t: T) -> ()
""")


@pytest.mark.parametrize(
    "value",
    [
        {"n": 1, "e": "one", "list": []},
        {"n": -(2**63), "e": "two", "list": [None, "x"], "m": {"a": 1}, "o": [1], "f": 1, "b": True},
        {"n": 0, "e": "one", "list": [], "m": None, "o": None, "f": 0.5, "b": None},
    ],
)
def test_values_of_the_type_pass(value: Any) -> None:
    SAMPLE.check(SAMPLE.types["T"], value)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"n": True}, "n"),
        ({"n": 2**64}, "n"),
        ({"n": "1"}, "n"),
        ({"e": "three"}, "e"),
        ({"list": [1]}, "list[0]"),
        ({"list": {}}, "list"),
        ({"m": {"a": "x"}}, "m[a]"),
        ({"f": float("inf")}, "f"),
        ({"f": float("nan")}, "f"),
        ({"b": 1}, "b"),
        ({"unknown": 1}, "unknown"),
        ({"list": ["\ud800"]}, "list[0]"),
    ],
)
def test_other_values_are_refused_by_their_place(change: dict[str, Any], where: str) -> None:
    with pytest.raises(idl.Mismatch) as refusal:
        SAMPLE.check(SAMPLE.types["T"], {"n": 1, "e": "one", "list": [], **change})
    assert refusal.value.where == where


def test_a_missing_field_is_named() -> None:
    with pytest.raises(idl.Mismatch, match=r"t\.e: is missing"):
        SAMPLE.check(SAMPLE.methods["M"].takes, {"t": {"n": 1, "list": []}})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_no_value_breaks_the_check(value: Any) -> None:
    for method in idl.load("io.trafficmon").methods.values():
        with contextlib.suppress(idl.Mismatch):
            idl.load("io.trafficmon").check(method.takes, value)
            json.dumps(value, allow_nan=False).encode()  # what passes can be stored and sent

"""Every method: answered by one handler, with the signature and the replies that the description says."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from asking import INTERFACE, asking
from parts_fake import close, make_parts

from trafficmond.control import idl
from trafficmond.control.call import Call, Method, methods_of
from trafficmond.handlers import classes
from trafficmond.model import FlowQuery

METHODS: dict[str, Method] = {name: method for each in classes() for name, method in methods_of(each).items()}


def test_each_method_of_the_description_has_one_handler() -> None:
    assert sorted(name for each in classes() for name in methods_of(each)) == sorted(INTERFACE.methods)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_parameters_are_those_of_the_description(name: str) -> None:
    """Same names in the same order; nullable ones have a default, the others none; the annotations agree."""
    described = INTERFACE.methods[name].takes.fields
    _, call, *taken = inspect.signature(METHODS[name].answer).parameters.values()
    hints = get_type_hints(METHODS[name].answer)
    assert hints[call.name] is Call
    assert [each.name for each in taken] == list(described)
    words = {"string": str, "int": int, "float": float, "bool": bool}
    for each in taken:
        declared = described[each.name]
        nullable = isinstance(declared, idl.Nullable)
        assert (each.default is not inspect.Parameter.empty) == nullable
        inner = declared.inner if isinstance(declared, idl.Nullable) else declared
        if isinstance(inner, idl.Array):
            assert isinstance(inner.inner, idl.Basic)
            of = words.get(inner.inner.name, dict[str, Any])  # a type of the interface is a dict
            expected: Any = list[of]  # type: ignore[valid-type]
        else:
            assert isinstance(inner, idl.Basic)
            expected = words[inner.name]
        assert hints[each.name] in (expected, expected | None)


def test_what_changes_is_marked_so() -> None:
    assert {name for name, method in METHODS.items() if method.changes} == {
        "AddCidr",
        "Undo",
        "RemoveCidr",
        "Ban",
        "BanMany",
        "Unban",
        "UnbanMany",
        "Reload",
        "Apply",
        "Confirm",
        "Rollback",
    }


@pytest.mark.parametrize(
    ("method", "parameters", "told"),
    [
        ("Watch", {"topics": ["gossip"]}, "use events or threats"),
        ("Watch", {"host": "not an address"}, "host: "),
        ("Watch", {"ports": "many"}, "ports: "),
        ("Watch", {"action": "lose"}, "action: "),
        ("Top", {"sort": "age"}, "use bytes or packets"),
        ("Threats", {"limit": 0}, "use 1 to 100000"),
        ("Audit", {"limit": 10**9}, "use 1 to 1000000"),
        ("Ban", {"cidr": "203.0.113.9", "reason": "two\nlines"}, "reason: "),
    ],
)
def test_what_is_out_of_bounds_is_reported(tmp_path: Path, method: str, parameters: dict[str, Any], told: str) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            name, said = await ask.refused(method, **parameters)
            assert (name, told in said) == ("InvalidParameter", True), said

    asyncio.run(run())


def test_a_watcher_sees_what_it_wants_and_is_forgotten(tmp_path: Path) -> None:
    async def run() -> None:
        parts, _, _ = make_parts(tmp_path)
        (watch,) = [each(parts, None) for each in classes() if "Watch" in methods_of(each)]  # type: ignore[arg-type]
        stream = methods_of(watch)["Watch"].answer(None, topics=["threats"])
        first = asyncio.ensure_future(anext(stream))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        assert (parts.broadcast.wants("threats"), parts.broadcast.wants("events")) == (True, False)
        parts.broadcast.publish("threats", [{"id": "t-1"}])
        assert await first == {"topic": "threats", "records": ['{"id":"t-1"}'], "lost": 0}
        await stream.aclose()  # type: ignore[union-attr]
        assert not parts.broadcast.wants("threats")
        close(parts)

    asyncio.run(run())


def test_a_question_is_the_query_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trafficmond.handlers import flows

    asked: list[FlowQuery] = []
    question = flows.question
    monkeypatch.setattr(flows, "question", lambda query: asked.append(query) or question(query))  # type: ignore[func-returns-value]

    async def run() -> None:
        async with asking(tmp_path) as ask:
            sql = await ask("Flows", since=1, port=443, group_by=["src_ip", "dst_port"], sort="-bytes", limit=5)
            assert sql["rows"] == []
            only = await ask("Flows", ports="!53,80-90", sql_only=True)
            assert (only["rows"], only["sql"].startswith("SELECT")) == ([], True)

    asyncio.run(run())
    assert asked == [
        FlowQuery(since=1, port=443, group_by=("src_ip", "dst_port"), sort="-bytes", limit=5),
        FlowQuery(port="!53,80-90"),
    ]

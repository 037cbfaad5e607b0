"""Every method: registered as described, checked, answered as described, permitted to the right people."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from control_fake import FLOW, RULE, FakeView

from trafficmond.control import dispatch, idl
from trafficmond.control.call import METHODS, Call, Service
from trafficmond.control.clients import Clients
from trafficmond.control.hub import Hub
from trafficmond.control.view import Caller, NewBan, NewRule, ThreatQuery, TopQuery
from trafficmond.errors import StoreError
from trafficmond.model import FlowQuery

INTERFACE = idl.load("io.trafficmon")
CALLER = Caller(1000, 1000, 77, "someone")

PARAMETERS: dict[str, dict[str, Any]] = {
    "AddCidr": {"cidr": "192.0.2.0/24"},
    "Ban": {"cidr": "203.0.113.9/32"},
    "BanMany": {"bans": [{"cidr": "203.0.113.9/32"}, {"cidr": "127.0.0.1/32", "ttl_s": 5.5, "reason": "why"}]},
    "Unban": {"cidr": "203.0.113.5/32"},
    "UnbanMany": {"cidrs": ["203.0.113.5/32"]},
    "Threat": {"id": "t-5"},
    "Explain": {"address": "203.0.113.5"},
}


def service(view: FakeView) -> Service:
    return Service(view, Hub(), Clients())


def ask(
    view: FakeView,
    method: str,
    parameters: dict[str, Any] | None = None,
    *,
    more: bool = False,
    may_change: bool = True,
) -> list[dict[str, Any]]:
    name = method if "." in method else f"io.trafficmon.{method}"

    async def collect() -> list[dict[str, Any]]:
        request = dispatch.Request(name, parameters or {}, more=more)
        return [reply async for reply in dispatch.answer(request, Call(service(view), CALLER, more), may_change)]

    return asyncio.run(collect())


def test_the_description_and_the_registry_name_the_same_methods() -> None:
    assert set(METHODS) == set(INTERFACE.methods)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_parameters_are_those_of_the_description(name: str) -> None:
    """Same names in the same order; nullable ones have a default, the others none; the annotations agree."""
    described = INTERFACE.methods[name].takes.fields
    call, *taken = inspect.signature(METHODS[name].answer).parameters.values()
    assert call.name == "call"
    assert [each.name for each in taken] == list(described)
    words = {"string": "str", "int": "int", "float": "float", "bool": "bool"}
    for each in taken:
        declared = described[each.name]
        nullable = isinstance(declared, idl.Nullable)
        assert (each.default is not inspect.Parameter.empty) == nullable
        inner = declared.inner if isinstance(declared, idl.Nullable) else declared
        if isinstance(inner, idl.Array):
            assert isinstance(inner.inner, idl.Basic)
            expected = f"list[{words.get(inner.inner.name, 'dict[str, Any]')}]"  # a type of the interface is a dict
        else:
            assert isinstance(inner, idl.Basic)
            expected = words[inner.name]
        assert each.annotation.removesuffix(" | None") == expected


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("name", sorted(set(METHODS) - {"Watch", "RemoveCidr"}))
def test_replies_are_those_of_the_description(name: str, more: bool) -> None:
    replies = ask(FakeView(), name, PARAMETERS.get(name), more=more)
    assert replies
    for reply in replies:
        assert "error" not in reply
        INTERFACE.check(INTERFACE.methods[name].gives, reply["parameters"])
    assert [reply.get("continues", False) for reply in replies] == [True] * (len(replies) - 1) + [False]
    assert more or len(replies) == 1


def test_a_rule_comes_and_goes() -> None:
    view = FakeView()
    parameters = {"cidr": "192.0.2.0/24", "action": "limit", "rate_per_s": 100, "ttl_s": 60, "label": "x", "save": True}
    added = ask(view, "AddCidr", parameters)[0]["parameters"]["rule"]
    assert added["action"] == "limit"
    expected = NewRule("192.0.2.0/24", "limit", "ingress", "x", 60, 100, None, save=True, force=False)
    assert view.asked == [("add_rule", expected, CALLER)]
    assert ask(view, "RemoveCidr", {"cidr": "192.0.2.0/24"}) == [{"parameters": {"removed": [added], "notes": []}}]
    INTERFACE.check(INTERFACE.methods["RemoveCidr"].gives, {"removed": [added], "notes": []})


def test_null_and_left_out_are_the_same() -> None:
    view = FakeView()
    ask(view, "AddCidr", {"cidr": "192.0.2.0/24", "action": None, "ttl_s": None})
    ask(view, "AddCidr", {"cidr": "192.0.2.0/24"})
    assert view.asked[0] == view.asked[1]


def test_queries_reach_the_view_as_values() -> None:
    view = FakeView()
    ask(view, "Flows", {"since": 1, "port": 443, "group_by": ["src_ip", "dst_port"], "sort": "-bytes", "limit": 5})
    ask(view, "Threats", {"min_severity": "high", "open_only": True})
    ask(view, "Top", {"sort": "packets", "limit": 10**9})
    ask(view, "Ban", {"cidr": "203.0.113.9/32", "ttl_s": 5.5, "reason": "why"})
    assert view.asked == [
        ("flows", FlowQuery(since=1, port=443, group_by=("src_ip", "dst_port"), sort="-bytes", limit=5)),
        ("threats", ThreatQuery(min_severity="high", open_only=True)),
        ("top", TopQuery("packets", "", 500)),
        ("ban", NewBan("203.0.113.9/32", 5.5, "why"), None, CALLER),
    ]


def test_pages_stream_with_more_and_are_cut_without() -> None:
    view = FakeView()
    view.flow_rows = 2_600
    streamed = [reply["parameters"]["rows"] for reply in ask(view, "Flows", {"limit": 10_000}, more=True)]
    assert [len(page) for page in streamed] == [500] * 5 + [100]
    (single,) = ask(view, "Flows", {"limit": 10_000})
    assert single["parameters"]["rows"] == [FLOW] * 1_000


def test_no_rows_are_one_empty_page() -> None:
    view = FakeView()
    view.flow_rows = 0
    for more in (False, True):
        (reply,) = ask(view, "Flows", more=more)
        assert reply["parameters"]["rows"] == []
        assert reply["parameters"]["columns"] == list(FLOW)


def test_sql_only_reads_nothing() -> None:
    (reply,) = ask(FakeView(), "Flows", {"sql_only": True}, more=True)
    assert reply["parameters"]["sql"].startswith("SELECT")
    assert reply["parameters"]["rows"] == []


def test_rules_come_within_a_prefix() -> None:
    view = FakeView()
    assert ask(view, "Rules", {"within": "203.0.113.0/25"})[0]["parameters"]["rules"] == [RULE]
    assert view.asked == [("rules", "203.0.113.0/25")]


@pytest.mark.parametrize("name", sorted(name for name, method in METHODS.items() if method.changes))
def test_changing_is_for_administrators(name: str) -> None:
    view = FakeView()
    parameters = {**PARAMETERS.get(name, {}), **({"cidr": "192.0.2.0/24"} if name == "RemoveCidr" else {})}
    (reply,) = ask(view, name, parameters, may_change=False)
    assert reply["error"] == "io.trafficmon.PermissionDenied"
    assert "trafficmon-admin someone" in reply["parameters"]["hint"]
    assert not view.asked


def test_what_changes_is_marked_so() -> None:
    assert {name for name, method in METHODS.items() if method.changes} == {
        "AddCidr",
        "RemoveCidr",
        "Ban",
        "BanMany",
        "Unban",
        "UnbanMany",
        "Reload",
    }


@pytest.mark.parametrize(
    ("method", "parameters", "error", "told"),
    [
        ("Nonsense", {}, "org.varlink.service.MethodNotFound", {"method": "io.trafficmon.Nonsense"}),
        ("org.other.Status", {}, "org.varlink.service.InterfaceNotFound", {"interface": "org.other"}),
        ("AddCidr", {}, "org.varlink.service.InvalidParameter", {"parameter": "cidr: is missing"}),
        ("Threat", {"id": 5}, "org.varlink.service.InvalidParameter", {"parameter": "id: must be text, not 5"}),
        ("Watch", {}, "org.varlink.service.ExpectedMore", {}),
        ("RemoveCidr", {"cidr": "9.9.9.9/32"}, "io.trafficmon.NotFound", {"hint": "see trafficctl rules"}),
        ("AddCidr", {"cidr": "0.0.0.0/0"}, "io.trafficmon.Refused", {"hint": "say --force if you mean it"}),
        ("Threat", {"id": "zzz"}, "io.trafficmon.NotFound", {"reason": "no threat zzz"}),
        ("Watch", {"topics": ["gossip"]}, "org.varlink.service.InvalidParameter", {}),
        ("Watch", {"host": "not an address"}, "org.varlink.service.InvalidParameter", {}),
    ],
)
def test_errors_are_varlink_errors(method: str, parameters: dict[str, Any], error: str, told: dict[str, Any]) -> None:
    more = method == "Watch" and bool(parameters)
    (reply,) = ask(FakeView(), method, parameters, more=more)
    assert reply["error"] == error
    assert told.items() <= reply["parameters"].items()
    interface, _, name = error.rpartition(".")
    described = idl.load(interface)
    described.check(described.errors[name], reply["parameters"])


def test_every_mistake_is_told() -> None:
    (reply,) = ask(FakeView(), "AddCidr", {"cidr": "nonsense"})
    assert reply["error"] == "io.trafficmon.Invalid"
    assert [each["where"] for each in reply["parameters"]["mistakes"]] == ["cidr", "action"]
    INTERFACE.check(INTERFACE.errors["Invalid"], reply["parameters"])


class Broken(FakeView):
    async def status(self) -> dict[str, Any]:
        raise ZeroDivisionError("a defect")

    async def bans(self) -> list[dict[str, Any]]:
        raise StoreError("flows.db is gone", hint="restore it")


def test_a_defect_is_an_error_reply_and_a_journal_entry(caplog: pytest.LogCaptureFixture) -> None:
    (reply,) = ask(Broken(), "Status")
    assert reply["error"] == "io.trafficmon.Failed"
    assert "a defect" not in str(reply)
    assert "a defect" in caplog.text


def test_other_failures_carry_reason_and_hint() -> None:
    (reply,) = ask(Broken(), "Bans")
    assert reply == {
        "error": "io.trafficmon.Failed",
        "parameters": {"reason": "flows.db is gone", "hint": "restore it"},
    }


def test_upgrade_is_refused() -> None:
    async def first() -> dict[str, Any]:
        request = dispatch.Request("io.trafficmon.Status", {}, upgrade=True)
        return await anext(dispatch.answer(request, Call(service(FakeView()), CALLER, False), True))

    assert asyncio.run(first())["error"] == "org.varlink.service.MethodNotImplemented"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{}",
        b'{"method": 5}',
        b'{"method": "a.b", "parameters": []}',
        b'{"method": "a.b", "parameters": 5}',
        b'{"method": "a.b", "more": "yes"}',
        b"[" * 100_000,
        b'{"method": "a.b", "parameters": {"x": ' + b"9" * 5000 + b"}}",
    ],
)
def test_what_is_no_call_is_told_so(raw: bytes) -> None:
    with pytest.raises(dispatch.BadMessage):
        dispatch.parse(raw)


def test_parse_reads_flags_and_forgives_nulls() -> None:
    raw = b'{"method": "io.trafficmon.Watch", "parameters": null, "more": true, "oneway": null}'
    assert dispatch.parse(raw) == dispatch.Request("io.trafficmon.Watch", {}, more=True)

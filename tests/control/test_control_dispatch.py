"""From a message to its replies, with toy handlers: checked, answered, permitted to the right people."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from control_fake import Canned
from control_replies import FLOW, RULE

from trafficmond.control import dispatch, idl
from trafficmond.control.broadcast import Broadcast
from trafficmond.control.call import Call, Reply, Service, method
from trafficmond.control.peers import Caller
from trafficmond.errors import NotFound, StoreError
from trafficmond.tasks import Tasks

INTERFACE = idl.load("io.trafficmon")
CALLER = Caller(1000, 1000, 77, "someone")


def ask(
    toy: Canned | Service,
    method: str,
    parameters: dict[str, Any] | None = None,
    *,
    more: bool = False,
    may_change: bool = True,
) -> list[dict[str, Any]]:
    name = method if "." in method else f"io.trafficmon.{method}"
    service = toy if isinstance(toy, Service) else toy.service()

    async def collect() -> list[dict[str, Any]]:
        request = dispatch.Request(name, parameters or {}, more=more)
        return [reply async for reply in dispatch.answer(request, service, Call(CALLER, more), may_change)]

    return asyncio.run(collect())


def test_a_handler_is_its_marked_functions() -> None:
    class One:
        @method("Version")
        async def version(self, call: Call) -> Reply:
            return {"version": f"1 for {call.caller.user}"}

        async def another(self) -> None:
            """Is none."""

    class Two:
        def __init__(self, cidr: str) -> None:
            self.cidr = cidr

        @method("Rules")
        async def rules(self, _: Call, within: str | None = None) -> AsyncIterator[Reply]:
            for cidr in (self.cidr, within or "all"):
                yield {"rules": [{**RULE, "cidr": cidr}]}

        @method("Unban", changes=True)
        async def unban(self, _: Call, cidr: str) -> Reply:
            return {"lifted": [], "held": [], "cidr": cidr}

    service = Service.of("1", [One(), Two("::/0")], Tasks().shielded)
    assert set(service.methods) == {"Version", "Rules", "Unban"}
    assert ask(service, "Version") == [{"parameters": {"version": "1 for someone"}}]
    told = ask(service, "Rules", {"within": "::1/128"}, more=True)
    assert [reply["parameters"]["rules"][0]["cidr"] for reply in told] == ["::/0", "::1/128"]
    assert ask(service, "Unban", {"cidr": "x", "owner": None})[0]["parameters"]["cidr"] == "x"
    assert ask(service, "Unban", {"cidr": "x"}, may_change=False)[0]["error"].endswith("PermissionDenied")


def test_a_change_continues_although_who_asked_for_it_has_gone() -> None:
    done: list[str] = []

    class Slow:
        @method("Reload", changes=True)
        async def reload(self, _: Call) -> Reply:
            await asyncio.sleep(0.05)
            done.append("changed")
            return {}

        @method("Bans")
        async def bans(self, _: Call) -> Reply:
            await asyncio.sleep(0.05)
            done.append("looked")
            return {}

    async def run() -> None:
        tasks = Tasks()
        service = Service.of("1", [Slow()], tasks.shielded)
        for name in ("Reload", "Bans"):
            replies = dispatch.answer(dispatch.Request(f"io.trafficmon.{name}", {}), service, Call(CALLER, False), True)
            asked = asyncio.ensure_future(anext(replies))
            await asyncio.sleep(0.01)
            asked.cancel()
            await asyncio.wait([asked])
        await tasks.close(10)

    asyncio.run(run())
    assert done == ["changed"]


@pytest.mark.parametrize(("error", "said"), [(NotFound("no", hint=""), 0), (KeyError("defect"), 1)])
def test_a_refusal_of_a_change_whose_client_has_gone_is_no_failure(
    error: Exception, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    begun, gone = asyncio.Event(), asyncio.Event()

    class Slow:
        @method("Undo", changes=True)
        async def undo(self, _: Call) -> Reply:
            begun.set()
            await gone.wait()
            raise error

    async def run() -> None:
        tasks = Tasks()
        service = Service.of("1", [Slow()], tasks.shielded)
        replies = dispatch.answer(dispatch.Request("io.trafficmon.Undo", {}), service, Call(CALLER, False), True)
        asked = asyncio.ensure_future(anext(replies))
        await begun.wait()
        asked.cancel()
        await asyncio.wait([asked])
        gone.set()
        await tasks.close(10)
        await asyncio.sleep(0)
        gc.collect()

    asyncio.run(run())
    assert [record.name for record in caplog.records] == ["trafficmond.control.dispatch"] * said


def test_null_and_left_out_are_the_same() -> None:
    toy = Canned(Broadcast())
    ask(toy, "AddCidr", {"cidr": "192.0.2.0/24", "action": None, "ttl_s": None})
    ask(toy, "AddCidr", {"cidr": "192.0.2.0/24"})
    assert toy.asked[0] == toy.asked[1] == ("AddCidr", {"cidr": "192.0.2.0/24"})


def test_pages_stream_with_more_and_are_cut_without() -> None:
    toy = Canned(Broadcast())
    toy.flow_rows = 2_600
    streamed = ask(toy, "Flows", {"limit": 10_000}, more=True)
    assert [len(reply["parameters"]["rows"]) for reply in streamed] == [500] * 5 + [100]
    assert [reply.get("continues", False) for reply in streamed] == [True] * 5 + [False]
    (single,) = ask(toy, "Flows", {"limit": 10_000})
    assert single == {"parameters": {**single["parameters"], "rows": [FLOW] * 1_000}}


def test_no_rows_are_one_empty_page() -> None:
    toy = Canned(Broadcast())
    toy.flow_rows = 0
    for more in (False, True):
        (reply,) = ask(toy, "Flows", more=more)
        assert reply["parameters"]["rows"] == []
        assert reply["parameters"]["columns"] == list(FLOW)


def test_changing_is_for_administrators() -> None:
    toy = Canned(Broadcast())
    (reply,) = ask(toy, "Ban", {"cidr": "192.0.2.0/24"}, may_change=False)
    assert reply["error"] == "io.trafficmon.PermissionDenied"
    assert "trafficmon-admin someone" in reply["parameters"]["hint"]
    assert not toy.asked


@pytest.mark.parametrize(
    ("method", "parameters", "error", "told"),
    [
        ("Nonsense", {}, "org.varlink.service.MethodNotFound", {"method": "io.trafficmon.Nonsense"}),
        ("org.other.Status", {}, "org.varlink.service.InterfaceNotFound", {"interface": "org.other"}),
        ("AddCidr", {}, "org.varlink.service.InvalidParameter", {"parameter": "cidr: is missing"}),
        ("Threat", {"id": 5}, "org.varlink.service.InvalidParameter", {"parameter": "id: must be text, not 5"}),
        ("Watch", {}, "org.varlink.service.ExpectedMore", {}),
        ("RemoveCidr", {"cidr": "9.9.9.9/32"}, "io.trafficmon.NotFound", {"hint": "see trafficctl rules"}),
        ("AddCidr", {"cidr": "0.0.0.0/0"}, "io.trafficmon.Refused", {"hint": "use --force to do it anyway"}),
        ("Threat", {"id": "zzz"}, "io.trafficmon.NotFound", {"reason": "no threat zzz"}),
    ],
)
def test_errors_are_varlink_errors(method: str, parameters: dict[str, Any], error: str, told: dict[str, Any]) -> None:
    (reply,) = ask(Canned(Broadcast()), method, parameters)
    assert reply["error"] == error
    assert told.items() <= reply["parameters"].items()
    interface, _, name = error.rpartition(".")
    described = idl.load(interface)
    described.check(described.errors[name], reply["parameters"])


def test_every_mistake_is_reported() -> None:
    (reply,) = ask(Canned(Broadcast()), "AddCidr", {"cidr": "nonsense"})
    assert reply["error"] == "io.trafficmon.Invalid"
    assert [each["where"] for each in reply["parameters"]["mistakes"]] == ["cidr", "action"]
    INTERFACE.check(INTERFACE.errors["Invalid"], reply["parameters"])


def test_a_defect_is_an_error_reply_and_a_journal_entry(caplog: pytest.LogCaptureFixture) -> None:
    toy = Canned(Broadcast())
    toy.replies["Status"] = ZeroDivisionError("a defect")
    (reply,) = ask(toy, "Status")
    assert reply["error"] == "io.trafficmon.Failed"
    assert "a defect" not in str(reply)
    assert "a defect" in caplog.text


def test_other_failures_carry_reason_and_hint() -> None:
    toy = Canned(Broadcast())
    toy.replies["Bans"] = StoreError("flows.db is gone", hint="restore it")
    (reply,) = ask(toy, "Bans")
    assert reply == {
        "error": "io.trafficmon.Failed",
        "parameters": {"reason": "flows.db is gone", "hint": "restore it"},
    }


def test_upgrade_is_refused() -> None:
    async def first() -> dict[str, Any]:
        request = dispatch.Request("io.trafficmon.Status", {}, upgrade=True)
        return await anext(dispatch.answer(request, Canned(Broadcast()).service(), Call(CALLER, False), True))

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
def test_what_is_no_call_is_refused_as_such(raw: bytes) -> None:
    with pytest.raises(dispatch.BadMessage):
        dispatch.parse(raw)


def test_parse_reads_flags_and_forgives_nulls() -> None:
    raw = b'{"method": "io.trafficmon.Watch", "parameters": null, "more": true, "oneway": null}'
    assert dispatch.parse(raw) == dispatch.Request("io.trafficmon.Watch", {}, more=True)

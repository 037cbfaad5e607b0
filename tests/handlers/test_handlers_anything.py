"""Whatever a client gives as a parameter, of whatever method: an answer or a clear refusal, never a failure inside."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from asking import INTERFACE, Asked, asking
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trafficmond.control.idl import Array, Basic, Nullable, Struct, Type

WORDS = (
    *("", "0", "²", "99999999999999999999", "-1", "*", "%", "'", '"', "a" * 100_000, "\0", "\x1b[2J\u202e", "nan"),
    *("drop", "allow", "limit", "monitor", "log", "ingress", "egress", "both", "bytes", "-bytes", "packets", "flows"),
    *("tcp", "ICMP", "255", "256", "events", "threats", "low", "critical", "192.0.2.7", "192.0.2.0/24", "::/0"),
    *("::ffff:192.0.2.7", "fe80::1%mon0", "fe80::1%1/64", "198.51.100.1", "src_ip", "port", "default"),
)
NUMBERS = (0, 1, -1, 2, 100, 65535, 65536, 1_000_000, 1_000_001, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -(2**63))
REALS = (0.0, -1.0, 1e-9, 5e-324, 1e9, 1.8e9, 1e12, 1e18, 1e308, -1e308, 3.2e9, 2**64 - 1, -(2**63))
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int": st.sampled_from(NUMBERS) | st.integers(-(2**63), 2**64 - 1),
    "float": st.sampled_from(REALS) | st.floats(allow_nan=False, allow_infinity=False),
    "string": st.sampled_from(WORDS) | st.text(max_size=20) | st.ip_addresses().map(str),
}


def values(declared: Type) -> st.SearchStrategy[Any]:
    match declared:
        case Nullable(inner):
            return st.none() | values(inner)
        case Array(inner):
            return st.lists(values(inner), max_size=4)
        case Basic(name) if name in KINDS:
            return KINDS[name]
        case Basic(name):
            return values(INTERFACE.types[name])
        case Struct(fields):
            return st.fixed_dictionaries({field: values(kind) for field, kind in fields.items()})
    raise AssertionError(declared)


@st.composite
def calls(draw: st.DrawFn, method: str) -> dict[str, Any]:
    """Parameters: one or two of them strange, the rest left out."""
    takes = INTERFACE.methods[method].takes.fields
    needed = [name for name, kind in takes.items() if not isinstance(kind, Nullable)]
    chosen = draw(st.lists(st.sampled_from(sorted(takes)), max_size=3, unique=True)) if takes else []
    return {name: draw(values(takes[name])) for name in dict.fromkeys([*needed, *chosen])}


async def first_replies(ask: Asked, method: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        return await asyncio.wait_for(ask.replies(method, **parameters), 0.01 if method == "Watch" else 30)
    except TimeoutError:
        assert method == "Watch"
        return []


@pytest.mark.parametrize("method", sorted(INTERFACE.methods))
def test_no_parameter_makes_a_call_fail_inside_the_daemon(tmp_path: Path, method: str) -> None:
    tried: list[dict[str, Any]] = []

    @settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None, derandomize=True)
    @given(calls(method))
    def collect(parameters: dict[str, Any]) -> None:
        tried.append(parameters)

    collect()
    takes = INTERFACE.methods[method].takes.fields
    least = {name: "192.0.2.9" for name, kind in takes.items() if not isinstance(kind, Nullable)}
    known = {"bool": (True,), "int": NUMBERS, "float": REALS, "string": WORDS}
    for name, kind in takes.items():
        plain = kind.inner if isinstance(kind, Nullable) else kind
        if isinstance(plain, Basic):
            tried += [{**least, name: value} for value in known[plain.name]]

    async def run() -> None:
        async with asking(tmp_path, guard=(("198.51.100.1/32", "own address"),)) as ask:
            for parameters in tried:
                for reply in await first_replies(ask, method, parameters):
                    shown = {name: str(value)[:80] for name, value in parameters.items()}
                    assert "failed inside" not in str(reply.get("parameters")), (method, shown, reply)
                    if "error" not in reply:
                        INTERFACE.check(INTERFACE.methods[method].gives, reply["parameters"])

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        *(("Threats", {"limit": limit}) for limit in (0, -1, 100_001, 2**64 - 1)),
        *(("Audit", {"limit": limit}) for limit in (0, -1, 1_000_001, 2**64 - 1)),
        ("Top", {"sort": "colour"}),
        ("Ban", {"cidr": "192.0.2.7", "reason": "\x1b[2J"}),
        ("Ban", {"cidr": "192.0.2.7", "reason": "x" * 201}),
        ("Ban", {"cidr": "192.0.2.7", "reason": "\u202e"}),
        ("Flows", {"group_by": ["src_ip"] * 65}),
        ("Flows", {"rule": "x" * 5000}),
        ("Watch", {"action": "colour"}),
        ("Watch", {"host": "fe80::1%mon0"}),
    ],
)
def test_what_is_out_of_bounds_is_an_invalid_parameter_that_says_its_bounds(
    tmp_path: Path, method: str, parameters: dict[str, Any]
) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            name, said = await ask.refused(method, **parameters)
            assert name == "InvalidParameter"
            assert list(parameters)[-1] in said
            assert len(said) < 300

    asyncio.run(run())

"""What people and programs write where an address belongs never fails inside the daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from asking import asking
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TEXTS = st.one_of(
    st.ip_addresses().map(str),
    st.ip_addresses(v=4).map(lambda address: f"::ffff:{address}"),
    st.tuples(st.ip_addresses(), st.integers(-1, 130)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
    st.tuples(st.ip_addresses(v=6).map(str), st.text("%eth0/1 ", max_size=5)).map("".join),
    st.text(st.sampled_from("0123456789abcdefF:./%- x\0"), max_size=30),
    st.text(max_size=20),
)
KNOWN = (
    *("::/8", "::/0", "::ffff:0:0/95", "::ffff:0:0/96", "::ffff:10.77.0.1", "::FFFF:10.77.0.9", "10.77.0.9/8"),
    *("2001:db8::1%eth0", "fe80::1%1/128", "::ffff:10.77.0.9%eth0", "010.0.0.1", "10.0.0.0/255.0.0.0", "", "0/0"),
)
_CALLS = (
    *(("Ban", "cidr"), ("Unban", "cidr"), ("AddCidr", "cidr"), ("RemoveCidr", "cidr"), ("Rules", "within")),
    *(("Explain", "address"), ("Flows", "src"), ("Flows", "host"), ("Threats", "host")),
)


def test_no_text_makes_a_call_fail_inside_the_daemon(tmp_path: Path) -> None:
    texts = list(KNOWN)

    @settings(max_examples=30, suppress_health_check=list(HealthCheck), deadline=None)
    @given(TEXTS)
    def collect(text: str) -> None:
        texts.append(text)

    collect()

    async def run() -> None:
        async with asking(tmp_path, guard=(("10.77.0.1/32", "own address"), ("::1/128", "own address"))) as ask:
            for text in texts:
                for method, name in _CALLS:
                    for reply in await ask.replies(method, **{name: text}):
                        assert "failed inside" not in str(reply.get("parameters")), (method, text, reply)

    asyncio.run(run())


@pytest.mark.parametrize("written", ["10.77.0.9", "::ffff:10.77.0.9", "::FFFF:A4D:9", "10.77.0.9/32"])
def test_one_address_is_one_ban_and_one_rule_however_it_is_written(tmp_path: Path, written: str) -> None:
    async def run() -> None:
        async with asking(tmp_path, guard=(("10.77.0.1/32", "own address"),)) as ask:
            await ask("Ban", cidr="10.77.0.9", ttl_s=3600)
            await ask("Ban", cidr=written, ttl_s=3600)
            assert [ban["cidr"] for ban in (await ask("Bans"))["bans"]] == ["10.77.0.9/32"]
            assert (await ask("Explain", address=written))["action"] == "drop"
            await ask("Unban", cidr=written)
            assert (await ask("Bans"))["bans"] == []
            await ask("AddCidr", cidr=written)
            assert [row["cidr"] for row in (await ask("RemoveCidr", cidr="10.77.0.9"))["removed"]] == ["10.77.0.9"]

    asyncio.run(run())


@pytest.mark.parametrize("method", ["Ban", "AddCidr"])
@pytest.mark.parametrize("written", ["::ffff:10.77.0.1", "::ffff:10.77.0.0/120", "::ffff:0:0/96"])
def test_the_guard_knows_its_own_in_any_writing(tmp_path: Path, method: str, written: str) -> None:
    async def run() -> None:
        async with asking(tmp_path, guard=(("10.77.0.1/32", "own address"),)) as ask:
            name, said = await ask.refused(method, cidr=written)
            assert (name, "own address" in said) == ("Refused", True)

    asyncio.run(run())

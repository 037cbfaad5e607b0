"""Bans and the audit, as clients see them."""

from __future__ import annotations

import asyncio
import ipaddress
from pathlib import Path

import pytest
from answering import asking


def test_a_ban_comes_is_listed_and_goes(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            ban = (await ask("Ban", cidr="203.0.113.7", ttl_s=60, reason="rude"))["ban"]
            assert (ban["cidr"], ban["by"], ban["reason"]) == ("203.0.113.7/32", "someone", "rude")
            assert 59 < ban["expires"] - ban["since"] <= 60
            assert (await ask("Bans"))["bans"] == [ban]
            assert (await ask("Unban", cidr="203.0.113.0/24"))["lifted"] == [ban]
            assert (await ask("Bans"))["bans"] == []
            audit = (await ask("Audit"))["entries"]
            assert [(entry["change"], entry["subject"], entry["uid"]) for entry in audit] == [
                ("unban", "203.0.113.7/32", 1000),
                ("ban", "203.0.113.7/32", 1000),
            ]

    asyncio.run(run())


def test_without_a_time_the_configured_one_counts(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            ban = (await ask("Ban", cidr="203.0.113.7"))["ban"]
            assert ban["expires"] - ban["since"] == pytest.approx(ask.daemon.settings.response.ban_time)

    asyncio.run(run())


@pytest.mark.parametrize("ttl_s", [0, -1, 1e300, float("inf"), float("nan")])
def test_a_time_that_is_none_is_refused_before_anything_happens(tmp_path: Path, ttl_s: float) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            generation = ask.daemon.rulebook.in_force.generation  # type: ignore[union-attr]
            for method in ("Ban", "AddCidr"):
                name, said = await ask.refused(method, cidr="203.0.113.7", ttl_s=ttl_s, force=True)
                assert name in ("Invalid", "InvalidParameter")
                assert "ttl_s" in said
            assert len(ask.daemon.bans) == 0
            assert ask.daemon.rulebook.in_force.generation == generation  # type: ignore[union-attr]

    asyncio.run(run())


def test_lifelines_are_spared_unless_forced(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path, guard=(("192.0.2.1/32", "default gateway"),)) as ask:
            ask.daemon.peers = {"198.51.100.9"}
            for cidr, why in (("192.0.2.0/24", "default gateway"), ("198.51.100.0/24", "a session is open")):
                name, said = await ask.refused("Ban", cidr=cidr)
                assert (name, why in said, "--force" in said) == ("Refused", True, True)
            assert (await ask("Ban", cidr="192.0.2.0/24", force=True))["ban"]["forced"] is True
            explained = await ask("Explain", address="192.0.2.1")
            assert (explained["reason"], explained["action"]) == ("ban", "drop")
            await ask("Unban", cidr="192.0.2.0/24")
            assert (await ask("Explain", address="192.0.2.1"))["reason"] == "guard"

    asyncio.run(run())


def test_a_forced_ban_that_the_kernel_refuses_takes_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path, guard=(("192.0.2.1/32", "default gateway"),)) as ask:
            ask.daemon.kernel.full = True
            await ask.refused("Ban", cidr="192.0.2.1", force=True)
            assert (await ask("Explain", address="192.0.2.1"))["reason"] == "guard"
            assert ask.daemon.bans.forced() == set()

    asyncio.run(run())


def test_what_is_no_prefix_and_what_is_not_banned(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            assert (await ask.refused("Ban", cidr="192.0.2.256"))[0] == "Invalid"
            assert (await ask.refused("Unban", cidr="192.0.2.0/24"))[0] == "NotFound"

    asyncio.run(run())


def test_a_client_that_hangs_up_leaves_a_whole_change(tmp_path: Path) -> None:
    """The change and its audit are one, whoever is still there to hear of it."""

    async def run() -> None:
        async with asking(tmp_path) as ask:
            call = asyncio.create_task(ask("Ban", cidr="203.0.113.7"))
            while not ask.daemon.bans.covering("203.0.113.7"):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
            assert [ban.cidr for ban in ask.daemon.bans.all()] == ["203.0.113.7/32"]
            while not (entries := (await ask("Audit"))["entries"]):
                await asyncio.sleep(0.01)
            assert [entry["change"] for entry in entries] == ["ban"]
            assert ipaddress.ip_network("203.0.113.7/32") in {ban.network for ban in ask.daemon.bans._kernel}

    asyncio.run(run())


def test_unban_of_many_is_one_entry_of_the_audit(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            for number in range(20):
                await ask("Ban", cidr=f"192.0.2.{number}", reason="test")
            assert len((await ask("Unban", cidr="192.0.2.0/24"))["lifted"]) == 20
            entry, before = (await ask("Audit"))["entries"][:2]
            assert (entry["change"], entry["subject"], entry["before"]) == ("unban", "192.0.2.0/24", "20 bans")
            assert before["change"] == "ban"

    asyncio.run(run())

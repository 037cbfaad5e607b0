"""Many bans at once, as clients see them, the audit and the store."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from pathlib import Path

import pytest
from asking import asking
from opened_store import kept_bans

from trafficmond.parts import _stop_watching
from trafficmond.sinks.fanout import SinkSet
from trafficmond.store import queue


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


def test_many_are_one_change_with_one_entry_of_the_audit(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path, guard=(("192.0.2.1/32", "default gateway"),)) as ask:
            bans = [{"cidr": f"198.51.{n >> 8}.{n & 255}", "ttl_s": 60.0 + n} for n in range(1000)]
            told = await ask(
                "BanMany", bans=[{"cidr": "192.0.2.1"}, *bans, {"cidr": "::ffff:192.0.2.9"}], owner="lists"
            )
            assert (told["banned"], [each["cidr"] for each in told["refused"]]) == (1001, ["192.0.2.1/32"])
            (entry,) = (await ask("Audit"))["entries"]
            assert (entry["change"], "996 more" in entry["subject"], entry["after"]) == (
                "ban",
                True,
                "1,001 bans (lists)",
            )
            stored = kept_bans(ask.parts.store)
            assert {ban.cidr for ban in stored} == {ban["cidr"] for ban in (await ask("Bans"))["bans"]}
            name, said = await ask.refused(
                "BanMany", bans=[{"cidr": "203.0.113.1"}, {"cidr": "no"}, {"cidr": "1.2.3.4%x"}]
            )
            assert (name, "bans[1].cidr" in said, "bans[2].cidr" in said) == ("Invalid", True, True)
            assert not ask.parts.bans.covering("203.0.113.1")
            told = await ask("UnbanMany", cidrs=["198.51.0.0/16", "192.0.2.9"], owner="lists")
            counts = told["lifted"], told["held"], told["notes"], len(told.pop("bans")), told.pop("stay")
            assert (counts, len(ask.parts.bans)) == ((1001, 0, [], 100, []), 0)
            assert [entry["change"] for entry in (await ask("Audit"))["entries"]] == ["unban", "ban"]

    asyncio.run(run())


def test_many_bans_are_lifted_in_few_writes_and_one_message_and_stay_lifted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write for each overflowed the store's queue: the bans that it left were in force again after a restart."""
    monkeypatch.setattr(queue, "_MOST_TASKS", 10)
    noted: list[str] = []
    monkeypatch.setattr(SinkSet, "note", lambda *told: noted.append(told[2]))

    async def run() -> None:
        async with asking(tmp_path) as ask:
            many = [f"198.51.{n >> 8}.{n & 255}" for n in range(1000)]
            for method, parameters in (("UnbanMany", {"cidrs": many}), ("Unban", {"cidr": "198.51.0.0/16"})):
                await ask("BanMany", bans=[{"cidr": cidr} for cidr in many])
                noted.clear()
                lifted = (await ask(method, **parameters))["lifted"]
                assert (lifted if method == "UnbanMany" else len(lifted)) == 1000
                assert not kept_bans(ask.parts.store)
                assert not ask.parts.store.lost_bans
                assert len(noted) == 1

    asyncio.run(run())


def test_bans_lifted_just_before_a_stop_stay_lifted_though_the_store_had_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask("Ban", cidr="198.51.100.7")
            ask.parts.bans.restore([], time.time())
            with monkeypatch.context() as full:
                full.setattr(queue, "_MOST_TASKS", 0)
                ask.parts.bans.lift([ipaddress.ip_network("198.51.100.7")])
            assert ask.parts.store.lost_bans
            monkeypatch.setattr(ask.parts.datapath, "close", lambda detach: None)  # noqa: ARG005
            await _stop_watching(ask.parts)
            assert not kept_bans(ask.parts.store)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("reasons", "told"), [(["rude"], "1 ban: rude"), (["rude", "rude"], "2 bans: rude"), (["rude", ""], "2 bans")]
)
def test_the_audit_of_many_has_a_reason_that_is_everyones(tmp_path: Path, reasons: list[str], told: str) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask("BanMany", bans=[{"cidr": f"203.0.113.{n}", "reason": r} for n, r in enumerate(reasons)])
            assert (await ask("Audit"))["entries"][0]["after"] == told

    asyncio.run(run())


def test_many_bans_come_in_pages(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            wanted = [{"cidr": f"203.0.{n >> 8}.{n & 255}"} for n in range(1200)]
            assert (await ask("BanMany", bans=wanted))["banned"] == 1200
            pages = [reply["parameters"]["bans"] for reply in await ask.replies("Bans")]
            assert len(pages) > 1
            assert len({ban["cidr"] for page in pages for ban in page}) == 1200

    asyncio.run(run())

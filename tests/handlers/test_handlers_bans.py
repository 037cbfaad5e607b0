"""Bans and the audit, as clients see them."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from asking import asking
from opened_store import kept_bans

from trafficmond import services
from trafficmond.config.settings import Response
from trafficmond.detect.engine import CONTINUED, OPENED, ThreatUpdate
from trafficmond.model import Severity, Threat
from trafficmond.parts import Parts
from trafficmond.store.records import AuditEntry, Ban
from trafficmond.store.store import Store


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
            assert [(entry["change"], entry["subject"], entry["uid"], entry["login"]) for entry in audit] == [
                ("unban", "203.0.113.7/32", 1000, "ada"),
                ("ban", "203.0.113.7/32", 1000, "ada"),
            ]

    asyncio.run(run())


def test_a_ban_that_has_ended_is_not_shown_though_housekeeping_has_not_come_by(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            now = time.time()
            for cidr, end in (("203.0.113.7/32", now - 0.01), ("203.0.113.0/24", now + 60)):
                ask.parts.bans.add(Ban(cidr, "someone", "", now - 60, end, owner="someone"))
            explained = await ask("Explain", address="203.0.113.7")
            assert [each["prefix"] for each in explained["decisions"] if each["kind"] == "ban"] == ["203.0.113.0/24"]
            assert [ban["cidr"] for ban in (await ask("Bans"))["bans"]] == ["203.0.113.0/24"]
            assert ask.parts.bans.expire(now) == []

    asyncio.run(run())


def test_a_ban_that_is_so_already_is_no_change(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            wanted = {"cidr": "203.0.113.7", "forever": True, "ports": ["ssh"], "reason": "rude"}
            ban = (await ask("Ban", **wanted))["ban"]
            again = await ask("Ban", **wanted)
            assert again == {"ban": ban, "notes": ["203.0.113.7 has this ban already"]}
            many = await ask("BanMany", bans=[wanted])
            assert (many["banned"], many["notes"]) == (1, ["1 of them had this ban already"])
            assert len((await ask("Audit"))["entries"]) == 1
            many = await ask("BanMany", bans=[wanted, {"cidr": "203.0.113.8"}])
            assert (many["banned"], many["notes"]) == (2, ["1 of them had this ban already"])
            assert (await ask("Audit"))["entries"][0]["subject"] == "203.0.113.8"
            for number, other in enumerate(({"reason": "ruder"}, {"owner": "jail"}, {"ports": ["http"]})):
                await ask("Ban", **{**wanted, **other})
                assert len((await ask("Audit"))["entries"]) == 3 + number
            for _ in range(2):  # a time begins again
                await ask("Ban", cidr="203.0.113.9", ttl_s=60)
            assert len((await ask("Audit"))["entries"]) == 7

    asyncio.run(run())


def test_a_prefix_that_is_named_twice_is_one_ban_and_the_last_word_counts(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            bans = [{"cidr": "203.0.113.9", "ttl_s": 60}, {"cidr": "::ffff:203.0.113.9", "ttl_s": 600}]
            done = await ask("BanMany", bans=[*bans, {"cidr": "203.0.113.10"}])
            assert (done["banned"], done["notes"]) == (2, ["1 repeated: of each prefix, only the last entry is used"])
            (ban,) = [each for each in (await ask("Bans"))["bans"] if each["cidr"] == "203.0.113.9/32"]
            assert ban["expires"] - ban["since"] == pytest.approx(600, abs=5)
            assert (await ask("Audit"))["entries"][0]["subject"] == "203.0.113.9, 203.0.113.10"

    asyncio.run(run())


def test_a_ban_cannot_end_and_last_forever(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            assert (await ask.refused("Ban", cidr="203.0.113.9", ttl_s=60, forever=True))[0] == "Invalid"
            bans = [{"cidr": "203.0.113.9", "ttl_s": 60.0, "forever": True}]
            assert (await ask.refused("BanMany", bans=bans))[0] == "Invalid"
            assert (await ask("Bans"))["bans"] == []

    asyncio.run(run())


def test_lifting_within_a_wider_ban_names_that_ban_and_the_way(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask("Ban", cidr="203.0.113.0/24", owner="jail")
            name, said = await ask.refused("Unban", cidr="203.0.113.9")
            assert name == "NotFound"
            assert "no ban lies within 203.0.113.9; jail's ban of 203.0.113.0/24 covers it" in said
            assert "trafficctl unban 203.0.113.0/24 --owner 'jail' lifts it" in said

    asyncio.run(run())


def test_a_ban_of_every_address_says_so(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            assert "::/0 is every address of IPv6" in (await ask("Ban", cidr="::/0", ttl_s=60.0))["notes"]
            assert (await ask("Ban", cidr="8000::/1", ttl_s=60.0))["notes"] == []

    asyncio.run(run())


def test_without_a_time_the_configured_one_counts(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            ban = (await ask("Ban", cidr="203.0.113.7"))["ban"]
            assert ban["expires"] - ban["since"] == pytest.approx(ask.parts.settings.response.ban_time)

    asyncio.run(run())


@pytest.mark.parametrize("ttl_s", [0, -1, 1e300, float("inf"), float("nan")])
def test_a_time_that_is_none_is_refused_before_anything_happens(tmp_path: Path, ttl_s: float) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            generation = ask.parts.rulebook.in_force.generation  # type: ignore[union-attr]
            for method in ("Ban", "AddCidr"):
                name, said = await ask.refused(method, cidr="203.0.113.7", ttl_s=ttl_s, force=True)
                assert name in ("Invalid", "InvalidParameter")
                assert "ttl_s" in said
            assert len(ask.parts.bans) == 0
            assert ask.parts.rulebook.in_force.generation == generation  # type: ignore[union-attr]

    asyncio.run(run())


def test_lifelines_are_spared_unless_forced(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path, guard=(("192.0.2.1/32", "default gateway"),)) as ask:
            ask.protected.peers = {"198.51.100.9"}
            for cidr, why in (
                ("192.0.2.0/24", "192.0.2.0/24 holds 192.0.2.1, which is guarded (default gateway of this host)"),
                ("192.0.2.1", "192.0.2.1 is guarded (default gateway of this host)"),
                ("198.51.100.0/24", "198.51.100.0/24 holds 198.51.100.9; somebody seems to be logged in from there"),
                ("198.51.100.9", "somebody seems to be logged in from 198.51.100.9"),
            ):
                name, said = await ask.refused("Ban", cidr=cidr)
                assert (name, why in said, "--force" in said) == ("Refused", True, True)
                name, said = await ask.refused("Ban", cidr=cidr, ports=["tcp/22"])
                assert (name, why in said, "only a ban from all services" in said) == ("Refused", True, True)
            assert (await ask("Ban", cidr="192.0.2.0/24", force=True))["ban"]["forced"] is True
            explained = await ask("Explain", address="192.0.2.1")
            assert (explained["reason"], explained["action"]) == ("ban", "drop")
            await ask("Unban", cidr="192.0.2.0/24")
            assert (await ask("Explain", address="192.0.2.1"))["reason"] == "guard"

    asyncio.run(run())


def test_a_forced_ban_that_the_kernel_refuses_takes_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path, guard=(("192.0.2.1/32", "default gateway"),)) as ask:
            ask.datapath.bans.full = True
            await ask.refused("Ban", cidr="192.0.2.1", force=True)
            assert (await ask("Explain", address="192.0.2.1"))["reason"] == "guard"
            assert ask.parts.bans.forced() == set()

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
            while not ask.parts.bans.covering("203.0.113.7"):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
            assert [ban.cidr for ban in ask.parts.bans.all()] == ["203.0.113.7/32"]
            while not (entries := (await ask("Audit"))["entries"]):
                await asyncio.sleep(0.01)
            assert [entry["change"] for entry in entries] == ["ban"]
            assert ipaddress.ip_network("203.0.113.7/32") in {ban.network for ban in ask.parts.bans._kernel}

    asyncio.run(run())


def test_a_ban_for_some_services_says_so_everywhere(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            done = await ask("Ban", cidr="203.0.113.9", ports=["ssh", "tcp/8000-8100"], owner="fail2ban-sshd")
            assert (done["ban"]["ports"], done["notes"]) == (["tcp/22", "tcp/8000-8100"], [])
            await ask("Ban", cidr="203.0.113.9", ports=["http", "https"], owner="fail2ban-apache")
            await ask("BanMany", bans=[{"cidr": "203.0.113.10", "ports": ["53"]}])
            listed = {(ban["cidr"], ban["owner"]): ban["ports"] for ban in (await ask("Bans"))["bans"]}
            assert listed["203.0.113.10/32", "someone"] == ["53"]
            (held,) = [ban for each, ban in ask.datapath.bans.held.items() if str(each) == "203.0.113.9/32"]
            for service, wins in (("tcp/22", True), ("tcp/80", True), ("tcp/8050", True), ("tcp/25", False)):
                assert services.contains(held.services, services.parse([service])) is wins
                told = await ask("Explain", address="203.0.113.9", service=service)
                assert (told["reason"] == "ban", told["action"] == "drop") == (wins, wins), told
            told = await ask("Explain", address="203.0.113.9")
            assert (told["reason"], {row["kind"] for row in told["decisions"]}) == ("default", {"ban", "default"})
            assert [row["why"] for row in told["decisions"] if row["ports"]] == [
                f"it decides for {', '.join(row['ports'])} alone" for row in told["decisions"] if row["ports"]
            ]
            other = await ask("Ban", cidr="203.0.113.9", ports=["tcp/25"], owner="fail2ban-sshd")
            assert other["notes"] == [
                "this ban of 203.0.113.9 replaces the earlier one of fail2ban-sshd, for tcp/22, tcp/8000-8100"
            ]
            await ask("Unban", cidr="203.0.113.9", owner="fail2ban-sshd")
            (held,) = [ban for each, ban in ask.datapath.bans.held.items() if str(each) == "203.0.113.9/32"]
            assert services.text(services.without_unread(held.services)) == listed_ports(listed, "fail2ban-apache")
            stored = {(ban.cidr, ban.owner): ban.ports async for ban in _stored(ask.parts.store)}
            assert stored["203.0.113.10/32", "someone"] == "53"
            entries = [entry["after"] for entry in (await ask("Audit"))["entries"] if entry["after"]]
            assert "for 10m from tcp/22, tcp/8000-8100 (fail2ban-sshd)" in entries
            for wrong in (["tcp/70000"], ["no-such-service"]):
                assert (await ask.refused("Ban", cidr="203.0.113.9", ports=wrong))[0] == "Invalid"
            name, said = await ask.refused("Ban", cidr="203.0.113.9", ports=["tcp/22"], force=True)
            assert (name, "cannot be used with ports" in said) == ("Invalid", True)

    asyncio.run(run())


def listed_ports(listed: dict[tuple[str, str], list[str]], owner: str) -> list[str]:
    return next(ports for (_, whose), ports in listed.items() if whose == owner)


def test_each_owner_has_a_ban_of_its_own_and_lifts_no_others(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask("Ban", cidr="203.0.113.9", ttl_s=604800, owner="fail2ban-recidive", reason="again")
            await ask("Ban", cidr="203.0.113.9", ttl_s=600, owner="fail2ban-sshd")
            await ask("Ban", cidr="203.0.113.9", forever=True)
            told = await ask("Unban", cidr="::ffff:203.0.113.9", owner="fail2ban-sshd")
            assert [ban["owner"] for ban in told["lifted"]] == ["fail2ban-sshd"]
            assert sorted(ban["owner"] for ban in told["held"]) == ["fail2ban-recidive", "someone"]
            (held,) = ask.datapath.bans.held.values()
            assert held.expires is None
            name, said = await ask.refused("Unban", cidr="203.0.113.9", owner="fail2ban-sshd")
            assert (name, "banned by fail2ban-recidive, someone" in said, "--all" in said) == ("NotFound", True, True)
            assert len((await ask("Unban", cidr="203.0.113.0/24", everyone=True))["lifted"]) == 2
            assert ask.datapath.bans.held == {}
            assert [ban async for ban in _stored(ask.parts.store)] == []
            for owner in ("", "two words", "unknown", "x" * 65, "\x1b[31m"):
                assert (await ask.refused("Ban", cidr="203.0.113.9", owner=owner))[0] == "Invalid"

    asyncio.run(run())


async def _stored(store: Store) -> AsyncIterator[Ban]:
    for ban in kept_bans(store):
        yield ban


def test_a_connection_to_ssh_is_a_note_and_no_refusal(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            ask.protected.guests = {"203.0.113.99"}
            told = await ask("Ban", cidr="203.0.113.99")
            assert told["notes"] == [
                "a connection to SSH's port was open from 203.0.113.99; nobody was logged in through it"
            ]
            assert (await ask("Ban", cidr="203.0.113.4/30"))["notes"] == []
            assert "203.0.113.4/30" in (await ask("Ban", cidr="203.0.113.7/30"))["notes"][0]

    asyncio.run(run())


def test_a_reason_is_kept_short_and_printable(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask("BanMany", bans=[{"cidr": "203.0.113.9", "reason": "\x1b[31m\u202e\n" + "x" * 100_000}])
            (reason,) = [ban["reason"] for ban in (await ask("Bans"))["bans"]]
            assert (len(reason), reason.isprintable(), reason.startswith("\ufffd[31m")) == (200, True, True)

    asyncio.run(run())


@pytest.mark.parametrize("jump", [-31_536_000.0, 31_536_000.0])
def test_after_a_step_of_the_clock_answers_say_what_the_kernel_does(tmp_path: Path, jump: float) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            ban = (await ask("Ban", cidr="203.0.113.9", ttl_s=40e6))["ban"]  # has not ended by this test's own clock
            ask.datapath.clock.jump = jump
            (after,) = (await ask("Bans"))["bans"]
            assert after["expires"] == pytest.approx(ban["expires"] + jump)
            (stored,) = [each async for each in _stored(ask.parts.store)]
            assert stored.expires == after["expires"]
            assert ask.parts.bans.expire(after["expires"] - 1) == []
            assert len(ask.parts.bans.expire(after["expires"])) == 1
            assert (await ask("Explain", address="203.0.113.9"))["reason"] == "default"

    asyncio.run(run())


def test_after_the_clock_was_set_back_who_goes_on_when_a_ban_ends_is_banned_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            responder, bans, now = ask.parts.responder, ask.parts.bans, time.time()
            responder.configure(Response(ban="on"))
            evidence = {"unit": "connections", "proven": True}
            what = ("brute_force", Severity.HIGH, "T1110", "203.0.113.9", None, now, now, 40, "40 connections")
            responder.respond(ThreatUpdate(OPENED, Threat(*what, evidence, "t1")))
            ask.datapath.clock.jump = -1200.0  # by the clock of this test, the ban has ended
            await ask.parts.follow_clock()
            assert bans.all() == []
            responder.respond(ThreatUpdate(CONTINUED, Threat(*what, evidence, "t1")))
            assert [(ban.cidr, ban.count) for ban in bans.all()] == [("203.0.113.9/32", 2)]

    asyncio.run(run())


def test_a_change_whose_audit_cannot_be_stored_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: Parts, __: AuditEntry) -> bool:
        return False

    async def run() -> None:
        async with asking(tmp_path) as ask:
            monkeypatch.setattr(Parts, "audit", never)
            for method, parameters in (
                ("Ban", {"cidr": "203.0.113.7"}),
                ("BanMany", {"bans": [{"cidr": "203.0.113.8"}]}),
                ("Unban", {"cidr": "203.0.113.7"}),
                ("UnbanMany", {"cidrs": ["203.0.113.8"]}),
                ("AddCidr", {"cidr": "203.0.113.9", "save": True}),
                ("RemoveCidr", {"cidr": "203.0.113.9", "save": True}),
            ):
                (note,) = (await ask(method, **parameters))["notes"]
                assert "the audit entry is in the journal" in note, method

    asyncio.run(run())

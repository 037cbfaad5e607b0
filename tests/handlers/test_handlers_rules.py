"""Rules as clients see and change them."""

from __future__ import annotations

import asyncio
import ipaddress
import sqlite3
import time
from pathlib import Path

import pytest
from asking import Asked, asking

from trafficmond import exposure, figures, parts
from trafficmond.datapath.listeners import Listener
from trafficmond.model import Action, Reason
from trafficmond.policy.layout import PARENTS_MAX
from trafficmond.policy.table import CROWDED
from trafficmond.verdict import verdict_word


async def listed(ask: Asked, **within: str) -> list[tuple[str, str, str]]:
    rules = (await ask("Rules", **within))["rules"]
    return [(rule["cidr"], rule["kind"], rule["action"]) for rule in rules]


def test_a_rule_comes_is_listed_and_goes(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            rule = (await ask("AddCidr", cidr="192.0.2.77/24", action="allow", label="office", ttl_s=60))["rule"]
            assert (rule["cidr"], rule["action"], rule["label"], rule["prefixes"]) == (
                "192.0.2.0/24",
                "allow",
                "office",
                1,
            )
            assert await listed(ask) == [("192.0.2.0/24", "rule", "allow")]
            assert await listed(ask, within="192.0.2.9") == [("192.0.2.0/24", "rule", "allow")]
            assert await listed(ask, within="198.51.100.0/24") == []
            until = f"until {figures.clock(rule['expires'])}"
            await ask("AddCidr", cidr="192.0.2.0/24", action="limit", rate_per_s=9)
            (removed,) = (await ask("RemoveCidr", cidr="192.0.2.0/24"))["removed"]
            assert (removed["cidr"], removed["action"]) == ("192.0.2.0/24", "limit")
            assert await listed(ask) == []
            changes = [(entry["change"], entry["before"], entry["after"]) for entry in (await ask("Audit"))["entries"]]
            assert changes == [
                ("remove-cidr", "limit ingress 9/s", None),
                ("add-cidr", f"allow ingress 'office' {until}", "limit ingress 9/s"),
                ("add-cidr", None, f"allow ingress 'office' {until}"),
            ]

    asyncio.run(run())


@pytest.mark.parametrize("label", ["two\nlines", "\x1b[31mred", "left \u202e right", 201 * "x"])
def test_a_label_that_no_table_can_show_is_refused_as_an_argument(tmp_path: Path, label: str) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            (reply,) = await ask.replies("AddCidr", cidr="192.0.2.7", label=label)
            assert reply["parameters"]["parameter"].startswith("label: use up to 200 printable characters")

    asyncio.run(run())


def test_an_answer_says_what_was_not_asked_for(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            notes = (await ask("AddCidr", cidr="192.0.2.77/24"))["notes"]
            assert notes == [
                "192.0.2.77/24 had host bits set; it is read as its network, 192.0.2.0/24",
                "it ends at the next restart (--save keeps it)",
            ]
            assert (await ask("AddCidr", cidr="192.0.2.0/24", save=True))["notes"] == []
            assert (await ask("AddCidr", cidr="192.0.3.1", ttl_s=60))["notes"] == []
            (note,) = (await ask("AddCidr", cidr="192.0.3.1", save=True))["notes"]
            assert note.startswith("the rule on 192.0.3.1 replaces the one that was there: drop ingress until ")

    asyncio.run(run())


def test_a_rule_that_has_ended_when_it_is_answered_is_answered_and_recorded(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            for save in (False, True):
                rule = (await ask("AddCidr", cidr="192.0.2.0/24", ttl_s=1e-9, save=save))["rule"]
                assert (rule["cidr"], rule["action"]) == ("192.0.2.0/24", "drop")
                assert await listed(ask) == []
            assert [entry["change"] for entry in (await ask("Audit"))["entries"]] == ["add-cidr"] * 2

    asyncio.run(run())


@pytest.mark.parametrize("jump", [-31_536_000.0, 31_536_000.0])
def test_after_a_step_of_the_clock_rules_say_what_the_kernel_does(
    tmp_path: Path, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            for save in (False, True):
                await ask("AddCidr", cidr=f"192.0.{2 + save}.0/24", ttl_s=60.0, save=save)
            before = {rule["cidr"]: rule["expires"] for rule in (await ask("Rules"))["rules"]}
            ask.datapath.clock.jump = jump
            monkeypatch.setattr("time.time", lambda real=time.time: real() + jump)
            ended = time.time() + 59
            after = {rule["cidr"]: rule["expires"] for rule in (await ask("Rules"))["rules"]}
            assert after == {cidr: pytest.approx(ends + jump) for cidr, ends in before.items()}
            assert len(after) == 2
            assert not await ask.parts.rulebook.expire_rules(ended)
            assert await ask.parts.rulebook.expire_rules(ended + 1.1)

    asyncio.run(run())


def test_a_change_that_the_store_cannot_take_is_made_and_said_and_stored_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_AUDIT_S", 0.2)

    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask("AddCidr", cidr="192.0.2.0/24", ttl_s=60)
            locker = sqlite3.connect(next(tmp_path.rglob("flows.db")), isolation_level=None)
            locker.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            added = await ask("AddCidr", cidr="198.51.100.0/24", ttl_s=60)
            removed = await ask("RemoveCidr", cidr="192.0.2.0/24")
            assert time.monotonic() - began > 0.4
            for reply in (added, removed):
                (note,) = reply["notes"]
                assert note.startswith("done, but flows.db cannot be written")
            assert await listed(ask) == [("198.51.100.0/24", "rule", "drop")]
            locker.execute("ROLLBACK")
            locker.close()
            while len(found := (await ask("Audit"))["entries"]) < 3:
                await asyncio.sleep(0.05)
            assert {entry["change"] for entry in found} == {"add-cidr", "remove-cidr"}

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_limit_keeps_its_rate(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            rule = (await ask("AddCidr", cidr="::/0", action="limit", rate_per_s=100, burst_packets=300))["rule"]
            assert (rule["rate_per_s"], rule["burst_packets"]) == (100, 300)
            assert (await ask.refused("AddCidr", cidr="::/0", action="limit"))[0] == "Invalid"

    asyncio.run(run())


def test_rules_on_one_prefix_are_distinguished_by_their_services(tmp_path: Path) -> None:
    async def main() -> None:
        async with asking(tmp_path) as ask:
            for ports in (["tcp/443", "80"], ["https"], ["gre"], None):
                chosen = {"ports": ports} if ports else {}
                rule = (await ask("AddCidr", cidr="192.0.2.0/24", **chosen))["rule"]
                assert rule["ports"] == {"https": ["443"], "gre": ["gre"]}.get((ports or [""])[0], ports)
            assert len((await ask("Rules"))["rules"]) == 4
            again = await ask("AddCidr", cidr="192.0.2.0/24", ports=["80", "tcp/443"], action="allow")
            assert (again["rule"]["action"], len((await ask("Rules"))["rules"])) == ("allow", 4)
            told = await ask("Explain", address="192.0.2.9", service="tcp/443")
            assert (told["action"], told["service"]) == ("allow", "tcp/443"), "of two rules the later"
            assert [each["ports"] for each in told["decisions"]] == [["tcp/443", "80"], ["gre"], ["443"], None, None]
            assert told["decisions"][1]["why"] == "it is for gre"
            told = await ask("Explain", address="192.0.2.9", service="udp/443")
            assert [(each["ports"], each["why"]) for each in told["decisions"]][:3] == [
                (["tcp/443", "80"], "it is for tcp/443, 80"),
                (["gre"], "it is for gre"),
                (["443"], None),
            ]
            told = await ask("Explain", address="192.0.2.9")
            assert (told["action"], told["decisions"][0]["why"]) == ("drop", "it decides for tcp/443, 80 alone")
            gone = await ask("RemoveCidr", cidr="192.0.2.0/24", ports=["gre"])
            assert [rule["ports"] for rule in gone["removed"]] == [["gre"]]
            assert (await ask.refused("RemoveCidr", cidr="192.0.2.0/24", ports=["esp"]))[0] == "NotFound"
            assert len((await ask("RemoveCidr", cidr="192.0.2.0/24"))["removed"]) == 3
            assert (await ask.refused("AddCidr", cidr="192.0.2.0/24", ports=["tcp/70000"]))[0] == "Invalid"
            assert (await ask.refused("AddCidr", cidr="192.0.2.0/24", ports=["gre"], force=True))[0] == "Invalid"
            assert (await ask.refused("Explain", address="192.0.2.9", service="53"))[0] == "Invalid"

    asyncio.run(main())


def test_a_saved_rule_is_removed_only_with_save(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask("AddCidr", cidr="192.0.2.0/24", save=True)
            name, said = await ask.refused("RemoveCidr", cidr="192.0.2.0/24")
            assert (name, "--save" in said) == ("Refused", True)
            await ask("AddCidr", cidr="192.0.2.0/24", direction="egress")
            removed = (await ask("RemoveCidr", cidr="192.0.2.0/24", save=True))["removed"]
            saved = str(ask.parts.rulebook.saved_path)
            assert [(rule["direction"], rule["source"]) for rule in removed] == [
                ("egress", "runtime"),
                ("ingress", saved),
            ]
            assert (await ask.refused("RemoveCidr", cidr="192.0.2.0/24"))[0] == "NotFound"

    asyncio.run(run())


def test_a_rule_of_a_file_is_named_with_its_file(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            path = tmp_path / "cidr.d" / "one.toml"
            path.write_text('[[rule]]\ncidr = "192.0.2.0/24"\naction = "drop"\n')
            assert (await ask("Reload"))["rules"] == 1
            name, said = await ask.refused("RemoveCidr", cidr="192.0.2.0/24")
            assert (name, str(path) in said) == ("Refused", True)

    asyncio.run(run())


def test_a_drop_spares_lifelines(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path, guard=(("192.0.2.1/32", "own address"),)) as ask:
            assert (await ask.refused("AddCidr", cidr="192.0.0.0/16"))[0] == "Refused"
            await ask("AddCidr", cidr="192.0.0.0/16", action="monitor")
            for cidr, said in (("192.0.2.1", True), ("192.0.2.0/24", False)):  # of one service it may be meant
                notes = (await ask("AddCidr", cidr=cidr, ports=["tcp/22"]))["notes"]
                assert ("this rule has no effect: guard 192.0.2.1 (own address) comes before it" in str(notes)) is said
            await ask("AddCidr", cidr="192.0.0.0/16", force=True)
            assert (await ask("Explain", address="192.0.2.1"))["reason"] == "rule"

    asyncio.run(run())


@pytest.mark.parametrize("action", ["DROP", "Drop", "Limit"])
def test_words_are_the_same_in_capitals(tmp_path: Path, action: str) -> None:
    """No other way to write an action passes by what is spared, nor makes another rule."""

    async def run() -> None:
        async with asking(tmp_path, guard=(("192.0.2.1/32", "own address"),)) as ask:
            ask.protected.peers = {"198.51.100.9"}
            rate = {"rate_per_s": 9} if action == "Limit" else {}
            for cidr in ("192.0.2.0/24", "198.51.100.9"):
                assert (await ask.refused("AddCidr", cidr=cidr, action=action, **rate))[0] == "Refused"
            first = await ask("AddCidr", cidr="203.0.113.0/24", action=action.lower(), direction="both", **rate)
            again = await ask("AddCidr", cidr="203.0.113.0/24", action=action, direction="BOTH", **rate)
            assert (again["rule"], len((await ask("Audit"))["entries"])) == (first["rule"], 1)
            for wrong in ({"action": "reject"}, {"direction": "sideways"}):
                assert (await ask.refused("AddCidr", cidr="203.0.113.0/24", **wrong))[0] == "Invalid"

    asyncio.run(run())


def test_counts_are_those_of_the_rule(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask("AddCidr", cidr="192.0.2.0/24")
            number = int(ask.parts.rulebook.in_force.numbered.numbers[0])
            for action in (Action.DROP, Action.ALLOW):
                ask.parts.pipeline.by_verdict[verdict_word(action, Reason.RULE, number)] = (2, 200)
            await ask.parts.pipeline.read_ledger()
            (rule,) = (await ask("Rules"))["rules"]
            assert (rule["packets"], rule["bytes"]) == (4, 400)

    asyncio.run(run())


def test_a_refused_reload_says_every_mistake(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            for name in ("a", "b"):
                (tmp_path / "cidr.d" / f"{name}.toml").write_text('[[rule]]\ncidr = "nonsense"\naction = "drop"\n')
            name, said = await ask.refused("Reload")
            assert name == "Invalid"
            assert "a.toml:2" in said
            assert "b.toml:2" in said
            assert (await ask("Audit"))["entries"] == []

    asyncio.run(run())


def test_long_answers_leave_the_loop_to_others_and_are_of_one_moment(tmp_path: Path) -> None:
    """Twenty read every rule of many, and the rules change meanwhile."""
    lines = (f'[[rule]]\ncidr = "10.{number >> 8}.{number & 255}.0/24"\naction = "drop"\n' for number in range(5000))

    async def run() -> None:
        async with asking(tmp_path) as ask:
            (tmp_path / "cidr.d" / "many.toml").write_text("".join(lines))
            await ask.parts.rulebook.load()
            waits: list[float] = []

            async def others() -> None:
                while True:
                    began = time.monotonic()
                    await asyncio.sleep(0)
                    waits.append(time.monotonic() - began)

            other = asyncio.ensure_future(others())
            readers = [asyncio.ensure_future(ask("Rules")) for _ in range(20)]
            await asyncio.sleep(0)
            (tmp_path / "cidr.d" / "many.toml").unlink()
            await ask.parts.rulebook.load()
            told = [len((await reader)["rules"]) for reader in readers]
            other.cancel()
            assert set(told) <= {0, 5000}
            assert 5000 in told
            assert len(waits) > 50 * told.count(5000) // 20, "a turn for the others between any two pages"

    asyncio.run(run())


def test_a_change_says_what_nobody_can_reach_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sshd = Listener(6, ipaddress.ip_address("0.0.0.0"), 22, "sshd")
    monkeypatch.setattr(exposure, "listeners", lambda: [sshd])

    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask("AddCidr", cidr="192.0.2.7", action="allow")
            with (tmp_path / "trafficmond.toml").open("a") as file:
                file.write('[policy]\ndefault = "drop"\n')
            assert not any("not reachable" in text for text in (await ask("Reload"))["warnings"])
            assert (await ask("Status"))["only_from"] == [
                "sshd on tcp/22: new connections are allowed only from 192.0.2.7"
            ]
            (text,) = (await ask("RemoveCidr", cidr="192.0.2.7"))["notes"]
            assert text.startswith("not reachable over eth0: sshd on tcp/22")
            assert text in (await ask("Reload"))["warnings"]

    asyncio.run(run())


def test_more_rules_that_end_over_one_another_than_the_kernel_looks_at_are_reported(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            for length in range(32, 32 - PARENTS_MAX, -1):  # the longest ends first, so each lies over a living one
                said = await ask("AddCidr", cidr=f"203.0.113.7/{length}", action="drop", ttl_s=2000.0 - 40 * length)
                assert (CROWDED in said["notes"]) is (length == 33 - PARENTS_MAX)

    asyncio.run(run())


def test_a_reload_tells_what_is_not_in_force(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            folder = ask.parts.settings.cidr_dir
            (folder / "gone.toml").symlink_to(folder / "nowhere.toml")
            for _ in range(2):
                (warning,) = (await ask("Reload"))["warnings"]
                assert warning.startswith(f"{folder / 'gone.toml'}: cannot be read")

    asyncio.run(run())

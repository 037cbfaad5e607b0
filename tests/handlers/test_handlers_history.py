"""The changes of the rules by number: told, looked at, taken back; and rules that nothing meets."""

from __future__ import annotations

import asyncio
import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asking import Asked, asking

from trafficctl import fileedits, rulelines
from trafficctl.install import installed
from trafficmond.config.filtering import PrefixList
from trafficmond.errors import ControlError
from trafficmond.model import Action
from trafficmond.policy.entries import entries
from trafficmond.policy.load import Policy, make_policy, read_files

OFFICE = '# the office\n[[rule]]\ncidr = "192.0.2.0/24"\naction = "drop"\nports = ["tcp/25"]\nlabel = "no mail"\n'
OTHER = '\n# about the other\n[[rule]]\ncidr = "198.51.100.0/24"\naction = "allow"\n'


def _cidr_dir(ask: Asked) -> Path:
    folder = ask.parts.settings.cidr_dir
    folder.mkdir(exist_ok=True)
    return folder


def _said(policy: Policy) -> list[dict[str, Any]]:
    """The policy's rules, wherever they stand; ends are to the microsecond in a file."""
    found = [{key: value for key, value in each.items() if key != "source"} for each in entries(policy)]
    return [each | ({"expires": round(each["expires"], 4)} if "expires" in each else {}) for each in found]


def test_every_change_by_hand_has_a_number_and_can_be_taken_back(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            before = await ask.rules()
            await ask("AddCidr", cidr="203.0.113.0/24", action="drop", label="one")
            ask.parts.history._last = None  # as of another command
            await ask("AddCidr", cidr="203.0.113.0/24", action="allow", ports=["tcp/443"], save=True)
            ask.parts.history._last = None
            await ask("AddCidr", cidr="203.0.113.0/24", action="monitor", label="two")  # in place of the first
            ask.parts.history._last = None
            await ask("RemoveCidr", cidr="203.0.113.0/24", save=True)
            assert await ask.changes() == [
                (4, "remove-cidr", 2, 0),
                (3, "add-cidr", 1, 1),
                (2, "add-cidr", 0, 1),
                (1, "add-cidr", 0, 1),
            ]
            assert await ask.rules(0) == before == await ask.rules()
            assert [each["label"] for each in await ask.rules(3) if "label" in each] == ["two"]
            told = await ask("Undo")
            assert (told["undone"], len(told["done"]), told["edits"]) == (4, 2, [])
            three = await ask.rules(3)
            assert sorted(map(json.dumps, await ask.rules())) == sorted(map(json.dumps, three))
            ask.parts.history._last = None
            told = await ask("Undo", number=3)
            assert [each["label"] for each in await ask.rules() if "label" in each] == ["one"]
            ask.parts.history._last = None
            await ask("Undo", number=2)
            assert [each.get("ports") for each in await ask.rules()] == [None]
            assert (await ask.refused("Undo", number=99))[0] == "NotFound"
            assert (await ask.refused("RulesAt", number=99))[0] == "NotFound"
            audit = (await ask("Audit"))["entries"]
            assert [(each["change"], each["subject"]) for each in audit[:3]] == [
                ("undo", "2"),
                ("undo", "3"),
                ("undo", "4"),
            ]

    asyncio.run(run())


def test_the_rules_of_one_command_are_one_change(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            for cidr in ("0.0.0.0/0", "::/0"):
                await ask("AddCidr", cidr=cidr, action="allow", ports=["tcp/443"])
            assert await ask.changes() == [(1, "add-cidr", 0, 2)]
            assert len((await ask("Undo"))["done"]) == 2
            assert await ask.rules() == []
            ask.parts.history._last = None
            assert (await ask("Undo"))["notes"] == [
                "change 2 was an undo itself: what change 1 did is in force again; to undo an earlier change, "
                "give its number: trafficctl history shows it"
            ]

    asyncio.run(run())


def test_what_stands_in_a_file_is_reported_and_written_only_if_asked(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            path = _cidr_dir(ask) / "10-office.toml"
            path.write_text(OFFICE + OTHER)
            await ask("Reload")
            assert await ask.changes() == [(1, "reload", 0, 2)]
            told = await ask("Undo")
            assert (told["done"], path.read_text()) == ([], OFFICE + OTHER)
            first = next(edit for edit in told["edits"] if edit["rule"]["cidr"] == ["192.0.2.0/24"])
            assert next(fileedits.described(first)) == f"{path}:2: remove"
            fileedits.write(first)
            assert path.read_text() == "# the office\n" + OTHER
            with pytest.raises(ControlError, match="the rule is no longer at"):
                fileedits.write(first)
            ask.parts.history._last = None
            await ask("Reload")
            (back,) = (await ask("Undo"))["edits"]  # of the edit that was just made
            assert (back["take_out"], back["path"]) == (False, str(path))
            fileedits.write(back)
            again = tomllib.loads(path.read_text())["rule"]
            assert sorted(map(json.dumps, again)) == sorted(map(json.dumps, tomllib.loads(OFFICE + OTHER)["rule"]))

    asyncio.run(run())


def test_what_is_in_force_as_a_file_gives_the_same_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            path = _cidr_dir(ask) / "10-office.toml"
            path.write_text(
                OFFICE + OTHER + '\n[[rule]]\ncidr = ["2001:db8::/32", "10.0.0.0/8"]\naction = "drop"\nshadow = true\n'
            )
            await ask("Reload")
            await ask("AddCidr", cidr="203.0.113.0/24", action="limit", rate_per_s=7, burst_packets=9, ttl_s=600)
            await ask(
                "AddCidr", cidr="203.0.113.0/24", action="drop", direction="both", ports=["53", "icmp/8"], save=True
            )
            await ask("AddCidr", cidr="203.0.113.9", action="drop", label='quo"tes \\ and ä')
            text = "\n".join(rulelines.of_entries((await ask("RulesAt"))["rules"], "in force"))
            in_force = ask.parts.rulebook.in_force
            assert in_force is not None
            files = tmp_path / "again"
            files.mkdir()
            (files / "all.toml").write_text(text)
            again = make_policy(read_files(files, []), default=Action.MONITOR)
            assert _said(again) == _said(in_force.policy)

    asyncio.run(run())


def test_numbers_continue_over_a_restart_and_what_changed_meanwhile_is_a_change(tmp_path: Path) -> None:
    async def first() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            await ask("AddCidr", cidr="203.0.113.0/24", action="drop", save=True)

    async def second() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            assert await ask.changes() == [(2, "start", 0, 1), (1, "add-cidr", 0, 1)]
            assert len(await ask.rules(1)) == 1

    asyncio.run(first())
    folder = tmp_path / "cidr.d"
    path = next(tmp_path.rglob("rules-history.jsonl"))
    folder.mkdir(exist_ok=True)
    (folder / "10-office.toml").write_text(OFFICE)
    asyncio.run(second())
    path.write_text("not JSON\n")

    async def third() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            assert await ask.changes() == []
            assert path.with_name(path.name + ".broken").read_text() == "not JSON\n"
            await ask("AddCidr", cidr="203.0.113.1", action="drop")
            assert [each[1] for each in await ask.changes()] == ["add-cidr"]

    asyncio.run(third())


def test_the_oldest_changes_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trafficmond.history.MOST_CHANGES", 5)

    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            for number in range(1, 15):
                ask.parts.history._last = None
                await ask("AddCidr", cidr=f"203.0.113.{number}", action="drop")
            changes = await ask.parts.history.changes()
            assert [each.number for each in changes][-1] == 14
            assert 5 <= len(changes) <= 10
            assert len(await ask.rules(12)) == 12
            assert (await ask.refused("RulesAt", number=1))[0] == "NotFound"

    asyncio.run(run())


def test_a_rule_comes_not_back_over_somebody_who_is_logged_in(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            await ask("AddCidr", cidr="198.51.100.0/24", action="drop")
            await ask("RemoveCidr", cidr="198.51.100.0/24")
            ask.protected.peers = {"198.51.100.9"}
            told = await ask("Undo")
            assert (told["done"], "logged in" in told["notes"][0]) == ([], True)
            assert await ask.rules() == []

    asyncio.run(run())


def test_rules_that_nothing_meets(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask("AddCidr", cidr="203.0.113.1", action="drop", label="quiet")
            found = await ask("Rules", unused_s=3600.0)
            assert [row["label"] for row in found["rules"]] == ["quiet"]
            assert "no flow is stored yet" in found["notes"][0]
            assert "unused_s: -5 s" in (await ask.refused("Rules", unused_s=-5.0))[1]

    asyncio.run(run())


def test_what_is_on_probation_stands_where_it_will(tmp_path: Path) -> None:
    """Confirming is no change; what is undone is an edit of cidr_dir, never of the folder that was tried."""

    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            cidr_dir, tried = _cidr_dir(ask), tmp_path / "cidr.new"
            (cidr_dir / "10-office.toml").write_text(OFFICE)
            await ask("Reload")
            tried.mkdir()
            (tried / "10-office.toml").write_text(OFFICE)
            (tried / "20-other.toml").write_text(OTHER)
            other = str(cidr_dir / "20-other.toml")
            await ask("Apply", folder=str(tried))
            name, told = await ask.refused("Undo")
            assert (name, "rollback" in told) == ("Refused", True)
            assert await ask.changes() == [(2, "apply", 0, 1), (1, "reload", 0, 1)]
            await ask("Rollback")
            (edit,) = (await ask("Undo"))["edits"]
            assert (edit["take_out"], edit["path"]) == (False, other)
            await ask("Apply", folder=str(tried))
            with installed(tried, cidr_dir):
                await ask("Confirm")
            assert [number for number, *_ in await ask.changes()] == [4, 3, 2, 1]
            (edit,) = (await ask("Undo"))["edits"]
            assert (edit["take_out"], edit["path"], edit["line"]) == (True, other, 3)
            file = tmp_path / "20-other.toml"
            file.write_text(OFFICE.replace("drop", "allow"))
            await ask("Apply", folder=str(file))
            assert (await ask.changes())[0] == (5, "apply", 1, 1)
            await ask("Rollback")
            assert {edit["path"] for edit in (await ask("Undo"))["edits"]} == {other}

    asyncio.run(run())


def test_each_reading_of_the_files_is_a_change(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            path = _cidr_dir(ask) / "10-office.toml"
            for text in (OFFICE, OFFICE + OTHER, OTHER):
                path.write_text(text)
                await ask("Reload")
            assert await ask.changes() == [(3, "reload", 1, 0), (2, "reload", 0, 1), (1, "reload", 0, 1)]

    asyncio.run(run())


@pytest.mark.parametrize("cidr", ["192.0.2.1", "2001:db8::1", "192.0.2.0/24"])
@pytest.mark.parametrize(
    "how",
    [
        {},
        *({"save": True}, {"ttl_s": 60.0}, {"confirm_within_s": 60.0}, {"direction": "egress"}, {"direction": "both"}),
        *({"ports": ["tcp/22"]}, {"ports": ["53"]}, {"ports": ["tcp/443", "ssh", "tcp/22", "icmp/8"]}),
        *({"shadow": True}, {"action": "limit", "rate_per_s": 10}),
    ],
)
def test_a_rule_on_one_host_is_taken_back_and_put_back(tmp_path: Path, cidr: str, how: dict[str, Any]) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            await ask("AddCidr", cidr=cidr, **how)
            assert len((await ask("Undo"))["done"]) == 1
            assert await ask.rules() == []
            again = await ask("Undo", number=1)
            assert (again["done"], [note for note in again["notes"] if "no longer exists" in note]) == (
                [],
                again["notes"],
            )
            ask.parts.history._last = None
            await ask("Undo", number=2)
            assert len(await ask.rules()) == 1
            await ask("RemoveCidr", cidr=cidr, save="save" in how)
            assert await ask.rules() == []

    asyncio.run(run())


def test_lists_the_allowlist_and_the_default_are_reported_as_the_settings_have_them(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            settings, listed = ask.parts.settings, tmp_path / "bad.netset"
            listed.write_text("203.0.113.0/24\n")
            policy = replace(settings.policy, default="drop", default_shadow=True, allowlist=("192.0.2.9/32",))
            one = PrefixList(path=listed, action="drop", label="bad ones")
            ask.parts.settings = replace(settings, policy=policy, lists=(one,), source=tmp_path / "my.toml")
            await ask.parts.rulebook.load(ask.parts.settings)
            await ask.parts.follow_rules()
            edits = (await ask("Undo"))["edits"]
            told = [line for edit in edits for line in fileedits.described(edit)]
            mine = tmp_path / "my.toml"
            assert told == [
                f"{mine}: under [policy], remove",
                "  default_shadow = true",
                f"{mine}: remove the list with these lines (or url)",
                *("  [[list]]", f'  path = "{listed}"', '  action = "drop"', '  label = "bad ones"'),
                f"{mine}: under [policy], remove from allowlist",
                '  "192.0.2.9"',
                f"{mine}: under [policy], write",
                '  default = "monitor"',
            ]
            for edit in edits:
                with pytest.raises(ControlError, match="this command cannot edit"):
                    fileedits.write(edit)
            listed.write_text("203.0.113.0/24\n198.51.100.0/24\n")
            await ask.parts.rulebook.load(ask.parts.settings)
            await ask.parts.follow_rules()
            assert len(await ask.changes()) == 1, "what a list holds is its own business"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('"label": "attic"', '"label": 1e400'),
        ('"203.0.113.1"', "7"),
        ('"ports": ["tcp/22"]', '"ports": "tcp/22"'),
        ('["tcp/22"]', "[]"),
        ('"source": "runtime"', '"sauce": "runtime"'),
        ('"number": 1', '"number": "1"'),
        ('"removed": []', '"removed": [null]'),
    ],
)
def test_a_history_with_values_of_another_type_is_set_aside(tmp_path: Path, right: str, wrong: str) -> None:
    async def first() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            await ask("AddCidr", cidr="203.0.113.1", action="drop", label="attic", ports=["tcp/22"])

    async def then() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            assert await ask.changes() == []

    asyncio.run(first())
    path = next(tmp_path.rglob("rules-history.jsonl"))
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong))
    asyncio.run(then())
    assert path.with_name(path.name + ".broken").exists()


def test_a_clock_that_is_set_ends_no_rule_in_the_history(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            await ask("AddCidr", cidr="::/0", action="drop", ttl_s=3600.0, ports=["23"])
            ask.parts.rulebook.shift(18_000.0)
            await ask.parts.rulebook.apply_clock_step()
            await ask.parts.follow_rules()
            assert await ask.changes() == [(2, "clock", 1, 1), (1, "add-cidr", 0, 1)]
            name, said = await ask.refused("Undo")
            assert (name, "the clock was set" in str(said)) == ("Refused", True)
            assert await ask.rules(2) == await ask.rules() != await ask.rules(1)

    asyncio.run(run())

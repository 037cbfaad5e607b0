"""Changes on probation as clients ask for them, and what they are told."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from asking import Asked, asking
from parts_fake import listen

RULE = '[[rule]]\ncidr = "203.0.113.0/24"\naction = "drop"\n'


async def said_of(asked: Asked) -> dict[str, str]:
    """Audit: change -> what became of it."""
    return {each["change"]: each["after"] or "" for each in (await asked("Audit"))["entries"]}


def test_a_rule_on_probation_and_what_can_become_of_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as asked:
            said = listen(asked.parts)
            assert (await asked("Status"))["probation"] is None
            assert await asked.refused("Confirm") == await asked.refused("Rollback")
            added = await asked("AddCidr", cidr="192.0.2.0/24", confirm_within_s=60.0)
            assert any("trafficctl confirm" in note for note in added["notes"])
            trial = (await asked("Status"))["probation"]
            assert (trial["what"], trial["user"], trial["folder"]) == ("add-cidr 192.0.2.0/24", "someone", None)
            assert 58 < trial["left_s"] <= 60
            assert (await asked("Top"))["probation"]["until"] == trial["until"]
            assert "trafficmon_probation 1" in (await asked("Metrics"))["text"]
            assert (await asked("Rollback"))["rolled_back"] == "add-cidr 192.0.2.0/24"
            assert not [rule for rule in (await asked("Rules"))["rules"] if rule["cidr"] == "192.0.2.0/24"]
            await asked("AddCidr", cidr="192.0.2.0/24", confirm_within_s=60.0)
            assert (await asked("Confirm"))["confirmed"] == "add-cidr 192.0.2.0/24"
            assert (await asked("Status"))["probation"] is None
            assert [rule for rule in (await asked("Rules"))["rules"] if rule["cidr"] == "192.0.2.0/24"]
            audit = await said_of(asked)
            assert "on probation for 60 s" in audit["add-cidr"]
            assert {"confirm", "rollback"} <= audit.keys()
            await asked("AddCidr", cidr="192.0.2.0/24", action="allow", confirm_within_s=60.0)
            meanwhile = (await asked("AddCidr", cidr="203.0.113.0/24"))["notes"]
            assert not any("probation" in note for note in meanwhile), "it is not on probation itself"
            await asked("Rollback")
            actions = {each["cidr"]: each["action"] for each in (await asked("Rules"))["rules"]}
            assert (actions["192.0.2.0/24"], actions["203.0.113.0/24"]) == ("drop", "drop")
            assert [text.partition(" ")[0] for text in said] == ["on", "rolled", "on", "confirmed:", "on", "rolled"]

    asyncio.run(run())


def test_times_and_folders_that_will_not_do(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as asked:
            for method, named in (("AddCidr", {"cidr": "192.0.2.0/24"}), ("Reload", {}), ("Apply", {})):
                for within in (0.0, -1.0, 0.5, 3601.0, 1e300):
                    name, told = await asked.refused(method, **named, confirm_within_s=within)
                    assert (name, "use 1 s to 1 hour" in told) == ("Invalid", True)
            assert (await asked.refused("Apply", folder="cidr.new"))[0] == "InvalidParameter"
            (tmp_path / "a.netset").write_text("192.0.2.1\n")
            for folder in (tmp_path / "nowhere", tmp_path / "nowhere.toml", tmp_path / "a.netset"):
                name, told = await asked.refused("Apply", folder=str(folder))
                assert (name, str(folder) in told) == ("Invalid", True)
            assert (await asked("Status"))["probation"] is None

    asyncio.run(run())


def test_files_on_probation_are_not_taken_and_say_so(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as asked:
            assert (await asked("Apply"))["probation"] is None, "they say what is in force"
            (tmp_path / "cidr.d" / "a.toml").write_text(RULE)
            applied = await asked("Apply", confirm_within_s=30.0)
            assert (applied["rules"], applied["probation"]["what"]) == (1, "apply")
            assert "on probation as they are" in (await asked("Reload"))["changed"][0]
            (tmp_path / "cidr.d" / "b.toml").write_text(RULE.replace("113", "114"))
            assert "when the probation is over" in (await asked("Reload"))["changed"][0]
            (tmp_path / "cidr.d" / "b.toml").unlink()
            asked.datapath.until = time.time() - 0.1  # the kernel has ended it
            await asked.parts.rulebook.expire_probation()
            assert "nobody confirmed" in (await asked("Reload"))["changed"][0]
            status = await asked("Status")
            assert (status["rules"]["count"], status["probation"]) == (0, None)
            assert any("nobody confirmed" in text for text in status["warnings"])
            await asked("Reload", confirm_within_s=30.0)
            await asked("Confirm")
            status = await asked("Status")
            assert status["rules"]["count"] == 1
            assert not any("confirmed" in text for text in status["warnings"])
            assert (await asked("Reload"))["changed"] == []

    asyncio.run(run())


def test_a_default_that_shuts_out_what_waits_here_is_on_probation_if_the_settings_say_so(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as asked:
            server = await asyncio.start_server(lambda *_: None, "0.0.0.0", 0)
            async with server:
                with (tmp_path / "trafficmond.toml").open("a") as file:
                    file.write('[policy]\ndefault = "drop"\nprobation = "20s"\n')
                (told,) = (await asked("Reload"))["changed"]
                assert "trafficctl confirm" in told
                status = await asked("Status")
                assert 18 < status["probation"]["left_s"] <= 20
                assert (status["rules"]["default"], asked.datapath.options.drop_unparsed) == ("drop", False)
                await asked("Confirm")
                assert (await asked("Status"))["rules"]["default"] == "drop"
                assert asked.datapath.options.drop_unparsed
                asked.protected.peers = {"192.0.2.9"}
                note = (await asked("AddCidr", cidr="192.0.2.8", action="allow"))["notes"]
                assert not any("probation" in each for each in note), "nobody is shut out by it"
                note = (await asked("RemoveCidr", cidr="192.0.2.8"))["notes"]
                assert any("on probation for 20 s" in each for each in note), "with it nobody gets in any more"

    asyncio.run(run())


def test_whoever_drops_his_own_session_has_to_come_back(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as asked:
            with (tmp_path / "trafficmond.toml").open("a") as file:
                file.write('[policy]\nprobation = "20s"\n')
            await asked("Reload")
            asked.protected.peers = {"192.0.2.9"}
            notes = (await asked("AddCidr", cidr="192.0.2.0/24", force=True))["notes"]
            assert any("on probation for 20 s" in each for each in notes)

    asyncio.run(run())


def test_several_changes_on_probation_are_all_named(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as asked:
            for cidr in ("192.0.2.0/24", "198.51.100.0/24", "192.0.2.0/24"):
                await asked("AddCidr", cidr=cidr, confirm_within_s=60.0)
            assert (await asked("Rollback"))["rolled_back"] == "add-cidr 192.0.2.0/24, add-cidr 198.51.100.0/24"
            for number in range(40):
                await asked("AddCidr", cidr=f"192.0.2.{number}", confirm_within_s=60.0)
            told = (await asked("Rollback"))["rolled_back"]
            assert told.startswith("add-cidr 192.0.2.0/32, ")
            assert told.endswith(", add-cidr 192.0.2.39/32")
            assert len(told) <= 300

    asyncio.run(run())


def test_a_folder_without_rules_is_reported(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as asked:
            empty = tmp_path / "empty"
            empty.mkdir()
            (empty / "notes.md").write_text("nothing\n")
            assert "has no rules file" in (await asked("Apply", folder=str(empty)))["notes"][0]
            (empty / "a.toml").write_text(RULE)
            assert not any("no rules" in note for note in (await asked("Apply", folder=str(empty)))["notes"])

    asyncio.run(run())


def test_a_settings_file_on_probation(tmp_path: Path) -> None:
    """What it says of rules is judged by; the rest, and its place, wait for confirm."""

    async def run() -> None:
        async with asking(tmp_path) as asked:
            place, tried = tmp_path / "trafficmond.toml", tmp_path / "new.toml"
            before = place.read_text()
            tried.write_text(f'networks = ["198.51.100.0/24"]\n{before}[policy]\ndefault = "drop"\n')
            applied = await asked("Apply", folder=str(tried))
            assert (applied["probation"]["folder"], applied["probation"]["place"]) == (str(tried), str(place))
            assert any("default drop" in note for note in applied["notes"])
            assert (await asked("Status"))["rules"]["default"] == "drop"
            assert (await asked("Explain", address="203.0.113.9"))["action"] == "drop"
            assert not asked.datapath.options.drop_unparsed, "what is confirmed keeps its switches"
            assert "is not the same as" in (await asked.refused("Confirm"))[1]
            await asked("Rollback")
            assert (await asked("Status"))["rules"]["default"] == "monitor"
            assert (await asked("Reload"))["changed"] == [], "nothing is refused: the files are as they were"
            await asked("Apply", folder=str(tried))
            asked.datapath.until = time.time() - 0.1  # the kernel has ended it
            await asked.parts.rulebook.expire_probation()
            assert (await asked("Status"))["rules"]["default"] == "monitor"

            await asked("Apply", folder=str(tried))
            place.write_text(tried.read_text())
            assert "on probation as they are" in (await asked("Reload"))["changed"][0]
            assert (await asked("Confirm"))["confirmed"] == f"apply {tried}"
            tried.unlink()
            assert (await asked("Status"))["rules"]["default"] == "drop"
            assert asked.datapath.options.drop_unparsed
            assert (asked.parts.settings.source, asked.parts.settings.networks) == (place, ("198.51.100.0/24",))
            assert (await asked("Apply", folder=str(place)))["probation"] is None, "they say what is in force"
            tried.write_text("[policy]\ndefualt = 3\n")
            name, told = await asked.refused("Apply", folder=str(tried))
            assert (name, f"{tried}:2" in told) == ("Invalid", True)

    asyncio.run(run())


def test_a_second_apply_says_what_it_replaces(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as asked:
            folder, copy = tmp_path / "cidr.new", tmp_path / "trafficmond.apply-default-drop.toml"
            folder.mkdir()
            (folder / "a.toml").write_text(RULE)
            applied = await asked("Apply", folder=str(folder), confirm_within_s=30.0)
            assert not any("takes the place" in note for note in applied["notes"])
            copy.write_text((tmp_path / "trafficmond.toml").read_text() + '[policy]\ndefault = "drop"\n')
            applied = await asked("Apply", folder=str(copy), confirm_within_s=30.0)
            assert applied["probation"]["what"] == "apply --default drop", "not the copy that the client made"
            assert (
                f"this change replaces the one on probation, which was not confirmed: apply {folder}"
                in applied["notes"]
            )
            assert (await asked("Rollback"))["rolled_back"] == "apply --default drop"

    asyncio.run(run())

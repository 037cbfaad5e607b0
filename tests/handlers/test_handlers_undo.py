"""What undo without a number takes back, and what it leaves to whoever names the number."""

from __future__ import annotations

import asyncio
from pathlib import Path

from asking import asking


def test_undo_after_a_rollback_does_not_bring_back_what_was_tried(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            await ask("AddCidr", cidr="203.0.113.0/24", action="allow")
            ask.parts.history._last = None
            await ask("AddCidr", cidr="198.51.100.0/24", action="drop", confirm_within_s=60.0)
            await ask("Rollback")
            name, told = await ask.refused("Undo")
            assert (name, "the latest change, 3, is a rollback" in told, "undo 3" in told) == ("Refused", True, True)
            assert [each["action"] for each in await ask.rules()] == ["allow"]
            await ask("AddCidr", cidr="198.51.100.0/24", action="drop", confirm_within_s=60.0)
            ask.datapath.until = 1.0
            assert await ask.parts.rulebook.expire_probation()
            async with asyncio.timeout(10):  # it is recorded without anybody's next change
                while len(await ask.changes()) == 4:
                    await asyncio.sleep(0.01)
            assert [change for _, change, *_ in await ask.changes()][:3] == ["rollback", "add-cidr", "rollback"]
            assert (await ask("History"))["changes"][0]["user"] == "probation ran out"
            name, told = await ask.refused("Undo")
            assert (name, "the latest change, 5, is a rollback" in told) == ("Refused", True)
            assert len((await ask("Undo", number=3))["done"]) == 1, "who names a number means that"

    asyncio.run(run())


def test_undo_after_a_ban_is_not_of_the_rule_before_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            await ask("AddCidr", cidr="203.0.113.0/24", action="allow")
            await ask("Ban", cidr="198.51.100.8", ttl_s=600.0, owner="fail2ban-sshd")  # nobody's last word
            await ask("Ban", cidr="198.51.100.9", ttl_s=600.0)
            name, told = await ask.refused("Undo")
            assert (name, "trafficctl unban 198.51.100.9" in told, "trafficctl undo 1" in told) == (
                "Refused",
                True,
                True,
            )
            assert len(await ask.rules()) == 1
            await ask("Unban", cidr="198.51.100.9")
            assert len((await ask("Undo"))["done"]) == 1
            await ask("Ban", cidr="198.51.100.9", ttl_s=600.0)
            assert len((await ask("Undo", number=2))["done"]) == 1, "who names a number means that"

    asyncio.run(run())


def test_undo_of_a_file_asks_for_no_edit_that_is_made_already(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            path = tmp_path / "cidr.d" / "one.toml"
            was, becomes = (f'[[rule]]\ncidr = "203.0.113.0/24"\naction = "{each}"\n' for each in ("drop", "allow"))
            for text in (was, becomes):
                path.write_text(text)
                await ask("Reload")
            asked = await ask("Undo", number=2)
            assert [(each["take_out"], each["rule"]["action"]) for each in asked["edits"]] == [
                (True, "allow"),
                (False, "drop"),
            ]
            path.write_text(was)
            await ask("Reload")
            asked = await ask("Undo", number=2)
            assert (asked["edits"], asked["notes"]) == (
                [],
                ["no longer exists: 203.0.113.0/24 allow", "is there already: 203.0.113.0/24 drop"],
            )

    asyncio.run(run())

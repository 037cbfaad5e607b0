"""A history of changes that cannot be written stops no change, and has it once it can."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import Mock

import pytest
from asking import asking


def test_a_folder_that_cannot_be_written_stops_no_change(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            (tmp_path / "file").touch()
            ask.parts.history._path = tmp_path / "file" / "in no folder"
            await ask("AddCidr", cidr="203.0.113.1", action="drop")
            assert any("cannot be numbered and stored" in each for each in (await ask("Status"))["warnings"])

    asyncio.run(run())


def test_at_a_first_start_it_does_not_wait_for_the_folder(tmp_path: Path) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            ask.parts.history._path = tmp_path / "not" / "made yet" / "rules-history.jsonl"
            await ask.parts.follow_rules()
            assert not ask.parts.history.trouble
            assert ask.parts.history._path.exists()

    asyncio.run(run())


def test_a_change_that_a_full_disk_refused_is_recorded_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            with monkeypatch.context() as full:
                full.setattr("trafficmond.files.append", Mock(side_effect=OSError(28, "No space left on device")))
                await ask("AddCidr", cidr="203.0.113.0/24", action="drop")
                await ask.parts.follow_rules()
                assert "No space left" in ask.parts.history.trouble
            await ask("Ban", cidr="198.51.100.7")  # is none of the rules
            assert await ask.changes() == [(1, "add-cidr", 0, 1)]
            assert ask.parts.history.trouble == ""

    asyncio.run(run())


def test_changes_that_a_full_disk_refused_are_recorded_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            with monkeypatch.context() as full:
                full.setattr("trafficmond.files.append", Mock(side_effect=OSError(28, "No space left on device")))
                await ask("AddCidr", cidr="203.0.113.0/24", action="drop")
                await ask("RemoveCidr", cidr="203.0.113.0/24")
                for _ in range(5):
                    await ask.parts.follow_rules()
                await ask("AddCidr", cidr="198.51.100.0/24", action="drop")
            await ask.parts.follow_rules()
            assert await ask.changes() == [(3, "add-cidr", 0, 1), (2, "remove-cidr", 1, 0), (1, "add-cidr", 0, 1)]

    asyncio.run(run())


def test_changes_that_wait_for_a_disk_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr("trafficmond.history.MOST_WAITING", 2)
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            with monkeypatch.context() as full:
                full.setattr("trafficmond.files.append", Mock(side_effect=OSError(28, "No space left on device")))
                await ask("AddCidr", cidr="203.0.113.0/24", action="drop")
                await ask("RemoveCidr", cidr="203.0.113.0/24")
                await ask("AddCidr", cidr="198.51.100.0/24", action="drop")
            await ask.parts.follow_rules()
            assert await ask.changes() == [(2, "remove-cidr", 1, 1), (1, "add-cidr", 0, 1)]
            assert [each["cidr"] for each in await ask.rules(2)] == [["198.51.100.0/24"]]

    asyncio.run(run())


def test_a_file_that_cannot_be_shortened_has_each_change_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr("trafficmond.history.MOST_CHANGES", 0)
        async with asking(tmp_path) as ask:
            await ask.parts.follow_rules()
            with monkeypatch.context() as full:
                full.setattr("trafficmond.files.replace", Mock(side_effect=OSError(28, "No space left on device")))
                await ask("AddCidr", cidr="203.0.113.0/24", action="drop")
                await ask.parts.follow_rules()
            assert await ask.changes() == [(1, "add-cidr", 0, 1)]

    asyncio.run(run())

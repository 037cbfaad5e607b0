"""Reloading: refused, failed or recorded, it is always said to be over. (Whole daemons: tests/lab.)"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from opened_store import flushed
from parts_fake import FakeDatapath, close, listen, make_parts

from trafficmond.control.peers import Caller
from trafficmond.errors import ConfigError, DatapathError, StoreError
from trafficmond.parts import Parts
from trafficmond.reloader import Reloader
from trafficmond.sdnotify import ServiceManager
from trafficmond.store.records import AuditEntry

RULE = '[[rule]]\ncidr = "192.0.2.0/24"\naction = "drop"\n'


class Told(ServiceManager):
    """What the service manager was told."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[str] = []

    def _send(self, state: str) -> None:
        self.states.append(state)


@asynccontextmanager
async def reloading(folder: Path) -> AsyncIterator[tuple[Reloader, Parts, FakeDatapath, Told]]:
    parts, datapath, _ = make_parts(folder)
    parts.manager = told = Told()
    try:
        await parts.rulebook.load()
        yield Reloader(parts), parts, datapath, told
    finally:
        close(parts)


def full(_: Any) -> None:
    raise DatapathError("no memory")


@pytest.mark.parametrize("broken", [False, True])
def test_a_reload_that_is_refused_is_said_and_over(
    tmp_path: Path, broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with reloading(tmp_path) as (subject, parts, datapath, told):
            said, options, settings = listen(parts), datapath.options, parts.settings
            (tmp_path / "cidr.d" / "a.toml").write_text(RULE.replace("drop", "lose") if broken else RULE)
            with (tmp_path / "trafficmond.toml").open("a") as file:
                file.write("[policy]\ndrop_malformed = true\n")
            monkeypatch.setattr(datapath.tables, "put", full)
            subject.schedule("asked")
            await parts.tasks.close(10)
            why = str(parts.rulebook.error) if broken else parts.warnings["reload"]
            assert ("a.toml:3" if broken else "no memory") in why
            assert len(said) == 1
            assert told.states[0].startswith("RELOADING=1")
            assert "refused" in told.states[1]  # or the service manager would wait for the end of the reload
            assert (parts.settings, datapath.options) == (settings, options), "all is as before"

    asyncio.run(run())


def test_a_reload_that_fails_beyond_expectation_is_over_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with reloading(tmp_path) as (subject, parts, _, told):
            monkeypatch.setattr(parts.rulebook, "settings_of", lambda *_: 1 / 0)
            said = listen(parts)
            subject.schedule("asked")
            await parts.tasks.close(10)
            assert said == ["reading the files again failed (asked)"]
            assert len(told.states) == 2

    asyncio.run(run())


@pytest.mark.parametrize(
    ("caller", "who"),
    [
        (Caller(0, 0, 77, "root", "ada"), (0, "root", 77, "ada")),
        (None, (os.getuid(), "files changed", os.getpid(), None)),
    ],
)
def test_a_reload_is_recorded_with_what_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caller: Caller | None, who: tuple[int, str, int, str | None]
) -> None:
    async def run() -> None:
        async with reloading(tmp_path) as (subject, parts, _, _):
            said, recorded = listen(parts), list[AuditEntry]()

            def audit(change: AuditEntry) -> Future[None]:
                recorded.append(change)
                done: Future[None] = Future()
                done.set_exception(StoreError("the disk is full"))
                return done

            monkeypatch.setattr(parts.store, "audit", audit)
            with (tmp_path / "trafficmond.toml").open("r+") as file:
                text = file.read()
                file.seek(0)
                file.write('on_stop = "keep"\n' + text + '[store]\nmax_age = "1h"\n')
            (tmp_path / "cidr.d" / "a.toml").write_text(RULE)
            told = await subject.reload("files changed", caller)
            (change,) = recorded
            assert (change.uid, change.user, change.pid, change.login) == who
            assert (change.change, change.subject) == ("reload", str(tmp_path / "trafficmond.toml"))
            assert change.before == "0 rules; on_stop = detach; store.max_age = 2592000.0"
            assert change.after == "1 rule, 1 prefix (1 added); on_stop = keep; store.max_age = 3600.0"
            assert told[0] == "0 rules -> 1 rule, 1 prefix (1 added)"
            assert "not stored in flows.db yet" in said[-1]
            assert parts.settings.on_stop == "keep"

    asyncio.run(run())


def test_a_corrected_file_is_recorded_by_what_is_different(tmp_path: Path) -> None:
    async def run() -> None:
        async with reloading(tmp_path) as (subject, parts, _, _):
            said, path = listen(parts), tmp_path / "cidr.d" / "a.toml"
            path.write_text(RULE)
            await subject.reload("files changed")
            path.write_text(RULE.replace("drop", "drip"))
            with pytest.raises(ConfigError):
                await subject.reload("files changed")
            path.write_text(RULE)
            assert await subject.reload("files changed") == []
            assert said[-1] == "the files are valid again: 1 rule, 1 prefix in force; files changed"
            path.write_text(RULE.replace("drop", "allow"))
            assert await subject.reload("files changed") == ["1 rule, 1 prefix (1 removed, 1 added)"]
            assert said[-1] == "1 rule, 1 prefix in force (before: 1 rule, 1 prefix; 1 removed, 1 added); files changed"
            path.write_text("# moved down a line\n" + RULE.replace("drop", "allow"))
            await subject.reload("files changed")
            assert flushed(parts.store, 5)
            with closing(sqlite3.connect(parts.store.path)) as db:
                rows = db.execute("SELECT before, after FROM audit ORDER BY at").fetchall()
            assert rows == [
                ("0 rules", "1 rule, 1 prefix (1 added)"),
                ("1 rule, 1 prefix", "1 rule, 1 prefix (1 removed, 1 added)"),
            ]

    asyncio.run(run())


def test_a_storm_of_changes_is_a_reload_at_a_time_and_one_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with reloading(tmp_path) as (subject, parts, _, _):
            reloaded: list[str] = []

            async def reload(why: str) -> None:
                await asyncio.sleep(0.05)
                reloaded.append(why)

            monkeypatch.setattr(subject, "reload", reload)
            end = asyncio.get_running_loop().time() + 1.0
            number = 0
            while asyncio.get_running_loop().time() < end:
                number += 1
                subject.schedule(f"change {number}")
                assert len(parts.tasks) <= 1
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.6)
            assert 2 <= len(reloaded) <= 8
            assert reloaded[-1] == f"change {number}", "the last change is seen"

    asyncio.run(run())


def test_what_is_saved_twice_is_read_twice_at_once_and_a_storm_with_rests(tmp_path: Path) -> None:
    async def run() -> None:
        async with reloading(tmp_path) as (subject, _, _, _):
            now, rests = subject._since, []
            for _ in range(30):
                rests.append(subject._rest(now, now + 0.05))
                now += 0.05 + rests[-1]
            assert rests[:2] == [0.0, 0.0]
            assert rests[-1] == pytest.approx(0.2), "short readings are four a second"
            assert subject._rest(now, now + 2.0) == pytest.approx(4.0), "long ones a third of the time"
            assert subject._rest(now + 60.0, now + 60.05) == 0.0, "when it is over, that is forgotten"

    asyncio.run(run())


def test_what_is_as_it_was_is_neither_said_nor_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with reloading(tmp_path) as (subject, parts, _, _):
            said = listen(parts)
            monkeypatch.setattr(parts.store, "audit", lambda _: 1 / 0)  # nothing is recorded there
            assert await subject.reload("files changed") == []
            assert said == []
            (tmp_path / "cidr.d" / "a.toml").write_text("nonsense")
            for _ in range(3):
                with pytest.raises(ConfigError):
                    await subject.reload("files changed")
            assert len(said) == 1, "the same mistake is said once"
            (tmp_path / "cidr.d" / "a.toml").unlink()
            await subject.reload("files changed")
            assert "the files are valid again" in said[-1]

    asyncio.run(run())

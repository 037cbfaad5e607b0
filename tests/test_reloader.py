"""Reloading: refused, failed or recorded, it is always said to be over. (Whole daemons: tests/lab.)"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from daemon_parts import made

from trafficmond import reloader
from trafficmond.config.settings import Settings, Store
from trafficmond.control.view import Caller
from trafficmond.errors import ConfigError, DatapathError, Mistake, StoreError
from trafficmond.store.records import Change


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (DatapathError("no memory"), lambda subject: subject.warnings["reload"]),
        (ConfigError([Mistake("a:1", "wrong")]), lambda subject: str(subject.rulebook.error)),
    ],
)
def test_a_reload_that_is_refused_is_said_and_over(
    tmp_path: Path, error: Exception, where: Callable[[Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloader, "load_settings", lambda *_, **__: Settings())

    async def run() -> None:
        subject, notes = made(tmp_path)
        told: list[str] = []
        subject.notifier = SimpleNamespace(reloading=lambda: told.append("reloading"), ready=told.append)

        async def load(*_: Any) -> None:
            raise error

        subject.rulebook.load = load
        subject.begun.set()
        subject.reloader.soon("asked")
        await asyncio.gather(*subject._tasks)
        assert str(error) in where(subject)
        assert len(notes.said) == 1
        assert told[0] == "reloading"
        assert "refused" in told[1]  # or the service manager would wait for the end of the reload

    asyncio.run(run())


def test_a_reload_that_fails_beyond_expectation_is_over_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloader, "load_settings", lambda *_, **__: 1 / 0)

    async def run() -> None:
        subject, notes = made(tmp_path)
        told: list[str] = []
        subject.notifier = SimpleNamespace(reloading=lambda: None, ready=told.append)
        subject.begun.set()
        subject.reloader.soon("asked")
        await asyncio.gather(*subject._tasks)
        assert notes.said == ["reading the files again failed (asked)"]
        assert len(told) == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("caller", "who"),
    [(Caller(1000, 1000, 77, "ada"), (1000, "ada", 77)), (None, (os.getuid(), "files changed", os.getpid()))],
)
def test_a_reload_is_recorded_with_what_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caller: Caller | None, who: tuple[int, str, int]
) -> None:
    async def run() -> None:
        subject, _ = made(tmp_path)
        new = replace(subject.settings, on_stop="keep", store=Store(max_age=3600.0))
        monkeypatch.setattr(reloader, "load_settings", lambda *_, **__: new)
        subject.rulebook.in_force = SimpleNamespace(policy=SimpleNamespace(rules=(), starts=[0], notes=()))
        recorded: list[Change] = []

        def audit(change: Change) -> Future[None]:
            recorded.append(change)
            done: Future[None] = Future()
            done.set_exception(StoreError("the disk is full"))
            return done

        async def load(*_: Any) -> Any:
            return SimpleNamespace(policy=SimpleNamespace(rules=(), starts=[0], notes=()), generation=2)

        subject.store = SimpleNamespace(audit=audit)
        subject.rulebook.load = load
        subject.reloader._adopt = lambda _: []
        await subject.reloader.reload("files changed", caller)
        (change,) = recorded
        assert (change.uid, change.user, change.pid) == who
        assert (change.change, change.subject) == ("reload", "defaults")
        assert change.before == "0 rules; on_stop = detach; store.max_age = 2592000.0"
        assert change.after == "0 rules; on_stop = keep; store.max_age = 3600.0"

    asyncio.run(run())


def test_a_storm_of_changes_is_a_reload_at_a_time_and_one_more(tmp_path: Path) -> None:
    async def run() -> None:
        subject, _ = made(tmp_path)
        subject.begun.set()
        reloaded: list[str] = []

        async def reload(why: str) -> None:
            await asyncio.sleep(0.05)
            reloaded.append(why)

        subject.reloader.reload = reload
        end = asyncio.get_running_loop().time() + 1.0
        number = 0
        while asyncio.get_running_loop().time() < end:
            number += 1
            subject.reloader.soon(f"change {number}")
            assert len(subject._tasks) <= 1
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.6)
        assert 2 <= len(reloaded) <= 6
        assert reloaded[-1] == f"change {number}", "the last change is seen"

    asyncio.run(run())


def test_what_is_as_it_was_is_neither_said_nor_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        subject, notes = made(tmp_path)
        monkeypatch.setattr(reloader, "load_settings", lambda *_, **__: subject.settings)
        wrong: list[Exception] = []

        async def load(*_: Any) -> Any:
            if wrong:
                raise wrong[0]
            return subject.rulebook.in_force

        subject.rulebook.in_force = SimpleNamespace(
            policy=SimpleNamespace(rules=(), starts=[0], notes=()), generation=2
        )
        subject.rulebook.load = load
        subject.store = None  # nothing is recorded there
        assert await subject.reloader.reload("files changed") == []
        assert notes.said == []
        wrong.append(ConfigError([Mistake("a:1", "wrong")]))
        for _ in range(3):
            with pytest.raises(ConfigError):
                await subject.reloader.reload("files changed")
        assert len(notes.said) == 1, "the same mistake is said once"
        wrong.clear()
        await subject.reloader.reload("files changed")
        assert "in order again" in notes.said[-1]

    asyncio.run(run())


def test_a_reload_waits_for_the_start_to_end(tmp_path: Path) -> None:
    async def run() -> None:
        subject, _ = made(tmp_path)
        reloaded: list[str] = []

        async def reload(why: str) -> None:
            reloaded.append(why)

        subject.reloader.reload = reload
        subject.reloader.soon("SIGHUP")
        await asyncio.sleep(0.01)
        assert reloaded == []
        subject.begun.set()
        await asyncio.gather(*subject._tasks)
        assert reloaded == ["SIGHUP"]

    asyncio.run(run())

"""The loop: what is begun is ended, and what fails is said and tried again. (Whole daemons: tests/lab.)"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trafficmond import daemon
from trafficmond.config.flags import parse_flags
from trafficmond.config.settings import Settings, Store
from trafficmond.control.view import Caller
from trafficmond.daemon import Daemon
from trafficmond.errors import ConfigError, DatapathError, Mistake, StoreError
from trafficmond.store.records import Change


class Notes:
    """Hears what the daemon and its pipeline say."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, _message: Any, text: str, _fields: Any = None) -> None:
        self.said.append(text)

    def report_failure(self, text: str) -> None:
        self.said.append(text)


def made(tmp_path: Path) -> tuple[Any, Notes]:
    """A daemon with parts that a test replaces."""
    notes, subject = Notes(), Daemon(Settings(cidr_dir=tmp_path, state_dir=tmp_path), parse_flags([]))
    parts: Any = subject
    parts.sinks = notes
    parts.pipeline = SimpleNamespace(steps=lambda *_: iter(()), report_failure=notes.report_failure, table=())
    parts.datapath = SimpleNamespace(
        options=None,
        configure=lambda _: None,
        drain=lambda: "deltas",
        attached={},
        accounting=lambda: SimpleNamespace(seen=SimpleNamespace(packets=0)),
    )
    parts.rulebook = SimpleNamespace(in_force=None, error=None, guard=())
    parts.network = SimpleNamespace(guard=lambda *_: [])
    return parts, notes


def test_a_drain_is_ended_although_who_asked_for_it_has_gone(tmp_path: Path) -> None:
    async def run() -> None:
        subject, _ = made(tmp_path)
        done: list[str] = []

        def steps(*_: Any) -> Iterator[None]:
            for name in ("count", "emit", "detect", "store"):
                done.append(name)
                yield

        subject.pipeline.steps = steps
        asked = asyncio.create_task(subject.tick())
        while not done:
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
        await subject.tick()  # the next waits for the first to end
        assert done == ["count", "emit", "detect", "store"] * 2

    asyncio.run(run())


def test_a_drain_that_fails_is_said(tmp_path: Path) -> None:
    async def run() -> None:
        subject, notes = made(tmp_path)
        subject.datapath.drain = lambda: 1 / 0
        await subject.tick()
        assert notes.said == ["a drain of the ledger failed; the next goes on"]

    asyncio.run(run())


def test_housekeeping_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "_HOUSEKEEPING_S", 0.01)

    async def run() -> None:
        subject, notes = made(tmp_path)
        subject.datapath.clock = SimpleNamespace(calibrate=lambda: 1 / 0)
        keeping = asyncio.create_task(subject._keep_house())
        await asyncio.sleep(0.1)
        assert not keeping.done()
        assert len(notes.said) > 1
        subject._stop.set()
        await asyncio.wait_for(keeping, 1)

    asyncio.run(run())


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
    monkeypatch.setattr(daemon, "load_settings", lambda *_, **__: Settings())

    async def run() -> None:
        subject, notes = made(tmp_path)
        told: list[str] = []
        subject._notifier = SimpleNamespace(reloading=lambda: told.append("reloading"), ready=told.append)

        async def load(*_: Any) -> None:
            raise error

        subject.rulebook.load = load
        subject._begun.set()
        subject._reload_soon("asked")
        await asyncio.gather(*subject._tasks)
        assert str(error) in where(subject)
        assert len(notes.said) == 1
        assert told[0] == "reloading"
        assert "refused" in told[1]  # or the service manager would wait for the end of the reload

    asyncio.run(run())


def test_a_reload_that_fails_beyond_expectation_is_over_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "load_settings", lambda *_, **__: 1 / 0)

    async def run() -> None:
        subject, notes = made(tmp_path)
        told: list[str] = []
        subject._notifier = SimpleNamespace(reloading=lambda: None, ready=told.append)
        subject._begun.set()
        subject._reload_soon("asked")
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
        monkeypatch.setattr(daemon, "load_settings", lambda *_, **__: new)
        recorded: list[Change] = []

        def audit(change: Change) -> Future[None]:
            recorded.append(change)
            done: Future[None] = Future()
            done.set_exception(StoreError("the disk is full"))
            return done

        async def load(*_: Any) -> Any:
            return SimpleNamespace(policy=SimpleNamespace(rules=(), starts=[0]), generation=2)

        subject.store = SimpleNamespace(audit=audit)
        subject.rulebook.load = load
        subject._adopt = lambda _: []
        await subject.reload("files changed", caller)
        (change,) = recorded
        assert (change.uid, change.user, change.pid) == who
        assert (change.change, change.subject) == ("reload", "defaults")
        assert change.before == "0 rules; on_stop = detach; store.max_age = 2592000.0"
        assert change.after == "0 rules; on_stop = keep; store.max_age = 3600.0"

    asyncio.run(run())


def test_a_reload_waits_for_the_start_to_end(tmp_path: Path) -> None:
    async def run() -> None:
        subject, _ = made(tmp_path)
        reloaded: list[str] = []

        async def reload(why: str) -> None:
            reloaded.append(why)

        subject.reload = reload
        subject._reload_soon("SIGHUP")
        await asyncio.sleep(0.01)
        assert reloaded == []
        subject._begun.set()
        await asyncio.gather(*subject._tasks)
        assert reloaded == ["SIGHUP"]

    asyncio.run(run())


def test_bans_of_a_moment_are_stored_once(tmp_path: Path) -> None:
    async def run() -> None:
        subject, _ = made(tmp_path)
        stored: list[list[str]] = []
        bans = ["a"]
        subject.datapath.configure = lambda _: None
        subject.datapath.options = None
        subject.bans = SimpleNamespace(all=lambda: list(bans))
        subject.store = SimpleNamespace(save_bans=stored.append)
        subject._bans_changed()
        bans.append("b")
        subject._bans_changed()
        await asyncio.sleep(0)
        assert stored == [["a", "b"]]
        subject._save_bans()  # at the end: nothing new
        assert len(stored) == 1

    asyncio.run(run())


@pytest.mark.parametrize(("guard", "refreshed"), [([("192.0.2.1/32", "own address")], False), ([], True)])
def test_other_lifelines_make_the_rules_anew(tmp_path: Path, guard: list[tuple[str, str]], refreshed: bool) -> None:
    async def run() -> None:
        subject, notes = made(tmp_path)
        subject.look_at_interfaces = subject.refresh_names = lambda: None
        asked: list[str] = []

        async def refresh() -> None:
            asked.append("refresh")
            raise DatapathError("no memory")

        subject.rulebook.guard, subject.rulebook.refresh = [("192.0.2.1/32", "own address")], refresh
        subject.network.guard = lambda *_: guard
        subject._network_changed()
        await asyncio.gather(*subject._tasks)
        assert bool(asked) is refreshed
        assert len(notes.said) == refreshed, "what goes wrong is said, and ends nothing"

    asyncio.run(run())


@pytest.mark.parametrize("ended", [False, True])
def test_who_has_logged_out_is_guarded_no_longer(tmp_path: Path, ended: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "_HOUSEKEEPING_S", 0.01)

    async def run() -> None:
        subject, _ = made(tmp_path)
        subject._tidy = lambda _now: None
        subject.refresh_names = lambda: None
        subject.bans = SimpleNamespace(forced=lambda: {"these"})
        done: list[Any] = []

        async def force_bans(networks: Any) -> None:
            done.append(networks)

        async def refresh() -> None:
            done.append("refresh")

        subject.rulebook.force_bans, subject.rulebook.refresh = force_bans, refresh
        subject.network.sessions_ended = lambda: ended
        keeping = asyncio.create_task(subject._keep_house())
        while len(done) < 2:
            await asyncio.sleep(0.01)
        subject._stop.set()
        await asyncio.wait([keeping])
        assert done[:2] == [{"these"}, "refresh" if ended else {"these"}]

    asyncio.run(run())

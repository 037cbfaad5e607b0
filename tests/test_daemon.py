"""The loop: what is begun is ended, and what fails is said and tried again. (Whole daemons: tests/lab.)"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from daemon_parts import made

from trafficmond import daemon
from trafficmond.errors import DatapathError


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
        while len(notes.said) < 2:
            assert not keeping.done()
            await asyncio.sleep(0.01)
        subject._stop.set()
        await asyncio.wait_for(keeping, 10)

    asyncio.run(run())


def test_only_bans_that_changed_are_stored(tmp_path: Path) -> None:
    subject, _ = made(tmp_path)
    stored: list[tuple[list[str], list[str]]] = []
    subject.store = SimpleNamespace(change_bans=lambda put, gone: stored.append((list(put), list(gone))))
    subject._bans_changed(["a"], [])
    subject._bans_changed([], ["b"])
    subject._bans_changed([], [])  # the kernel's table alone has changed
    assert stored == [(["a"], []), ([], ["b"])]


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
        subject.rulebook.tidy = lambda: asyncio.sleep(0)
        subject.network.sessions_ended = lambda: ended
        keeping = asyncio.create_task(subject._keep_house())
        while len(done) < 2:
            await asyncio.sleep(0.01)
        subject._stop.set()
        await asyncio.wait([keeping])
        assert done[:2] == [{"these"}, "refresh" if ended else {"these"}]

    asyncio.run(run())

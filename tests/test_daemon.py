"""The life: what is begun is ended, and what fails is said and tried again. (Whole daemons: tests/lab.)"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from parts_fake import FakeDatapath, FakeProtected, close, listen, make_parts

from trafficmond import daemon
from trafficmond.control.listen import open_socket
from trafficmond.daemon import Daemon
from trafficmond.errors import DatapathError
from trafficmond.parts import Parts
from trafficmond.signals import Signals


@asynccontextmanager
async def living(folder: Path) -> AsyncIterator[tuple[Daemon, Parts, FakeDatapath, FakeProtected, Signals]]:
    parts, datapath, protected = make_parts(folder)
    signals = Signals()
    try:
        await parts.rulebook.load()
        yield Daemon(parts, signals), parts, datapath, protected, signals
    finally:
        close(parts)


async def until(true: Any) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


def test_housekeeping_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "_HOUSEKEEPING_S", 0.01)

    async def run() -> None:
        async with living(tmp_path) as (subject, parts, datapath, _, signals):
            said = listen(parts)
            monkeypatch.setattr(datapath.clock, "calibrate", lambda: 1 / 0)
            keeping = asyncio.create_task(subject._housekeeping())
            await until(lambda: len(said) > 1 or keeping.done())
            assert set(said) == {"housekeeping failed; will retry"}
            signals.stop.set()
            await asyncio.wait_for(keeping, 10)

    asyncio.run(run())


@pytest.mark.parametrize("ended", [False, True])
def test_who_has_logged_out_is_guarded_no_longer(tmp_path: Path, ended: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "_HOUSEKEEPING_S", 0.01)

    async def run() -> None:
        async with living(tmp_path) as (subject, parts, _, protected, signals):
            forced: list[Any] = []

            async def force_bans(networks: Any) -> None:
                forced.append(networks)

            monkeypatch.setattr(parts.rulebook, "force_bans", force_bans)
            assert parts.rulebook.in_force
            protected.ended, generation = ended, parts.rulebook.in_force.generation
            keeping = asyncio.create_task(subject._housekeeping())
            await until(lambda: len(forced) > 2)
            signals.stop.set()
            await asyncio.wait_for(keeping, 10)
            assert (parts.rulebook.in_force.generation > generation) is ended

    asyncio.run(run())


def test_it_serves_from_the_start_to_the_stop_and_reads_again_what_was_asked_in_between(tmp_path: Path) -> None:
    """A SIGHUP in mid-start finds something to read once there is."""

    async def run() -> None:
        async with living(tmp_path) as (subject, parts, datapath, _, signals):
            said, path = listen(parts), tmp_path / "io.trafficmon"
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.wait_for(signals.reload.wait(), 10)
            (tmp_path / "cidr.d" / "a.toml").write_text('[[rule]]\ncidr = "192.0.2.0/24"\naction = "drop"\n')
            life = asyncio.create_task(subject.run(open_socket(path, {})))
            await until(lambda: any("1 rule, 1 prefix in force" in text for text in said) or life.done())
            assert path.is_socket()
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(life, 10)
            assert not path.exists()
            assert len(parts.tasks) == 0
            assert said[0] == f"trafficmon {daemon.__version__} watches eth0 (libbpf)"
            assert datapath.tables.installed == 2

    asyncio.run(run())


def test_only_bans_that_changed_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with living(tmp_path) as (_, parts, _, _, _):
            stored: list[tuple[Any, Any]] = []
            monkeypatch.setattr(parts.store, "change_bans", lambda put, gone: stored.append((put, gone)))
            parts.bans._changed(["a"], [])  # type: ignore[list-item]
            parts.bans._changed([], [("b", "root")])
            parts.bans._changed([], [])  # the kernel's table alone has changed
            assert stored == [(["a"], []), ([], [("b", "root")])]

    asyncio.run(run())


@pytest.mark.parametrize(("now", "refreshed"), [([("192.0.2.1/32", "own address")], False), ([], True)])
def test_other_lifelines_make_the_rules_anew(
    tmp_path: Path, now: list[tuple[str, str]], refreshed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        parts, datapath, protected = make_parts(tmp_path, [("192.0.2.1/32", "own address")])
        await parts.rulebook.load()
        said, protected.lifelines = listen(parts), now

        def refuse(_: Any) -> None:
            raise DatapathError("no memory")

        monkeypatch.setattr(datapath.tables, "put", refuse)
        monkeypatch.setattr("trafficmond.ruleset.patched", lambda *_: None)  # all is compiled
        parts.host.changed()
        assert bool(parts.tasks) is refreshed
        await parts.tasks.close(10)
        assert len(said) == refreshed, "what goes wrong is said, and ends nothing"
        assert datapath.tables.installed == 1
        close(parts)

    asyncio.run(run())

"""Real deliveries by commands: what fails says why and gives nothing away, and nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import stat
import tracemalloc
from pathlib import Path

import pytest
from notifier_targets import threat

from trafficmond.notifier import command as ways
from trafficmond.notifier.command import Command, Undelivered
from trafficmond.notifier.message import compose
from trafficmond.notifier.news import News
from trafficmond.notifier.settings import Settings, Target
from trafficmond.notifier.transports import transports

MESSAGE = compose("web1", [News(1, 0.0, "opened", threat())])


def script(path: Path, text: str) -> tuple[str, ...]:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return (str(path),)


def test_a_command_gets_the_message(tmp_path: Path) -> None:
    command = script(tmp_path / "told", f'cat >{tmp_path}/got; echo "$1" >{tmp_path}/argument')
    settings = Settings(targets=(Target(name="it", command=(*command, "--urgent")),))
    transports(settings, "notify.toml")["it"].deliver(MESSAGE)
    got = json.loads((tmp_path / "got").read_text())
    assert (got["host"], got["level"], got["count"], got["test"]) == ("web1", "failure", 1, False)
    assert (got["threats"][0]["src_ip"], got["threats"][0]["news"]) == ("203.0.113.1", ["opened"])
    assert (tmp_path / "argument").read_text() == "--urgent\n"


def test_a_command_that_fails_says_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(Undelivered, match=r"ended with 3: no route$"):
        Command(script(tmp_path / "told", "echo well >&2; echo no route >&2; exit 3")).deliver(MESSAGE)
    with pytest.raises(Undelivered, match="cannot be run: No such file"):
        Command(("/nowhere/told",)).deliver(MESSAGE)


def test_a_command_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "COMMAND_S", 0.2)
    with pytest.raises(Undelivered, match="did not end within"):
        Command(script(tmp_path / "told", "exec sleep 30")).deliver(MESSAGE)


def test_a_command_that_hangs_leaves_nobody_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried again each minute, they would become ever more."""
    monkeypatch.setattr(ways, "COMMAND_S", 0.5)
    with pytest.raises(Undelivered, match="did not end within"):
        Command(script(tmp_path / "told", f"sleep 30 & echo $! >{tmp_path}/child; wait")).deliver(MESSAGE)
    with contextlib.suppress(ProcessLookupError):  # has been gone for long
        child = os.pidfd_open(int((tmp_path / "child").read_text()))
        assert select.select([child], [], [], 10)[0], "the child goes on"
        os.close(child)


def test_what_a_command_leaves_in_the_background_holds_nothing_up(tmp_path: Path) -> None:
    """As mailers and desktop notifiers do, their standard error still open: it has done its work."""
    Command(script(tmp_path / "told", f"sleep 30 & echo $! >{tmp_path}/child; exit 0")).deliver(MESSAGE)
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_a_command_may_say_as_much_as_it_likes(tmp_path: Path) -> None:
    command = Command(
        script(tmp_path / "told", "exec >&2; head -c 20000000 /dev/zero; echo; printf '\\033[2Jno route'; exit 1")
    )
    tracemalloc.start()
    try:
        with pytest.raises(Undelivered, match=r"ended with 1: \ufffd\[2Jno route$"):
            command.deliver(MESSAGE)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_nothing_of_a_commands_arguments_is_reported(tmp_path: Path) -> None:
    arguments = ("https://hook.example/T0KENT0KEN", "--header=Authorization: Bearer abc123", "plainword", "/etc/known")
    shell = 'echo "cannot reach $1 with $2, $3 or $4" >&2; exit 1'
    with pytest.raises(Undelivered) as refused:
        Command((*script(tmp_path / "told", shell), *arguments)).deliver(MESSAGE)
    for secret in ("hook.example", "T0KEN", "abc123", "plainword"):
        assert secret not in str(refused.value)
    assert "/etc/known" in str(refused.value)


def test_a_command_need_not_read(tmp_path: Path) -> None:
    Command(script(tmp_path / "told", "exit 0")).deliver(MESSAGE)

"""Completion as a person has it: bash, zsh and fish on a terminal of their own, completing from a live daemon."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tmlab import Daemon, Lab, Sender
from tmlab.daemon import PYTHON, ROOT
from tmlab.packets import tcp

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")
_SYN = 2
_TO_THE_START, _TO_THE_END = "\x01", "\x05"  # C-a and C-e, in all three


@dataclass(frozen=True)
class Shell:
    """How to start one that knows trafficctl's completion, given the folder it lies in."""

    name: str
    command: tuple[str, ...]
    setup: str  # typed first

    def missing(self) -> str:
        """Why it cannot be driven here; empty if it can."""
        if shutil.which(self.name) is None or (self.name == "bash" and not BASH_COMPLETION.exists()):
            return f"needs {self.name}; install: apt-get install zsh fish bash-completion"
        return ""


SHELLS = (
    Shell("bash", ("bash", "--norc", "-i"), f"source {BASH_COMPLETION}; source {{folder}}/trafficctl"),
    Shell("zsh", ("zsh", "-f", "-i"), "fpath=({folder} $fpath); autoload -U compinit && compinit -u -d {folder}/dump"),
    Shell("fish", ("fish", "--no-config", "-i"), "source {folder}/trafficctl.fish"),
)


class Terminal:
    """A shell that somebody types into."""

    def __init__(self, shell: Shell, folder: Path, environment: dict[str, str]) -> None:
        self._words = folder / "words"
        self._process, self._terminal = pty.fork()
        if not self._process:
            os.chdir(folder)
            os.execvpe(shell.command[0], shell.command, environment)
        self._read(lambda said: bool(said), "a prompt")
        self._type(f"{shell.setup.format(folder=folder)}; echo set''up\r")
        self._read(lambda said: "setup" in said, "the completion to be set up")

    def complete(self, typed: str) -> list[str]:
        """What the words of `typed` are after the Tab key."""
        self._type(f"{typed}\t{_TO_THE_START}printf '%s\\n' {_TO_THE_END} >{self._words}\rprintf 'e''nd\\n'\r")
        self._read(lambda said: "end" in said, f"the completion of {typed!r}")
        return self._words.read_text().splitlines()

    def _type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _read(self, enough: Callable[[str], bool], what: str) -> str:
        said, deadline = "", time.monotonic() + 20
        while not enough(said):
            if not select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"waited for {what}; the terminal shows {said!r}")
            said += os.read(self._terminal, 1 << 16).decode(errors="replace")
        return said

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._terminal)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated completions, and a trafficctl of this checkout."""
    made = tmp_path_factory.mktemp("shells")
    subprocess.run([sys.executable, str(ROOT / "packaging" / "generate"), str(made)], check=True)
    (made / "bin").mkdir()
    client = made / "bin" / "trafficctl"
    client.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" PYTHONDONTWRITEBYTECODE=1 exec {PYTHON} -m trafficctl "$@"\n')
    client.chmod(0o755)
    return made


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """With rules, a ban and a threat."""
    with Lab() as lab, Daemon(lab, '[flows]\ninterval = "200ms"') as running:
        link = lab.links[0]
        running.control("add-cidr", "203.0.113.0/24", "--label", "bad neighbours")
        running.control("add-cidr", "2001:db8:bad::/48", "--label", "six")
        running.control("ban", "192.0.2.200")
        with Sender(lab.outside, link.outside) as sender:
            sender.send([tcp("198.51.100.66", link.host_ip, 40000 + port, port, _SYN) for port in range(1, 129)])
        running.wait(lambda: running.ask("threats"), "a threat")
        yield running


@pytest.fixture(params=SHELLS, ids=lambda shell: shell.name)
def terminal(request: pytest.FixtureRequest, folder: Path, daemon: Daemon) -> Iterator[Terminal]:
    shell: Shell = request.param
    if shell.missing():
        pytest.skip(shell.missing())
    environment = {
        "PATH": f"{folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder),
        "TERM": "dumb",
        "LANG": "C.UTF-8",
        "TRAFFICMON_SOCKET": str(daemon.socket),
    }
    running = Terminal(shell, folder / "completions", environment)
    yield running
    running.close()


def test_what_the_daemon_knows_is_completed(terminal: Terminal, daemon: Daemon) -> None:
    (threat,) = daemon.ask("threats")
    for typed, completed in (
        ("trafficctl remove-cidr 203", ["trafficctl", "remove-cidr", "203.0.113.0/24"]),
        ("trafficctl remove-cidr 2001:d", ["trafficctl", "remove-cidr", "2001:db8:bad::/48"]),
        ("trafficctl flows --rule bad", ["trafficctl", "flows", "--rule", "bad neighbours"]),
        ("trafficctl unban 192", ["trafficctl", "unban", "192.0.2.200/32"]),
        (f"trafficctl threat {threat['id'][:3]}", ["trafficctl", "threat", threat["id"]]),
    ):
        assert terminal.complete(typed) == completed


def test_what_the_client_knows_is_completed(terminal: Terminal) -> None:
    for typed, completed in (
        ("trafficctl rem", ["trafficctl", "remove-cidr"]),
        ("trafficctl flows --gr", ["trafficctl", "flows", "--group-by"]),
        ("trafficctl flows --action dr", ["trafficctl", "flows", "--action", "drop"]),
        ("trafficctl -o csv add-cidr --dir", ["trafficctl", "-o", "csv", "add-cidr", "--direction"]),
    ):
        assert terminal.complete(typed) == completed


def test_the_socket_of_the_command_line_is_asked(terminal: Terminal, daemon: Daemon) -> None:
    for option in ("-s", "--socket"):
        typed = f"TRAFFICMON_SOCKET=/nowhere trafficctl {option} {daemon.socket} remove-cidr 203"
        terminal.complete("true")
        assert terminal.complete(typed)[-1:] == ["203.0.113.0/24"]


def test_the_guard_is_not_offered_for_removal(terminal: Terminal, daemon: Daemon) -> None:
    guarded = next(rule["cidr"] for rule in daemon.ask("rules") if rule["kind"] == "guard")
    typed = f"trafficctl remove-cidr {guarded[:5]}"
    assert terminal.complete(typed) == typed.split()


_USAGE = ("kernel", "(other)", "", "nginx.service", "user@1000.service")
_PROCESSES = ("curl", "Socket Thread", 'od"d')


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell.name)
def test_units_and_processes_are_those_that_the_sums_name(shell: Shell, tmp_path: Path) -> None:
    """From a daemon of months: its client's answer is written here."""
    if shell.missing():
        pytest.skip(shell.missing())
    subprocess.run([sys.executable, str(ROOT / "packaging" / "generate"), str(tmp_path)], check=True)
    (tmp_path / "bin").mkdir()
    client = tmp_path / "bin" / "trafficctl"
    lines = "".join(f'{{"period":null,"key":"{key}","flows":1}}\n' for key in _USAGE)
    processes = '{"process":null}\n' + "".join(json.dumps({"process": name}) + "\n" for name in _PROCESSES)
    client.write_text(
        f'#!/bin/sh\ncase "$*" in\n"-o jsonl usage --by unit") cat <<END\n{lines}END\n;;\n'
        f'"-o jsonl flows --since 1h --group-by process") cat <<END\n{processes}END\n;;\nesac\n'
    )
    client.chmod(0o755)
    path = f"{tmp_path / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
    terminal = Terminal(
        shell, tmp_path / "completions", {"PATH": path, "HOME": str(tmp_path), "TERM": "dumb", "LANG": "C.UTF-8"}
    )
    try:
        for typed, completed in (
            ("trafficctl flows --unit ker", "kernel"),
            ("trafficctl usage --unit ngi", "nginx.service"),
            ("trafficctl flows --unit user", "user@1000.service"),
            ("trafficctl flows --process cu", "curl"),
            ("trafficctl flows --process Soc", "Socket Thread"),
        ):
            assert terminal.complete(typed)[-1] == completed
    finally:
        terminal.close()

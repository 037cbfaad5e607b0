"""The live screen on a real terminal: tmux."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from control_fake import Running, serving
from ctl_runs import ROOT

SERVERS = itertools.count()  # a tmux server that was told to end takes a while; the next one is another


class Terminal:
    """trafficctl top in a tmux of its own."""

    def __init__(self, path: Path, width: int, height: int, more: str = "") -> None:
        self._server = f"trafficctl-{os.getpid()}-{next(SERVERS)}"
        environ = f"env TERM=screen-256color LANG=C.UTF-8 PYTHONPATH={shlex.quote(str(ROOT))} {more}"
        command = f"{environ} {sys.executable} -m trafficctl -s {shlex.quote(str(path))} top --interval 200ms"
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), command)
        self.tmux("set", "-g", "window-size", "manual")

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._server, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout

    def press(self, *names: str) -> None:
        self.tmux("send-keys", *names)

    def resize(self, width: int, height: int) -> None:
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def until(self, pattern: str) -> str:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            shown = self.tmux("capture-pane", "-p")
            if re.search(pattern, shown):
                return shown
            time.sleep(0.05)
        raise AssertionError(f"{pattern!r} was never shown; last:\n{shown}")

    def gone(self) -> bool:
        end = time.monotonic() + 30
        while self.tmux("list-sessions"):
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def close(self) -> None:
        self.tmux("kill-server")


@contextmanager
def terminal(path: Path, more: str = "") -> Iterator[Terminal]:
    if not shutil.which("tmux"):
        pytest.skip("needs tmux for a terminal to draw on; run: apt-get install tmux")
    made = Terminal(path, 80, 24, more)
    try:
        yield made
    finally:
        made.close()


def test_on_a_terminal(running: Running) -> None:
    with terminal(running.path) as screen_:
        shown = screen_.until(r"1\.43 MiB/s")
        assert "203.0.113.5:https" in shown
        assert "q quit" in shown.rstrip("\n").splitlines()[-1]
        screen_.press("s")
        screen_.until("by packets")
        screen_.press("/", "4", "4", "3", "Enter")
        screen_.until("only 443")
        end = time.monotonic() + 30  # it is drawn before the daemon is asked
        while running.canned.asked[-1][1].get("match") != "443":
            assert time.monotonic() < end, running.canned.asked[-1]
            time.sleep(0.05)
        screen_.press("b")
        screen_.until(r"ban \[1\] 192\.0\.2\.10")
        screen_.press("2")
        screen_.until("banned 203.0.113.5")
        screen_.press("j")
        screen_.press("?")
        screen_.until("pause and continue")
        screen_.press("x", "q")
        assert screen_.gone()


@pytest.mark.parametrize(("more", "colours"), [("", True), ("NO_COLOR=1", False)])
def test_colours_are_what_was_asked_for(running: Running, more: str, colours: bool) -> None:
    with terminal(running.path, more) as shown:
        shown.until("203.0.113.5:https")
        painted = set(re.findall(r"\x1b\[([\d;]+)m", shown.tmux("capture-pane", "-e", "-p")))
        assert any("7" in code.split(";") for code in painted)  # what is selected must be seen
        assert any({"31", "32", "33", "36"} & set(code.split(";")) for code in painted) == colours


@pytest.mark.parametrize(("width", "height"), [(60, 20), (200, 60)])
def test_a_terminal_that_changes_its_size(running: Running, width: int, height: int) -> None:
    with terminal(running.path) as screen_:
        screen_.until(r"1\.43 MiB/s")
        screen_.resize(width, height)
        shown = screen_.until(rf"^trafficmon .*\n(.*\n){{{height - 2}}}q quit.*\n$")
        assert "192.0.2.10 " in shown


def test_a_daemon_that_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "io.trafficmon"
    with contextlib.ExitStack() as stack:
        with serving(path):
            screen_ = stack.enter_context(terminal(path))
            screen_.until("q quit")
        screen_.until("cannot reach trafficmond")
        with serving(path):
            screen_.until("q quit")
            screen_.press("q")
            assert screen_.gone()

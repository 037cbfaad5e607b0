"""`top` on terminals of six kinds, and on none that is known: drawn with what each of them has, or printed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_fake import Running, serving

ROOT = Path(__file__).parents[2]

SHOWN = b"203.0.113.5"
MOVES = re.compile(rb"\x1b\[\d+;\d+H|\x1b\[\d*[A-HJK]")
COLOURS = re.compile(rb"\x1b\[(?:\d+;)*3[0-7]m")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path / "io.trafficmon") as running:
        yield running


def top(daemon: Running, term: str | None) -> tuple[int, bytes]:
    """Its exit status and all that it wrote, on a terminal of 80 columns; a screen is left with q."""
    child, terminal = pty.fork()
    if child == 0:
        environ = {
            name: value for name, value in os.environ.items() if name not in ("TERM", "NO_COLOR", "LINES", "COLUMNS")
        }
        environ |= {"PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"} | ({} if term is None else {"TERM": term})
        command = [sys.executable, "-m", "trafficctl", "-s", str(daemon.path), "top", "--interval", "100ms"]
        os.execvpe(sys.executable, command, environ)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    written, end = b"", time.monotonic() + 15
    with contextlib.suppress(OSError):  # EIO: it has ended
        while time.monotonic() < end:
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            written += os.read(terminal, 1 << 16)
            if SHOWN in written:
                os.write(terminal, b"q")
    if time.monotonic() >= end:
        os.kill(child, 9)
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), written


@pytest.mark.parametrize(
    ("term", "colours"), [("xterm-256color", True), ("screen", True), ("linux", True), ("vt100", False)]
)
def test_a_screen_is_drawn_with_what_the_terminal_has(daemon: Running, term: str, colours: bool) -> None:
    code, written = top(daemon, term)
    assert code == 0, written[-500:]
    assert SHOWN in written
    assert MOVES.search(written)
    assert bool(COLOURS.search(written)) == colours


@pytest.mark.parametrize("term", ["dumb", "no-such-terminal", None])
def test_what_cannot_be_drawn_on_is_printed_to(daemon: Running, term: str | None) -> None:
    code, written = top(daemon, term)
    assert code == 0, written[-500:]
    assert SHOWN in written
    assert not MOVES.search(written)

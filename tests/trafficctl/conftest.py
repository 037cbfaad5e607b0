"""A served fake daemon, and trafficctl as its users run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "control"))

from control_fake import Running, serving  # noqa: E402 - found through the path just added

Ctl = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path / "io.trafficmon") as served:
        yield served


@pytest.fixture
def ctl(running: Running, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ctl:
    """Runs trafficctl in this process, which is quicker; output and exit code are those of a run of its own."""
    from trafficctl import __main__ as command

    monkeypatch.setenv("TRAFFICMON_SOCKET", str(running.path))
    monkeypatch.setenv("TZ", "UTC")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        capfd.readouterr()
        try:
            code = command.run(list(arguments))
        except SystemExit as end:  # argparse
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(list(arguments), code, out, err)

    return run


@pytest.fixture
def ctl_process(running: Running) -> Ctl:
    """Runs trafficctl in a process of its own."""

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TRAFFICMON_SOCKET": str(running.path), **environ}
        command = [sys.executable, "-m", "trafficctl", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)

    return run

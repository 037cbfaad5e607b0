"""A served fake daemon, and trafficctl to ask it."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("control", "export")]

from control_fake import Running, serving
from ctl_runs import Ctl, command, environ


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path / "io.trafficmon") as served:
        yield served


@pytest.fixture
def ctl(running: Running, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ctl:
    """Runs trafficctl in this process, which is quicker; output and exit code are those of a run of its own."""
    from trafficctl import __main__ as main

    monkeypatch.setenv("TRAFFICMON_SOCKET", str(running.path))
    monkeypatch.setenv("TZ", "UTC")

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capfd.readouterr()
        try:
            code = main.run(list(arguments))
        except SystemExit as end:  # argparse
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(list(arguments), code, out, err)

    return run


@pytest.fixture
def ctl_process(running: Running) -> Ctl:
    """Runs trafficctl in a process of its own."""

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        env = environ(running.path, **more)
        return subprocess.run(command(*arguments), env=env, capture_output=True, text=True, timeout=30)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Settings, and a folder with a rules file, all valid."""
    (tmp_path / "cidr.d").mkdir()
    (tmp_path / "trafficmond.toml").write_text('interfaces = ["eth0"]\ncidr_dir = "cidr.d"\n')
    (tmp_path / "cidr.d" / "10.toml").write_text('[[rule]]\ncidr = "192.0.2.0/24"\naction = "drop"\n')
    return tmp_path

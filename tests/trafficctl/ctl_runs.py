"""trafficctl as its users run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
Ctl = Callable[..., "subprocess.CompletedProcess[str]"]


def command(*arguments: str) -> list[str]:
    """The command line of a trafficctl in a process of its own."""
    return [sys.executable, "-m", "trafficctl", *arguments]


def environ(socket: Path, **more: str) -> dict[str, str]:
    """The environment for it."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "TRAFFICMON_SOCKET": str(socket), **more}

"""The load begins before most of the daemon is imported: the first packet is judged so much sooner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LATE = (
    "asyncio",
    "sqlite3",
    "trafficmond.detect.registry",
    "trafficmond.parts",
    "trafficmond.policy",
    "trafficmond.store",
)


def imported(code: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def test_the_load_waits_for_little() -> None:
    found = imported("import trafficmond.__main__, trafficmond.start")
    assert "trafficmond.datapath.loading" in found
    assert not found & set(LATE)


def test_packets_do_not_wait_for_what_serves_clients() -> None:
    found = imported("import trafficmond.run")
    assert "trafficmond.parts" in found
    assert not found & {"trafficmond.daemon", "trafficmond.handlers", "trafficmond.control.server"}

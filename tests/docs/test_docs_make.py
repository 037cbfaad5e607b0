"""What `make TARGET` does when no variable is given: as its help says."""

import os
import shutil
import subprocess

import pytest
from docs_pages import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make: apt install make")


@pytest.mark.parametrize(
    ("target", "given", "runs"),
    [
        ("soak-idle", [], "--minutes 60"),
        ("soak-idle", ["MINUTES=2"], "--minutes 2"),
        ("fuzz", [], "fuzz.py 5"),
        ("world", [], "WORLD_SEEDS=20"),
        ("judged", [], "TRAFFICMON_JUDGED=1000000"),
    ],
)
def test_a_target_has_the_default_that_its_help_says(target: str, given: list[str], runs: str) -> None:
    clean = {"PATH": os.environ["PATH"]}
    command = ["make", "-n", target, *given]
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].rstrip().endswith(runs) or f"{runs} " in done.stdout, done.stdout[-400:]

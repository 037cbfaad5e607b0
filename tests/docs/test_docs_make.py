"""What `make TARGET` does when no variable is given: as its help says."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

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


def test_a_folder_with_a_space_in_its_name_builds(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    command = ["make", "-n", "build/libtmparse.so"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert f"-ffile-prefix-map={folder}=." in shlex.split(done.stdout)

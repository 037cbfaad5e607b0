"""Another revision of trafficmon beside this tree: `make bench COMPARE=REV` builds it and runs both in turns."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tmlab import LabError
from tmlab.daemon import ROOT

_VARIABLE = "COMPARE"
_FOLDER = ROOT / "build" / "earlier"


def earlier() -> Path | None:
    """The source of that revision, built; None where none is asked for. Raises LabError if it cannot be had."""
    revision = os.environ.get(_VARIABLE)
    if not revision:
        return None
    name = _said(["git", "rev-parse", "--short", f"{revision}^{{commit}}"], ROOT).strip()
    tree = _FOLDER / name
    if not (tree / "build" / "trafficmon.bpf.o").exists():
        tree.mkdir(parents=True, exist_ok=True)
        with subprocess.Popen(["git", "archive", name], cwd=ROOT, stdout=subprocess.PIPE) as archive:
            subprocess.run(["tar", "-x", "-C", str(tree)], stdin=archive.stdout, check=True)
        _said(["make", "-s", "build"], tree)
        byte_compile(tree)
    return tree


def byte_compile(tree: Path) -> None:
    """As the packages do when they are installed: else each start of a program compiles its modules again."""
    _said(["/usr/bin/python3", "-m", "compileall", "-q", "trafficmond", "trafficctl"], tree)


def _said(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(command)} in {folder} failed: {done.stderr.strip()[-500:]}")
    return done.stdout

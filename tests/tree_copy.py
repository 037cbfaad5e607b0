"""A temporary copy of the tree that a thing is added to; it counts the files that had to be touched by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_HOLDS = ("trafficmond", "trafficctl", "bpf", "docs", "etc", "packaging", "tests", "pyproject.toml", "Makefile")
_PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
_LINKED = ("build", ".venv")  # what is built of it, and nothing of which is written to


class TreeCopy:
    """`add` and `edit` are what a developer does; the rest is what shows whether that was all."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.touched: set[str] = set()
        for name in _HOLDS + _PAGES:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__", "lab", "bench"))
            else:
                shutil.copy(source, root / name)
        for name in _LINKED:
            (root / name).symlink_to((ROOT / name).resolve())

    def add(self, path: str, text: str) -> None:
        """A new file."""
        assert not (self.root / path).exists()
        (self.root / path).write_text(text)
        self.touched.add(path)

    def edit(self, path: str, *changes: tuple[str, str]) -> None:
        """Text that stands once in a file, and what follows it from now on."""
        text = (self.root / path).read_text()
        for after, more in changes:
            assert text.count(after) == 1, f"{path}: {after!r} stands {text.count(after)} times"
            text = text.replace(after, after + more)
        (self.root / path).write_text(text)
        self.touched.add(path)

    def replace(self, path: str, old: str, new: str) -> None:
        """Text that stands once in a file, and what stands there from now on."""
        text = (self.root / path).read_text()
        assert text.count(old) == 1, f"{path}: {old!r} stands {text.count(old)} times"
        (self.root / path).write_text(text.replace(old, new))
        self.touched.add(path)

    def build(self) -> None:
        """The data path of the copy, and abi.py, in a build folder of its own."""
        (self.root / "build").unlink()
        make = ["make", "-s", "-o", ".venv/.tools", "abi", "build"]
        before = (self.root / "trafficmond/abi.py").read_bytes()
        subprocess.run(make, cwd=self.root, check=True, capture_output=True)
        if (self.root / "trafficmond/abi.py").read_bytes() != before:
            self.touched.add("trafficmond/abi.py")

    def make_docs(self) -> None:
        """What `make docs` writes; nobody touches that by hand."""
        self.run("packaging/generate/pages.py")

    def run(self, *command: str, stdin: str = "") -> str:
        """Python with these arguments in the copy; what it prints. Fails with what it says if that ends badly."""
        environment = {**os.environ, "PYTHONPATH": str(self.root)}
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.root,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout

    def json(self, program: str) -> Any:
        """What a program prints, as JSON."""
        return json.loads(self.run("-c", program))

    def tests_pass(self, *paths: str) -> None:
        """These tests, in the copy."""
        self.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *paths)

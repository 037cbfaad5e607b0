"""A copy of this tree for a test to change: what it takes to add a thing is what differs in the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Copy:
    """All files of the repository, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = subprocess.run(
            ["git", "-C", ROOT, "ls-files", "-zco", "--exclude-standard"], capture_output=True, check=True
        ).stdout
        self._before: dict[str, bytes] = {}
        for name in names.decode().split("\0"):
            source = ROOT / name
            if source.is_file() and not source.is_symlink():
                self._before[name] = source.read_bytes()
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(self._before[name])

    def write(self, name: str, text: str) -> None:
        """A new file."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def replace(self, name: str, old: str, new: str) -> None:
        """Of a file that is there."""
        text = (self.folder / name).read_text()
        assert text.count(old) == 1, f"{name} has {text.count(old)} times {old!r}"
        (self.folder / name).write_text(text.replace(old, new))

    def run(self, *arguments: str) -> str:
        """What the copy's Python prints, which must end well."""
        return self._run(sys.executable, "-B", *arguments)

    def make(self, *targets: str) -> None:
        """These targets of the copy, with the tools that are here."""
        (self.folder / ".venv").symlink_to((ROOT / ".venv").resolve())
        self._run("make", "-s", "-o", ".venv/.tools", *targets)

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def test(self, *names: str) -> None:
        """These tests of the copy pass."""
        self.run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *names)

    def changed(self) -> list[str]:
        """The files that are new or other now."""
        ours = {".py", ".h", ".c", ".md", ".varlink", ".toml", ".json", ".yml", ".in"}
        found = {str(path.relative_to(self.folder)): path for path in self.folder.rglob("*") if path.suffix in ours}
        made = ("build/", ".venv/", ".hypothesis/")
        return sorted(
            name
            for name, path in found.items()
            if not name.startswith(made) and self._before.get(name) != path.read_bytes()
        )

"""README.md and docs/ as texts: links lead somewhere, and nothing that can be used goes unmentioned."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docs_pages import PAGES, ROOT, Command, File, anchors, links, steps

from trafficctl.parser import COMMANDS
from trafficmond.config.declare import TableSpec, declared
from trafficmond.config.settings import Settings

TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_the_index_has_every_page() -> None:
    index = {link.partition("#")[0] for link in links(ROOT / "docs" / "README.md")}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} <= index


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_shown(command: str) -> None:
    shown = [step.text for page in PAGES for step in steps(page) if isinstance(step, Command)]
    assert any(re.search(rf"\btrafficctl (-o \w+ )?{command}\b", text) for text in shown)


def settings(cls: type[Any]) -> Iterator[str]:
    """Every key of a TOML file that `cls` declares."""
    for key, (_, spec) in declared(cls).items():
        yield key
        if isinstance(spec, TableSpec):
            yield from settings(spec.cls)


@pytest.mark.parametrize("key", sorted(set(settings(Settings))))
def test_every_setting_is_mentioned(key: str) -> None:
    assert re.search(rf"[`\[.]{re.escape(key)}\b", TEXT)


def test_a_page_is_taken_apart_as_a_reader_would(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ one\nsaid\n$ two \\\n  more # exit 3\n$ cat > x <<'END'\n$ text\nEND\n```\n"
        "```toml\n# /etc/trafficmon/x.toml\na = 1\n```\n```sh\n# a remark\nthree   # why\n```\n"
    )
    assert steps(page) == [
        Command(2, "one"),
        Command(4, "two \\\n  more", 3),
        Command(6, "cat > x <<'END'\n$ text\nEND"),
        File(11, "/etc/trafficmon/x.toml", "# /etc/trafficmon/x.toml\na = 1\n"),
        Command(16, "three   # why"),
    ]


def test_the_client_of_a_checkout_runs_nothing_of_the_folder_it_is_used_in(tmp_path: Path) -> None:
    """It runs as root, and python3 -m takes modules from the current folder first."""
    (alias,) = re.findall(r'^alias trafficctl="sudo (.+)"$', (ROOT / "README.md").read_text(), re.MULTILINE)
    (tmp_path / "argparse.py").write_text("raise SystemExit('of this folder')\n")
    line = f"{alias.replace('$PWD', str(ROOT))} --version"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.startswith("trafficctl ")) == (0, True), done.stderr

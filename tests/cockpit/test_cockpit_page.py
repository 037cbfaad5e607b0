"""What can be said of the page without a browser; `make test-system` uses it in one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from trafficmond.control import idl
from trafficmond.store.query import TOTALS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "cockpit"
FILES = sorted(path for path in PAGE.rglob("*") if path.is_file())
MODULES = [path for path in FILES if path.suffix == ".js"]
HTML = (PAGE / "index.html").read_text()
DESCRIBED = idl.load("io.trafficmon")


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in FILES) < 80_000
    assert all(len(path.read_text().splitlines()) <= 200 for path in MODULES)


def test_what_it_needs_is_asked_for_at_once() -> None:
    """A module that is found only when another has come makes the page slow to open."""
    preloaded = set(re.findall(r'modulepreload" href="([^"]+)"', HTML)) | {"main.js"}
    assert preloaded == {str(path.relative_to(PAGE)) for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_modules_imports_are_there_and_used(path: Path) -> None:
    text = path.read_text()
    for names, where in re.findall(r'^import (?:(.+) from )?"([^"]+)";$', text, re.MULTILINE):
        source = (path.parent / where).resolve()
        assert source in MODULES
        for name in re.findall(r"\w+", re.sub(r"\* as ", "", names)):
            assert len(re.findall(rf"\b{name}\b", text)) > 1, f"{name} is imported for nothing"
            if names.startswith("{"):
                exported = rf"export (?:async )?(?:function|const|class) {name}\b"
                assert re.search(exported, source.read_text()), f"{where} has no {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_it_asks_what_the_daemon_answers(path: Path) -> None:
    for method in re.findall(r'\bask\("(\w+)"', path.read_text()):
        assert method in DESCRIBED.methods


def test_notes_do_not_tell_to_type_what_has_a_button() -> None:
    typed = re.findall(r"^const TYPED = /(.+)/;", (PAGE / "changes.js").read_text(), re.MULTILINE)[0]
    daemon = "".join(path.read_text() for path in (ROOT / "trafficmond").rglob("*.py"))
    for note in ("it ends at the next restart (--save keeps it)", "s: keep it with trafficctl confirm"):
        assert f'{note}"' in daemon
        assert not re.search("--|trafficctl", re.sub(typed, "", note))


def test_sums_are_reported_as_people_read_them() -> None:
    """Of what comes with every sum, each is shown with a title and a unit or left out, never a bare figure."""
    history = (PAGE / "views" / "history.js").read_text()
    shown = set(re.findall(r"\b(\w+): \[", history.partition("const SHOW = {")[2].partition("};")[0]))
    hosts, others = re.findall(r"[?:] /(\S+)/", history.partition("const aside =")[2].partition(";")[0])
    assert {name for name in TOTALS if not re.search(hosts, name)} <= shown
    assert {name for name in TOTALS if not re.search(others, name)} <= shown


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_text_of_a_strangers_becomes_markup(path: Path) -> None:
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", path.read_text()
    )


def test_cockpits_policy_allows_all_of_it() -> None:
    """default-src 'self': nothing inline, nothing from elsewhere."""
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script>", HTML)
    elsewhere = {found for path in FILES for found in re.findall(r"https?://[^\s\"')]+", path.read_text())}
    assert elsewhere == {"http://www.w3.org/2000/svg"}  # a name, not an address


def test_the_menu_has_it_where_trafficmon_is_installed() -> None:
    manifest = json.loads((PAGE / "manifest.json").read_text())
    (condition,) = manifest["conditions"]
    assert (ROOT / "systemd" / Path(condition["path-exists"]).name).is_file()
    assert manifest["requires"] == {"cockpit": "287"}
    depends = (ROOT / "packaging/debian/control").read_text().split("Package: cockpit-trafficmon")[1]
    assert "cockpit-bridge (>= 287)" in depends

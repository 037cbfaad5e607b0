"""`promote`: at once by hand, an edit in files, and nothing else of a file is different."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from control_fake import Running
from control_replies import STATUS
from ctl_runs import Ctl

from trafficctl.commands import promote

RULES = """\
# ours
[[rule]]
cidr = "203.0.113.0/24"   # one
action = "drop"
shadow = true             # for a week
label = "first"

[[rule]]
cidr = "192.0.2.0/24"
action = "drop"
shadow = true
label = "second"
"""
SETTINGS = """\
[policy]
default = "drop"
default_shadow = true

[[list]]
path = "cidr.d/other.netset"
shadow = true

[[list]]
path = "cidr.d/bad.netset"
action = "drop"
shadow = true
"""


@pytest.fixture
def files(tmp_path: Path, running: Running) -> Path:
    """A rules file and settings with everything in shadow, and a daemon that says so."""
    (tmp_path / "10.toml").write_text(RULES)
    (tmp_path / "10.toml").chmod(0o640)
    (tmp_path / "trafficmond.toml").write_text(SETTINGS)
    common = {"direction": "ingress", "label": None, "expires": None, "rate_per_s": None, "burst_packets": None}
    common |= {"action": "drop", "ports": None, "shadow": True}
    rules: list[dict[str, Any]] = [
        {**common, "index": 0, "kind": "list", "name": "bad", "path": "/etc/x/cidr.d/bad.netset", "line": 0},
        {**common, "index": 1, "kind": "rule", "name": "second", "path": str(tmp_path / "10.toml"), "line": 8},
        {**common, "index": 2, "kind": "rule", "name": "hand", "label": "hand", "path": "runtime", "line": 0},
    ]
    for rule in rules:
        rule["prefixes"] = ["198.51.100.0/24"]
    head = {"default": "monitor", "default_shadow": "drop", "established": True, "cidr_dir": str(tmp_path)}
    running.canned.replies["Policy"] = {**head, "rules": rules}
    config = {**STATUS["config"], "path": str(tmp_path / "trafficmond.toml")}
    running.canned.replies["Status"] = {**STATUS, "config": config}
    return tmp_path


def test_by_hand_it_is_in_force_at_once(ctl: Ctl, running: Running, files: Path) -> None:
    assert files.exists()
    done = ctl("promote", "hand", "--confirm-within", "60s")
    assert (done.returncode, "198.51.100.0/24: drop is in force" in done.stdout) == (0, True), done.stderr
    (asked,) = (parameters for name, parameters in running.canned.asked if name == "AddCidr")
    wanted = {"cidr": "198.51.100.0/24", "action": "drop", "direction": "ingress", "label": "hand"}
    assert asked == {**wanted, "confirm_within_s": 60.0}


def test_without_a_label_its_prefix_names_it(ctl: Ctl, running: Running, files: Path) -> None:
    assert files.exists()
    running.canned.replies["Policy"]["rules"][2] |= {
        "name": "198.51.100.3/32",
        "label": None,
        "prefixes": ["198.51.100.3/32"],
    }
    done = ctl("promote", "198.51.100.3")
    assert (done.returncode, "drop is in force" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize(
    ("label", "name", "line"),
    [("second", "10.toml", 11), ("bad", "trafficmond.toml", 12), ("default", "trafficmond.toml", 3)],
)
def test_in_a_file_the_edit_is_shown_and_made_if_asked(
    ctl: Ctl, running: Running, files: Path, label: str, name: str, line: int
) -> None:
    path = files / name
    before = path.read_text()
    done = ctl("promote", label)
    assert (done.returncode, f"{path}:{line}: remove this line" in done.stdout) == (1, True)
    assert path.read_text() == before
    mode = path.stat().st_mode
    assert ctl("promote", label, "--write").returncode == 0
    lines = before.splitlines()
    assert path.read_text().splitlines() == lines[: line - 1] + lines[line:]
    assert path.stat().st_mode == mode
    assert not [name for name, _ in running.canned.asked if name == "AddCidr"]


def test_for_programs_it_is_data(ctl: Ctl, files: Path) -> None:
    done = json.loads(ctl("promote", "hand", "-o", "json").stdout)
    assert done == {**done, "done": ["198.51.100.0/24: drop is in force"], "edits": [], "written": []}
    path = files / "10.toml"
    left = json.loads(ctl("promote", "second", "--json").stdout)["edits"]
    assert left == [{"path": str(path), "line": 11, "edit": "remove this line (--write does): shadow = true"}]
    written = json.loads(ctl("promote", "second", "--json", "--write").stdout)
    assert (written["edits"], written["written"]) == ([], [f"{path}:11: removed: shadow = true"])


def test_what_is_not_in_shadow_is_reported(ctl: Ctl, files: Path) -> None:
    assert files.exists()
    done = ctl("promote", "nobody")
    assert (done.returncode, "nothing in shadow has the label" in done.stderr) == (1, True)
    (files / "10.toml").write_text('rule = [{cidr = "192.0.2.0/24", action = "drop", shadow = true}]\n')
    done = ctl("promote", "second", "--write")
    assert (done.returncode, "remove shadow = true" in done.stdout) == (1, True)
    done = ctl("promote", "second", "--write", "--confirm-within", "60s")
    assert (done.returncode, "apply FILE" in done.stderr) == (2, True)


def test_a_table_ends_where_the_next_begins() -> None:
    first = {"kind": "rule", "line": 2}
    assert promote.line_of(first, RULES) == promote.Line(5, "shadow = true             # for a week")
    assert promote.line_of(first, RULES.replace("shadow = true             # for a week\n", "")) is None
    assert promote.line_of({"kind": "list", "path": "/etc/y/cidr.d/none.netset"}, SETTINGS) is None

"""history, undo, and rules as they were: as their users run them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from control_fake import Running
from control_replies import ENTRY, RULES_CHANGE
from ctl_runs import Ctl


def test_what_is_in_force_as_a_rules_file(ctl: Ctl, tmp_path: Path, running: Running) -> None:
    done = ctl("rules", "-o", "toml")
    assert (done.returncode, done.stderr) == (0, "")
    table = {key: value for key, value in ENTRY.items() if key != "source"} | {"cidr": "203.0.113.0/24"}
    assert tomllib.loads(done.stdout) == {"rule": [table]}
    assert '#   policy.default = "drop"' in done.stdout
    (tmp_path / "all.toml").write_text(done.stdout)
    assert ctl("check", str(tmp_path / "all.toml")).returncode == 0
    assert ctl("rules", "--at", "7").stdout.startswith("# The rules after change 7")
    assert [asked for asked in running.canned.asked if asked[0] == "RulesAt"][-1] == ("RulesAt", {"number": 7})
    assert json.loads(ctl("rules", "--at", "7", "-o", "json").stdout)[1] == ENTRY
    assert ctl("rules", "--at", "0").stdout.startswith("# The rules after change 0")
    assert running.canned.asked[-1] == ("RulesAt", {"number": 0})
    for wrong in ("-1", "\N{SUPERSCRIPT TWO}", "1.5", ""):
        assert ctl("rules", f"--at={wrong}").returncode == 2
    for arguments in (["status", "-o", "toml"], ["rules", "10.0.0.0/8", "-o", "toml"], ["rules", "--diff", "1-2"]):
        assert ctl(*arguments).returncode == 2


def test_a_difference(ctl: Ctl, running: Running) -> None:
    done = ctl("rules", "--diff", "3..4")
    assert (done.returncode, done.stdout) == (0, "no difference\n")
    assert [asked[1]["number"] for asked in running.canned.asked] == [3, 4]
    for arguments, numbers in (([], [6, 7]), (["12"], [11, 12])):
        running.canned.asked.clear()
        assert ctl("rules", "--diff", *arguments).returncode == 0
        assert [asked[1]["number"] for asked in running.canned.asked if asked[0] == "RulesAt"] == numbers


def test_changes_and_taking_one_back(ctl: Ctl, running: Running, tmp_path: Path) -> None:
    assert json.loads(ctl("history", "-o", "json").stdout) == [RULES_CHANGE]
    done = ctl("undo", "7")
    assert (done.returncode, done.stdout) == (0, "change 7:\n  removed: 203.0.113.0/24 drop\n")
    path = tmp_path / "10-office.toml"
    path.write_text("# mine\n")
    rule = {key: value for key, value in ENTRY.items() if key != "source"}
    edit = {"path": str(path), "line": None, "take_out": False, "rule": rule}
    settings = {"path": "/my.toml", "line": None, "take_out": False, "rule": {"default": "drop"}}
    running.canned.replies["Undo"] = {"undone": 6, "done": [], "edits": [edit, settings], "notes": []}
    done = ctl("undo")
    assert (done.returncode, path.read_text()) == (1, "# mine\n")
    assert f"{path}: add at its end\n" in done.stdout
    assert 'cidr = "203.0.113.0/24"' in done.stdout
    assert '/my.toml: under [policy], write\n    default = "drop"\n' in done.stdout
    done = ctl("undo", "--write")
    assert (done.returncode, f"{path}: added" in done.stdout, "edit it as shown" in done.stderr) == (1, True, True)
    assert tomllib.loads(path.read_text())["rule"][0]["ports"] == ["tcp/22"]

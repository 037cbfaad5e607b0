"""apply, confirm, rollback and --confirm-within: what is asked, what is shown, and what happens to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from control_fake import Running
from control_replies import STATUS, TRIAL
from ctl_runs import Ctl

from trafficctl.install import installed
from trafficctl.live.model import Live
from trafficctl.live.screen import draw
from trafficctl.render.style import Style
from trafficmond.control.refusals import Refused
from trafficmond.errors import ControlError

TOLD = "ON PROBATION for 42 s (until 22:14:20), keep it with trafficctl confirm: apply /etc/trafficmon/cidr.new, by ada"


def asked_of(running: Running, method: str) -> Any:
    """With what it was asked last."""
    return [given for name, given in running.canned.asked if name == method][-1]


def test_apply_tells_how_long_and_what_to_do(ctl: Ctl, running: Running) -> None:
    done = ctl("apply", "/etc/trafficmon/cidr.new", "--confirm-within", "2m")
    assert (done.returncode, done.stdout) == (0, f"{TOLD}\n  2 rules -> 3 rules\n")
    asked = {"folder": "/etc/trafficmon/cidr.new", "confirm_within_s": 120.0}
    assert asked_of(running, "Apply") == asked
    ctl("apply")
    assert asked_of(running, "Apply") == {"confirm_within_s": 60.0}
    running.canned.replies["Apply"] = {
        **running.canned.replies["Apply"],
        "probation": None,
        "notes": ["nothing is on probation"],
    }
    assert ctl("apply").returncode == 1


@pytest.mark.parametrize(
    "command", [["add-cidr", "192.0.2.0/24"], ["allow", "tcp/443", "from", "192.0.2.0/24"], ["reload"]]
)
def test_every_change_can_be_on_probation(ctl: Ctl, running: Running, command: list[str]) -> None:
    assert ctl(*command, "--confirm-within", "90s").returncode == 0
    method = "Reload" if command == ["reload"] else "AddCidr"
    assert asked_of(running, method)["confirm_within_s"] == 90.0
    assert ctl(*command).returncode == 0
    assert "confirm_within_s" not in asked_of(running, method)
    assert ctl(*command, "--confirm-within", "soon").returncode == 2


def test_status_and_top_say_it_first(ctl: Ctl, running: Running) -> None:
    running.canned.replies["Status"] = {**STATUS, "probation": TRIAL}
    assert ctl("status").stdout.startswith(f"{TOLD[:70]}")
    live = Live()
    answer = {"at": 0.0, "interfaces": [], "flows": [], "hosts": [], "threats": [], "flow_count": 0, "probation": TRIAL}
    live.update(answer)
    assert draw(live, 120, 20, Style(False))[1] == TOLD
    rings = []
    for left in (42.4, 41.0, 9.0, 8.0):
        live.update({**answer, "probation": {**TRIAL, "left_s": left}})
        rings.append(live.bell)
        live.bell = False
    live.update({**answer, "probation": {**TRIAL, "begun_at": TRIAL["begun_at"] + 5}})
    assert [*rings, live.bell] == [True, False, True, False, True], "when it begins, and before it ends"


def scene(folder: Path) -> tuple[Path, Path]:
    cidr_dir, tried = folder / "cidr.d", folder / "cidr.new"
    for each, name in ((cidr_dir, "a.toml"), (tried, "b.toml")):
        each.mkdir()
        (each / name).write_text(name)
    return tried, cidr_dir


def test_confirm_puts_a_folder_in_place_and_keeps_the_old(ctl: Ctl, running: Running, tmp_path: Path) -> None:
    tried, cidr_dir = scene(tmp_path)
    running.canned.replies["Status"] = {
        **STATUS, "probation": {**TRIAL, "folder": str(tried), "cidr_dir": str(cidr_dir)}
    }  # fmt: skip
    done = ctl("confirm")
    assert (done.returncode, done.stdout) == (0, "confirmed: apply\n")
    (kept,) = (path for path in tmp_path.iterdir() if path.name.startswith("cidr.d."))
    assert str(kept) in done.stderr
    assert [path.name for path in (*cidr_dir.iterdir(), *kept.iterdir())] == ["b.toml", "a.toml"]
    assert tried.exists()


def test_what_the_daemon_refuses_is_put_back(ctl: Ctl, running: Running, tmp_path: Path) -> None:
    tried, cidr_dir = scene(tmp_path)
    running.canned.replies["Confirm"] = Refused("it was over")
    for what in (tried, tried / "b.toml"):
        running.canned.replies["Status"] = {
            **STATUS,
            "probation": {**TRIAL, "folder": str(what), "cidr_dir": str(cidr_dir)},
        }
        assert ctl("confirm").returncode == 1
        assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["cidr.d", "cidr.new"]
        assert [path.name for path in cidr_dir.iterdir()] == ["a.toml"]


def test_a_file_is_put_in_place_too(tmp_path: Path) -> None:
    tried, cidr_dir = scene(tmp_path)
    (cidr_dir / "b.toml").write_text("old")
    with installed(tried / "b.toml", cidr_dir) as kept:
        assert kept is not None
        assert (kept.name[:8], kept.read_text(), (cidr_dir / "b.toml").read_text()) == (".b.toml.", "old", "b.toml")
    (cidr_dir / "b.toml").unlink()
    with installed(tried / "b.toml", cidr_dir) as kept:
        assert kept is None
    assert (cidr_dir / "b.toml").read_text() == "b.toml"


@pytest.mark.parametrize("gone", ["folder", "place"])
def test_what_cannot_be_put_in_place_changes_nothing(tmp_path: Path, gone: str) -> None:
    tried, cidr_dir = scene(tmp_path)
    place = cidr_dir if gone == "folder" else cidr_dir / "a.toml" / "cidr.d"
    if gone == "folder":
        (tried / "b.toml").unlink()
        tried.rmdir()
    why = "is not there any more; .* rollback" if gone == "folder" else "cannot be put in place"
    with pytest.raises(ControlError, match=why), installed(tried, place):
        pass
    assert [path.name for path in cidr_dir.iterdir()] == ["a.toml"]


def test_rollback_says_what(ctl: Ctl) -> None:
    assert ctl("rollback").stdout == "rolled back: apply\n"


def test_what_earlier_confirms_of_one_second_kept_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda _: "20260101-000000")
    tried, cidr_dir = scene(tmp_path)
    file = tmp_path / "b.toml"
    for number in range(3):
        file.write_text(str(number))
        for each in (tried, file):
            with installed(each, cidr_dir):
                pass
    folders = sorted(each.name for each in tmp_path.iterdir() if each.name.startswith("cidr.d."))
    assert folders == ["cidr.d.20260101-000000", "cidr.d.20260101-000000.2", "cidr.d.20260101-000000.3"]
    assert [(tmp_path / folders[2] / name).read_text() for name in ("b.toml", ".b.toml.20260101-000000")] == [
        "1",
        "b.toml",
    ]
    empty = tmp_path / "empty"
    empty.mkdir()
    with installed(empty, cidr_dir) as kept:
        assert kept is not None
        assert kept.name == "cidr.d.20260101-000000.4"


@pytest.mark.parametrize("command", [["apply", ""], ["what-if", ""], ["check", ""]])
def test_an_empty_path_is_not_the_folder_that_one_is_in(ctl: Ctl, running: Running, command: list[str]) -> None:
    done = ctl(*command)
    assert done.returncode == 2
    assert "the path is empty" in done.stderr
    assert not any(method == "Apply" for method, _ in running.canned.asked)

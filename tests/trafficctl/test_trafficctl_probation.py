"""apply, confirm, rollback and --confirm-within: what is asked, what is shown, and what happens to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from control_fake import Running
from control_replies import STATUS, TRIAL
from ctl_runs import Ctl

from trafficctl.commands import apply
from trafficctl.install import installed
from trafficctl.live.model import Live
from trafficctl.live.screen import draw
from trafficctl.render.style import Style
from trafficmond.errors import ControlError, Refused

TOLD = "ON PROBATION for 42 s (until 22:14:20), keep it with trafficctl confirm: apply /etc/trafficmon/cidr.new, by ada"


def asked_of(running: Running, method: str) -> Any:
    """With what it was asked last."""
    return [given for name, given in running.canned.asked if name == method][-1]


def test_apply_tells_how_long_and_what_to_do(ctl: Ctl, running: Running, tmp_path: Path) -> None:
    done = ctl("apply", str(tmp_path), "--confirm-within", "2m")
    assert (done.returncode, done.stdout) == (0, f"{TOLD}\n  2 rules -> 3 rules\n")
    asked = {"folder": str(tmp_path), "confirm_within_s": 120.0}
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
        **STATUS,
        "probation": {**TRIAL, "folder": str(tried), "cidr_dir": str(cidr_dir), "place": str(cidr_dir)},
    }
    done = ctl("confirm")
    assert (done.returncode, done.stdout) == (0, "confirmed: apply\n")
    (kept,) = (path for path in tmp_path.iterdir() if path.name.startswith("cidr.d."))
    assert str(kept) in done.stderr
    assert [path.name for path in (*cidr_dir.iterdir(), *kept.iterdir())] == ["b.toml", "a.toml"]
    assert tried.exists()


def test_what_the_daemon_refuses_is_put_back(ctl: Ctl, running: Running, tmp_path: Path) -> None:
    tried, cidr_dir = scene(tmp_path)
    running.canned.replies["Confirm"] = Refused("it was over")
    for what, place in ((tried, cidr_dir), (tried / "b.toml", cidr_dir / "b.toml")):
        running.canned.replies["Status"] = {
            **STATUS,
            "probation": {**TRIAL, "folder": str(what), "cidr_dir": str(cidr_dir), "place": str(place)},
        }
        assert ctl("confirm").returncode == 1
        assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["cidr.d", "cidr.new"]
        assert [path.name for path in cidr_dir.iterdir()] == ["a.toml"]


def test_a_file_is_put_in_place_too(tmp_path: Path) -> None:
    tried, cidr_dir = scene(tmp_path)
    (cidr_dir / "b.toml").write_text("old")
    with installed(tried / "b.toml", cidr_dir / "b.toml", hide=True) as kept:
        assert kept is not None
        assert (kept.name[:8], kept.read_text(), (cidr_dir / "b.toml").read_text()) == (".b.toml.", "old", "b.toml")
    (cidr_dir / "b.toml").unlink()
    with installed(tried / "b.toml", cidr_dir / "b.toml") as kept:
        assert kept is None
    assert (cidr_dir / "b.toml").read_text() == "b.toml"


@pytest.mark.parametrize("gone", ["folder", "place"])
def test_what_cannot_be_put_in_place_changes_nothing(tmp_path: Path, gone: str) -> None:
    tried, cidr_dir = scene(tmp_path)
    place = cidr_dir if gone == "folder" else cidr_dir / "a.toml" / "cidr.d"
    if gone == "folder":
        (tried / "b.toml").unlink()
        tried.rmdir()
    why = "no longer exists; .* rollback" if gone == "folder" else "cannot be put in place"
    with pytest.raises(ControlError, match=why), installed(tried, place):
        pass
    assert [path.name for path in cidr_dir.iterdir()] == ["a.toml"]


SHIPPED = """[policy]
# What a source on no list gets.
#default = "monitor"
default_shadow = true
established = true

[store]
retention = "7d"
"""


@pytest.mark.parametrize(
    ("text", "became"),
    [
        ("", '[policy]\ndefault = "drop"\n'),
        ("verbose = true\n", 'verbose = true\n\n[policy]\ndefault = "drop"\n'),
        ('[policy] # ours\ndefault = "allow" # so far\n', '[policy] # ours\ndefault = "drop" # so far\n'),
        ("[policy]\nguard = true\n[store]\n", '[policy]\ndefault = "drop"\nguard = true\n[store]\n'),
        ("policy.default = 'monitor'\npolicy.guard = true\n", 'policy.default = "drop"\npolicy.guard = true\n'),
        (
            SHIPPED,
            SHIPPED.replace("default_shadow = true\n", "").replace('"monitor"\n', '"monitor"\ndefault = "drop"\n'),
        ),
        ("policy = { default = 'monitor' }\n", None),
        ('[ "policy" ]\ndefault = "monitor"\n', '[ "policy" ]\ndefault = "drop"\n'),
        ("policy.guard = true\n", None),
        ("[policy\n", None),
        (
            '[other]\ntext = """\n[policy]\n"""\n',
            '[other]\ntext = """\n[policy]\n"""\n\n[policy]\ndefault = "drop"\n',
        ),
    ],
)
def test_settings_with_another_default_are_as_they_were_but_for_that(text: str, became: str | None) -> None:
    if became is None:
        with pytest.raises(ValueError, match=r"cannot edit|TOML|Expected"):
            apply.changed(text, "drop")
    else:
        assert apply.changed(text, "drop") == became
        assert apply.changed(became, "drop") == became


def test_a_default_is_applied_as_a_copy_of_the_settings(ctl: Ctl, running: Running, tmp_path: Path) -> None:
    settings, copy = tmp_path / "trafficmond.toml", tmp_path / "trafficmond.apply-default-drop.toml"
    settings.write_text("[policy]\nguard = true\n")
    settings.chmod(0o640)
    running.canned.replies["Status"] = {**STATUS, "config": {**STATUS["config"], "path": str(settings)}}
    assert ctl("apply", "--default", "drop", "--confirm-within", "2m").returncode == 0
    assert asked_of(running, "Apply") == {"folder": str(copy), "confirm_within_s": 120.0}
    assert (copy.read_text(), copy.stat().st_mode & 0o777) == ('[policy]\ndefault = "drop"\nguard = true\n', 0o640)
    assert settings.read_text() == "[policy]\nguard = true\n"
    trial = {**TRIAL, "folder": str(copy), "place": str(settings)}
    running.canned.replies["Status"] = {**running.canned.replies["Status"], "probation": trial}
    assert ctl("rollback").returncode == 0
    assert not copy.exists()
    assert ctl("apply", "--default", "drop").returncode == 0
    assert ctl("confirm").returncode == 0
    assert "default = " in settings.read_text()
    (kept,) = tmp_path.glob("trafficmond.toml.*")
    assert kept.read_text() == "[policy]\nguard = true\n"
    assert not copy.exists()
    running.canned.replies["Apply"] = Refused("it is not so")
    assert ctl("apply", "--default", "monitor").returncode == 1
    assert not (tmp_path / "trafficmond.apply-default-monitor.toml").exists()
    assert ctl("apply", "--default", "drop", str(tmp_path)).returncode == 2
    settings.write_text("policy = { guard = true }\n")
    done = ctl("apply", "--default", "drop")
    assert (done.returncode, "apply COPY" in done.stderr) == (1, True)


def test_rollback_says_what(ctl: Ctl) -> None:
    assert ctl("rollback").stdout == "rolled back: apply\n"


def test_what_earlier_confirms_of_one_second_kept_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda _: "20260101-000000")
    tried, cidr_dir = scene(tmp_path)
    file = tmp_path / "b.toml"
    for number in range(3):
        file.write_text(str(number))
        for each, place in ((tried, cidr_dir), (file, cidr_dir / "b.toml")):
            with installed(each, place, hide=each is file):
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

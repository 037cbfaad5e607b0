"""`check` of settings and folders: what is noted beside mistakes, and misspelt headers."""

from __future__ import annotations

from pathlib import Path

import pytest
from ctl_runs import Ctl

from trafficctl import checking
from trafficmond import files
from trafficmond.policy.layout import PARENTS_MAX
from trafficmond.policy.table import CROWDED


def test_a_list_without_a_prefix_is_noted(tmp_path: Path) -> None:
    (path := tmp_path / "e.netset").write_text("# nothing\n")
    assert [note.what for note in checking.check(path).notes] == ["holds no prefix"]


def test_a_log_that_the_service_may_not_write_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit, drop_ins, config = tmp_path / "trafficmond.service", tmp_path / "d", tmp_path / "trafficmond.toml"
    unit.touch()
    drop_ins.mkdir()
    (tmp_path / "cidr.d").mkdir()
    config.write_text(
        f'cidr_dir = "{tmp_path}/cidr.d"\n[[log]]\nformat = "jsonl"\npath = "/srv/t.jsonl"\n'
        '[[log]]\nformat = "csv"\npath = "/var/log/trafficmon/t.csv"\n'
    )
    monkeypatch.setattr(checking, "_UNITS", (unit,))
    monkeypatch.setattr(checking, "_DROP_INS", (drop_ins,))
    assert "log[" not in str(checking.check(config).notes)  # not the service's settings
    monkeypatch.setattr(checking, "CONFIG_FILE", config)
    (note,) = [note for note in checking.check(config).notes if "log[" in note.what]
    assert "log[0].path" in note.what
    assert "use /var/log/trafficmon" in note.what
    assert "ReadWritePaths=/srv" in note.what
    (drop_ins / "own.conf").write_text("[Service]\nReadWritePaths=-/srv\n")
    assert "log[" not in str(checking.check(config).notes)


@pytest.mark.parametrize(("pin_dir", "noted"), [("/tmp", True), ("{folder}/pins", True), ("/bpf/of-mine", False)])
def test_a_pin_dir_that_cannot_have_pins_is_noted_in_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pin_dir: str, noted: bool
) -> None:
    (tmp_path / "cidr.d").mkdir()
    config = tmp_path / "trafficmond.toml"
    config.write_text(f'cidr_dir = "{tmp_path}/cidr.d"\npin_dir = "{pin_dir.format(folder=tmp_path)}"\n')
    mounts = tmp_path / "mounts"
    mounts.write_text("proc /proc proc rw 0 0\nbpf /bpf bpf rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n")
    monkeypatch.setattr(files.on_bpffs, "__defaults__", (mounts,))
    found = [note for note in checking.check(config).notes if "BPF file system" in note.what]
    assert [note.where for note in found] == [f"{config}:2"] * noted


def test_rules_that_end_over_one_another_are_noted_where_the_kernel_would_pass_some_over(folder: Path) -> None:
    for many in (PARENTS_MAX - 1, PARENTS_MAX):
        ends = [(32 - at, f"2099-01-{1 + at:02}T00:00:00Z") for at in range(many)]
        rules = [f'[[rule]]\ncidr = "203.0.113.7/{length}"\naction = "drop"\nexpires = {end}\n' for length, end in ends]
        (folder / "cidr.d" / "10.toml").write_text("".join(rules))
        found = [note for note in checking.check(folder / "trafficmond.toml").notes if note.what == CROWDED]
        assert len(found) == (many == PARENTS_MAX)


@pytest.mark.parametrize("name", ["20-web.toml", "cidr.d/20-web.toml"])
def test_a_misspelt_header_has_its_line_and_a_guess(ctl: Ctl, folder: Path, name: str) -> None:
    (folder / name).write_text('# the web server\n[[rules]]\ncidr = "192.0.2.0/24"\naction = "drop"\n')
    done = ctl("check", str(folder / name))
    shown = ["     2 | [[rules]]", "       ^ rules: is not a known key; did you mean [[rule]]?"]
    assert (done.returncode, done.stdout.splitlines()[1:3]) == (1, shown)


def test_misspelt_tables_of_the_settings_have_their_lines(ctl: Ctl, folder: Path) -> None:
    (folder / "trafficmond.toml").write_text('[[logs]]\nformat = "jsonl"\n\n[polcy]\ndefault = "drop"\n')
    told = ctl("check", str(folder / "trafficmond.toml")).stdout
    assert "     1 | [[logs]]\n       ^ logs: no such setting; did you mean log?" in told
    assert "     4 | [polcy]\n       ^ polcy: no such setting; did you mean policy?" in told


def test_settings_in_a_folder_of_rules_are_one_mistake(ctl: Ctl, folder: Path) -> None:
    told = ctl("check", str(folder)).stdout
    assert "has settings, not rules" in told
    assert ": 1 mistake;" in told


def test_one_rules_file_is_checked_as_a_folder_with_it(folder: Path) -> None:
    path = folder / "cidr.d" / "20-web.toml"
    rule = '[[rule]]\ncidr = "192.0.2.0/24"\naction = "{}"\nports = ["tcp/{}"]\n'
    path.write_text(rule.format("drop", "22") + rule.format("drop", "1-1000"))
    (note,) = checking.check(path).notes
    assert (note.where, note.what.startswith("this rule never decides")) == (f"{path}:1", True)
    path.write_text("".join(rule.format("allow", port) for port in range(256)))
    (mistake,) = checking.check(path).mistakes
    assert "more than 255 different sets of services" in mistake.what

"""The command line: what it exits with, and what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trafficmond.__main__ import main
from trafficmond.errors import DatapathError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cidr.d").mkdir()
    (tmp_path / "cidr.d" / "one.toml").write_text('[[rule]]\ncidr = "192.0.2.0/24"\naction = "drop"\n')
    (tmp_path / "c.toml").write_text(
        f'cidr_dir = "{tmp_path}/cidr.d"\nstate_dir = "{tmp_path}/state"\ncontrol_socket = "{tmp_path}/s"\n'
    )
    return tmp_path


def test_a_right_configuration_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-t", "-c", str(folder / "c.toml")]) == 0
    said = capsys.readouterr()
    assert said.out == f"{folder}/c.toml: OK; 1 rule, 1 prefix\n"
    assert said.err == ""
    assert not (folder / "state").exists()  # a check makes nothing


def test_every_mistake_of_the_settings_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "c.toml").write_text('xdp_mode = "fast"\nnonsense = 1\negress = 7\n')
    assert main(["-t", "-c", str(folder / "c.toml")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert sum(f"{folder}/c.toml:" in line for line in lines) == 3
    assert all(line.startswith("trafficmond: ") for line in lines)


def test_every_mistake_of_the_rules_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "cidr.d" / "two.toml").write_text('[[rule]]\ncidr = "x"\naction = "drop"\n[[rule]]\ncidr = "::/0"\n')
    assert main(["-t", "-c", str(folder / "c.toml")]) == 2
    said = capsys.readouterr()
    assert "two.toml:2" in said.err
    assert "action" in said.err
    assert "right" not in said.out


def test_a_file_that_is_not_there_is_a_wrong_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-t", "-c", str(tmp_path / "none.toml")]) == 2
    assert "none.toml" in capsys.readouterr().err


def test_an_unknown_flag_is_a_wrong_command_line() -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--nonsense"])
    assert raised.value.code == 2


def test_what_keeps_it_from_starting_is_said_with_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        raise DatapathError("no BPF here", hint="run as root")

    monkeypatch.setattr("trafficmond.start.run", run)
    assert main(["-c", str(folder / "c.toml")]) == 1
    assert capsys.readouterr().err == "trafficmond: no BPF here; run as root\n"


def test_a_socket_that_is_in_use_keeps_it_from_starting(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(folder / "s"))
        other.listen()
        assert main(["-c", str(folder / "c.toml")]) == 1
    assert "already in use" in capsys.readouterr().err
    assert not (folder / "state").exists()


def test_an_exit_that_is_not_permitted_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("trafficmond.datapath.attach.detach_all", refused)
    assert main(["-c", str(folder / "c.toml"), "--detach"]) == 1
    said = capsys.readouterr()
    assert "Permission denied; run as root: sudo trafficmond --detach" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (MemoryError(), "memory ran out"),
        (OSError(12, "Cannot allocate memory"), "memory ran out"),
        (OSError(24, "Too many open files"), "too many files are open"),
        (RuntimeError("can't start new thread"), "no thread could be started"),
        (ImportError("libblas.so.3: failed to map segment from shared object"), "memory ran out"),
        (
            ImportError("libblas.so.3: cannot open shared object file: Too many open files"),
            "too many files are open",
        ),
    ],
)
def test_a_lack_of_room_is_a_sentence_wherever_it_was_met(
    failure: Exception, told: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        try:
            raise failure
        finally:
            raise RuntimeError("cannot join thread before it is started")  # of what is tidied up then

    monkeypatch.setattr("trafficmond.start.run", run)
    assert main(["-c", str(folder / "c.toml")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"trafficmond: not enough resources: {told}; raise the limit")


def test_files_that_run_out_during_the_first_imports_are_a_sentence() -> None:
    lines = "import resource, sys, trafficmond.__main__ as daemon; resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)); "
    done = subprocess.run(
        [sys.executable, "-c", f"{lines} sys.exit(daemon.main(['--version']))"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("trafficmond: not enough resources: too many files are open; raise the limit")


def test_any_other_failure_is_not_taken_for_a_lack_of_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr("trafficmond.start.run", run)
    with pytest.raises(RuntimeError, match="something else"):
        main(["-c", str(folder / "c.toml")])

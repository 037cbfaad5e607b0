from __future__ import annotations

from pathlib import Path

import pytest

from trafficmond import __version__
from trafficmond.config.flags import Flags, parse_flags


def test_nothing_said() -> None:
    assert parse_flags([]) == Flags()


def test_the_flags_of_the_original(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    text = "-i eth0 -c strict.json --drop-packets --log-format jsonl --log-file t.jsonl --log-buffer-size 100 -v"
    assert parse_flags(text.split()) == Flags(
        config=Path("strict.json"),
        interfaces=("eth0",),
        drop_packets=True,
        log_format="jsonl",
        log_file=tmp_path / "t.jsonl",
        log_buffer_size=100,
        verbose=True,
    )


def test_several_interfaces() -> None:
    assert parse_flags(["-i", "eth0", "--iface", "wl*", "-i", "/^en/"]).interfaces == ("eth0", "wl*", "/^en/")


@pytest.mark.parametrize(
    ("argv", "mode"), [([], None), (["--detach"], "always"), (["--detach", "configured"], "configured")]
)
def test_detach(argv: list[str], mode: str | None) -> None:
    assert parse_flags(argv).detach == mode


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["-i", "no such interface"], "is not a valid interface"),
        (["-m", "fast"], "invalid choice"),
        (["--log-buffer-size", "0"], "too low"),
        (["--log-buffer-size", "many"], "invalid literal"),
        (["--log-format", "xml"], "invalid choice"),
        (["--drop"], "unrecognized"),
    ],
)
def test_a_wrong_flag_exits_with_2(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_flags(argv)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_help_teaches_and_version_tells(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, said in ((["--help"], "where XDP runs: in the driver (native)"), (["--version"], __version__)):
        with pytest.raises(SystemExit) as caught:
            parse_flags(argv)
        assert caught.value.code == 0
        assert said in " ".join(capsys.readouterr().out.split())

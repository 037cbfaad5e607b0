"""`trafficctl analyze` as it is called."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from captures import AT, block, ethernet, interface, ipv4, pcap, section, tcp
from readings import ROOT

from trafficmond.analyze import cli, progress, run
from trafficmond.config.settings import Settings
from trafficmond.errors import TrafficmonError


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "some.bin"
    path.write_bytes(pcap([(AT + n, ethernet(ipv4(tcp(1000 + n)))) for n in range(5)]))
    return path


def _run(*words: str, output: str = "human") -> int:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(argparse.Namespace(output=output, **vars(parser.parse_args(list(words)))))


def test_human(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(str(capture)) == 0
    shown = capsys.readouterr()
    assert "5 packets, 270 B" in shown.out
    assert "192.0.2.1" in shown.out
    assert "\x1b" not in shown.out
    assert shown.err == ""


def test_a_pipe_with_a_name(capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`trafficctl analyze <(zcat FILE)`."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cp", capture, pipe]):
        assert _run(str(pipe)) == 0
    assert "5 packets, 270 B" in capsys.readouterr().out


def test_a_capture_without_times_has_none_and_not_those_of_1970(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "simple.pcapng"
    frame = ethernet(ipv4(tcp()))
    path.write_bytes(section() + interface() + block(3, struct.pack("<I", len(frame)) + frame) * 3)
    assert _run(str(path)) == 0
    said = capsys.readouterr().out
    assert "no times were recorded\n3 packets" in said
    assert "1970" not in said
    assert _run(str(path), output="json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["summary"]["start_time"], report["summary"]["end_time"]) == (None, None)
    assert (report["temporal_analysis"]["timeline"], report["temporal_analysis"]["peak"]) == ([], None)


def test_for_programs(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for output in ("json", "jsonl"):
        assert _run(str(capture), output=output) == 0
        shown = capsys.readouterr().out
        assert json.loads(shown)["summary"]["total_packets"] == 5
        assert (shown.count("\n") == 1) == (output == "jsonl")
    assert _run(str(capture), output="csv") == 0
    assert ["summary", "total_packets", "", "5"] in list(csv.reader(io.StringIO(capsys.readouterr().out)))


def test_files_beside_the_output(capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, export = tmp_path / "out.html", tmp_path / "out.csv"
    words = ["--report", str(page), "--export-report", str(export), "--export-format", "csv"]
    assert _run(str(capture), *words) == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert export.read_text().startswith("section,key,field,value")
    assert _run(str(capture), "--export-report", str(export)) == 0
    assert json.loads(export.read_text())["summary"]["total_packets"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.html", "some.bin"]
    capsys.readouterr()


def test_a_place_that_cannot_be_written_says_what_to_do(capture: Path, tmp_path: Path) -> None:
    with pytest.raises(TrafficmonError, match="may write to"):
        _run(str(capture), "--report", str(tmp_path / "none" / "out.html"))


@pytest.mark.parametrize("words", [[], ["x", "--top", "0"], ["x", "--top", "many"], ["x", "--export-format", "xml"]])
def test_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        _run(*words)
    assert end.value.code == 2
    capsys.readouterr()


def test_detectors_are_set_as_in_the_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, config = tmp_path / "scan.pcap", tmp_path / "trafficmond.toml"
    path.write_bytes(pcap([(AT + n / 10, ethernet(ipv4(tcp(40000, 1 + n)))) for n in range(100)]))
    _run(str(path), output="json")
    assert [threat["detector"] for threat in json.loads(capsys.readouterr().out)["threats"]] == ["port_scan"]
    config.write_text("[detect.port_scan]\nenabled = false\n")
    _run(str(path), "-c", str(config), output="json")
    assert json.loads(capsys.readouterr().out)["threats"] == []


def _trafficctl(*words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "trafficctl", *words]
    return subprocess.run(
        command, input=data, capture_output=True, cwd=ROOT, timeout=60, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )


def test_as_a_command(capture: Path, tmp_path: Path) -> None:
    done = _trafficctl("analyze", str(capture), "-o", "json")
    assert done.returncode == 0
    assert done.stderr == b""
    piped = _trafficctl("-o", "json", "analyze", "-", data=capture.read_bytes())
    one, two = json.loads(done.stdout), json.loads(piped.stdout)
    assert one["flow_analysis"] == two["flow_analysis"]
    assert two["summary"]["sources"][0]["name"] == "standard input"
    (tmp_path / "other").write_text("no format\n")
    for words, code, said in (
        (("analyze", str(tmp_path / "missing")), 1, b"No such file"),
        (("analyze", str(tmp_path / "other")), 1, b"has an unknown format"),
        (("analyze",), 2, b"see trafficctl analyze --help"),
    ):
        failed = _trafficctl(*words)
        assert (failed.returncode, failed.stdout) == (code, b"")
        assert said in failed.stderr


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_is_drawn_for_people_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(sys, "stderr", terminal := _Terminal())
    bar = progress.Bar("reading")
    bar.show(50, 100)
    assert "reading [###############---------------]  50%, 1 s left" in terminal.getvalue()
    bar.show(7, 0)
    bar.clear()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_no_bar_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", pipe := io.StringIO())
    bar = progress.Bar("reading")
    bar._drawn = -1e9
    bar.show(1, 2)
    bar.clear()
    assert pipe.getvalue() == ""


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp437", "iso-8859-15", "utf-8"])
@pytest.mark.parametrize("output", ["human", "json", "jsonl", "csv"])
def test_every_terminal_shows_the_report(encoding: str, output: str, tmp_path: Path) -> None:
    line = {
        **{"timestamp": 1700000000, "src_ip": "192.0.2.1", "dst_ip": "192.0.2.2", "packet_size": 60, "action": "LOG"},
        **{"protocol": "TCP", "src_port": 1, "dst_port": 2, "interface": "schl\u00e4ger \u0431 \U0001f600"},
    }
    path = tmp_path / "log \u20ac"
    path.write_text("".join(json.dumps({**line, "timestamp": 1700000000 + n}) + "\n" for n in range(30)))
    done = subprocess.run(
        [sys.executable, "-m", "trafficctl", "-o", output, "analyze", str(path)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode(encoding)
    assert "192.0.2.1" in text
    if output in ("json", "jsonl"):
        assert json.loads(text)["summary"]["sources"][0]["name"] == path.name
    if output == "human" and encoding == "utf-8":
        assert "\u2588" in text


def test_a_file_under_two_names_is_read_once(tmp_path: Path) -> None:
    path, link = tmp_path / "a.pcap", tmp_path / "latest.pcap"
    path.write_bytes(pcap([(AT, ethernet(ipv4(tcp())))]))
    link.symlink_to("a.pcap")
    for names in ((path, path), (path, link)):
        found = run.analyze(list(map(str, names)), Settings(), 0.0)
        assert found["summary"]["total_packets"] == 1
        assert [len(source["notes"]) for source in found["summary"]["sources"]] == [1]

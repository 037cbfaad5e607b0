"""Each file format through its own writer: what is in the file in the end."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sink_events import AWKWARD, NAMES, event, many, threat

from trafficmond.config.formats import FORMATS, Format
from trafficmond.config.streams import Log
from trafficmond.sinks.fanout import make_sink
from trafficmond.sinks.messages import STARTED, Note
from trafficmond.sinks.record import FIELDS

ROOT = Path(__file__).parents[2]
NOTE = Note(STARTED, "started", 0.0)


def written(tmp_path: Path, file_format: str) -> str:
    path = tmp_path / f"t.{file_format}"
    for first in (0, 50):
        sink = make_sink(Log(format=file_format, path=path))
        sink.start()
        sink.emit(many(49, first), NAMES)
        sink.emit(event(sport=first + 49, rule=5), NAMES)
        sink.threat(threat(), "opened")
        sink.note(NOTE)
        sink.finish(time.monotonic() + 5)
        sink.join(time.monotonic() + 5)
        assert (sink.lost, sink.error) == (0, "")
    return path.read_text()


def check(found: list[dict[str, Any]]) -> None:
    events = [row for row in found if row["event"] != "threat"]
    assert [row["src_port"] for row in events] == list(range(100))
    assert [tuple(row) for row in events] == [FIELDS] * 100
    assert events[99]["rule"] == AWKWARD
    assert [row["detector"] for row in found if row["event"] == "threat"] == ["port_scan"] * 2


def test_jsonl(tmp_path: Path) -> None:
    check([json.loads(line) for line in written(tmp_path, "jsonl").splitlines()])


def test_json(tmp_path: Path) -> None:
    check(json.loads(written(tmp_path, "json")))


def test_csv(tmp_path: Path) -> None:
    written(tmp_path, "csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == FIELDS
    assert [int(row[4]) for row in rows] == list(range(100))
    assert [len(row) for row in rows] == [len(FIELDS)] * 100
    assert rows[99][FIELDS.index("rule")] == AWKWARD


def test_console_has_all_three(tmp_path: Path) -> None:
    text = written(tmp_path, "console")
    assert (text.count("> 192.168.1.100:22"), text.count("port_scan T1046"), text.count("started")) == (100, 2, 2)


@pytest.mark.parametrize("each", FORMATS, ids=lambda each: each.name)
def test_each_format_has_a_writer_and_is_described(each: Format) -> None:
    log = Log(format=each.name)
    if each.name == "journal":
        assert make_sink(log).log is log
    else:
        assert make_sink(log).error == ""
    assert f"- **`{each.name}`**" in (ROOT / "docs/logs.md").read_text()


@pytest.mark.parametrize("file_format", ["jsonl", "json", "csv", "console"])
def test_standard_output(file_format: str) -> None:
    program = (
        "import sys, time; sys.path.insert(0, 'tests/sinks')\n"
        "from sink_events import *\n"
        "from trafficmond.sinks.fanout import make_sink\n"
        "from trafficmond.config.streams import Log\n"
        f"sink = make_sink(Log(format={file_format!r})); sink.start()\n"
        "sink.emit(many(3000), NAMES); sink.emit(many(2), NAMES)\n"
        "sink.finish(time.monotonic() + 5)\n"
        "sink.join(time.monotonic() + 5)\n"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stderr == ""
    if file_format == "json":
        assert len(json.loads(found.stdout)) == 3002
    else:
        assert len(found.stdout.splitlines()) == 3002 + (file_format == "csv")
    if file_format == "jsonl":
        assert all(json.loads(line) for line in found.stdout.splitlines())


def test_a_disk_that_is_full_is_said_and_what_was_written_is_whole() -> None:
    sink = make_sink(Log(format="jsonl", path=Path("/dev/full")))
    sink.start()
    sink.emit(many(10), NAMES)
    sink.finish(time.monotonic() + 0.2)
    sink.join(time.monotonic() + 0.2)
    assert (sink.lost, sink.error) == (10, "No space left on device")


def test_a_pipe_without_a_reader_loses_and_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    sink = make_sink(Log(format="jsonl", path=tmp_path / "pipe", buffer_size=5))
    sink.start()
    sink.emit(many(10), NAMES)
    began = time.monotonic()
    sink.finish(time.monotonic() + 0.1)
    sink.join(time.monotonic() + 0.1)
    assert time.monotonic() - began < 1.0
    assert sink.lost == 10

"""Disks that fill up or turn read-only: a small file system of the test's own, in a mount namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_PROGRAM = """
import csv, json, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, "tests/sinks")
from sink_events import *
from trafficmond.config.streams import Log
from trafficmond import worker
from trafficmond.sinks.fanout import make_sink

worker._RETRY_S = 0.02
how, file_format = sys.argv[1:]
disk = Path("/run/tm"); disk.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)
path = disk / "log"


def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, sink.status()
        time.sleep(0.005)


def remount(mode):
    subprocess.run(["mount", "-o", f"remount,{mode}", disk], check=True)


def log():
    made = make_sink(Log(file_format, path, buffer_size=3000))
    made.start()
    return made


sink = log()
sink.emit(many(100), NAMES)
until(lambda: sink.written == 100)
before = 0
if how == "full":
    (disk / "ballast").write_bytes(bytes(3_800_000))
else:  # while a file is open for writing the kernel refuses
    sink.finish(time.monotonic() + 5)
    sink.join(time.monotonic() + 5)
    remount("ro")
    before, sink = sink.written, log()
number = 100
while not sink.failing:
    sink.emit(many(500, number), NAMES)
    number += 500
    time.sleep(0.002)
print(sink.error)
sink.emit(many(5000, number), NAMES)
number += 5000
assert sink.status()["queue"] == 3000
if file_format == "json":
    assert json.loads(path.read_bytes())
else:  # a try that fills the last bytes takes them back
    until(lambda: path.read_bytes().endswith(b"\\n"))
if how == "full":
    (disk / "ballast").unlink()
    remount("size=64m")
else:
    remount("rw")
until(lambda: not sink.failing and sink.status()["queue"] == 0)
sink.emit(many(50, number), NAMES)
number += 50
sink.finish(time.monotonic() + 10)
sink.join(time.monotonic() + 10)
written = before + sink.written
assert written + sink.lost == number, (sink.status(), number)
text = path.read_text()
if file_format == "csv":
    rows = list(csv.DictReader(text.splitlines()))
elif file_format == "jsonl":
    rows = list(map(json.loads, text.splitlines()))
else:
    rows = json.loads(text)
assert len(rows) == written > 3000
found = [int(row["packet_size"]) << 16 | int(row["src_port"]) for row in rows]
assert found == sorted(set(found)), "in order, each once"
assert found[-1] == number - 1, "it goes on by itself"
"""


def _possible() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.root
@pytest.mark.skipif(not _possible(), reason="needs root that may mount file systems; run with sudo")
@pytest.mark.parametrize("file_format", ["jsonl", "json", "csv"])
@pytest.mark.parametrize(("how", "error"), [("full", "No space left on device"), ("ro", "Read-only file system")])
def test_a_disk_that_cannot_be_written_for_a_while(how: str, error: str, file_format: str) -> None:
    script = 'mount -t tmpfs tmpfs /run && exec "$@"'
    command = ["unshare", "--mount", "bash", "-c", script, "-", sys.executable, "-c", _PROGRAM, how, file_format]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip().startswith(error)

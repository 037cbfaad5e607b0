"""SIGKILL in mid-write. TRAFFICMON_KILLS is the number of kills (50 unless set; `make soak` sets 1000)."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import select
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sink_events import NAMES, many

from trafficmond.config.streams import Log
from trafficmond.sinks.fanout import make_sink
from trafficmond.sinks.record import FIELDS

KILLS = int(os.environ.get("TRAFFICMON_KILLS", "50"))
ROUNDS = 6  # kills on one file before a new one is begun, so that reading it stays quick

_ACK = struct.Struct("<Q")


def _write_until_killed(log: Log, first: int, acks: int) -> None:
    """Log numbered events, telling after each batch how many are surely in the file."""
    sink = make_sink(log)
    sink.start()
    number = first
    while True:
        count = random.choice((1, 7, 300, 2500))
        sink.emit(many(count, number), NAMES)
        number += count
        while sink.written + sink.lost < number - first:
            time.sleep(0)
        os.write(acks, _ACK.pack(sink.written))


def _killed(log: Log, first: int) -> int:
    """Fork a writer, kill it at some moment, and return how many events it said were written.

    The first of a file is not killed before it said so once: on a busy machine that may take any time.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            random.seed()
            _write_until_killed(log, first, writer)
        finally:
            os._exit(1)
    os.close(writer)
    if not first:
        select.select([reader], [], [], 60)
    time.sleep(0.005 + random.random() * 0.05)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, "the writer ended by itself"
    with open(reader, "rb") as pipe:
        told = pipe.read()
    return int(_ACK.unpack_from(told, len(told) - _ACK.size)[0]) if told else 0


def _files(path: Path) -> list[Path]:
    return [*sorted(path.parent.glob(path.name + ".*")), *([path] if path.exists() else [])]


def _number(sport: object, size: object) -> int:
    return int(str(size)) << 16 | int(str(sport))


def _jsonl(path: Path, *, last: bool) -> list[int]:
    lines = path.read_text().splitlines(keepends=True)
    if last and lines and not lines[-1].endswith("\n"):
        lines.pop()
    assert all(line.endswith("\n") for line in lines)
    rows = [json.loads(line) for line in lines]
    return [_number(row["src_port"], row["packet_size"]) for row in rows]


def _json(path: Path, *, last: bool) -> list[int]:  # noqa: ARG001 - valid whether last or not
    return [_number(row["src_port"], row["packet_size"]) for row in json.loads(path.read_bytes())]


def _csv(path: Path, *, last: bool) -> list[int]:
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    assert last or whole == text
    rows = list(csv.reader(io.StringIO(whole, newline="")))
    assert all(len(row) == len(FIELDS) for row in rows)
    assert not rows or tuple(rows[0]) == FIELDS
    return [_number(row[4], row[8]) for row in rows[1:]]


@pytest.mark.parametrize(("file_format", "read"), [("jsonl", _jsonl), ("json", _json), ("csv", _csv)])
def test_every_acknowledged_event_is_there_and_nothing_is_torn(
    tmp_path: Path, file_format: str, read: Callable[..., list[int]]
) -> None:
    path = tmp_path / f"t.{file_format}"
    acknowledged = 0
    first = total = 0
    for kill in range(-(-KILLS // 3)):
        if kill % ROUNDS == 0:
            path = tmp_path / str(kill) / f"t.{file_format}"
            acknowledged = first = 0
        log = Log(file_format, path, rotate_size=2_000_000, max_files=1000, compress=False, buffer_size=1 << 20)
        acknowledged = max(acknowledged, first + _killed(log, first))
        files = _files(path)
        found = [number for file in files for number in read(file, last=file == path)]
        # In order, each once, none missing: so all that were acknowledged are there if their number is.
        assert found == list(range(len(found)))
        assert len(found) >= acknowledged
        total += len(found) - first
        first = len(found)
    assert total > 0

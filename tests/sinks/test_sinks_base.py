from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from sink_events import NAMES, event, many, threat

from trafficmond import worker
from trafficmond.config.streams import Log
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.model import Action, Threat
from trafficmond.sinks import base, messages
from trafficmond.sinks.base import SLICE, Sink
from trafficmond.sinks.messages import STARTED, Note

NOTE = Note(STARTED, "started", 0.0)


class Disk:
    """A writer that can stall and fail, and remembers."""

    shortened = 0

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.other: list[object] = []
        self.free = threading.Event()
        self.free.set()
        self.error: Exception | None = None
        self.entered = threading.Semaphore(0)

    def _do(self) -> None:
        self.entered.release()
        self.free.wait()
        if self.error is not None:
            raise self.error

    def events(self, batch: Batch, _names: Names) -> None:
        self._do()
        assert len(batch) <= SLICE
        self.rows += batch["sport"].tolist()

    def threat(self, threat: Threat, state: str) -> None:  # noqa: ARG002
        self._do()
        self.other.append(threat)

    def note(self, note: Note) -> None:
        self._do()
        self.other.append(note)

    def reopen(self) -> None:
        self.other.append("reopen")

    def close(self) -> None:
        self.other.append("close")


def soon(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    return condition()


def deadline(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def test_what_is_given_is_written_in_order_and_the_writer_closed() -> None:
    disk = Disk()
    sink = Sink(Log(buffer_size=100_000), disk, notes=messages.NOTICE)
    sink.start()
    sink.emit(many(5000), NAMES)
    sink.threat(threat(), "opened")
    sink.note(NOTE)
    sink.emit(many(10, 5000), NAMES)
    sink.finish(deadline())
    sink.join(deadline())
    assert disk.rows == list(range(5010))
    assert disk.other == [threat(), NOTE, "close"]
    told = {
        "name": "journal",
        "format": "journal",
        "path": "",
        "queue": 0,
        "written": 5012,
        "lost": 0,
        "shortened": 0,
        "sampled_out": 0,
        "state": "",
    }
    assert sink.status() == told


def test_the_filter_comes_before_the_queue() -> None:
    disk = Disk()
    sink = Sink(Log(buffer_size=1, actions=("drop",), min_severity="critical"), disk)
    sink.emit(np.concatenate([many(10), event(action=Action.DROP, sport=99)]), NAMES)
    sink.threat(threat(), "opened")
    sink.note(NOTE)
    sink.start()
    sink.finish(deadline())
    sink.join(deadline())
    assert (disk.rows, disk.other, sink.lost) == ([99], ["close"], 0)


def test_while_the_disk_stalls_the_buffer_fills_and_the_rest_is_counted() -> None:
    disk = Disk()
    disk.free.clear()
    sink = Sink(Log(buffer_size=100), disk)
    sink.start()
    sink.emit(many(60), NAMES)
    disk.entered.acquire()
    began = time.monotonic()
    sink.emit(many(60, 60), NAMES)
    sink.emit(many(5, 120), NAMES)
    assert time.monotonic() - began < 0.5
    assert (sink.status()["queue"], sink.lost) == (100, 25)
    disk.free.set()
    assert soon(lambda: sink.status()["queue"] == 0)
    sink.emit(many(7, 200), NAMES)
    sink.finish(deadline())
    sink.join(deadline())
    assert disk.rows == [*range(100), *range(200, 207)]
    assert (sink.written, sink.lost) == (107, 25)


def test_threats_that_nobody_takes_are_bounded_too() -> None:
    sink = Sink(Log(buffer_size=10), Disk())
    for _ in range(2000):
        sink.threat(threat(), "opened")
    assert sink.lost == 2000 - (10 + 1024)


def test_a_write_that_fails_is_tried_again_and_the_error_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_RETRY_S", 0.01)
    disk = Disk()
    disk.error = OSError(28, "No space left on device")
    sink = Sink(Log(), disk)
    sink.start()
    sink.emit(many(10), NAMES)
    assert soon(lambda: sink.failing)
    assert sink.status()["state"] == "No space left on device"
    disk.error = None
    assert soon(lambda: not sink.failing)
    sink.finish(deadline())
    sink.join(deadline())
    assert (disk.rows, sink.lost, sink.error) == (list(range(10)), 0, "")


def test_a_record_that_cannot_be_written_at_all_does_not_end_the_log() -> None:
    disk = Disk()
    disk.error = ValueError("odd")
    sink = Sink(Log(), disk)
    sink.start()
    sink.emit(many(3), NAMES)
    assert soon(lambda: sink.lost == 3)
    disk.error = None
    sink.emit(many(2, 3), NAMES)
    sink.finish(deadline())
    sink.join(deadline())
    assert (disk.rows, sink.lost, sink.written) == ([3, 4], 3, 2)
    assert "ValueError: odd" in sink.error


@pytest.mark.parametrize("how", ["stalled", "failing"])
def test_closing_ends_by_its_deadline_and_counts_what_is_left(how: str) -> None:
    disk = Disk()
    if how == "stalled":
        disk.free.clear()
    else:
        disk.error = OSError(5, "Input/output error")
    sink = Sink(Log(), disk)
    sink.start()
    sink.emit(many(10), NAMES)
    sink.emit(many(10), NAMES)
    sink.threat(threat(), "opened")
    disk.entered.acquire()
    began = time.monotonic()
    sink.finish(deadline(0.2))
    sink.join(deadline(0.2))
    assert time.monotonic() - began < 1.0
    assert (sink.lost, sink.status()["queue"]) == (21, 0)
    disk.error = None
    disk.free.set()


def test_reopening_happens_in_the_sinks_thread_and_in_turn() -> None:
    disk = Disk()
    sink = Sink(Log(), disk)
    sink.start()
    sink.reopen()
    assert soon(lambda: disk.other == ["reopen"])
    sink.finish(deadline())
    sink.join(deadline())


def test_of_more_than_max_rate_an_even_sample_is_written_and_the_rest_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(base.time, "monotonic", lambda: clock[0])
    disk, taken = Disk(), []
    sink = Sink(Log(max_rate=2.0), disk)
    for passed, count in ((0, 600), (1, 10), (0.5, 10), (3600, 100)):
        clock[0] += passed
        before = sink.sampled_out
        sink.emit(many(count), NAMES)
        taken.append(count - (sink.sampled_out - before))
    assert taken == [60, 2, 1, 60]  # half a minute at once, then two a second
    sink.threat(threat(), "opened")
    monkeypatch.undo()
    sink.start()
    sink.finish(time.monotonic() + 5)
    sink.join(time.monotonic() + 5)
    assert disk.rows[:60] == list(range(0, 600, 10))
    assert len(disk.other) == 2  # the threat, and the close
    assert (sink.status()["written"], sink.status()["lost"], sink.status()["sampled_out"]) == (124, 0, 597)


def test_without_max_rate_all_are_written() -> None:
    disk = Disk()
    sink = Sink(Log(buffer_size=9999), disk)
    sink.emit(many(9999), NAMES)
    sink.start()
    sink.finish(time.monotonic() + 5)
    sink.join(time.monotonic() + 5)
    assert (len(disk.rows), sink.sampled_out) == (9999, 0)

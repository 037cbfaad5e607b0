"""The queue and the thread before every way out."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from export_reports import NAMES, reports

from trafficmond.config.streams import Export
from trafficmond.export.base import SLICE_ROWS, Exporter, explained
from trafficmond.export.exports import ExportSet
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names


@dataclass
class Message:
    rows: Batch
    names: Names

    @property
    def flows(self) -> int:
        return len(self.rows)


@dataclass
class Recorder:
    """A way out that remembers, and fails for as long as it is told to."""

    gather_s: float = 0.0
    fails: int = 0
    breaks: bool = False
    messages: list[Message] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    closed: bool = False
    sent: int = 0
    lost: int = 0
    waiting: int = 0
    error: str = ""

    def pack(self, rows: Batch, names: Names) -> Iterable[Message]:
        if self.breaks:
            raise ValueError("cannot be told")
        yield Message(rows, names)

    def send(self, message: Message) -> None:
        self.gate.wait(10)
        if self.fails:
            self.fails -= 1
            raise OSError(111, "Connection refused")
        self.messages.append(message)
        self.sent += message.flows

    def close(self, deadline: float) -> None:  # noqa: ARG002
        self.closed = True


def exporter(transport: Recorder, buffer_rows: int = 100_000, *, open_gate: bool = True) -> Exporter:
    made = Exporter("somewhere", lambda: transport, buffer_rows)
    if open_gate:
        transport.gate.set()
    made.start()
    return made


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def end(one: Exporter, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    one.finish(deadline)
    one.join(deadline)
    assert one.ended


def test_all_of_it_in_order() -> None:
    transport = Recorder()
    one = exporter(transport)
    for at in range(5):
        one.put(reports(100, vlan=at), NAMES)
    one.put(reports(0), NAMES)
    end(one)
    told = np.concatenate([message.rows for message in transport.messages])
    assert told["vlan"].tolist() == [at for at in range(5) for _ in range(100)]
    assert transport.closed
    assert one.status() == {"sent": 500, "queue": 0, "lost": 0, "error": ""}


def test_what_does_not_fit_is_lost_and_counted() -> None:
    transport = Recorder()
    one = exporter(transport, 1024, open_gate=False)
    one.put(reports(1000), NAMES)
    one.put(reports(1000), NAMES)
    assert (one.status()["queue"], one.status()["lost"]) == (1024, 976)
    transport.gate.set()
    until(lambda: transport.sent == 1024)
    until(lambda: one.status()["queue"] == 0)
    end(one)
    one.put(reports(5), NAMES)
    assert one.status()["lost"] == 981, "after the end there is no room at all"


def test_gathered_for_a_while_and_by_the_same_names() -> None:
    transport, others = Recorder(gather_s=0.3), Names({2: "renamed"})
    one = exporter(transport)
    for names in (NAMES, NAMES, others, others):
        one.put(reports(10), names)
    assert transport.messages == []
    until(lambda: transport.sent == 40)
    assert [(message.flows, message.names) for message in transport.messages] == [(20, NAMES), (20, others)]
    end(one)


def test_a_full_parcel_does_not_wait() -> None:
    transport = Recorder(gather_s=3600)
    one = exporter(transport)
    one.put(reports(SLICE_ROWS + 1), NAMES)
    until(lambda: transport.sent == SLICE_ROWS + 1)
    assert [message.flows for message in transport.messages] == [SLICE_ROWS, 1]
    one.put(reports(1), NAMES)
    end(one)
    assert transport.sent == SLICE_ROWS + 2, "the end waits for no interval"


def test_failures_are_said_and_tried_again() -> None:
    transport = Recorder(fails=1)
    one = exporter(transport)
    one.put(reports(3), NAMES)
    until(lambda: one.status()["error"] == "Connection refused")
    assert one.status()["queue"] == 3
    until(lambda: transport.sent == 3)
    until(lambda: one.status()["error"] == "")
    end(one)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EAFNOSUPPORT])
def test_what_the_service_may_not_do_is_explained(number: int) -> None:
    assert "export.conf" in explained(OSError(number, "Operation not permitted"))
    assert explained(OSError(111, "Connection refused")) == "Connection refused"
    assert explained(ValueError("odd")) == "ValueError: odd"


def test_the_end_comes_in_time_and_what_is_left_is_lost() -> None:
    transport = Recorder(fails=1000)
    one = exporter(transport)
    one.put(reports(3), NAMES)
    one.put(reports(4), NAMES)
    began = time.monotonic()
    end(one, 0.3)
    assert time.monotonic() - began < 1.5
    assert (one.status()["lost"], one.status()["queue"], transport.closed) == (7, 0, True)


def test_rows_that_cannot_be_reported_do_not_end_it() -> None:
    transport = Recorder(breaks=True)
    one = exporter(transport)
    one.put(reports(3), NAMES)
    until(lambda: one.status()["lost"] == 3)
    assert "cannot be told" in one.status()["error"]
    transport.breaks = False
    one.put(reports(2), NAMES)
    until(lambda: transport.sent == 2)
    end(one)


def test_a_way_out_that_cannot_be_made_is_tried_again() -> None:
    transport, troubles = Recorder(), [OSError(28, "No space left on device")]
    transport.gate.set()

    def make() -> Recorder:
        if troubles:
            raise troubles.pop()
        return transport

    one = Exporter("somewhere", make, 100)
    one.start()
    one.put(reports(3), NAMES)
    until(lambda: one.status()["error"] == "No space left on device")
    until(lambda: transport.sent == 3)
    end(one)


def test_the_set_tells_what_began_to_fail_and_works_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        to = f"ipfix+tcp://127.0.0.1:{listener.getsockname()[1]}"
    exports = ExportSet([Export(to=to)], tmp_path)
    assert list(exports.changes()) == []
    exports.put(reports(1), NAMES)
    until(lambda: exports.status()[0]["error"] != "")
    assert list(exports.changes()) == [(to, "flows", f"{to}: Connection refused")]
    assert list(exports.changes()) == [], "told once"
    with socket.create_server(("127.0.0.1", int(to.rpartition(":")[2]))):
        until(lambda: exports.status()[0]["sent"] == 1)
        assert list(exports.changes()) == [(to, "flows", "")]
        exports.finish(time.monotonic())
        exports.join(time.monotonic())


def test_one_begins_when_the_one_before_has_ended() -> None:
    slow, fast = Recorder(), Recorder()
    first = exporter(slow, open_gate=False)
    first.put(reports(1), NAMES)
    second = Exporter("somewhere", lambda: fast, 100)
    fast.gate.set()
    first.finish(time.monotonic() + 10)
    second.start(first)
    second.put(reports(2), NAMES)
    time.sleep(0.2)
    assert fast.sent == 0
    slow.gate.set()
    until(lambda: fast.sent == 2)
    assert slow.sent == 1
    end(second)

"""IPFIX over real sockets: what arrives, what is counted as lost, and what happens when a collector goes away."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from export_reports import NAMES, every_kind, reports, totals
from ipfix_decoder import Decoder

from trafficmond.config.streams import Export
from trafficmond.config.target import parse_target
from trafficmond.export.collector import UdpCollector
from trafficmond.export.exports import ExportSet

PACKETS, OCTETS = 2, 1


@contextlib.contextmanager
def exporting(**settings: object) -> Iterator[ExportSet]:
    exports = ExportSet([Export(**settings)], None)  # type: ignore[arg-type]  # IPFIX needs no folder
    try:
        yield exports
    finally:
        exports.finish(time.monotonic() + 1)
        exports.join(time.monotonic() + 1)


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.02)


class Udp:
    """A collector of datagrams."""

    def __init__(self, port: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.bind(("127.0.0.1", port))
        self.port = self.socket.getsockname()[1]
        self.decoder = Decoder()

    def take(self, seconds: float = 0.3) -> list[bytes]:
        self.socket.settimeout(seconds)
        found = []
        with contextlib.suppress(TimeoutError):
            while True:
                found.append(self.socket.recv(65535))
                self.decoder.message(found[-1])
        return found


def test_udp_tells_everything_in_datagrams_that_fit() -> None:
    rows, collector = every_kind(100), Udp()
    with exporting(to=f"ipfix+udp://127.0.0.1:{collector.port}", mtu=1000, max_rate=1e6) as exports:
        exports.put(rows[:300], NAMES)
        exports.put(rows[300:], NAMES)
        until(lambda: exports.status()[0]["sent"] == len(rows))
        datagrams = collector.take()
        assert max(map(len, datagrams)) <= 1000 - 48
        wanted = totals(rows)
        assert collector.decoder.sums(PACKETS) == wanted["packets"] + wanted["reply_packets"]
        assert collector.decoder.sums(OCTETS) == wanted["bytes"] + wanted["reply_bytes"]
        assert (collector.decoder.gaps, collector.decoder.unknown) == (0, 0)
        status = {
            "to": f"ipfix+udp://127.0.0.1:{collector.port}",
            "sent": len(rows),
            "queue": 0,
            "lost": 0,
            "error": "",
            "threats": None,
        }
        assert exports.status() == [status]


def test_udp_templates_come_again() -> None:
    collector = Udp()
    with exporting(to=f"ipfix+udp://127.0.0.1:{collector.port}", template_interval=0.5) as exports:
        exports.put(reports(3), NAMES)
        collector.take()
        exports.put(reports(3), NAMES)
        collector.take(0.3)
        late = Decoder()  # a collector that was started just now
        time.sleep(0.5)
        exports.put(reports(3), NAMES)
        for message in collector.take():
            late.message(message)
    assert (len(late.records), late.unknown) == (6, 0)


def test_udp_what_did_not_leave_makes_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Udp()
    transport = UdpCollector(parse_target(f"ipfix+udp://127.0.0.1:{collector.port}"), Export(to="-"))
    first, second = (next(iter(transport.pack(reports(3), NAMES))) for _ in range(2))
    transport.send(first)
    monkeypatch.setattr(transport, "_pace", lambda: os.close(os.open("/nowhere", 0)))  # as if there were no way out
    with pytest.raises(OSError, match="ipfix"):
        transport.send(second)
    monkeypatch.undo()
    transport.send(second)
    transport.close(0.0)
    collector.take()
    assert (len(collector.decoder.records), collector.decoder.gaps) == (12, 0)


def test_udp_keeps_to_its_rate() -> None:
    collector = Udp()
    with exporting(to=f"ipfix+udp://127.0.0.1:{collector.port}", max_rate=100, mtu=576) as exports:
        began = time.monotonic()
        exports.put(reports(300), NAMES)
        until(lambda: exports.status()[0]["sent"] == 300)
        took = time.monotonic() - began
        messages = len(collector.take())
    assert took >= (messages - 17) / 100, "all but the first burst wait their turn"


def test_udp_nobody_listens_is_counted_and_said() -> None:
    collector = Udp()
    port = collector.port
    collector.socket.close()
    with exporting(to=f"ipfix+udp://127.0.0.1:{port}", template_interval=3600) as exports:
        for _ in range(5):
            exports.put(reports(4), NAMES)
            time.sleep(0.05)
        until(lambda: exports.status()[0]["lost"] >= 12)
        assert "nobody listens there" in exports.status()[0]["error"]
        back = Udp(port)
        for _ in range(3):
            exports.put(reports(4), NAMES)
            time.sleep(0.05)
        until(lambda: not exports.status()[0]["error"])
        back.take()
        assert back.decoder.unknown > 0, "templates come with their interval"


class Tcp:
    """A collector of connections, one after the other; each has a decoder of its own."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.streams: list[bytearray] = []
        self.connected: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            stream = bytearray()
            self.streams.append(stream)
            self.connected.append(connection)
            threading.Thread(target=self._read, args=(connection, stream), daemon=True).start()

    @staticmethod
    def _read(connection: socket.socket, stream: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                stream += data

    def decoded(self) -> list[Decoder]:
        decoders = [Decoder() for _ in self.streams]
        for decoder, stream in zip(decoders, self.streams, strict=True):
            decoder.stream(bytes(stream))
            assert (decoder.gaps, decoder.unknown) == (0, 0)
        return decoders


@pytest.mark.parametrize("biflow", [False, True])
def test_tcp_tells_everything(biflow: bool) -> None:
    rows, collector = every_kind(500), Tcp()
    with exporting(to=f"ipfix+tcp://127.0.0.1:{collector.port}", biflow=biflow) as exports:
        exports.put(rows, NAMES)
        until(lambda: exports.status()[0]["sent"] == len(rows))
        time.sleep(0.2)
    (decoder,) = collector.decoded()
    wanted = totals(rows)
    told = decoder.sums(PACKETS) + decoder.sums(PACKETS, 29305)
    assert told == wanted["packets"] + wanted["reply_packets"]


def test_tcp_continues_when_the_collector_comes_back() -> None:
    collector = Tcp()
    with exporting(to=f"ipfix+tcp://127.0.0.1:{collector.port}") as exports:
        exports.put(reports(10, reply_packets=0), NAMES)
        until(lambda: exports.status()[0]["sent"] == 10)
        time.sleep(0.2)
        collector.connected[0].shutdown(socket.SHUT_RDWR)
        time.sleep(0.2)
        exports.put(reports(10, reply_packets=0), NAMES)
        until(lambda: exports.status()[0]["sent"] == 20)
        time.sleep(0.2)
    first, second = collector.decoded()
    assert (len(first.records), len(second.records)) == (10, 10), "nothing is sent into a closed connection"
    assert second.templates, "each connection has its own templates"


def test_tcp_nobody_listens_waits_then_loses_what_does_not_fit() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with exporting(to=f"ipfix+tcp://127.0.0.1:{port}", buffer_rows=1024) as exports:
        exports.put(reports(1000), NAMES)
        exports.put(reports(1000), NAMES)
        until(lambda: "refused" in exports.status()[0]["error"])
        status = exports.status()[0]
        assert (status["sent"], status["queue"], status["lost"]) == (0, 1024, 976)
    assert exports.status()[0]["lost"] == 2000, "what could not be sent by the end is lost and counted"
    assert exports.status()[0]["queue"] == 0

"""Clients that misbehave harm nobody: whatever one does, the next one is served."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from control_fake import Running

from trafficmond.control import clients, connection
from trafficmond.control.broadcast import QUEUE_RECORDS
from trafficmond.control.client import Client
from trafficmond.errors import ControlError

STATUS_CALL = b'{"method":"io.trafficmon.Status"}\0'
VERSION_CALL = b'{"method":"io.trafficmon.Version"}\0'
WATCH_CALL = b'{"method":"io.trafficmon.Watch","more":true}\0'


def connect(running: Running) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(running.path))
    sock.settimeout(5)
    return sock


def replies(sock: socket.socket, count: int = 1) -> list[dict[str, Any]]:
    data = b""
    while data.count(b"\0") < count and (chunk := sock.recv(65536)):
        data += chunk
    return [json.loads(part) for part in data.split(b"\0")[:count] if part]


def drain(sock: socket.socket) -> bytes:
    data = b""
    try:
        while chunk := sock.recv(65536):
            data += chunk
    except ConnectionResetError:  # the server closed with our bytes unread
        pass
    return data


def assert_served(running: Running) -> None:
    with Client(str(running.path), timeout_s=5) as client:
        assert client.call("Version") == {"version": "0.2.0"}


def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n\0", b"\0", b"\xff" * 100 + b"\0", b'{"method":1}\0'])
def test_garbage_is_reported_and_ended(running: Running, garbage: bytes) -> None:
    with connect(running) as sock:
        sock.sendall(garbage)
        told = drain(sock)
        assert b"not a Varlink call" in told
    assert running.clients.counts.bad == 1
    assert_served(running)


def test_ten_megabytes_without_an_end(running: Running) -> None:
    with connect(running) as sock:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            sock.sendall(b"x" * 10_000_000)
        assert_served(running)
    assert running.clients.counts.bad == 1


def test_too_large_a_message_is_reported(running: Running) -> None:
    with connect(running) as sock:
        sock.sendall(b" " * (connection.MAX_MESSAGE_BYTES + 1) + b"\0")
        (told,) = replies(sock)
        assert told == {
            "error": "io.trafficmon.MessageTooLarge",
            "parameters": {"limit_bytes": connection.MAX_MESSAGE_BYTES},
        }


def test_the_largest_message_is_read(running: Running) -> None:
    with connect(running) as sock:
        sock.sendall(VERSION_CALL[:-1].ljust(connection.MAX_MESSAGE_BYTES) + b"\0")
        assert replies(sock) == [{"parameters": {"version": "0.2.0"}}]


def test_a_message_in_single_bytes(running: Running) -> None:
    with connect(running) as sock:
        for byte in VERSION_CALL:
            sock.sendall(bytes([byte]))
        assert replies(sock) == [{"parameters": {"version": "0.2.0"}}]


def test_calls_in_one_write_are_answered_in_order(running: Running) -> None:
    with connect(running) as sock:
        sock.sendall(VERSION_CALL + b'{"method":"io.trafficmon.Bans"}\0' + VERSION_CALL)
        first, second, third = replies(sock, 3)
        assert first == third
        assert "bans" in second["parameters"]


@pytest.mark.parametrize("delay_s", [0.3, 0.0])
def test_many_calls_ahead_are_not_all_held(running: Running, delay_s: float) -> None:
    """While a call is answered what follows waits, and beyond a message's length it is not even read; no reply is."""
    running.canned.delay_s = delay_s
    with connect(running) as sock:
        sock.sendall(STATUS_CALL)
        sock.setblocking(False)
        sent, quiet = 0, 0
        while sent < 32 << 20 and quiet < 20:
            try:
                sent += sock.send(VERSION_CALL * 1000)
                quiet = 0
            except BlockingIOError:
                quiet += 1
                time.sleep(0.005)
        assert sent < 8 << 20
        assert_served(running)


def test_half_a_message_and_gone(running: Running) -> None:
    with connect(running) as sock:
        sock.sendall(STATUS_CALL[:10])
    assert_served(running)
    until(lambda: running.do(lambda: len(running.clients)) == 0)


def test_a_client_that_has_said_all_is_still_answered(running: Running) -> None:
    running.canned.delay_s = 0.1
    with connect(running) as sock:
        sock.sendall(STATUS_CALL)
        sock.shutdown(socket.SHUT_WR)
        assert json.loads(drain(sock).rstrip(b"\0"))["parameters"]["pid"] == 4242


def test_a_client_gone_before_the_answer(running: Running) -> None:
    running.canned.delay_s = 0.1
    for _ in range(20):
        with connect(running) as sock:
            sock.sendall(STATUS_CALL)
    until(lambda: running.do(lambda: len(running.clients)) == 0)
    assert_served(running)


def test_a_watcher_that_is_gone_is_forgotten_at_once(running: Running) -> None:
    with connect(running) as sock:
        sock.sendall(WATCH_CALL)
        until(lambda: running.do(running.broadcast.wants, "events"))
    until(lambda: not running.do(running.broadcast.wants, "events"))


def test_a_watcher_that_does_not_read_loses_records_and_gets_their_number(running: Running) -> None:
    event = {"action": "DROP", "src_ip": "203.0.113.5", "dst_ip": "192.0.2.1", "note": "x" * 1000}
    with connect(running) as sock:
        sock.sendall(WATCH_CALL)
        until(lambda: running.do(running.broadcast.wants, "events"))
        published = 0
        for _ in range(40):
            running.do(running.broadcast.publish, "events", [event] * 512)
            published += 512
            assert_served(running)
        got = lost = 0
        data = b""
        while got + lost < published:
            data += sock.recv(1 << 20)
            *whole, data = data.split(b"\0")
            for raw in whole:
                reply = json.loads(raw)["parameters"]
                got += len(reply["records"])
                lost += reply["lost"]
        assert got + lost == published
        assert lost > 0
        assert running.do(lambda: running.broadcast.lost_records) == lost
        assert got < QUEUE_RECORDS * 2


def test_a_client_that_never_reads_is_released(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WRITE_TIMEOUT_S", 0.2)
    running.canned.flow_rows = 100_000
    with connect(running) as sock:
        sock.sendall(b'{"method":"io.trafficmon.Flows","more":true,"parameters":{"limit":100000}}\0')
        until(lambda: running.clients.counts.slow == 1)
        until(lambda: running.do(lambda: len(running.clients)) == 0)
    assert_served(running)


def test_silent_clients_make_room(running: Running) -> None:
    """Nobody keeps others out by saying nothing: the one silent for longest is let go."""
    silent = [connect(running) for _ in range(clients.MAX_CLIENTS + 20)]
    until(lambda: running.do(lambda: running.clients.counts.evicted) >= 20)
    assert_served(running)
    assert running.do(lambda: len(running.clients)) <= clients.MAX_CLIENTS
    for sock in silent:
        sock.close()


def test_too_many_busy_clients_are_refused_with_a_reason(running: Running) -> None:
    busy = [connect(running) for _ in range(clients.MAX_CLIENTS)]
    for sock in busy:
        sock.sendall(WATCH_CALL)
    until(lambda: running.do(lambda: all(each.idle_since is None for each in running.clients._clients)))
    with pytest.raises(ControlError) as refusal, Client(str(running.path)) as client:
        client.call("Version")
    assert refusal.value.name in ("io.trafficmon.Busy", "unreachable")
    assert running.clients.counts.refused == 1
    busy.pop().close()
    until(lambda: running.do(lambda: len(running.clients)) < clients.MAX_CLIENTS)
    assert_served(running)
    for sock in busy:
        sock.close()


def test_clients_come_and_go_without_a_trace(running: Running) -> None:
    for _ in range(300):
        connect(running).close()
    until(lambda: running.clients.counts.accepted == 300)
    until(lambda: running.do(lambda: len(running.clients)) == 0)


def test_one_reply_a_round_of_the_loop(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many calls have come in, what else is due on the loop waits for one of them, not for all."""
    rounds: list[str] = []

    class Slow(list[Any]):
        def append(self, _: Any) -> None:
            rounds.append("call")
            running.loop.call_soon(rounds.append, "due")
            time.sleep(0.02)  # so that all others have come in

    monkeypatch.setattr(running.canned, "asked", Slow())
    socks = [connect(running) for _ in range(20)]
    for sock in socks:
        sock.sendall(STATUS_CALL)
    for sock in socks:
        assert replies(sock)
        sock.close()
    assert rounds == ["call", "due"] * len(socks)

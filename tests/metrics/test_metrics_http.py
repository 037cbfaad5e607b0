"""GET /metrics: for those who scrape, and for those who do not behave."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from trafficmond.metrics import http
from trafficmond.metrics.http import MAX_CLIENTS, MAX_REQUEST_BYTES, MetricsServer

TEXT = "# TYPE x counter\n# HELP x what\nx_total 1\n# EOF\n"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def serving(check: Callable[[int, list[int]], Awaitable[None]]) -> None:
    """Runs `check(port, renders)` beside a server; every text made adds to `renders`."""

    async def run() -> None:
        renders: list[int] = []

        def render() -> str:
            renders.append(1)
            return TEXT

        server, port = MetricsServer(), free_port()
        assert await server.listen(f"127.0.0.1:{port}", render) == ""
        try:
            await check(port, renders)
        finally:
            server.close()

    asyncio.run(asyncio.wait_for(run(), 30))


async def told(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    reply = await reader.read()
    writer.close()
    return reply


def test_both_formats_by_what_is_accepted() -> None:
    async def check(port: int, _: list[int]) -> None:
        head, _, body = (await told(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Type: text/plain; version=0.0.4" in head
        assert b"# TYPE x_total counter\n" in body
        assert f"Content-Length: {len(body)}".encode() in head
        accept = b"ACCEPT: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n"
        head, _, body = (await told(port, b"GET /metrics?x=1 HTTP/1.0\r\n" + accept + b"\r\n")).partition(b"\r\n\r\n")
        assert b"Content-Type: application/openmetrics-text; version=1.0.0" in head
        assert body.decode() == TEXT
        head, _, body = (await told(port, b"HEAD /metrics HTTP/1.1\r\n\r\n")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert body == b""

    serving(check)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"\x16\x03\x01\x02\x00\xff\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 505),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * (2 * MAX_REQUEST_BYTES) + b"\r\n\r\n", 431),
    ],
)
def test_who_asks_for_something_else_gets_an_error(request_: bytes, status: int) -> None:
    async def check(port: int, renders: list[int]) -> None:
        assert (await told(port, request_)).startswith(f"HTTP/1.1 {status} ".encode())
        assert not renders

    serving(check)


def test_who_asks_for_ever_gets_the_same_text() -> None:
    async def check(port: int, renders: list[int]) -> None:
        replies = await asyncio.gather(*(told(port, b"GET /metrics HTTP/1.1\r\n\r\n") for _ in range(10)))
        assert all(reply.startswith(b"HTTP/1.1 200") for reply in replies)
        assert len(renders) == 1

    serving(check)


def test_those_who_say_nothing_are_bounded_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_TIMEOUT_S", 1.0)

    async def check(port: int, _: list[int]) -> None:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CLIENTS)]
        silent[0][1].write(b"GET /met")
        await asyncio.sleep(0.2)
        assert (await told(port, b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        for reader, _writer in silent:
            with_end = await asyncio.wait_for(_ended(reader), 5)
            assert with_end == b""
        assert (await told(port, b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        for _reader, writer in silent:
            writer.close()

    serving(check)


async def _ended(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


def test_metrics_that_cannot_be_made_are_an_error_and_no_end() -> None:
    async def run() -> None:
        troubles = [ZeroDivisionError()]

        def render() -> str:
            if troubles:
                raise troubles.pop()
            return TEXT

        server, port = MetricsServer(), free_port()
        assert await server.listen(f"127.0.0.1:{port}", render) == ""
        replies = [await told(port, b"GET /metrics HTTP/1.1\r\n\r\n") for _ in range(2)]
        server.close()
        assert [reply.split(b" ")[1] for reply in replies] == [b"500", b"200"]

    asyncio.run(asyncio.wait_for(run(), 30))


def test_an_address_that_cannot_be_listened_at_is_said() -> None:
    async def run() -> None:
        def render() -> str:
            return TEXT

        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            server = MetricsServer()
            trouble = await server.listen(f"127.0.0.1:{taken.getsockname()[1]}", render)
        assert "another program listens there" in trouble
        assert "no such address" in await server.listen("198.51.100.1:9177", render)
        port = free_port()
        assert await server.listen(f"127.0.0.1:{port}", render) == ""
        assert await server.listen("", render) == ""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(run())


def test_half_requests_keep_nobody_out() -> None:
    """However many and however often: the oldest of them goes."""

    async def check(port: int, _: list[int]) -> None:
        half = []
        for _round in range(3):
            for _one in range(MAX_CLIENTS + 4):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /metrics HTTP/1.1\r\n")
                half.append((reader, writer))
            await asyncio.sleep(0.05)
            began = asyncio.get_running_loop().time()
            assert (await told(port, b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200")
            assert asyncio.get_running_loop().time() - began < 2
        _, last = half[-1]
        last.write(b"\r\n")  # the newest of them goes on
        assert (await half[-1][0].read()).startswith(b"HTTP/1.1 200")
        for _reader, writer in half:
            writer.close()

    serving(check)

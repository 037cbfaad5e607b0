"""ClickHouse's HTTP interface against servers that misbehave, and over TLS."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import socket
import ssl
import subprocess
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from trafficctl.fleet.ask import Fleet
from trafficmond.config.target import Target
from trafficmond.errors import StoreError
from trafficmond.export.clickhouse_http import Server, ServerError, literal
from trafficmond.store.query import Question


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what `reply` says; remembers what it was asked."""

    protocol_version = "HTTP/1.1"
    reply: tuple[int, bytes] = (200, b"")
    asked: list[tuple[str, dict[str, list[str]], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.headers.get("X-ClickHouse-Key", ""), parse_qs(urlsplit(self.path).query), body))
        status, text = self.reply
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served() -> Iterator[tuple[http.server.HTTPServer, type[Handler]]]:
    class Fresh(Handler):
        pass

    Fresh.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server, Fresh
    server.shutdown()
    server.server_close()


def target(server: http.server.HTTPServer, scheme: str = "clickhouse", host: str = "127.0.0.1") -> Target:
    return Target(scheme, host, server.server_address[1], "net", "me")


def test_what_is_sent(served: tuple[http.server.HTTPServer, type[Handler]]) -> None:
    server, handler = served
    one = Server(target(server), "se cret")
    one.insert(
        "INSERT INTO flows FORMAT Native", b"\x00\xff", {"async_insert": 0, "insert_deduplication_token": "a b&c"}
    )
    handler.reply = 200, json.dumps({"data": [[1, "x"]]}).encode()
    assert one.ask("SELECT 1") == [[1, "x"]]
    one.close()
    (key, parameters, body), (_, asking, question) = handler.asked
    assert (key, body) == ("se cret", b"\x00\xff")
    assert parameters == {
        "database": ["net"],
        "query": ["INSERT INTO flows FORMAT Native"],
        "async_insert": ["0"],
        "insert_deduplication_token": ["a b&c"],
    }
    assert (asking["database"], question) == (["net"], b"SELECT 1\nFORMAT JSONCompact")


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ((500, b"Code: 60, e.displayText() = Table doesn't exist\n"), "Table doesn't exist"),
        ((404, b""), "an empty answer"),
        ((200, b'{"data": [[1,\nCode: 241. Memory limit exceeded'), "Memory limit exceeded"),
        ((200, b"[]"), r"\[\]"),
        ((200, b'{"data": null}'), "null"),
        ((200, b"[" * 200_000), r"\[\["),
        ((200, b"\xff" * 9999), "127.0.0.1"),
    ],
)
def test_what_the_server_complains_of_is_reported(
    served: tuple[http.server.HTTPServer, type[Handler]], reply: tuple[int, bytes], says: str
) -> None:
    server, handler = served
    handler.reply = reply
    with pytest.raises(ServerError, match=says) as refusal:
        Server(target(server)).ask("SELECT 1")
    assert len(str(refusal.value.strerror)) < 400


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"\r\n", b"x" * (1 << 16)),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * (1 << 16) + b"\r\n"),
        (b"Content-Length: 99999999999\r\n\r\n", b"x" * (1 << 16)),
        (b"Content-Length: 50\r\n\r\n", b""),
    ],
    ids=["endless", "endless chunks", "huge", "cut off"],
)
def test_what_is_no_clickhouse_does_not_fill_the_memory(head: bytes, part: bytes) -> None:
    """A stream of music on the port that was written by mistake: its reply was read to an end that never comes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + head)
                while part:
                    connection.sendall(part)

        threading.Thread(target=answer, daemon=True).start()
        one = Server(Target("clickhouse", "127.0.0.1", listening.getsockname()[1]), timeout_s=5)
        tracemalloc.start()
        try:
            with pytest.raises(OSError, match="its reply is too long, or was cut off"):
                one.insert("x", b"", {})
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("rows", [[1], [[1, 2]], [[]], ["ab"]])
def test_an_answer_to_another_question_is_said(
    served: tuple[http.server.HTTPServer, type[Handler]], rows: list[object]
) -> None:
    server, handler = served
    handler.reply = 200, json.dumps({"data": rows}).encode()
    with pytest.raises(StoreError, match="does not have the columns that were asked for"):
        list(Fleet(target(server)).rows(Question("SELECT a, b, c", ("a", "b", "c"))))


def test_a_server_that_went_away_and_came_back(served: tuple[http.server.HTTPServer, type[Handler]]) -> None:
    server, _ = served
    port = server.server_address[1]
    one = Server(Target("clickhouse", "127.0.0.1", port), timeout_s=2)
    one.insert("x", b"", {})
    server.shutdown()
    server.server_close()
    one.close()
    with pytest.raises(OSError, match="refused"):
        one.insert("x", b"", {})


def test_tls_with_a_certificate_that_holds_and_one_that_does_not(
    served: tuple[http.server.HTTPServer, type[Handler]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("openssl"):
        pytest.skip("needs openssl; run: apt-get install openssl")
    server, handler = served
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    mine, others = _certificate(tmp_path / "mine", "IP:127.0.0.1"), _certificate(tmp_path / "others", "DNS:elsewhere")
    context.load_cert_chain(mine)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    handler.reply = 200, b'{"data": [[7]]}'
    https = target(server, "clickhouse+https", "127.0.0.1")
    with pytest.raises(OSError, match="certificate verify failed"):  # nobody vouches for it
        Server(https, timeout_s=5).ask("SELECT 7")
    monkeypatch.setenv("SSL_CERT_FILE", str(mine))
    assert Server(https, timeout_s=5).ask("SELECT 7") == [[7]]
    context.load_cert_chain(others)
    monkeypatch.setenv("SSL_CERT_FILE", str(others))
    with pytest.raises(OSError, match="certificate verify failed"):  # it is another server's
        Server(https, timeout_s=5).ask("SELECT 7")


def _certificate(path: Path, name: str) -> Path:
    """A new key and the certificate it signed for itself, in one file."""
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    made += ["-subj", "/CN=trafficmon", "-addext", f"subjectAltName={name}"]
    subprocess.run([*made, "-keyout", str(path), "-out", str(path)], check=True, capture_output=True)
    return path


def test_literals() -> None:
    assert literal("o'x\\") == r"'o\'x\\'"

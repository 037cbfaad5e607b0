"""One GET: what it sends, whom it speaks to, what it refuses."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from feed_server import LIST, FeedServer, Handler, drips, says

from trafficmond.feeds import http
from trafficmond.feeds.http import Answer, FetchError, Validators, get, is_public

HERE = ("http", "private")


def cut_short(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n198.51.100.1\n")
    handler.close_connection = True


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with FeedServer() as made:
        yield made


def test_a_list_and_its_version(server: FeedServer) -> None:
    first = get(server.url(), HERE, Validators())
    assert first.body == LIST
    assert first.validators.modified == "Mon, 01 Jan 2024 00:00:00 GMT"
    assert get(server.url(), HERE, first.validators) == Answer(None, first.validators)
    assert server.asked[1][1]["If-Modified-Since"] == "Mon, 01 Jan 2024 00:00:00 GMT"
    assert server.asked[0][1]["User-Agent"].startswith("trafficmon/")


def test_user_and_query_are_sent(server: FeedServer) -> None:
    url = server.url("/list?token=T0KEN").replace("http://", "http://me:p%40ss@")
    get(url, HERE, Validators())
    path, headers = server.asked[0]
    assert (path, headers["Authorization"]) == ("/list?token=T0KEN", "Basic bWU6cEBzcw==")
    assert headers["Host"] == f"127.0.0.1:{server.server_address[1]}"


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_private_addresses_are_refused_unless_said(server: FeedServer, name: str) -> None:
    with pytest.raises(FetchError, match=r"private or local address; allow it: url_allow = \[\"private\"\]"):
        get(server.url(host=name), ["http"], Validators())
    assert not server.asked


def test_a_redirect_is_refused_unless_said(server: FeedServer) -> None:
    target = server.url("/elsewhere")
    server.page = lambda handler: (
        handler.answer(302, Location=target) if handler.path == "/list.netset" else server.serve_list(handler)
    )
    with pytest.raises(FetchError, match=r"moved to 127.0.0.1: .*redirect"):
        get(server.url(), HERE, Validators())
    assert get(server.url(), (*HERE, "redirect"), Validators()).body == LIST


@pytest.mark.parametrize(
    ("where", "allow", "wrong"),
    [
        ("http://169.254.169.254/latest", ["http", "redirect"], "private or local"),
        ("file:///etc/passwd", ["http", "private", "redirect"], "not a web address"),
        ("http://[", ["http", "private", "redirect"], "not a URL"),
        ("//host\u00e9/\u20ac", ["http", "private", "redirect"], "."),
        ("/list.netset", ["http", "private", "redirect"], "more than 5 times"),
    ],
)
def test_a_redirect_leads_no_further_than_the_url_itself(
    server: FeedServer, monkeypatch: pytest.MonkeyPatch, where: str, allow: list[str], wrong: str
) -> None:
    if "private" not in allow:  # the server itself is on loopback
        monkeypatch.setattr(http, "is_public", lambda address: address == "127.0.0.1" or is_public(address))
    server.page = says(302, Location=where.encode().decode("latin-1"))
    with pytest.raises(FetchError, match=wrong):
        get(server.url(), allow, Validators())


def test_http_is_refused_unless_said(server: FeedServer) -> None:
    with pytest.raises(FetchError, match="not encrypted"):
        get(server.url(), ["private", "redirect"], Validators())


@pytest.mark.parametrize(
    ("page", "wrong"),
    [
        (says(404), "the server answered 404 Not Found"),
        (says(500), "answered 500"),
        (says(304), "answered 304"),  # though nothing was known
        (says(200, LIST, Content_Length="5000"), "ended before the whole list was received"),
        (
            says(200, b"d\r\n198.51.100.1\n\r\n", Transfer_Encoding="chunked"),
            "ended before the whole list was received",
        ),
        (says(200, LIST, Content_Encoding="gzip"), "compressed"),
        (says(206, LIST), "answered 206"),
        (lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"), "no usable answer"),
        (lambda handler: handler.connection.shutdown(2), "no usable answer"),
        (cut_short, "must state its length"),
    ],
)
def test_what_is_no_list_is_refused(server: FeedServer, page: object, wrong: str) -> None:
    server.page = page  # type: ignore[assignment]
    with pytest.raises(FetchError, match=wrong):
        get(server.url("/T0KEN"), HERE, Validators())


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (b"no T0KENT0KEN for you", "no *** for you"),
        (b"x" * 72 + b"T0KENT0KEN", "x" * 72 + "***"),  # which a cut would leave in half
        (b"no \x1b[2J\x9b31m\x07", r"no \x1b[2J\x9b31m\x07"),  # what a terminal would obey
    ],
)
def test_what_a_server_says_of_an_error_is_reported_without_the_url(
    server: FeedServer, reason: bytes, told: str
) -> None:
    server.page = lambda handler: handler.wfile.write(b"HTTP/1.1 403 " + reason + b"\r\n\r\n")
    with pytest.raises(FetchError) as refused:
        get(server.url("/list?key=T0KENT0KEN"), HERE, Validators())
    assert str(refused.value) == f"the server answered 403 {told}"


def test_a_damaged_state_is_a_reason_of_this_list_alone(server: FeedServer) -> None:
    with pytest.raises(FetchError, match="no usable answer: ValueError"):
        get(server.url(), HERE, Validators('"a\nb"'))


def test_too_large_and_too_slow(server: FeedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_BYTES", 1000)
    server.body = b"198.51.100.1\n" * 100
    with pytest.raises(FetchError, match="larger than"):
        get(server.url(), HERE, Validators())
    server.page = drips
    monkeypatch.setattr(http, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(http, "DEADLINE_S", 0.5)
    with pytest.raises(FetchError, match=r"took longer|ended before|no usable answer"):
        get(server.url(), HERE, Validators())
    server.page = lambda _: time.sleep(2)
    monkeypatch.setattr(http, "_QUIET_S", 0.3)
    with pytest.raises(FetchError, match=r"sent nothing|no usable answer"):
        get(server.url(), HERE, Validators())


def test_a_list_in_tiny_pieces_takes_no_more_memory(server: FeedServer) -> None:
    """Kept as pieces, 64 MiB of them were gigabytes."""
    pieces = 100_000
    server.page = lambda handler: handler.wfile.write(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"2\r\n1\n\r\n" * pieces + b"0\r\n\r\n"
    )
    tracemalloc.start()
    try:
        found = get(server.url(), HERE, Validators()).body
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == b"1\n" * pieces
    assert peak < 10 * len(found)


def test_many_addresses_where_nobody_answers_take_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_QUIET_S", 0.1)
    monkeypatch.setattr(http, "DEADLINE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as held:
        for _ in range(4):
            waits = held.enter_context(socket.socket())
            waits.setblocking(False)
            waits.connect_ex(full.getsockname())
        one = (socket.AF_INET, socket.SOCK_STREAM, 6, "", full.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [one] * 100)
        began = time.monotonic()
        with pytest.raises(FetchError, match="it took longer"):
            get("http://lists.example/", HERE, Validators())
    assert time.monotonic() - began < 5


def test_nobody_there() -> None:
    with pytest.raises(FetchError, match="cannot connect to the server: Connection refused"):
        get("http://127.0.0.1:9/T0KEN", HERE, Validators())
    with pytest.raises(FetchError, match="cannot resolve the server's name"):
        get("https://nowhere.invalid/T0KEN", (), Validators())


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
def test_certificates_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = tmp_path / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", tmp_path / "key", "-out", tmp_path / "cert"],
        check=True, capture_output=True,
    )  # fmt: skip
    pem.write_bytes((tmp_path / "key").read_bytes() + (tmp_path / "cert").read_bytes())
    with FeedServer(certificate=pem) as server:
        with pytest.raises(FetchError, match="its certificate is not valid: self-signed"):
            get(server.url(host="localhost"), ["private"], Validators())
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        assert get(server.url(host="localhost"), ["private"], Validators()).body == LIST
        with pytest.raises(FetchError, match=r"its certificate is not valid: .*mismatch"):
            get(server.url(host="127.0.0.1"), ["private"], Validators())
        server.page = cut_short
        with pytest.raises(FetchError, match=r"(?i)no usable answer: .*EOF "):  # anybody can end a TCP connection
            get(server.url(host="localhost"), ["private"], Validators())


def test_a_server_that_never_ends_its_handshake_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "DEADLINE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(FetchError, match="took longer"):
        get(f"https://127.0.0.1:{silent.getsockname()[1]}/list", ["private"], Validators())


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("198.41.0.4", True),
        ("2001:503:ba3e::2:30", True),
        ("64:ff9b::c629:4", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.251", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2002:a00:1::1", False),
        ("fec0::1", False),
        ("64:ff9b:1::a00:1", False),
        ("::10.0.0.1", False),
        ("::ffff:0:10.0.0.1", False),
    ],
)
def test_whose_an_address_is(address: str, public: bool) -> None:
    assert is_public(address) is public

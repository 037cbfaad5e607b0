"""A web server of lists on loopback: conditional requests, redirects, lies and slowness."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LIST = b"# a list\n198.51.100.0/24\n203.0.113.7\n2001:db8::/32\n"
Page = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FeedServer  # type: ignore[assignment]

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        with contextlib.suppress(OSError):
            self.server.page(self)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


class FeedServer(ThreadingHTTPServer):
    """`page` answers; `asked` is every path with its headers."""

    daemon_threads = True

    def __init__(self, body: bytes = LIST, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.body = body
        self.page: Page = self.serve_list
        self.scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
            self.scheme = "https"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is no error of the server's."""

    def url(self, path: str = "/list.netset", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.server_address[1]}{path}"

    def serve_list(self, handler: Handler) -> None:
        tag = f'"{hash(self.body) & 0xFFFF:x}"'
        if handler.headers["If-None-Match"] == tag:
            handler.answer(304, ETag=tag)
        else:
            handler.answer(200, self.body, ETag=tag, Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT")


def says(status: int, body: bytes = b"", **headers: str) -> Page:
    return lambda handler: handler.answer(status, body, **headers)


def drips(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1300")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b"198.51.100.1\n")
        time.sleep(0.05)

"""Servers that take messages, as people run them: HTTP, ntfy and SMTP, on loopback, from the standard library."""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import socketserver
import threading
import time
from collections.abc import Callable
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

T0 = 1_700_000_000.0


def threat(number: int = 1, severity: str = "high", state: str = "opened", **more: Any) -> dict[str, Any]:
    """A record of the daemon's."""
    return {
        "id": f"{number:012x}",
        "detector": "port_scan",
        "severity": severity,
        "technique": "T1046",
        "src_ip": f"203.0.113.{number % 250}",
        "dst_ip": "192.0.2.10",
        "first_seen": T0,
        "last_seen": T0 + 60,
        "count": 250,
        "summary": f"203.0.113.{number % 250} tried 250 ports of 192.0.2.10",
        "evidence": {"unit": "ports"},
        "not_banned": None,
        "state": state,
    } | more


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 10) -> Any:
    """The first true value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout:g} s for {what}"
        time.sleep(0.02)
    return value


class HttpTarget:
    """Takes POSTs: a webhook, and ntfy's way to publish JSON. `status` is what it answers, `location` where it says
    that it has moved to, `later` when it says to come again."""

    def __init__(self, port: int = 0) -> None:
        self.status, self.location, self.later = 200, "", ""
        self.got: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.delay_s = 0.0
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(target.delay_s)
                there = self.path == target.location
                if target.status == 200 or there:
                    target.got.append(json.loads(body) | {"path": self.path})
                    target.times.append(time.time())
                self.answer(200 if there else target.status)

            def do_GET(self) -> None:
                self.answer(200)

            def answer(self, status: int) -> None:
                body = b'{"id": "x", "event": "message"}'
                self.send_response(status)
                if target.location:
                    self.send_header("Location", target.location)
                if target.later:
                    self.send_header("Retry-After", target.later)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):  # who has lost patience
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> HttpTarget:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def texts(self) -> list[str]:
        """Title and text of each message, of a webhook or of ntfy."""
        return [f"{each.get('title', '')}\n{each.get('message', '')}" for each in self.got]


class SmtpTarget:
    """A mail server: RFC 5321 as far as a client needs it to hand over a message."""

    def __init__(self, later: int = 0) -> None:
        """`later`: how many recipients are told to come again, as greylisting does."""
        self.mails: list[EmailMessage] = []
        self.later = later
        target = self

        class Handler(socketserver.StreamRequestHandler):
            def say(self, line: str) -> None:
                self.wfile.write(line.encode() + b"\r\n")

            def handle(self) -> None:
                self.say("220 tmlab ESMTP")
                while line := self.rfile.readline():
                    verb = line.strip().upper().partition(b" ")[0]
                    if verb == b"DATA":
                        self.say("354 go on")
                        data = b""
                        while (part := self.rfile.readline()) not in (b".\r\n", b""):
                            data += part.removeprefix(b".") if part.startswith(b"..") else part
                        parsed = email.message_from_bytes(data, policy=email.policy.default)
                        assert isinstance(parsed, EmailMessage)
                        target.mails.append(parsed)
                        self.say("250 taken")
                    elif verb == b"RCPT" and target.later:
                        target.later -= 1
                        self.say("451 4.7.1 greylisted, come again")
                    elif verb == b"QUIT":
                        self.say("221 bye")
                        return
                    elif verb == b"EHLO":
                        self.say("250-tmlab")
                        self.say("250 AUTH PLAIN")
                    elif verb == b"AUTH":
                        self.say("235 welcome")
                    else:
                        self.say("250 fine")

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> SmtpTarget:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

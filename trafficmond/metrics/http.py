"""A minimal HTTP/1.1 server for GET /metrics, on the daemon's event loop."""

import asyncio
import errno
import logging
import os
import time
from collections.abc import Callable

from trafficmond.metrics.text import OPENMETRICS, PROMETHEUS, prometheus

log = logging.getLogger(__name__)

# bound: connections to the metrics server | an idle one is closed; if none is idle, the new one gets status 503
MAX_CLIENTS = 16
MAX_REQUEST_BYTES = 8192
REQUEST_TIMEOUT_S = 5.0
REPLY_TIMEOUT_S = 10.0
FRESH_S = 0.5  # requests within this time get the same text

_HINTS = {
    errno.EAFNOSUPPORT: "the service allows no internet sockets; install the drop-in metrics.conf (see metrics.md)",
    errno.EADDRINUSE: "another program listens there; set another [metrics] listen",
    errno.EADDRNOTAVAIL: "this host has no such address; set another [metrics] listen",
    errno.EACCES: "the daemon may not use ports below 1024; set another [metrics] listen",
}


class MetricsServer:
    """Serves OpenMetrics text. For the event loop's thread."""

    def __init__(self) -> None:
        self._render: Callable[[], str] = str
        self._address = ""
        self._server: asyncio.Server | None = None
        self._clients = 0
        self._asking: dict[asyncio.StreamWriter, None] = {}  # connections with incomplete requests; oldest first
        self.refused = 0
        self.evicted = 0
        self._text = ""
        self._made_at = float("-inf")

    async def listen(self, address: str, render: Callable[[], str]) -> str:
        """Serves the text of `render` at "ADDRESS:PORT"; an empty address stops it. Returns why it cannot, or ""."""
        self._render = render
        if address == self._address:
            return ""
        self.close()
        if not address:
            return ""
        host, _, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            self._server = await asyncio.start_server(self._serve, host, int(port), limit=MAX_REQUEST_BYTES)
        except OSError as error:
            number = error.errno or errno.EADDRNOTAVAIL  # of which Python 3.13 says no more than that it cannot bind
            hint = _HINTS.get(number, "set another [metrics] listen")
            return f"no metrics at {address}: {error.strerror or os.strerror(number)}; {hint}"
        self._address = address
        return ""

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._server, self._address = None, ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients > MAX_CLIENTS and not self._evict():
                self.refused += 1
                reply = _reply(503, "too many clients at once\n")
            else:
                self._asking[writer] = None
                reply = await self._answer(reader, writer)
            writer.write(reply)
            await asyncio.wait_for(writer.drain(), REPLY_TIMEOUT_S)
            writer.close()
            await asyncio.wait_for(writer.wait_closed(), REPLY_TIMEOUT_S)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            writer.transport.abort()  # gone, or too slow to wait for
        finally:
            self._clients -= 1
            self._asking.pop(writer, None)
            writer.close()

    def _evict(self) -> bool:
        """Closes the connection that has waited longest without a request; False if all are being served."""
        if not self._asking:
            return False
        slowest = next(iter(self._asking))
        del self._asking[slowest]
        slowest.transport.abort()
        self.evicted += 1
        return True

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """The reply to a request. Raises TimeoutError and IncompleteReadError for who does not make one."""
        try:
            request = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), REQUEST_TIMEOUT_S)
        except asyncio.LimitOverrunError:
            return _reply(431, "the request is too long\n")
        finally:
            self._asking.pop(writer, None)
        line, *headers = request.decode("latin-1").split("\r\n")
        try:
            method, path, version = line.split(" ")
        except ValueError:
            return _reply(400, "not an HTTP request\n")
        if not version.startswith("HTTP/1."):
            return _reply(505, "use HTTP/1.1\n")
        if path.partition("?")[0] != "/metrics":
            return _reply(404, "there is only /metrics\n")
        if method not in ("GET", "HEAD"):
            return _reply(405, "only GET and HEAD\n", more="Allow: GET, HEAD\r\n")
        accepted = [value for name, _, value in (each.partition(":") for each in headers) if name.lower() == "accept"]
        try:
            text = self._fresh()
        except Exception:
            log.warning("metrics could not be made", exc_info=True)
            return _reply(500, "metrics could not be made; see the daemon's log\n")
        modern = "application/openmetrics-text" in ",".join(accepted).lower()
        return _reply(
            200, text if modern else prometheus(text), OPENMETRICS if modern else PROMETHEUS, method == "HEAD"
        )

    def _fresh(self) -> str:
        if time.monotonic() - self._made_at > FRESH_S:
            self._text = self._render()
            self._made_at = time.monotonic()
        return self._text


def _reply(
    status: int, text: str, kind: str = "text/plain; charset=utf-8", head: bool = False, more: str = ""
) -> bytes:
    from http import HTTPStatus

    body = text.encode()
    lines = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"{more}Connection: close\r\n\r\n"
    )
    return lines.encode("latin-1") + (b"" if head else body)

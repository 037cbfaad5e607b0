"""A UDP socket that says which packets got past the filter."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from types import TracebackType

from .namespaces import Namespace


class Listener:
    """Bound to `address` and `port` in `namespace`; takes every datagram that arrives."""

    def __init__(self, namespace: Namespace, address: str, port: int = 9) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with namespace.entered():
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            self._socket.bind((address, port))
        self._socket.setblocking(False)

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def heard(self) -> Counter[str]:
        """Datagrams by source since the last call."""
        return Counter(source for source, _ in self._received())

    def payloads(self) -> list[bytes]:
        """What the datagrams since the last call carried, in order."""
        return [payload for _, payload in self._received()]

    def _received(self) -> Iterator[tuple[str, bytes]]:
        time.sleep(0.02)  # A veth delivers within the sender's call, except when ksoftirqd has taken over.
        while True:
            try:
                payload, address = self._socket.recvfrom(65535)
            except BlockingIOError:
                return
            yield address[0], payload

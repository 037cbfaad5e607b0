"""A UDP socket that says which packets got past the filter."""

from __future__ import annotations

import socket
import time
from collections import Counter
from types import TracebackType

from .namespaces import Namespace


class Listener:
    """Bound to `address` and `port` in `namespace`; counts datagrams by source address."""

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
        time.sleep(0.02)  # A veth delivers within the sender's call, except when ksoftirqd has taken over.
        sources: Counter[str] = Counter()
        while True:
            try:
                sources[self._socket.recvfrom(65535)[1][0]] += 1
            except BlockingIOError:
                return sources

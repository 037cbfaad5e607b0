"""The Varlink server on the control socket."""

import asyncio
import sys
from typing import Any

from trafficmond.control.call import Service
from trafficmond.control.clients import Clients
from trafficmond.control.connection import Connection
from trafficmond.control.listen import Listener


class Server:
    """Serves the clients of one listening socket, on the running loop."""

    def __init__(self, service: Service, clients: Clients) -> None:
        self._service = service
        self._clients = clients
        self._listener: Listener | None = None
        self._server: asyncio.Server | None = None

    async def start(self, listener: Listener) -> None:
        """Starts to accept clients; owns the listener from now on."""
        self._listener = listener
        loop = asyncio.get_running_loop()
        # From 3.13 on asyncio would remove the file at close, also that of systemd; the listener removes only its own.
        keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        self._server = await loop.create_unix_server(
            lambda: Connection(self._clients, self._service), sock=listener.sock, **keep
        )

    async def stop(self) -> None:
        """Stops accepting, disconnects all clients, and removes the socket's file if it is ours."""
        if self._server:
            self._server.close()
        self._clients.drop_all()
        while self._clients:
            await asyncio.sleep(0)
        if self._listener:
            self._listener.close()

"""The Varlink server on the control socket: whom it lets in, and when it lets them go."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

from trafficmond.control import peers
from trafficmond.control.call import Service
from trafficmond.control.connection import Connection
from trafficmond.control.hub import Hub
from trafficmond.control.listen import Listener
from trafficmond.control.view import View

log = logging.getLogger(__name__)

MAX_CLIENTS = 64
MAX_CLIENTS_OF_A_USER = 48  # root apart, so that there is always room for the administrator


@dataclass(slots=True)
class Counts:
    """Since the start."""

    accepted: int = 0
    refused: int = 0  # too many clients
    evicted: int = 0  # idle, to make room for another
    bad: int = 0  # garbage or too large
    slow: int = 0  # did not read their replies


class Server:
    """Serves `view` to the clients of one listening socket, on the running loop."""

    def __init__(self, view: View, hub: Hub) -> None:
        self.service = Service(view, hub, self._load)
        self.counts = Counts()
        self._clients: set[Connection] = set()
        self._listener: Listener | None = None
        self._server: asyncio.Server | None = None

    async def start(self, listener: Listener) -> None:
        """Begin to accept; owns the listener from now on."""
        self._listener = listener
        loop = asyncio.get_running_loop()
        # From 3.13 on asyncio would remove the file at close, systemd's too; the listener knows whose it is.
        keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        self._server = await loop.create_unix_server(lambda: Connection(self), sock=listener.sock, **keep)

    async def stop(self) -> None:
        """Accept no more, let go of everyone, and remove the socket's file if it is ours."""
        if self._server:
            self._server.close()
        for client in list(self._clients):
            client.transport.abort()
        while self._clients:
            await asyncio.sleep(0)
        if self._listener:
            self._listener.close()

    def admit(self, client: Connection) -> str:
        """Count a new client in; why not, if not."""
        caller = client.peer.caller
        users = Counter(each.peer.caller.uid for each in self._clients)
        full = len(self._clients) >= MAX_CLIENTS
        crowded = caller.uid != 0 and users[caller.uid] >= MAX_CLIENTS_OF_A_USER
        if (full or crowded) and not self._evict_idle(caller.uid if crowded else None):
            self.counts.refused += 1
            log.warning("refused process %d of user %s: too many clients", caller.pid, caller.user)
            return f"too many clients ({len(self._clients)})"
        self.counts.accepted += 1
        self._clients.add(client)
        return ""

    def forget(self, client: Connection) -> None:
        """The client is gone."""
        self._clients.discard(client)

    def _load(self) -> dict[str, int]:
        return {
            "clients": len(self._clients),
            **dataclasses.asdict(self.counts),
            "lost_records": self.service.hub.lost_records,
        }

    def may_change(self, peer: peers.Peer) -> bool:
        """Looked up at each call, so that a group made meanwhile counts."""
        return peer.may_change(peers.group_id(peers.ADMIN_GROUP), os.geteuid())

    def _evict_idle(self, uid: int | None) -> bool:
        """Let go of who has said nothing for longest (of that user, if given); False if everyone is being served."""
        idle = [
            (each.idle_since, each)
            for each in self._clients
            if each.idle_since is not None and uid in (None, each.peer.caller.uid)
        ]
        if not idle:
            return False
        client = min(idle, key=lambda pair: pair[0])[1]
        self.counts.evicted += 1
        self._clients.discard(client)
        client.transport.abort()
        return True

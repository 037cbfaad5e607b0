"""The clients of the moment: whom the server lets in, what they may do, and when it lets them go."""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Protocol

from trafficmond.control import peers
from trafficmond.control.peers import Peer

log = logging.getLogger(__name__)

# bound: clients of the control socket | the longest idle one is disconnected; if none is idle, the new one gets `Busy`
MAX_CLIENTS = 64
# bound: clients of one user, except root | the same, among the clients of that user
MAX_CLIENTS_OF_A_USER = 48  # root apart, so that there is always room for the administrator


@dataclass(slots=True)
class ClientCounts:
    """Since the start."""

    accepted: int = 0
    refused: int = 0  # too many clients
    evicted: int = 0  # idle, to make room for another
    bad: int = 0  # garbage or too large
    slow: int = 0  # did not read their replies


class Client(Protocol):
    """One of them."""

    peer: Peer
    idle_since: float | None  # None: a call is being answered

    def drop(self) -> None:
        """Let go of it at once."""
        ...


class Clients:
    """Belongs to the daemon's loop."""

    def __init__(self) -> None:
        self.counts = ClientCounts()
        self._clients: set[Client] = set()

    def __len__(self) -> int:
        return len(self._clients)

    def admit(self, client: Client) -> str:
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

    def forget(self, client: Client) -> None:
        """The client is gone."""
        self._clients.discard(client)

    def drop_all(self) -> None:
        """Let go of everyone; each is forgotten when its connection is lost."""
        for client in list(self._clients):
            client.drop()

    def load(self) -> dict[str, int]:
        """How many there are and were, as the interface's `Control`."""
        return {"clients": len(self._clients), **asdict(self.counts)}

    def may_change(self, peer: Peer) -> bool:
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
        client.drop()
        return True

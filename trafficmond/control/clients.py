"""The current clients: admission, permissions, and eviction of idle clients."""

import asyncio
import logging
import os
from collections import Counter
from typing import Protocol

from trafficmond.control import peers
from trafficmond.control.peers import Peer
from trafficmond.dataclass import asdict, dataclass

log = logging.getLogger(__name__)

# bound: clients of the control socket | the one idle longest is disconnected; if none is idle, the new one gets `Busy`
MAX_CLIENTS = 64
# bound: clients of one user who is not root | the user's client idle longest is disconnected; if none is idle: `Busy`
MAX_CLIENTS_OF_A_USER = 48  # root apart


@dataclass(slots=True)
class ClientCounts:
    """Counts of clients since the start."""

    accepted: int = 0
    refused: int = 0  # too many clients
    evicted: int = 0  # idle ones, to make room for others
    bad: int = 0  # sent a message that is not valid or too large
    slow: int = 0  # did not read their replies


class Client(Protocol):
    peer: Peer
    idle_since: float | None  # None: a call is being answered

    def drop(self) -> None: ...


class Clients:
    """All connected clients. For the event loop's thread."""

    def __init__(self) -> None:
        self.counts = ClientCounts()
        self._clients: set[Client] = set()
        self._turn = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._clients)

    def admit(self, client: Client) -> str:
        """Admits a new client; returns the reason if it is refused, else an empty text."""
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

    async def next_round(self) -> None:
        """Waits for a round of the event loop that no other client has: one reply a round, so that readings of the
        ledger wait for one reply at most, not for one of each client."""
        async with self._turn:
            await asyncio.sleep(0)

    def forget(self, client: Client) -> None:
        self._clients.discard(client)

    def drop_all(self) -> None:
        """Disconnects all clients; each is removed when its connection is lost."""
        for client in list(self._clients):
            client.drop()

    def load(self) -> dict[str, int]:
        """The numbers of clients now and since the start, as in the type `Control`."""
        return {"clients": len(self._clients), **asdict(self.counts)}

    def may_change(self, peer: Peer) -> bool:
        """Whether a client may call changing methods. The group is looked up each time, since it may have been made."""
        return peer.may_change(peers.group_id(peers.ADMIN_GROUP), os.geteuid())

    def _evict_idle(self, uid: int | None) -> bool:
        """Disconnects the client that is idle longest (of that user, if given); False if none is idle."""
        mine = (each for each in self._clients if uid in (None, each.peer.caller.uid))
        idle = [(each.idle_since, each) for each in mine if each.idle_since is not None]
        if not idle:
            return False
        client = min(idle, key=lambda pair: pair[0])[1]
        self.counts.evicted += 1
        self._clients.discard(client)
        client.drop()
        return True

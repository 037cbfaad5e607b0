"""A host's door, port 9: who gets through to it under the rules of the daemon, which is asked over its socket."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tmlab import Daemon, Lab, Listener, Sender
from tmlab.packets import udp

from trafficmond.control.client import Client

LOGGED = """
[flows]
interval = "200ms"
[[log]]
format = "jsonl"
path = "{home}/traffic.jsonl"
"""


class Wire:
    """Packets from anybody to port 9 of the host, and whether they are heard there."""

    def __init__(self, lab: Lab) -> None:
        self.link = lab.links[0]
        self.sender = Sender(lab.outside, self.link.outside)
        self._listeners = [Listener(lab.host, self.link.host_ip), Listener(lab.host, self.link.host_ip6)]

    def target(self, source: str) -> str:
        """The host's address of the same family."""
        return self.link.host_ip6 if ":" in source else self.link.host_ip

    def heard(self) -> Counter[str]:
        """Packets by source since the last time."""
        return sum((listener.heard() for listener in self._listeners), start=Counter[str]())

    def passes(self, *sources: str) -> dict[str, bool]:
        """Whether a packet from each source reaches the port."""
        for source in sources:
            self.sender.send([udp(source, self.target(source))])
        heard = self.heard()
        return {source: heard[source] == 1 for source in sources}


def ask(daemon: Daemon, method: str, **parameters: Any) -> dict[str, Any]:
    """The answer to one call, of a connection of its own."""
    with Client(str(daemon.socket)) as client:
        return client.call(method, **parameters)

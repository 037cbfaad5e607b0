"""Names of addresses from the DNS answers that the daemon has seen (flows.dns_names)."""

import time
from collections.abc import Iterable
from typing import Any

from trafficmond.control.client import Client
from trafficmond.errors import ControlError

_AT_ONCE = 4096  # addresses in one call
_SOON_S = 1.0  # tolerated difference between the clocks of flows and of DNS answers
_OF_A_TIME = ("src_ip", "dst_ip")  # fields of rows that have a time: flows, events, threats


class Asked:
    """Asks the daemon over a connection of its own. If the daemon cannot be reached, there are no names."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._client: Client | None = None
        self._names: dict[str, list[tuple[str, float]]] = {}  # address -> names, each with since when

    def learn(self, addresses: Iterable[str]) -> None:
        """Asks for the names of these addresses and forgets all others."""
        wanted, self._names = sorted(addresses), {}
        try:
            for at in range(0, len(wanted), _AT_ONCE):
                self._client = self._client or Client(self._socket)
                for row in self._client.call("DnsNames", addresses=wanted[at : at + _AT_ONCE])["names"]:
                    self._names.setdefault(row["address"], []).append((row["name"], row["since"]))
        except ControlError:
            if self._client:
                self._client.close()
            self._client = None

    def of(self, row: dict[str, Any], end: str) -> str | None:
        """The name of the address in field `end`.

        For a flow: the last name asked for before it began, or else the first until it ended. For a host: the latest.
        """
        names = self._names.get(row[end])
        if not names:
            return None
        began = row.get("first_seen", row.get("timestamp"))
        if "age_s" in row:
            began = time.time() - row["age_s"]
        if end not in _OF_A_TIME or not isinstance(began, int | float):
            return names[-1][0]
        before = [name for name, since in names if since <= began + _SOON_S]
        during = [name for name, since in names if since <= (row.get("last_seen") or began) + _SOON_S]
        return before[-1] if before else during[0] if during else None

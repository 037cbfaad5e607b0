"""Names that the daemon's host asked for, as the daemon has seen them answered (flows.dns_names)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from trafficmond.control.client import Client
from trafficmond.errors import ControlError

_AT_ONCE = 4096  # addresses of a call
_SOON_S = 1.0  # that clocks of flows and of answers may differ
_OF_A_TIME = ("src_ip", "dst_ip")  # ends of rows that tell of something that happened at a time


class Asked:
    """Over a connection of its own, made when it is needed. A daemon that cannot be asked knows no names."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._client: Client | None = None
        self._names: dict[str, list[tuple[str, float]]] = {}  # address -> names, each with since when

    def learn(self, addresses: Iterable[str]) -> None:
        """Ask about these, and forget the others."""
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
        """The name of an end: of a flow what was asked for last before it began, or else first until it ended; of a
        host the latest."""
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

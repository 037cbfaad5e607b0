"""Bans: in the kernel, where they act and end by themselves, and in the store, for after a reboot."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from trafficmond.datapath.bans import KernelBan, Network
from trafficmond.store.records import Ban


class Kernel(Protocol):
    """The kernel's side."""

    def put(self, ban: KernelBan) -> None: ...
    def remove(self, network: Network) -> bool: ...


class BanList:
    """Who is banned, by whom, until when. `changed` is called after every change, to save and to set switches."""

    def __init__(self, kernel: Kernel, changed: Callable[[], None]) -> None:
        self._kernel = kernel
        self._changed = changed
        self._bans: dict[Network, Ban] = {}

    def restore(self, bans: Iterable[Ban], now: float) -> None:
        """Takes up stored bans that have not ended."""
        for ban in bans:
            network = ipaddress.ip_network(ban.cidr)
            if ban.expires is None or ban.expires > now:
                self._kernel.put(KernelBan(network, ban.expires))
                self._bans[network] = ban
        self._changed()

    def add(self, ban: Ban) -> Ban:
        """Puts a ban in force, or gives the one on that prefix another end. Raises DatapathError if the kernel's
        table is full."""
        network = ipaddress.ip_network(ban.cidr)
        known = self._bans.get(network)
        if known is not None:
            ban = replace(ban, since=known.since)
        self._kernel.put(KernelBan(network, ban.expires))
        self._bans[network] = ban
        self._changed()
        return ban

    def lift(self, network: Network) -> list[Ban]:
        """Lifts every ban within a prefix; what was lifted."""
        lifted = [ban for banned, ban in self._bans.items() if _within(banned, network)]
        for ban in lifted:
            banned = ipaddress.ip_network(ban.cidr)
            self._kernel.remove(banned)
            del self._bans[banned]
        if lifted:
            self._changed()
        return lifted

    def expire(self, now: float) -> list[Ban]:
        """Forgets bans that the kernel has ended; what was forgotten."""
        ended = [ban for ban in self._bans.values() if ban.expires is not None and ban.expires <= now]
        for ban in ended:
            network = ipaddress.ip_network(ban.cidr)
            self._kernel.remove(network)
            del self._bans[network]
        if ended:
            self._changed()
        return ended

    def covering(self, address: str) -> list[Ban]:
        """Bans that an address falls under, the narrowest first."""
        network = ipaddress.ip_network(address)
        found = [ban for banned, ban in self._bans.items() if _within(network, banned)]
        return sorted(found, key=lambda ban: -ipaddress.ip_network(ban.cidr).prefixlen)

    def all(self) -> list[Ban]:
        """Every ban in force, the latest first."""
        return sorted(self._bans.values(), key=lambda ban: -ban.since)

    def __len__(self) -> int:
        return len(self._bans)


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]

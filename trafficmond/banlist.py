"""Bans: in the kernel, where they act and end by themselves, and in the store, for after a reboot."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from trafficmond.datapath.bans import KernelBan
from trafficmond.networks import Network
from trafficmond.store.records import Ban

_UNKNOWN = "unknown"  # who banned what only the kernel remembers


class Kernel(Protocol):
    """The kernel's side."""

    def put(self, ban: KernelBan) -> None: ...
    def remove(self, network: Network) -> bool: ...
    def __iter__(self) -> Iterator[KernelBan]: ...


class BanList:
    """Who is banned, by whom, until when. `changed` is called after every change, to save and to set switches.

    The kernel looks at the narrowest ban of an address alone, so a narrow ban is given to it with the latest end of
    all bans around it: an address is free when its last ban has ended.
    """

    def __init__(self, kernel: Kernel, changed: Callable[[], None]) -> None:
        self._kernel = kernel
        self._changed = changed
        self._bans: dict[Network, Ban] = {}
        self._lengths: Counter[tuple[int, int]] = Counter()  # (version, prefix length) of bans

    def restore(self, bans: Iterable[Ban], now: float) -> None:
        """Takes up stored bans that have not ended, and what is in the kernel alone because the last daemon was killed
        before it had stored it."""
        for ban in bans:
            network = ipaddress.ip_network(ban.cidr)
            if ban.expires is None or ban.expires > now:
                self._enter(network, ban)
            else:
                self._kernel.remove(network)
        for held in list(self._kernel):
            if held.network not in self._bans and (held.expires is None or held.expires > now):
                self._enter(held.network, Ban(str(held.network), _UNKNOWN, "", now, held.expires))
        for network in self._bans:
            self._put(network)
        self._changed()

    def add(self, ban: Ban) -> Ban:
        """Puts a ban in force, or gives the one on that prefix another end. Raises DatapathError if the kernel's
        table is full."""
        network = ipaddress.ip_network(ban.cidr)
        known = self._bans.get(network)
        if known is not None:
            ban = replace(ban, since=known.since, forced=ban.forced or known.forced)
        self._kernel.put(KernelBan(network, _later(ban.expires, self._end_around(network))))
        self._enter(network, ban)
        if network.prefixlen < network.max_prefixlen:
            for banned in self._bans:
                if banned != network and _within(banned, network):
                    self._put(banned)
        self._changed()
        return ban

    def lift(self, network: Network) -> list[Ban]:
        """Lifts every ban within a prefix; what was lifted."""
        lifted = [ban for banned, ban in self._bans.items() if _within(banned, network)]
        for ban in lifted:
            banned = ipaddress.ip_network(ban.cidr)
            self._leave(banned)
        if lifted:
            self._changed()
        return lifted

    def expire(self, now: float) -> list[Ban]:
        """Forgets bans that the kernel has ended; what was forgotten."""
        ended = [ban for ban in self._bans.values() if ban.expires is not None and ban.expires <= now]
        for ban in ended:
            self._leave(ipaddress.ip_network(ban.cidr))
        if ended:
            self._changed()
        return ended

    def covering(self, address: str) -> list[Ban]:
        """Bans that an address falls under, the narrowest first."""
        return list(self._around(ipaddress.ip_network(address)))

    def all(self) -> list[Ban]:
        """Every ban in force, the latest first."""
        return sorted(self._bans.values(), key=lambda ban: -ban.since)

    def forced(self) -> set[Network]:
        """Prefixes whose bans guard and allowlist do not stand against."""
        return {network for network, ban in self._bans.items() if ban.forced}

    def __len__(self) -> int:
        return len(self._bans)

    def _enter(self, network: Network, ban: Ban) -> None:
        if network not in self._bans:
            self._lengths[network.version, network.prefixlen] += 1
        self._bans[network] = ban

    def _leave(self, network: Network) -> None:
        self._kernel.remove(network)
        self._lengths[network.version, network.prefixlen] -= 1
        del self._bans[network]

    def _put(self, network: Network) -> None:
        end = _later(self._bans[network].expires, self._end_around(network))
        self._kernel.put(KernelBan(network, end))

    def _end_around(self, network: Network) -> float | None:
        """When the last of the wider bans ends, 0 if there are none."""
        end: float | None = 0.0
        for ban in self._around(network):
            if ban.cidr != str(network):
                end = _later(end, ban.expires)
        return end

    def _around(self, network: Network) -> Iterator[Ban]:
        """Bans that hold all of a prefix, the narrowest first."""
        for length in range(network.prefixlen, -1, -1):
            if self._lengths[network.version, length]:
                ban = self._bans.get(network.supernet(new_prefix=length))
                if ban is not None:
                    yield ban


def _later(a: float | None, b: float | None) -> float | None:
    """The later of two ends; None: never."""
    return None if a is None or b is None else max(a, b)


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]

"""The kernel's ban table: a small LPM trie whose entries end by themselves, on time, with or without a daemon."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trafficmond import abi
from trafficmond.datapath import libbpf
from trafficmond.datapath.clock import Clock
from trafficmond.errors import DatapathError
from trafficmond.model import Action, Reason, verdict_word
from trafficmond.networks import MAPPED, Network, within

_BITS = 128
_ALL_IPV4 = ipaddress.IPv4Network("0.0.0.0/0")
_ENDED = 1  # jiffies: over since the machine came up


@dataclass(frozen=True, slots=True)
class KernelBan:
    """A ban as the kernel holds it; `expires` is epoch seconds, None: never."""

    network: Network
    expires: float | None


class BanTable:
    """Reads and writes `tm_bans`.

    IPv4 lies in it as ::ffff:0:0/96, so a ban of an IPv6 prefix around that would hold for all of IPv4. An entry for
    0.0.0.0/0 that has ended keeps the two apart: it is the longest match of an IPv4 address that nobody banned.
    """

    def __init__(self, map_fd: int, clock: Clock) -> None:
        self._fd = map_fd
        self._clock = clock

    def put(self, ban: KernelBan) -> None:
        """Puts a ban in force, or changes when it ends. Raises DatapathError if the table is full."""
        try:
            if within(MAPPED, ban.network) and libbpf.lookup(self._fd, _key(_ALL_IPV4), abi.BAN.itemsize) is None:
                self._write(_ALL_IPV4, _ENDED)
            self._write(ban.network, 0 if ban.expires is None else self._clock.to_jiffies(ban.expires))
        except OSError as error:
            why, hint = error.strerror, ""
            if error.errno == errno.ENOSPC:
                why = f"the kernel's table holds {libbpf.map_info(self._fd).max_entries:,} bans and is full"
                hint = "lift some with trafficctl unban, or ban networks in place of addresses"
            raise DatapathError(f"cannot ban {ban.network}: {why}", hint=hint) from error

    def remove(self, network: Network) -> bool:
        """Lifts exactly this ban; False if there was none."""
        if network == _ALL_IPV4:
            raw = libbpf.lookup(self._fd, _key(network), abi.BAN.itemsize)
            if raw is None or np.frombuffer(raw, abi.BAN)["expires"][0] == _ENDED:
                return False
            self._write(network, _ENDED)  # bans of IPv6 around it may be there
            return True
        return libbpf.delete(self._fd, _key(network))

    def _write(self, network: Network, expires: int) -> None:
        value = np.zeros(1, abi.BAN)
        value["expires"], value["verdict"] = expires, verdict_word(Action.DROP, Reason.BAN)
        libbpf.update(self._fd, _key(network), value.tobytes())

    def __iter__(self) -> Iterator[KernelBan]:
        key = libbpf.next_key(self._fd, None, abi.BAN_KEY.itemsize)
        while key is not None:
            raw = libbpf.lookup(self._fd, key, abi.BAN.itemsize)
            following = libbpf.next_key(self._fd, key, abi.BAN_KEY.itemsize)
            if raw is not None and np.frombuffer(raw, abi.BAN)["expires"][0] != _ENDED:
                expires = np.frombuffer(raw, abi.BAN)["expires"]
                yield KernelBan(_network(key), float(self._clock.to_epoch(expires)[0]) if expires[0] else None)
            key = following


def _key(network: Network) -> bytes:
    packed = network.network_address.packed
    length = network.prefixlen
    if network.version == 4:
        packed, length = b"\0" * 10 + b"\xff\xff" + packed, length + 96
    return length.to_bytes(4, "little") + packed


def _network(key: bytes) -> Network:
    length, packed = int.from_bytes(key[:4], "little"), key[4:]
    if length >= 96 and packed.startswith(b"\0" * 10 + b"\xff\xff"):
        return ipaddress.IPv4Network((packed[12:], length - 96))
    return ipaddress.IPv6Network((packed, min(length, _BITS)))

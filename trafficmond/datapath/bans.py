"""The kernel's ban table: a small LPM trie whose entries end on time without the daemon."""

import errno
import ipaddress
from collections import Counter
from collections.abc import Iterator

import numpy as np

from trafficmond import abi
from trafficmond.dataclass import dataclass
from trafficmond.datapath import libbpf
from trafficmond.datapath.clock import Clock
from trafficmond.errors import DatapathError
from trafficmond.model import Action, Reason
from trafficmond.networks import MAPPED, Network, sixteen
from trafficmond.services import Places
from trafficmond.verdict import verdict_word

_BITS = 128
_ENDED = 1  # jiffies: over since the machine came up


@dataclass(frozen=True, slots=True)
class KernelBan:
    """A ban in the kernel; `expires` is epoch seconds, None: never; `services`: those that it applies to, (): all."""

    network: Network
    expires: float | None
    services: Places = ()


class BanTable:
    """Reads and writes `tm_bans`, and `tm_ban_services` beside it.

    IPv4 is stored as ::ffff:0:0/96. Each entry has its family: a ban of a wider IPv6 prefix does not apply to IPv4.
    """

    def __init__(self, map_fd: int, services_fd: int, clock: Clock) -> None:
        self._fd = map_fd
        self._services_fd = services_fd
        self._clock = clock
        self._places: dict[bytes, int] | None = None  # of the bans for some services, by key; None: not read yet
        self._users: Counter[int] = Counter()  # how many bans have each place
        self._sets: dict[int, bytes] = {}  # services at the places in use

    def put(self, ban: KernelBan) -> None:
        """Puts a ban in force, or changes its end and its services. Raises DatapathError if a table is full."""
        value = np.zeros(1, abi.BAN)
        value["expires"] = 0 if ban.expires is None else self._clock.to_jiffies(ban.expires)
        value["verdict"], value["family"] = verdict_word(Action.DROP, Reason.BAN), ban.network.version
        key = _key(ban.network)
        place = self._place_for(ban)
        value["services"] = place
        try:
            libbpf.update(self._fd, key, value.tobytes())
        except OSError as error:
            why, hint = error.strerror, ""
            if error.errno == errno.ENOSPC:
                why = f"the kernel's table holds {libbpf.map_info(self._fd).max_entries:,} bans and is full"
                hint = "lift some with trafficctl unban, or ban networks in place of addresses"
            if place and place not in self._users:
                del self._sets[place]
            raise DatapathError(f"cannot ban {ban.network}: {why}", hint=hint) from error
        self._has(key, place)

    def remove(self, network: Network) -> bool:
        """Lifts exactly this ban; False if there was none."""
        key = _key(network)
        gone = libbpf.delete(self._fd, key)
        self._has(key, 0)
        return gone

    def _place_for(self, ban: KernelBan) -> int:
        """The place of the ban's services in `tm_ban_services`, added there if no other ban has them; 0: all."""
        self._held()
        if not ban.services:
            return 0
        bits = np.zeros(8 * abi.BAN_SET.itemsize, np.uint8)
        for first, last in ban.services:
            bits[first : last + 1] = 1
        wanted = np.packbits(bits, bitorder="little").tobytes()
        for place, there in self._sets.items():
            if there == wanted:
                return place
        free = [place for place in range(1, abi.BAN_SETS) if place not in self._sets]
        if not free:
            what = f"cannot ban {ban.network}: bans already name {abi.BAN_SETS - 1} sets of services, the maximum"
            raise DatapathError(what, hint="ban it for all services, or for those of another ban")
        libbpf.update(self._services_fd, free[0].to_bytes(4, "little"), wanted)
        self._sets[free[0]] = wanted
        return free[0]

    def _held(self) -> dict[bytes, int]:
        """The places of bans for some services, by their keys; read once, since only this class writes the table."""
        if self._places is None:
            self._places = {key: int(entry["services"]) for key, entry in self._entries() if entry["services"]}
            self._users = Counter(self._places.values())
            self._sets = {place: self._bits_at(place) for place in self._users}
        return self._places

    def _has(self, key: bytes, place: int) -> None:
        """Records that the ban of `key` has its services at `place`; 0: all, or the ban is removed."""
        places = self._held()
        before = places.pop(key, 0)
        if place:
            places[key] = place
            self._users[place] += 1
        if before:
            self._users[before] -= 1
            if not self._users[before]:
                del self._users[before], self._sets[before]

    def _entries(self) -> Iterator[tuple[bytes, np.void]]:
        key = libbpf.next_key(self._fd, None, abi.BAN_KEY.itemsize)
        while key is not None:
            raw = libbpf.lookup(self._fd, key, abi.BAN.itemsize)
            following = libbpf.next_key(self._fd, key, abi.BAN_KEY.itemsize)
            if raw is not None:
                yield key, np.frombuffer(raw, abi.BAN)[0]
            key = following

    def _bits_at(self, place: int) -> bytes:
        return libbpf.lookup(self._services_fd, place.to_bytes(4, "little"), abi.BAN_SET.itemsize) or b""

    def _services_at(self, place: int) -> Places:
        if not place:
            return ()
        bits = np.unpackbits(np.frombuffer(self._bits_at(place), np.uint8), bitorder="little")
        edges = np.flatnonzero(np.diff(bits, prepend=0, append=0)).tolist()
        return tuple((first, past - 1) for first, past in zip(edges[::2], edges[1::2], strict=True))

    def __iter__(self) -> Iterator[KernelBan]:
        for key, entry in self._entries():
            if entry["expires"] == _ENDED:
                continue  # from an earlier version, which separated the families this way
            expires = float(self._clock.to_epoch(entry["expires"].reshape(1))[0]) if entry["expires"] else None
            yield KernelBan(_network(key), expires, self._services_at(int(entry["services"])))


def _key(network: Network) -> bytes:
    length = network.prefixlen + (MAPPED.prefixlen if network.version == 4 else 0)
    return length.to_bytes(4, "little") + sixteen(network.network_address)


def _network(key: bytes) -> Network:
    length, packed = int.from_bytes(key[:4], "little"), key[4:]
    if length >= 96 and packed.startswith(MAPPED.network_address.packed[:12]):
        return ipaddress.IPv4Network((packed[12:], length - 96))
    return ipaddress.IPv6Network((packed, min(length, _BITS)))

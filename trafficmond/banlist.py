"""Bans: in the kernel, where they act and end by themselves, and in the store, for after a reboot."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from trafficmond import networks, services
from trafficmond.datapath.bans import KernelBan
from trafficmond.errors import DatapathError
from trafficmond.networks import Network
from trafficmond.services import Places
from trafficmond.store.records import Ban

UNKNOWN = "unknown"  # owner of what only the kernel remembers, and of what was banned before bans had owners
_MOST_OWNERS = 64  # of one prefix
_MOVED_S = 1.0  # the kernel's end of a ban differs by more from the stored one: the clock was stepped meanwhile

Key = tuple[str, str]  # prefix and owner
Changed = Callable[[Sequence[Ban], Sequence[Key]], None]


class Kernel(Protocol):
    """The kernel's side."""

    def put(self, ban: KernelBan) -> None: ...
    def remove(self, network: Network) -> bool: ...
    def __iter__(self) -> Iterator[KernelBan]: ...


class BanList:
    """Who is banned, by whom, until when. `changed` is called after every change with the bans that are new or other,
    and with those that are gone.

    Several may ban one prefix, each for itself: it is free when the last of them has ended or was lifted. The kernel
    looks at the narrowest ban of an address alone, so it is given the latest end of all bans on it and around it, and
    the services of all of them; when one of them ends, it is given what is left.
    """

    def __init__(self, kernel: Kernel, changed: Changed) -> None:
        self._kernel = kernel
        self._changed = changed
        self._bans: dict[Network, dict[str, Ban]] = {}  # by owner
        self._lengths: Counter[tuple[int, int]] = Counter()  # (version, prefix length) of banned prefixes
        self._order: dict[int, list[tuple[int, int, Network]]] = {4: [], 6: []}  # by address and length
        self._ends: list[tuple[float, str, str]] = []  # a heap of end, prefix, owner; old ones are passed over
        self._forced: set[Network] = set()
        self._waiting: set[Network] = set()  # that the kernel has no room for as they are now
        self._total = 0

    def restore(self, bans: Iterable[Ban], now: float) -> None:
        """Takes up stored bans that have not ended, and what is in the kernel alone because the last daemon was killed
        before it had stored it.

        Bans last for a time, not until a date. If the clock was stepped meanwhile, the kernel's ends tell by how much;
        after a reboot with a clock that is behind, a ban lasts no longer than it was made for.
        """
        for network, ban in sorted(((networks.parse(ban.cidr), ban) for ban in bans), key=lambda each: _place(each[0])):
            self._enter(network, replace(ban, cidr=str(network)))
        found = list(self._kernel)
        held = {each.network: each.expires for each in found}
        named = {each.network: ",".join(services.text(services.without_fragments(each.services))) for each in found}
        moved = [end - stored for each, end in held.items() if end and (stored := self._end(each))]
        jump = sorted(moved)[len(moved) // 2] if moved else 0.0  # the median
        self._replace_all(jump if abs(jump) > _MOVED_S else 0.0, now)
        for ended in self._pop_ended(now):
            self._leave(ended)
        for network, end in held.items():
            if network not in self._bans and (end is None or end > now):
                self._enter(network, Ban(str(network), UNKNOWN, "", now, end, owner=UNKNOWN, ports=named[network]))
        for network in self._bans:
            self._put(network)
        self._changed((), ())

    def add(self, ban: Ban) -> Ban:
        """Puts a ban in force, or gives its owner's ban on that prefix another end. What is so already changes nothing.
        Raises DatapathError if the kernel's table is full, or the prefix has too many owners."""
        known = self.so_already(ban)
        if known:
            return known
        done = self._add(ban)
        self._changed((done,), ())
        return done

    def add_all(self, bans: Iterable[Ban]) -> list[tuple[Ban, DatapathError]]:
        """`add` for many in one change; those that could not be added, and why."""
        done, failed = [], []
        for ban in bans:
            try:
                if not self.so_already(ban):
                    done.append(self._add(ban))
            except DatapathError as error:
                failed.append((ban, error))
        if done:
            self._changed(done, ())
        return failed

    def _add(self, ban: Ban) -> Ban:
        network = networks.parse(ban.cidr)
        owners = self._bans.get(network, {})
        known = owners.get(ban.owner)
        if known is not None:
            ban = _renewed(known, ban)
        elif len(owners) >= _MOST_OWNERS:
            raise DatapathError(
                f"cannot ban {ban.cidr}: {_MOST_OWNERS} owners have banned it already", hint="see trafficctl bans"
            )
        others = [each for each in self._on(network) if each is not known]
        self._kernel.put(_as_kernel(network, [ban, *others]))
        self._enter(network, ban)
        self._waiting.discard(network)
        inside = [each for each in self._inside(network) if each != network]
        try:
            for inner in inside:
                self._kernel.put(_as_kernel(inner, self._on(inner)))
        except DatapathError:  # no room for what these are banned for together
            self._leave(ban)
            if known is not None:
                self._enter(network, known)
            for each in (*inside, *([network] if known else ())):
                self._put(each)
            raise
        return ban

    def lift(self, network: Network, owner: str | None = None) -> tuple[list[Ban], list[Ban]]:
        """Lifts an owner's bans within a prefix and those that nobody owns, or all; (lifted, what others hold)."""
        within = [ban for inner in self._inside(network) for ban in self._bans[inner].values()]
        lifted = [ban for ban in within if owner is None or ban.owner in (owner, UNKNOWN)]
        held = [ban for ban in within if not (owner is None or ban.owner in (owner, UNKNOWN))]
        for ban in lifted:
            self._leave(ban)
        if lifted:
            self._put_all(networks.parse(ban.cidr) for ban in held)
            self._changed((), [(ban.cidr, ban.owner) for ban in lifted])
        return lifted, held

    def expire(self, now: float) -> list[Ban]:
        """Forgets bans that have ended; what was forgotten."""
        ended = self._pop_ended(now)
        for ban in ended:
            self._leave(ban)
        if ended:
            self._put_all(inner for ban in ended for inner in self._inside(networks.parse(ban.cidr)))
            self._changed((), [(ban.cidr, ban.owner) for ban in ended])
        self._put_all(self._waiting & self._bans.keys())
        return ended

    def shift(self, seconds: float) -> None:
        """The wall clock was stepped by so much: all bans last as long as before, as those in the kernel do."""
        self._replace_all(seconds)
        self._changed(self.all(), ())

    def covering(self, address: str) -> list[Ban]:
        """Bans that an address falls under, the narrowest first, and of these the one that lasts longest."""
        found = []
        for network in self._around(networks.parse(address)):
            found += sorted(self._bans[network].values(), key=_lasting, reverse=True)
        return found

    def of(self, network: Network, owner: str) -> Ban | None:
        """An owner's ban of exactly this prefix."""
        return self._bans.get(network, {}).get(owner)

    def so_already(self, ban: Ban) -> Ban | None:
        """The ban in force that this one would change nothing of: forever, and for the same as before."""
        network = networks.parse(ban.cidr)
        known = self.of(network, ban.owner)
        return known if known and known == _renewed(known, ban) and network not in self._waiting else None

    def all(self) -> list[Ban]:
        """Every ban in force, the latest first."""
        return sorted((ban for owners in self._bans.values() for ban in owners.values()), key=lambda ban: -ban.since)

    def forced(self) -> set[Network]:
        """Prefixes whose bans guard and allowlist do not stand against."""
        return set(self._forced)

    @property
    def waiting(self) -> int:
        """How many prefixes the kernel has no room for as they are banned now: their services are too many different
        ones. It judges by what it had before, until there is room."""
        return len(self._waiting)

    def __len__(self) -> int:
        """Banned prefixes, whoever banned them: what the kernel's table holds."""
        return len(self._bans)

    # ---- one prefix ----

    def _enter(self, network: Network, ban: Ban) -> None:
        owners = self._bans.get(network)
        if owners is None:
            owners = self._bans[network] = {}
            self._lengths[network.version, network.prefixlen] += 1
            insort(self._order[network.version], _entry(network))
        self._total += ban.owner not in owners
        owners[ban.owner] = ban
        if ban.forced:
            self._forced.add(network)
        if ban.expires is not None:
            heapq.heappush(self._ends, (ban.expires, ban.cidr, ban.owner))
            if len(self._ends) > 2 * self._total + _MOST_OWNERS:  # bans that are prolonged again and again
                self._rebuild_ends()

    def _leave(self, ban: Ban) -> None:
        network = networks.parse(ban.cidr)
        owners = self._bans[network]
        del owners[ban.owner]
        self._total -= 1
        if not any(each.forced for each in owners.values()):
            self._forced.discard(network)
        if owners:
            self._put(network)
            return
        self._kernel.remove(network)
        self._waiting.discard(network)
        self._lengths -= Counter([(network.version, network.prefixlen)])  # those of none are left out
        order = self._order[network.version]
        del order[bisect_left(order, _entry(network)[:2])]
        del self._bans[network]

    def _put(self, network: Network) -> None:
        try:
            self._kernel.put(_as_kernel(network, self._on(network)))
        except DatapathError:  # it is tried again
            self._waiting.add(network)
        else:
            self._waiting.discard(network)

    def _put_all(self, found: Iterable[Network]) -> None:
        for network in dict.fromkeys(found):
            self._put(network)

    def _on(self, network: Network) -> list[Ban]:
        """The bans on a prefix and around it."""
        return [ban for each in self._around(network) for ban in self._bans[each].values()]

    def _end(self, network: Network) -> float | None:
        """When the last of the bans on a prefix and around it ends; 0: there is none."""
        return _latest(0.0, *(ban.expires for ban in self._on(network)))

    def _around(self, network: Network) -> Iterator[Network]:
        """Banned prefixes that hold all of a prefix, the narrowest first."""
        version, own = network.version, network.prefixlen
        lengths = [length for family, length in self._lengths if family == version and length <= own]
        for length in sorted(lengths, reverse=True):
            wider = network if length == own else network.supernet(new_prefix=length)
            if wider in self._bans:
                yield wider

    def _inside(self, network: Network) -> list[Network]:
        """Banned prefixes that lie within a prefix, itself included."""
        order, first, last = self._order[network.version], int(network[0]), int(network[-1])
        start, end = bisect_left(order, (first,)), bisect_right(order, (last + 1,))
        return [each for _, length, each in order[start:end] if length >= network.prefixlen]

    # ---- all of them ----

    def _pop_ended(self, now: float) -> list[Ban]:
        ended: list[Ban] = []
        while self._ends and self._ends[0][0] <= now:
            end, cidr, owner = heapq.heappop(self._ends)
            ban = self._bans.get(networks.parse(cidr), {}).get(owner)
            if ban is not None and ban.expires == end and ban not in ended[-1:]:
                ended.append(ban)
        return ended

    def _replace_all(self, seconds: float, now: float | None = None) -> None:
        """Moves all bans by so much; with `now`, one that was made later than now to begin now."""
        for owners in self._bans.values():
            for owner, ban in owners.items():
                since = ban.since + seconds
                by = seconds if now is None or since <= now else seconds + now - since
                if by:
                    end = None if ban.expires is None else ban.expires + by
                    owners[owner] = replace(ban, since=ban.since + by, expires=end)
        self._rebuild_ends()

    def _rebuild_ends(self) -> None:
        self._ends = [
            (ban.expires, ban.cidr, ban.owner)
            for owners in self._bans.values()
            for ban in owners.values()
            if ban.expires is not None
        ]
        heapq.heapify(self._ends)


def _renewed(known: Ban, ban: Ban) -> Ban:
    """An owner's ban of a prefix when that owner bans it once more."""
    return replace(ban, since=known.since, forced=ban.forced or known.forced)


def places_of(ban: Ban) -> Places:
    """The services that a ban is for; (): all."""
    return services.parse(ban.ports.split(",")) if ban.ports else ()


def _as_kernel(network: Network, bans: Sequence[Ban]) -> KernelBan:
    """What the kernel is told of a prefix with these bans on it and around it."""
    named = {ban.ports: places_of(ban) for ban in bans}
    union: Places = ()
    if all(named.values()):
        union = services.with_fragments(services.merged(each for part in named.values() for each in part), False)
    return KernelBan(network, _latest(0.0, *(ban.expires for ban in bans)), union)


def _latest(*ends: float | None) -> float | None:
    """The latest of some ends; None: never."""
    return None if None in ends else max(ends)  # type: ignore[type-var]


def _lasting(ban: Ban) -> float:
    return float("inf") if ban.expires is None else ban.expires


def _entry(network: Network) -> tuple[int, int, Network]:
    return int(network.network_address), network.prefixlen, network


def _place(network: Network) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen

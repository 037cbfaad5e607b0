"""The bans: in the kernel, where they act and expire by themselves, and in the store, for after a reboot."""

import heapq
import math
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from trafficmond import networks, services
from trafficmond.dataclass import replace
from trafficmond.datapath.bans import BanTable, KernelBan
from trafficmond.errors import DatapathError
from trafficmond.networks import Network
from trafficmond.services import Places
from trafficmond.store.records import Ban, Key

UNKNOWN = "unknown"  # owner of bans that only the kernel has, and of bans from before bans had owners
_MOST_OWNERS = 64  # of one prefix
_MOVED_S = 1.0  # if the end of a ban in the kernel differs by more from the stored one, the clock was stepped

Changed = Callable[[Sequence[Ban], Sequence[Key]], None]


class BanList:
    """All bans. `changed` is called after every change with the new or changed bans, and with those that are gone.

    Several owners may ban one prefix: it is free when the last of these bans has ended or was lifted. The kernel uses
    only the narrowest ban of an address, so that entry has the latest end and all services of the bans on the prefix
    and around it. When one of them ends, the entry is updated.
    """

    def __init__(self, kernel: BanTable, changed: Changed) -> None:
        self._kernel = kernel
        self._changed = changed
        self._bans: dict[Network, dict[str, Ban]] = {}  # by owner
        self._lengths: Counter[tuple[int, int]] = Counter()  # (version, prefix length) of banned prefixes
        self._order: dict[int, list[tuple[int, int, Network]]] = {4: [], 6: []}  # by address and length
        self._ends: list[tuple[float, str, str]] = []  # a heap of end, prefix, owner; outdated entries are skipped
        self._forced: set[Network] = set()
        self._waiting: set[Network] = set()  # prefixes whose current entry does not fit into the kernel
        self._total = 0
        self._gone: set[Key] = set()  # ended or lifted before `restore`
        self.restored = False

    def restore(self, bans: Iterable[Ban], now: float) -> None:
        """Restores stored bans that have not ended, and bans that only the kernel has because the last daemon was
        killed before it could store them. What was made, lifted or ended since the start stays so.

        Bans last for a duration, not until a date. If the clock was stepped meanwhile, the ends in the kernel show by
        how much. After a reboot with a clock that is behind, a ban lasts no longer than its duration.
        """
        for network, ban in sorted(
            ((networks.parse(ban.cidr), ban) for ban in bans), key=lambda each: (each[0].version, *_entry(each[0])[:2])
        ):
            key = str(network), ban.owner
            if key not in self._gone and not self.of(network, ban.owner):
                self._enter(network, replace(ban, cidr=key[0]))
        self._gone, self.restored = set(), True
        found = list(self._kernel)
        held = {each.network: each.expires for each in found}
        named = {each.network: ",".join(services.text(services.without_unread(each.services))) for each in found}
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
        """Puts a ban in force, or replaces its owner's ban on that prefix. An equal ban changes nothing. Raises
        DatapathError if the kernel's table is full, or the prefix has too many owners."""
        known = self.equal_in_force(ban)
        if known:
            return known
        done = self._add(ban)
        self._changed((done,), ())
        return done

    def add_all(self, bans: Iterable[Ban]) -> list[tuple[Ban, DatapathError]]:
        """The same for many in one change; returns the bans that could not be added, with the errors."""
        done, failed = [], []
        for ban in bans:
            try:
                if not self.equal_in_force(ban):
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
        except DatapathError:  # no room for the services of these bans together
            self._leave(ban)
            if known is not None:
                self._enter(network, known)
            for each in (*inside, *([network] if known else ())):
                self._put(each)
            raise
        return ban

    def lift(self, wanted: Iterable[Network], owner: str | None = None) -> tuple[list[Ban], list[Ban]]:
        """Lifts an owner's bans within prefixes and nobody's, or all. Returns (lifted, held by others)."""
        lifted: list[Ban] = []
        held: list[Ban] = []
        for network in wanted:
            for ban in [ban for inner in self._inside(network) for ban in self._bans[inner].values()]:
                if owner is None or ban.owner in (owner, UNKNOWN):
                    self._leave(ban)
                    lifted.append(ban)
                else:
                    held.append(ban)
        if lifted:
            self._put_all(networks.parse(ban.cidr) for ban in held)
            self._drop(lifted)
        return lifted, held

    def expire(self, now: float) -> list[Ban]:
        """Removes the bans that have ended, and returns them."""
        ended = self._pop_ended(now)
        for ban in ended:
            self._leave(ban)
        if ended:
            self._put_all(inner for ban in ended for inner in self._inside(networks.parse(ban.cidr)))
            self._drop(ended)
        self._put_all(self._waiting & self._bans.keys())
        return ended

    def shift(self, seconds: float) -> None:
        """Moves all ends after the wall clock was stepped, so that bans last as long as those in the kernel."""
        self._replace_all(seconds)
        self._changed(self.all(), ())

    def covering(self, address: str) -> list[Ban]:
        """The bans that cover an address, the narrowest first; on one prefix the one that lasts longest first."""
        found = []
        for network in self._around(networks.parse(address)):
            found += sorted(self._bans[network].values(), key=lambda ban: ban.expires or math.inf, reverse=True)
        return found

    def of(self, network: Network, owner: str) -> Ban | None:
        """The owner's ban on exactly this prefix."""
        return self._bans.get(network, {}).get(owner)

    def equal_in_force(self, ban: Ban) -> Ban | None:
        """The ban in force, if it is equal to this one and has no end."""
        network = networks.parse(ban.cidr)
        known = self.of(network, ban.owner)
        return known if known and known == _renewed(known, ban) and network not in self._waiting else None

    def all(self) -> list[Ban]:
        """Every ban in force, the latest first."""
        return sorted((ban for owners in self._bans.values() for ban in owners.values()), key=lambda ban: -ban.since)

    def forced(self) -> set[Network]:
        """The prefixes with forced bans, which guard and allowlist do not protect."""
        return set(self._forced)

    @property
    def waiting(self) -> int:
        """The number of prefixes whose current entry does not fit into the kernel, since bans have too many different
        sets of services. The kernel uses their last entry until there is room."""
        return len(self._waiting)

    def __len__(self) -> int:
        """The number of banned prefixes, which is that of entries in the kernel."""
        return len(self._bans)

    def _drop(self, bans: Iterable[Ban]) -> None:
        keys = [(ban.cidr, ban.owner) for ban in bans]
        if not self.restored:
            self._gone.update(keys)
        self._changed((), keys)

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
            if len(self._ends) > 2 * self._total + _MOST_OWNERS:  # many bans were prolonged
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
        self._lengths -= Counter([(network.version, network.prefixlen)])  # removes counts of zero
        order = self._order[network.version]
        del order[bisect_left(order, _entry(network)[:2])]
        del self._bans[network]

    def _put(self, network: Network) -> None:
        try:
            self._kernel.put(_as_kernel(network, self._on(network)))
        except DatapathError:  # it will be tried again
            self._waiting.add(network)
        else:
            self._waiting.discard(network)

    def _put_all(self, found: Iterable[Network]) -> None:
        for network in dict.fromkeys(found):
            self._put(network)

    def _on(self, network: Network) -> list[Ban]:
        return [ban for each in self._around(network) for ban in self._bans[each].values()]

    def _end(self, network: Network) -> float | None:
        """The latest end of the bans on a prefix and around it; 0 if there is none."""
        return _latest(0.0, *(ban.expires for ban in self._on(network)))

    def _around(self, network: Network) -> Iterator[Network]:
        """The banned prefixes that contain a prefix, the narrowest first."""
        version, own = network.version, network.prefixlen
        lengths = [length for family, length in self._lengths if family == version and length <= own]
        for length in sorted(lengths, reverse=True):
            wider = network if length == own else network.supernet(new_prefix=length)
            if wider in self._bans:
                yield wider

    def _inside(self, network: Network) -> list[Network]:
        """The banned prefixes within a prefix, including the prefix itself."""
        order, first, last = self._order[network.version], int(network[0]), int(network[-1])
        start, end = bisect_left(order, (first,)), bisect_right(order, (last + 1,))
        return [each for _, length, each in order[start:end] if length >= network.prefixlen]

    def _pop_ended(self, now: float) -> list[Ban]:
        ended: list[Ban] = []
        while self._ends and self._ends[0][0] <= now:
            end, cidr, owner = heapq.heappop(self._ends)
            ban = self._bans.get(networks.parse(cidr), {}).get(owner)
            if ban is not None and ban.expires == end and ban not in ended[-1:]:
                ended.append(ban)
        return ended

    def _replace_all(self, seconds: float, now: float | None = None) -> None:
        """Moves all bans in time; with `now`, a ban that would begin later than now begins now."""
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
    return replace(ban, since=known.since, forced=ban.forced or known.forced)


def places_of(ban: Ban) -> Places:
    """The services of a ban; () is all."""
    return services.parse(ban.ports.split(",")) if ban.ports else ()


def _as_kernel(network: Network, bans: Sequence[Ban]) -> KernelBan:
    named = {ban.ports: places_of(ban) for ban in bans}
    union: Places = ()
    if all(named.values()):
        union = services.with_unread(services.merged(each for part in named.values() for each in part), False, True)
    return KernelBan(network, _latest(0.0, *(ban.expires for ban in bans)), union)


def _latest(*ends: float | None) -> float | None:
    """The latest of these ends; None is never."""
    return None if None in ends else max(ends)  # type: ignore[type-var]


def _entry(network: Network) -> tuple[int, int, Network]:
    return int(network.network_address), network.prefixlen, network

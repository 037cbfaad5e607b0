"""The names for which this host got DNS answers, by address. They are read from packets and kept in memory only.

An address may have several names one after the other: a flow has the last one asked for before it began.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from trafficmond import networks
from trafficmond.dataclass import asdict, dataclass, field
from trafficmond.datapath.names_seen import NameCounts, NamesSeen

# bound: addresses whose names were learned from DNS (`flows.dns_names`) | the one with the oldest answer is evicted
MOST_NAMED = 16384
# bound: names of one address (`flows.dns_names`) | the oldest name is evicted
MOST_NAMES = 4
# bound: characters of all names from DNS (`flows.dns_names`) | the address answered longest ago is evicted and counted
MOST_CHARACTERS = 4_194_304
KEPT_S = 86_400.0  # an address is forgotten this long after its last answer


@dataclass(slots=True)
class _Named:
    answered: float = 0.0
    names: list[tuple[str, float]] = field(default_factory=list)  # each with since when, the latest last


class DnsNames:
    """Names by address; off without a source. For the event loop's thread."""

    def __init__(
        self,
        source: NamesSeen | None = None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.source = source
        self.evicted = 0
        self._clock, self._monotonic_ns = clock, monotonic_ns
        self._named: OrderedDict[bytes, _Named] = OrderedDict()  # by address as 16 bytes, answered longest ago first
        self._characters = 0

    def __len__(self) -> int:
        """The number of addresses that have a name."""
        return len(self._named)

    def take(self) -> None:
        if self.source is None:
            return
        now, ticks = self._clock(), self._monotonic_ns()
        rows = self.source.take()
        for address, at_ns, name in zip(
            rows["address"].tolist(), rows["at_ns"].tolist(), rows["name"].tolist(), strict=True
        ):
            self._add(bytes(address), name.decode("ascii"), now - (ticks - at_ns) / 1e9)
        while self._named and next(iter(self._named.values())).answered < now - KEPT_S:
            self._forget()
        while len(self._named) > MOST_NAMED or self._characters > MOST_CHARACTERS:
            self._forget()
            self.evicted += 1

    def of(self, address: str) -> list[tuple[str, float]]:
        """(name, time of its first answer) of an address, the latest last. Raises ValueError for another text."""
        named = self._named.get(networks.sixteen(networks.parse_address(address)))
        return list(named.names) if named else []

    def counters(self) -> dict[str, int]:
        """The counters, as `metrics.families` names them."""
        counts = self.source.counts() if self.source else NameCounts()
        named = {f"dns_{name}": count for name, count in asdict(counts).items()}
        return {**named, "dns_evicted_names": self.evicted}

    def _add(self, address: bytes, name: str, at: float) -> None:
        named = self._named.setdefault(address, _Named())
        self._named.move_to_end(address)
        named.answered = max(named.answered, at)
        if not named.names or named.names[-1][0] != name:
            named.names.append((name, at))
            self._characters += len(name)
        if len(named.names) > MOST_NAMES:
            self._characters -= len(named.names.pop(0)[0])

    def _forget(self) -> None:
        _, named = self._named.popitem(last=False)
        self._characters -= sum(len(name) for name, _ in named.names)

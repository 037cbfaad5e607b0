"""Many sources that each try a little at one service: a bounded list of them."""

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from trafficmond.dataclass import dataclass, field
from trafficmond.detect.grouped import GroupedDetector, S
from trafficmond.detect.windows import Grouped
from trafficmond.flows.batch import Column

# bound: strangers remembered for a service, for the 64 services used last | the one seen longest ago is forgotten
SOURCES = 1000  # of one service, the latest
_SERVICES = 64
_LISTED = 2 * SOURCES  # of one input, in all: a flood of strangers takes no longer than these
_TEXT = "S45"  # the longest address as text
_NUMBERS = [(name, "f8") for name in ("began", "tries", "others")]
_SERVICE = np.dtype([("dst", _TEXT), ("port", "u2"), *_NUMBERS, ("ports", "u1", 1024)])
_SOURCE = np.dtype([("service", "u2"), ("src", _TEXT), ("count", "i8"), ("last", "f8")])


@dataclass(slots=True)
class Service:
    """The strangers at one service, by address: number of tries and time of the last one, the latest last."""

    began: float  # the first try after a quiet time
    tries: float = 0.0  # fades with time ...
    others: float = 0.0  # ... as sessions do that were not tries
    sources: OrderedDict[str, tuple[int, float]] = field(default_factory=OrderedDict)
    before: OrderedDict[str, tuple[int, float]] = field(default_factory=OrderedDict)  # too old to count, but known
    ports: Column = field(default_factory=lambda: np.zeros(1024, np.uint8))  # a map of those tried

    @property
    def count(self) -> int:
        """The tries of the strangers listed; of more strangers than there is room for, at least the latest."""
        return int(max(sum(count for count, _ in self.sources.values()), self.tries))

    def listed(self) -> list[dict[str, Any]]:
        """The sources in the form of evidence, the latest first."""
        return _listed(self.sources)

    def retire(self) -> None:
        """Count the stranger seen longest ago no more."""
        oldest, entry = self.sources.popitem(last=False)
        self.before[oldest] = entry

    def ever(self) -> list[dict[str, Any]]:
        """The same with those that are too old to count, as many as there is room for."""
        return [*self.listed(), *_listed(self.before)][:SOURCES]


def _listed(sources: OrderedDict[str, tuple[int, float]]) -> list[dict[str, Any]]:
    return [
        {"src_ip": source, "count": count, "last_seen": round(last, 3)}
        for source, (count, last) in reversed(sources.items())
    ]


def by_service(services: Column) -> Iterator[tuple[Column, Column]]:
    """Strangers by the service of each, the 64 services with most strangers: (those that are only counted, those to
    list), as indexes. A service with few strangers lists all of them, also if others have many."""
    by, room = Grouped(services), _LISTED
    chosen = np.argsort(by.counts, kind="stable")[-_SERVICES:].tolist()
    for left, service in zip(range(len(chosen), 0, -1), chosen, strict=True):
        strangers = np.flatnonzero(by.of == service)
        listed = min(len(strangers), SOURCES, room // left)
        room -= listed
        yield strangers[:-listed], strangers[-listed:]


class SourceLists:
    """The 64 services tried last, each with the 1,000 strangers that tried it last."""

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self._services: OrderedDict[tuple[str, int], Service] = OrderedDict()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._services)

    def at(self, service: tuple[str, int]) -> Service | None:
        """The entry of a service, None if there is none; it does not become the latest."""
        return self._services.get(service)

    def places(self, source: str) -> int:
        """The number of services that have an entry of the stranger."""
        return sum(source in known.sources for known in self._services.values())

    def add(self, service: tuple[str, int], source: str, tries: int, last: float) -> Service:
        """Add `tries` of a stranger, the last one at `last`. Who comes back after the memory's time is counted anew."""
        known = self._of(service, last)
        quiet_s = last - next(reversed(known.sources.values()))[1] if known.sources else 0.0
        faded = math.exp(-abs(quiet_s) / self._memory_s)
        known.tries, known.others = faded * known.tries + tries, faded * known.others
        while known.sources and abs(last - next(iter(known.sources.values()))[1]) > self._memory_s:
            known.retire()
        known.began = known.began if known.sources else last
        known.before.pop(source, None)
        known.sources[source] = (known.sources.pop(source, (0, 0.0))[0] + tries, last)
        if len(known.sources) > SOURCES:
            known.retire()
        while len(known.sources) + len(known.before) > SOURCES:
            known.before.popitem(last=False)
        return known

    def other(self, service: tuple[str, int], sessions: int, last: float) -> None:
        """Add sessions of strangers that were not tries but logins. Only for services with an entry."""
        if service in self._services:
            self._of(service, last).others += sessions

    def learned(self) -> dict[str, Column]:
        """The services, the latest last, and the strangers of each, with the index of their service."""
        services = [(*key, one.began, one.tries, one.others, one.ports) for key, one in self._services.items()]
        sources = [
            (place, source, count, last)
            for place, one in enumerate(self._services.values())
            for source, (count, last) in (*one.before.items(), *one.sources.items())
        ]
        return {"services": np.array(services, _SERVICE), "sources": np.array(sources, _SOURCE)}

    def recall(self, learned: Mapping[str, Column]) -> None:
        """Restore the state from `learned`. Raises ValueError if it does not fit."""
        services, sources = learned["services"], learned["sources"]
        if services.dtype != _SERVICE or sources.dtype != _SOURCE:
            raise ValueError("its rows do not have the fields of this version")
        for place, (dst, port, began, tries, others, ports) in enumerate(services.tolist()):
            mine = sources[sources["service"] == place].tolist()
            known = OrderedDict((source.decode(), (count, last)) for _, source, count, last in mine)
            self._services[dst.decode(), port] = Service(began, tries, others, known, ports=ports.copy())

    def _of(self, service: tuple[str, int], now: float) -> Service:
        known = self._services[service] = self._services.pop(service) if service in self._services else Service(now)
        while len(self._services) > _SERVICES:
            self._services.popitem(last=False)
            self.evicted += 1
        return known


class DistributedDetector(GroupedDetector[S]):
    """A detector that also finds many sources, each below its threshold, at one service."""

    def __init__(self, settings: Any, memory_s: float) -> None:
        super().__init__(settings)
        self._lists = SourceLists(memory_s)

    def learned(self) -> Mapping[str, Column]:
        return {**super().learned(), **self._lists.learned()}

    def recall(self, learned: Mapping[str, Column], now: float) -> None:
        super().recall(learned, now)
        self._lists.recall(learned)

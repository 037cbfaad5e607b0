"""What readers report in addition to rows: damage, interface names, packet sizes, and the account of all packets."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from trafficmond import npt
from trafficmond.analyze.parse_errors import ParseErrors
from trafficmond.analyze.source import Source
from trafficmond.dataclass import dataclass, field
from trafficmond.model import Threat

# Upper bounds of the size classes, RFC 2819 (etherStatsPkts64Octets ...); the last class is open.
SIZE_BOUNDS = (64, 127, 255, 511, 1023, 1518)
SIZE_CLASSES = ("0-64", "65-127", "128-255", "256-511", "512-1023", "1024-1518", "1519+")

INTERFACES_MAX = 4096
NAME_MAX = 128  # characters of an interface's name; Windows has names of 50
OTHER_TYPE = -1  # stands for all EtherTypes that are not counted separately
OTHER_INTERFACE = "(other)"


@dataclass
class Count:
    packets: int = 0
    bytes: int = 0

    def add(self, packets: int, octets: int) -> None:
        self.packets += packets
        self.bytes += octets


@dataclass
class Sizes:
    """Sizes of packets. For flow records only the mean is known; then `exact` is False."""

    classes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(SIZE_CLASSES), np.int64))
    smallest: int | None = None
    largest: int | None = None
    exact: bool = True

    def add_means(self, packets: npt.I64, octets: npt.I64) -> None:
        """Adds flows of so many packets and bytes, each packet with the mean size."""
        self.exact = False
        counts = packets[packets > 0]
        sizes = octets[packets > 0] // counts
        if not len(sizes):
            return
        classes = np.searchsorted(SIZE_BOUNDS, sizes)
        self.classes += np.bincount(classes, counts, len(SIZE_CLASSES)).astype(np.int64)
        self.extent(int(sizes.min()), int(sizes.max()))

    def extent(self, smallest: int, largest: int) -> None:
        """Records that packets from `smallest` to `largest` were seen."""
        self.smallest = smallest if self.smallest is None else min(self.smallest, smallest)
        self.largest = largest if self.largest is None else max(self.largest, largest)


@dataclass
class BatchInterval:
    """The resolution of a run: `interval` seconds of traffic make one batch.

    Live it is one second. The work for a batch hardly depends on its size. So for an input that spans a long time, the
    intervals are widened while it is read, and the run ends within about `batches_max` batches.
    """

    interval: float = 1.0
    batches_max: int = 2000

    def widen(self, span: float, rows: int, done: float) -> None:
        """Widens the interval after `rows` rows that span `span` seconds, with a fraction `done` of the input read."""
        if done < _TOO_EARLY:
            return
        while min(span / self.interval, rows) / done > self.batches_max and self.interval < _WIDTHS[-1]:
            self.interval = next(width for width in _WIDTHS if width > self.interval)


_WIDTHS = (2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
_TOO_EARLY = 0.002


@dataclass
class RunStats:
    """The account of one run. Invariant: seen = in_flows + not_ip + malformed, in packets and in bytes."""

    parse_errors: ParseErrors = field(default_factory=ParseErrors)
    batching: BatchInterval = field(default_factory=BatchInterval)
    sizes: Sizes = field(default_factory=Sizes)
    seen: Count = field(default_factory=Count)
    in_flows: Count = field(default_factory=Count)
    not_ip: Count = field(default_factory=Count)
    malformed: Count = field(default_factory=Count)
    malformed_by: Counter[str] = field(default_factory=Counter)
    not_ip_types: Counter[int] = field(default_factory=Counter)  # packets by EtherType
    snapped: int = 0  # packets that a capture has only in part
    threats: list[Threat] = field(default_factory=list)  # found by a daemon, from its flows.db
    records: int = 0  # log lines, flow records or packets that were read
    late_rows: int = 0
    sort: bool = False  # all rows are sorted before they are analysed
    empty: list[Source] = field(default_factory=list)  # files with nothing in them, beside others
    together: dict[str, list[Source]] = field(default_factory=dict)  # of formats that report a flow in several files
    first: float = math.inf  # time of the earliest packet, epoch seconds
    last: float = -math.inf
    _interfaces: dict[str, int] = field(default_factory=dict)

    def ifindex(self, name: str) -> int:
        """The number of an interface in this run, from 1; 0 for no name."""
        if not name:
            return 0
        number = self._interfaces.get(name)
        if number is None:
            if len(name) > NAME_MAX:
                return self.ifindex(name[:NAME_MAX])
            if len(self._interfaces) >= INTERFACES_MAX and name != OTHER_INTERFACE:
                return self.ifindex(OTHER_INTERFACE)
            number = self._interfaces[name] = len(self._interfaces) + 1
        return number

    @property
    def interfaces(self) -> dict[int, str]:
        return {number: name for name, number in self._interfaces.items()}

    def reach(self, first: float, last: float) -> None:
        """Records that packets from `first` to `last` were seen."""
        self.first, self.last = min(self.first, first), max(self.last, last)

    def flow(self, packets: int, octets: int) -> None:
        self.seen.add(packets, octets)
        self.in_flows.add(packets, octets)

    def other(self, packets: int, octets: int) -> None:
        """Counts packets that are not IP."""
        self.seen.add(packets, octets)
        self.not_ip.add(packets, octets)

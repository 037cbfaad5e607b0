"""Traffic of the last 40 seconds: rates by flow, by host and by interface, averaged over windows. Pure.

A tick keeps only its busiest flows, which bounds the cost of a flood; the rates of interfaces are of all flows.
"""

from collections import deque
from collections.abc import Iterator

import numpy as np

from trafficmond import npt
from trafficmond.dataclass import dataclass
from trafficmond.flows import compiled
from trafficmond.flows.batch import FLOW, Batch, Column
from trafficmond.model import LIVE_WINDOWS_S, Direction

MOST = 500  # flows kept of a tick by packets, and as many by bytes
_COUNTERS = ("d_packets", "d_bytes", "d_reply_packets", "d_reply_bytes")
_KEPT = (
    *("id", "src_hi", "src_lo", "dst_hi", "dst_lo", "sport", "dport", "proto", "family", "ifindex", "verdict"),
    *("direction", "owner"),
    *("first", "packets", "bytes", "reply_packets", "reply_bytes", *_COUNTERS),
)
_TICK, _MOVED = (
    np.dtype([(name, FLOW.fields[name][0]) for name in names])  # type: ignore[index]
    for names in (_KEPT, ("ifindex", "direction", *_COUNTERS))
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second: last tick and windows (axis 0), packets and bytes sent and received (axis 1), items (axis 2)."""

    values: Floats

    def sent(self, unit: int) -> Floats:
        """Packets (0) or bytes (1) that the initiator sent."""
        return np.asarray(self.values[:, unit])

    def received(self, unit: int) -> Floats:
        """Packets (0) or bytes (1) that it received."""
        return np.asarray(self.values[:, 2 + unit])


@dataclass(frozen=True, slots=True)
class _Tick:
    seconds: float
    rows: Batch  # _TICK
    total: Floats  # of all flows, kept or not
    interfaces: dict[int, Floats]  # ifindex -> packets and bytes out, packets and bytes in


class Recent:
    """The last 40 seconds, tick by tick."""

    def __init__(self) -> None:
        self._ticks: deque[_Tick] = deque()  # the latest first

    def add(self, changed: Batch, seconds: float) -> None:
        """Add a tick: its duration, and the FLOW rows that it changed."""
        at = np.flatnonzero(changed["d_packets"] + changed["d_reply_packets"])
        moved = compiled.gathered(changed, at, _MOVED)  # not all of a flood's rows
        total = np.array([moved[name].sum() for name in _COUNTERS], np.float64)
        self._ticks.appendleft(_Tick(seconds, _kept(changed, at, moved), total, _by_interface(moved)))
        covered = 0.0
        for index, tick in enumerate(self._ticks):
            if covered >= LIVE_WINDOWS_S[-1]:
                while len(self._ticks) > index:
                    self._ticks.pop()
                break
            covered += tick.seconds

    def flows(self) -> tuple[Batch, Rates]:
        """The active flows, each as of its last packet (its d_* have no meaning), and their rates."""
        if not self._ticks:
            return np.zeros(0, _TICK), Rates(np.zeros((1 + len(LIVE_WINDOWS_S), len(_COUNTERS), 0)))
        rows = np.concatenate([tick.rows for tick in self._ticks])
        age = np.repeat(np.arange(len(self._ticks)), [len(tick.rows) for tick in self._ticks])
        _, latest, which = np.unique(rows["id"], return_index=True, return_inverse=True)
        values = np.zeros((1 + len(LIVE_WINDOWS_S), len(_COUNTERS), len(latest)))
        for at, (count, seconds) in enumerate(self._windows()):
            chosen = age < count
            for counter, name in enumerate(_COUNTERS):
                values[at, counter] = np.bincount(which[chosen], rows[name][chosen], len(latest)) / seconds
        return rows[latest], Rates(values)

    def total(self) -> Rates:
        """The rates of all flows, kept or not."""
        values = np.zeros((1 + len(LIVE_WINDOWS_S), len(_COUNTERS), 1))
        for at, (count, seconds) in enumerate(self._windows()):
            values[at, :, 0] = sum(tick.total for tick in list(self._ticks)[:count]) / seconds
        return Rates(values)

    def interfaces(self) -> dict[int, Rates]:
        """The rates out of each interface (sent) and into it (received), by ifindex."""
        found: dict[int, Floats] = {}
        for at, (count, seconds) in enumerate(self._windows()):
            for tick in list(self._ticks)[:count]:
                for ifindex, sums in tick.interfaces.items():
                    values = found.setdefault(ifindex, np.zeros((1 + len(LIVE_WINDOWS_S), len(_COUNTERS), 1)))
                    values[at, :, 0] += sums / seconds
        return {ifindex: Rates(values) for ifindex, values in found.items()}

    def _windows(self) -> Iterator[tuple[int, float]]:
        """The number of latest ticks in each window, and their duration: the last tick alone, then those that come
        closest to the window, or all there are."""
        if not self._ticks:
            return
        yield 1, self._ticks[0].seconds
        for window in LIVE_WINDOWS_S:
            count, covered = 0, 0.0
            for tick in self._ticks:
                if count and covered + tick.seconds / 2 > window:
                    break
                count, covered = count + 1, covered + tick.seconds
            yield count, covered


def by_host(rows: Batch, rates: Rates) -> tuple[Batch, Column, Rates]:
    """(address, number of flows, rates) of each end of `rows`, as sent and received by that end."""
    ends = np.zeros(2 * len(rows), [("hi", "u8"), ("lo", "u8"), ("family", "u1")])
    for half, side in enumerate(("src", "dst")):
        part = ends[half * len(rows) : (half + 1) * len(rows)]
        part["hi"], part["lo"], part["family"] = rows[f"{side}_hi"], rows[f"{side}_lo"], rows["family"]
    hosts, which = _distinct(ends)
    turned = np.roll(rates.values, 2, axis=1)  # sent by one end is received by the other
    values = _sums(np.concatenate([rates.values, turned], axis=2), which, len(hosts))
    return hosts, np.bincount(which, minlength=len(hosts)), Rates(values)


def _sums(values: Floats, which: Column, count: int) -> Floats:
    """The values (windows, counters, items) summed by group: that of each item is `which`."""
    found = [[np.bincount(which, each, count) for each in window] for window in values]
    return np.array(found).reshape(*values.shape[:2], count)


def _distinct(ends: Batch) -> tuple[Batch, Column]:
    """np.unique(ends, return_inverse=True) for addresses, in a tenth of the time."""
    order = np.lexsort((ends["family"], ends["lo"], ends["hi"]))
    ordered = ends[order]
    begins = np.ones(len(ends), bool)
    begins[1:] = np.logical_or.reduce([ordered[name][1:] != ordered[name][:-1] for name in ("hi", "lo", "family")])
    which = np.empty(len(ends), np.intp)
    which[order] = np.cumsum(begins) - 1
    return ordered[begins], which


def by_label(rows: Batch, rates: Rates, labels: Column) -> tuple[Column, Column, Rates]:
    """(label, number of flows, rates) of the labels of `rows`, as sent and received by this host's side."""
    found, which = np.unique(labels, return_inverse=True)
    turned = np.roll(rates.values, 2, axis=1)
    ours = np.where(rows["direction"] == Direction.EGRESS, rates.values, turned)
    return found, np.bincount(which, minlength=len(found)), Rates(_sums(ours, which, len(found)))


def _kept(changed: Batch, at: Column, moved: Batch) -> Batch:
    if len(at) > 2 * MOST:
        sums = (moved[f"d_{unit}"] + moved[f"d_reply_{unit}"] for unit in ("packets", "bytes"))
        busiest = [np.argpartition(each, len(each) - MOST)[-MOST:] for each in sums]
        at = at[np.unique(np.concatenate(busiest))]
    return compiled.gathered(changed, at, _TICK)


def _by_interface(moved: Batch) -> dict[int, Floats]:
    interfaces, which = np.unique(moved["ifindex"], return_inverse=True)
    sums = np.zeros((len(_COUNTERS), len(interfaces)))
    began_here = moved["direction"] == Direction.EGRESS
    for counter, name in enumerate(_COUNTERS):
        for chosen, at in ((began_here, counter), (~began_here, (counter + 2) % len(_COUNTERS))):
            sums[at] += np.bincount(which, moved[name] * chosen, len(interfaces))
    return dict(zip(interfaces.tolist(), sums.T, strict=True))

"""The ledger's memory with a kernel on one side and a reader on the other, in one process.

`World` takes bpf/ledger.h's steps, one store each, in its order; `Shared` is the memory between the two, which lets
the kernel take steps before every access of the reader's and in the middle of every copy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from trafficmond import abi
from trafficmond.datapath.ledger import Ledger, Sums
from trafficmond.datapath.loader import Sizes

SIZES = Sizes(cpus=2, capacity=4, ring=4)  # two sets of two ways a CPU, and a ring that is soon full
FLOWS = 9  # distinct keys a CPU: more than fit into its cache
COUNTERS = ("packets", "bytes", "payload_bytes", "payload_packets")


class Killed(Exception):
    """The reader's end, in the middle of its work."""


class Shared(np.ndarray[Any, Any]):
    """A view on shared memory: `meanwhile` happens before every access and halfway through every copy."""

    meanwhile: Callable[[], None]
    cut = 64  # how many octets of each record are copied before `meanwhile`
    backwards = False  # or after it

    def __array_finalize__(self, other: Any) -> None:
        self.cut, self.backwards = getattr(other, "cut", 64), getattr(other, "backwards", False)
        self.meanwhile = getattr(other, "meanwhile", lambda: None)

    def __getitem__(self, index: Any) -> Any:
        self.meanwhile()
        if not isinstance(index, np.ndarray) or self.dtype != abi.FLOW:
            found = super().__getitem__(index)
            return found if isinstance(index, str) else plain(found)
        early = plain(super().__getitem__(index))
        self.meanwhile()
        late = plain(super().__getitem__(index))
        copy, rest = (late, early) if self.backwards else (early, late)
        _octets(copy)[:, self.cut :] = _octets(rest)[:, self.cut :]
        return copy

    def __setitem__(self, index: Any, value: Any) -> None:
        self.meanwhile()
        super().__setitem__(index, value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        with contextlib.suppress(Killed):  # numpy would take it for a comparison that makes no sense
            self.meanwhile()
        return getattr(ufunc, method)(*map(plain, inputs), **options)


def _octets(records: Any) -> Any:
    return records.view(np.uint8).reshape(-1, abi.FLOW.itemsize)


def plain(array: Any) -> Any:
    """The same memory, and nothing happens meanwhile."""
    return array.view(np.ndarray) if isinstance(array, Shared) else array


class Memory:
    """What `mapped.Mapped` is, in memory of this process."""

    def __init__(self, dtype: np.dtype[Any], count: int) -> None:
        self.raw = np.zeros(count, dtype)
        self.array: Any = self.raw.view(Shared)
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Clock:
    """Jiffies are epoch seconds here."""

    def to_epoch(self, jiffies: Any) -> Any:
        return jiffies.astype(np.float64)


class World:
    """Kernel and reader around the same four arrays."""

    def __init__(self) -> None:
        entries = SIZES.entries()
        self.slots = Memory(abi.FLOW, 2 * entries["tm_sets"])
        self.taken = Memory(abi.TAKEN, entries["tm_taken"])
        self.rings = Memory(abi.RING, entries["tm_rings"])
        self.evicted_records = Memory(abi.FLOW, entries["tm_evicted"])
        self.evicted = self.unattributed = Sums(0, 0)
        self.booked: dict[int, list[int]] = {}  # flow -> what was booked of it, as COUNTERS
        self.read_sums: dict[int, list[int]] = {}
        self.reader = self.new_reader()

    def new_reader(self) -> Ledger:
        arrays = (self.slots, self.taken, self.rings, self.evicted_records)
        return Ledger(*arrays, SIZES, Clock())  # type: ignore[arg-type]

    def meanwhile(self, happens: Callable[[], None], cut: int = 64, backwards: bool = False) -> None:
        for memory in (self.slots, self.taken, self.rings, self.evicted_records):
            memory.array.meanwhile, memory.array.cut, memory.array.backwards = happens, cut, backwards

    def read(self) -> Any:
        batch = self.reader.read()
        for row in batch:
            had = self.read_sums.setdefault(int(row["sport"]), [0] * len(COUNTERS))
            for at, name in enumerate(COUNTERS):
                gained = int(row[name])
                assert gained < 1 << 40, f"{name} went below zero"
                had[at] += gained
        return batch

    @property
    def total(self) -> Sums:
        return Sums(sum(f[0] for f in self.read_sums.values()), sum(f[1] for f in self.read_sums.values()))

    @property
    def in_flows(self) -> Sums:
        return self.reader.in_cache() + self.evicted + self.reader.recovered()

    def book(self, flow: int, packets: int = 1, length: int = 60, payload: int = 0, now: int = 1) -> Iterator[None]:
        """tm_book, tm_evict and tm_enter of bpf/ledger.h; a `yield` wherever another CPU may look."""
        counted = self.booked.setdefault(flow, [0] * len(COUNTERS))
        gains = (packets, packets * length, payload, packets if payload else 0)
        cpu = flow // FLOWS
        base = cpu * SIZES.capacity + flow % (SIZES.capacity // 2) * 2
        a, b = self.slots.raw[base : base + 1], self.slots.raw[base + 1 : base + 2]
        for way in (a, b):
            if way["sequence"][0] and int(way["key"]["sport"][0]) == flow:
                break
        else:
            way = b
            if not a["sequence"][0] or (b["sequence"][0] and a["packets"][0] < b["packets"][0]):
                way = a
            if way["sequence"][0]:
                yield from self._evict(way, base + (way is b), cpu)
            yield from self._enter(way, flow, now)
        for name, gain in zip((*COUNTERS[1:], COUNTERS[0]), (*gains[1:], gains[0]), strict=True):
            yield
            way[name] += np.uint64(gain)
        way["last"] = now
        for at, gain in enumerate(gains):
            counted[at] += gain

    def _evict(self, way: Any, slot: int, cpu: int) -> Iterator[None]:
        ring = self.rings.raw[cpu : cpu + 1]
        head = int(ring["head"][0])
        record = Sums(int(way["packets"][0]), int(way["bytes"][0]))
        if head - int(ring["tail"][0]) > SIZES.ring - 1:
            self.unattributed += record
            yield
            return
        at = cpu * SIZES.ring + head % SIZES.ring
        self.evicted_records.raw[at] = way[0]
        self.evicted_records.raw["slot"][at] = slot
        self.evicted += record
        yield
        ring["head"] += np.uint64(1)
        yield

    def _enter(self, way: Any, flow: int, now: int) -> Iterator[None]:
        way["sequence"] += np.uint32(1)
        yield
        way["key"]["sport"] = flow
        yield
        for name in COUNTERS:
            way[name] = 0
        way["first"] = now
        yield
        way["sequence"] += np.uint32(1)


def finish(steps: Iterator[None]) -> None:
    """Take all that are left."""
    for _ in steps:
        pass

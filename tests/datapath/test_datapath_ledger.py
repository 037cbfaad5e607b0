"""The ledger is exact: whatever the kernel writes between two reads, or between two words of one, nothing that was
booked is missing from the drains or in them twice.

`Kernel` takes bpf/ledger.h's steps, one store each, in its order; `Shared` is the memory between the two, which lets
the kernel take steps before every access of the reader's and in the middle of every copy.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trafficmond import abi
from trafficmond.datapath.ledger import Ledger, Sums
from trafficmond.datapath.loader import Sizes

SIZES = Sizes(cpus=2, capacity=4, ring=4)  # two sets of two ways a CPU, and a ring that is soon full
FLOWS = 9  # distinct keys a CPU: more than fit into its cache
_COUNTERS = ("packets", "bytes", "payload_bytes", "payload_packets")


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
        self.booked: dict[int, list[int]] = {}  # flow -> what was booked of it, as _COUNTERS
        self.drained: dict[int, list[int]] = {}
        self.reader = self.new_reader()

    def new_reader(self) -> Ledger:
        arrays = (self.slots, self.taken, self.rings, self.evicted_records)
        return Ledger(*arrays, SIZES, Clock())  # type: ignore[arg-type]

    def meanwhile(self, happens: Callable[[], None], cut: int = 64, backwards: bool = False) -> None:
        for memory in (self.slots, self.taken, self.rings, self.evicted_records):
            memory.array.meanwhile, memory.array.cut, memory.array.backwards = happens, cut, backwards

    def drain(self) -> Any:
        batch = self.reader.drain()
        for row in batch:
            had = self.drained.setdefault(int(row["sport"]), [0] * len(_COUNTERS))
            for at, name in enumerate(_COUNTERS):
                gained = int(row[name])
                assert gained < 1 << 40, f"{name} went below zero"
                had[at] += gained
        return batch

    @property
    def total(self) -> Sums:
        return Sums(sum(f[0] for f in self.drained.values()), sum(f[1] for f in self.drained.values()))

    @property
    def in_flows(self) -> Sums:
        return self.reader.in_cache() + self.evicted + self.reader.recovered()

    def book(self, flow: int, packets: int = 1, length: int = 60, payload: int = 0, now: int = 1) -> Iterator[None]:
        """tm_book, tm_evict and tm_enter of bpf/ledger.h; a `yield` wherever another CPU may look."""
        counted = self.booked.setdefault(flow, [0] * len(_COUNTERS))
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
        for name, gain in zip((*_COUNTERS[1:], _COUNTERS[0]), (*gains[1:], gains[0]), strict=True):
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
        for name in _COUNTERS:
            way[name] = 0
        way["first"] = now
        yield
        way["sequence"] += np.uint32(1)


def finish(steps: Iterator[None]) -> None:
    for _ in steps:
        pass


class LedgerMachine(RuleBasedStateMachine):
    """Any order of bookings, drains with bookings in them, restarts and kills."""

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.under_way: dict[int, Iterator[None]] = {}  # by CPU: the packet that its kernel is booking
        self.lost_to_kills = 0  # packets that a killed reader may have taken with it

    def _step(self, cpu: int) -> None:
        if cpu in self.under_way and next(self.under_way[cpu], self) is self:
            del self.under_way[cpu]

    packets = st.tuples(
        st.integers(0, 2 * FLOWS - 1), st.integers(1, 3), st.sampled_from([61, 1499]), st.sampled_from([0, 1, 900])
    )

    def _begin(self, packet: tuple[int, int, int, int]) -> None:
        cpu = packet[0] // FLOWS
        finish(self.under_way.pop(cpu, iter(())))  # a CPU books one packet after the other
        self.under_way[cpu] = self.world.book(*packet)

    @rule(packets=st.lists(packets, max_size=30))
    def book(self, packets: list[tuple[int, int, int, int]]) -> None:
        for packet in packets:
            self._begin(packet)
            finish(self.under_way.pop(packet[0] // FLOWS))

    @rule(packet=packets, steps=st.integers(0, 8))
    def begin_to_book(self, packet: tuple[int, int, int, int], steps: int) -> None:
        """A CPU that is held up in the middle of a packet, over drains perhaps."""
        self._begin(packet)
        for _ in range(steps):
            self._step(packet[0] // FLOWS)

    paces = st.lists(st.integers(0, 25), min_size=1, max_size=40)  # steps before each access
    cuts = st.integers(0, 16).map(lambda words: words * 8)

    @rule(packets=st.lists(packets, max_size=40), pace=paces, cut=cuts, backwards=st.booleans())
    def drain(self, packets: list[tuple[int, int, int, int]], pace: list[int], cut: int, backwards: bool) -> None:
        self._with_traffic(packets, pace, self.world.drain, cut=cut, backwards=backwards)

    @rule(
        packets=st.lists(packets, max_size=40),
        pace=paces,
        accesses=st.integers(1, 60),
    )
    def kill(self, packets: list[tuple[int, int, int, int]], pace: list[int], accesses: int) -> None:
        """SIGKILL in the middle of a drain: what it had read is gone with it, and nothing more."""
        left = [accesses]

        def drain() -> None:
            left[0] -= 1
            if left[0] <= 0:
                raise Killed

        try:
            self._with_traffic(packets, pace, self.world.drain, drain)
        except Killed:
            self.killed = True
            self.world.reader = self.world.new_reader()
        self.world.meanwhile(lambda: None)

    def _with_traffic(
        self,
        packets: list[Any],
        pace: list[int],
        work: Callable[[], Any],
        also: Callable[[], None] = lambda: None,
        *,
        cut: int = 64,
        backwards: bool = False,
    ) -> None:
        todo, paces = list(packets), list(pace)

        def meanwhile() -> None:
            also()
            for _ in range(paces.pop() if paces else 0):
                if not self.under_way and todo:
                    self._begin(todo.pop())
                for cpu in list(self.under_way):
                    self._step(cpu)

        self.world.meanwhile(meanwhile, cut, backwards)
        try:
            work()
        finally:
            self.world.meanwhile(lambda: None)

    @rule()
    def restart(self) -> None:
        """The next daemon goes on with the maps."""
        self.world.reader = self.world.new_reader()

    killed = False

    def teardown(self) -> None:
        for steps in self.under_way.values():
            finish(steps)
        if hasattr(self, "world"):
            self.world.drain()
            self._compare()
            assert not len(self.world.drain())

    def _compare(self) -> None:
        world = self.world
        booked = Sums(sum(f[0] for f in world.booked.values()), sum(f[1] for f in world.booked.values()))
        if self.killed:
            assert world.total.packets <= booked.packets
            assert all(
                d <= b for flow in world.drained for d, b in zip(world.drained[flow], world.booked[flow], strict=True)
            )
            return
        assert world.total == world.in_flows
        unattributed = world.unattributed.packets - world.reader.recovered().packets
        assert world.total.packets + unattributed == booked.packets
        for flow, sums in world.drained.items():
            assert all(drained <= all_of_it for drained, all_of_it in zip(sums, world.booked[flow], strict=True))
        if world.unattributed.packets == 0:
            assert world.drained == world.booked

    @precondition(lambda self: not self.under_way and not self.killed)
    @invariant()
    def in_flows_and_unattributed_are_all_that_was_booked(self) -> None:
        world = self.world
        left = world.reader.recovered().packets
        assert world.in_flows.packets + world.unattributed.packets - left == sum(f[0] for f in world.booked.values())


LedgerMachine.TestCase.settings = settings(
    max_examples=200, stateful_step_count=12, suppress_health_check=list(HealthCheck)
)
test_no_interleaving_loses_or_doubles_a_packet = LedgerMachine.TestCase


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("cut", [48, 56, 64, 80, 88, 96, 104, 108, 128])
def test_a_packet_booked_while_its_record_is_copied_is_taken_once(cut: int, backwards: bool) -> None:
    """Every step of its booking, at every access of a drain."""
    for access in range(1, 30):
        for done in range(6):
            world, left = World(), [access]
            finish(world.book(1, 2, 100, 7))
            world.drain()
            finish(world.book(1, 1, 100, 7))
            booking = world.book(1, 1, 100, 7)

            def meanwhile(left: list[int] = left, booking: Iterator[None] = booking, done: int = done) -> None:
                left[0] -= 1
                if not left[0]:
                    finish(itertools.islice(booking, done))

            world.meanwhile(meanwhile, cut, backwards)
            world.drain()
            world.meanwhile(lambda: None)
            finish(booking)
            world.drain()
            assert world.drained == world.booked == {1: [4, 400, 21, 4]}


@pytest.mark.parametrize("access", range(1, 40))
def test_what_is_lost_in_the_middle_of_a_drain_had_been_read_once(access: int) -> None:
    """The ring overflows during one drain; records that go, and those that take their place, at each point of it."""
    world = World()

    def flood(rounds: int) -> None:
        """One set first, which fills the ring, then the other."""
        for odd in (1, 0):
            for packets in range(1, rounds):
                finish(world.book(packets % 4 * 2 + odd, packets * 100))

    flood(3)
    world.drain()
    left = [access]

    def meanwhile() -> None:
        left[0] -= 1
        if not left[0]:
            flood(12)

    world.meanwhile(meanwhile)
    world.drain()
    world.meanwhile(lambda: None)
    flood(4)
    for _ in range(2):
        world.drain()
        assert world.total == world.in_flows
    unattributed = world.unattributed.packets - world.reader.recovered().packets
    assert world.total.packets + unattributed == sum(flow[0] for flow in world.booked.values())


def test_a_restart_goes_on_where_the_last_reader_was() -> None:
    world = World()
    finish(world.book(1, 5))
    assert world.drain()["packets"].tolist() == [5]
    finish(world.book(1, 2))
    world.reader = world.new_reader()
    batch = world.drain()
    assert batch["packets"].tolist() == [2]
    assert not batch["new"].any()


def test_a_record_is_new_once() -> None:
    world = World()
    finish(world.book(1))
    assert world.drain()["new"].tolist() == [True]
    for packets in range(2, 9):  # it is evicted by larger ones of its set
        finish(world.book(packets % 3 * 2 + 3, packets * 10))
    batch = world.drain()
    assert not batch["new"][batch["sport"] == 1].any()
    assert batch["new"][batch["sport"] != 1].all()


def test_columns_are_those_of_the_record() -> None:
    world = World()
    finish(world.book(2, 3, 100, 7, now=11))
    finish(world.book(2, 1, 90, 0, now=13))
    slot = world.slots.raw[:1]
    key = slot["key"]
    key["src"] = np.frombuffer(ipaddress.ip_address("::ffff:192.0.2.1").packed, np.uint8)
    key["dst"] = np.frombuffer(ipaddress.ip_address("::ffff:198.51.100.2").packed, np.uint8)
    key["proto"], key["vlan"], key["ifindex"], key["verdict"], key["dport"] = 6, 9, 4, 0x20000005, 443
    key["scope"] = abi.SCOPE_EGRESS
    slot["tcp_flags"], slot["first_flags"], slot["ttl"], slot["bits"] = 0x12, 2, 64, abi.BIT_FIRST_PAYLOAD
    (row,) = world.drain()
    named = {name: row[name].item() for name in row.dtype.names}
    expected = {
        **{"src_hi": 0, "src_lo": 0xFFFFC0000201, "dst_hi": 0, "dst_lo": 0xFFFFC6336402, "family": 4, "direction": 1},
        **{"sport": 2, "dport": 443, "proto": 6, "vlan": 9, "ifindex": 4, "verdict": 0x20000005},
        **{"packets": 4, "bytes": 390, "payload_bytes": 7, "payload_packets": 3, "first": 11.0, "last": 13.0},
        **{"tcp_flags": 0x12, "first_flags": 2, "ttl": 64, "bits": 2, "new": True},
    }
    assert {name: named[name] for name in expected} == expected


def test_ipv6_addresses_keep_both_halves() -> None:
    world = World()
    finish(world.book(2))
    key = world.slots.raw["key"][:1]
    key["src"] = np.frombuffer(ipaddress.ip_address("2001:db8::1").packed, np.uint8)
    key["scope"] = abi.SCOPE_IPV6
    (row,) = world.drain()
    assert (row["src_hi"], row["src_lo"], row["family"], row["direction"]) == (0x20010DB8 << 32, 1, 6, 0)


def test_what_it_says_of_itself() -> None:
    world = World()
    assert (world.reader.used(), world.reader.evicted_records()) == (0, 0)
    for flow in (0, 2, 4):
        finish(world.book(flow))
    assert (world.reader.used(), world.reader.evicted_records()) == (2, 1)
    world.reader.close()
    assert all(memory.closed for memory in (world.slots, world.taken, world.rings, world.evicted_records))

"""The ledger is exact: whatever the kernel writes between two reads, or between two words of one, nothing that was
booked is missing from the readings or in them twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from datapath_world import FLOWS, Killed, World, finish
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trafficmond.datapath.ledger import Sums


class LedgerMachine(RuleBasedStateMachine):
    """Any order of bookings, readings with bookings in them, restarts and kills."""

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.under_way: dict[int, Iterator[None]] = {}  # by CPU: the packet that its kernel is booking

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
        """A CPU that is held up in the middle of a packet, over readings perhaps."""
        self._begin(packet)
        for _ in range(steps):
            self._step(packet[0] // FLOWS)

    paces = st.lists(st.integers(0, 25), min_size=1, max_size=40)  # steps before each access
    cuts = st.integers(0, 16).map(lambda words: words * 8)

    @rule(packets=st.lists(packets, max_size=40), pace=paces, cut=cuts, backwards=st.booleans())
    def read(self, packets: list[tuple[int, int, int, int]], pace: list[int], cut: int, backwards: bool) -> None:
        self._with_traffic(packets, pace, self.world.read, cut=cut, backwards=backwards)

    @rule(
        packets=st.lists(packets, max_size=40),
        pace=paces,
        accesses=st.integers(1, 60),
    )
    def kill(self, packets: list[tuple[int, int, int, int]], pace: list[int], accesses: int) -> None:
        """SIGKILL in the middle of a reading: what it had read is gone with it, and nothing more."""
        left = [accesses]

        def read() -> None:
            left[0] -= 1
            if left[0] <= 0:
                raise Killed

        try:
            self._with_traffic(packets, pace, self.world.read, read)
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
            self.world.read()
            self._compare()
            assert not len(self.world.read())

    def _compare(self) -> None:
        world = self.world
        booked = Sums(sum(f[0] for f in world.booked.values()), sum(f[1] for f in world.booked.values()))
        if self.killed:
            assert world.total.packets <= booked.packets
            assert all(
                d <= b
                for flow in world.read_sums
                for d, b in zip(world.read_sums[flow], world.booked[flow], strict=True)
            )
            return
        assert world.total == world.in_flows
        unattributed = world.unattributed.packets - world.reader.recovered().packets
        assert world.total.packets + unattributed == booked.packets
        for flow, sums in world.read_sums.items():
            assert all(gained <= all_of_it for gained, all_of_it in zip(sums, world.booked[flow], strict=True))
        if world.unattributed.packets == 0:
            assert world.read_sums == world.booked

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
    """Every step of its booking, at every access of a reading."""
    for access in range(1, 30):
        for done in range(6):
            world, left = World(), [access]
            finish(world.book(1, 2, 100, 7))
            world.read()
            finish(world.book(1, 1, 100, 7))
            booking = world.book(1, 1, 100, 7)

            def meanwhile(left: list[int] = left, booking: Iterator[None] = booking, done: int = done) -> None:
                left[0] -= 1
                if not left[0]:
                    finish(itertools.islice(booking, done))

            world.meanwhile(meanwhile, cut, backwards)
            world.read()
            world.meanwhile(lambda: None)
            finish(booking)
            world.read()
            assert world.read_sums == world.booked == {1: [4, 400, 21, 4]}


@pytest.mark.parametrize("access", range(1, 40))
def test_what_is_lost_in_the_middle_of_a_drain_had_been_read_once(access: int) -> None:
    """The ring overflows during one reading; records that go, and those that take their place, at each point of it."""
    world = World()

    def flood(rounds: int) -> None:
        """One set first, which fills the ring, then the other."""
        for odd in (1, 0):
            for packets in range(1, rounds):
                finish(world.book(packets % 4 * 2 + odd, packets * 100))

    flood(3)
    world.read()
    left = [access]

    def meanwhile() -> None:
        left[0] -= 1
        if not left[0]:
            flood(12)

    world.meanwhile(meanwhile)
    world.read()
    world.meanwhile(lambda: None)
    flood(4)
    for _ in range(2):
        world.read()
        assert world.total == world.in_flows
    unattributed = world.unattributed.packets - world.reader.recovered().packets
    assert world.total.packets + unattributed == sum(flow[0] for flow in world.booked.values())

"""The table of names that this host asked for: whose name it was when, how long it is kept, and what gives way."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from trafficmond import dnsnames
from trafficmond.datapath.names_seen import NAMED, NameCounts
from trafficmond.dnsnames import DnsNames
from trafficmond.flows.batch import Batch

SECOND = 1_000_000_000


class World:
    """Answers, two clocks, and the table that takes them in."""

    def __init__(self) -> None:
        self.now, self.rows = 1000.0, np.zeros(0, NAMED)
        self.names = DnsNames(self, clock=lambda: self.now, monotonic_ns=lambda: int(self.now * SECOND) - 500 * SECOND)

    def take(self) -> Batch:
        rows, self.rows = self.rows, np.zeros(0, NAMED)
        return rows

    def counts(self) -> NameCounts:
        return NameCounts(7, 4, 2, 1)

    def answered(self, *told: tuple[str, str], ago_s: float = 0.0) -> None:
        for address, name in told:
            packed = socket.inet_pton(socket.AF_INET6, address if ":" in address else f"::ffff:{address}")
            at = int((self.now - 500 - ago_s) * SECOND)
            self.rows = np.concatenate([self.rows, np.array([(packed, at, name.encode())], NAMED)])
        self.names.take()


def test_names_of_an_address_come_with_since_when() -> None:
    world = World()
    world.answered(("192.0.2.1", "a.example"), ("2001:db8::1", "six.example"), ago_s=0.5)
    world.now += 10
    world.answered(("192.0.2.1", "a.example"))
    world.now += 10
    world.answered(("192.0.2.1", "b.example"))
    assert world.names.of("192.0.2.1") == [("a.example", 999.5), ("b.example", 1020.0)]
    assert world.names.of("::ffff:192.0.2.1")[-1][0] == "b.example"
    assert world.names.of("2001:0DB8::1") == [("six.example", 999.5)]
    assert world.names.of("192.0.2.2") == []
    with pytest.raises(ValueError, match="nonsense"):
        world.names.of("nonsense")


def test_the_latest_names_of_an_address_are_kept() -> None:
    world = World()
    for number in range(10):
        world.answered(("192.0.2.1", f"n{number}.example"))
    assert [name for name, _ in world.names.of("192.0.2.1")] == [f"n{number}.example" for number in range(6, 10)]
    assert world.names._characters == 4 * len("n0.example")


def test_a_day_after_its_last_answer_an_address_is_forgotten() -> None:
    world = World()
    world.answered(("192.0.2.1", "a.example"), ("192.0.2.2", "b.example"))
    world.now += 80_000
    world.answered(("192.0.2.1", "a.example"))
    world.now += 10_000
    world.names.take()
    assert (len(world.names), world.names.of("192.0.2.2"), world.names.evicted) == (1, [], 0)
    assert world.names.of("192.0.2.1") == [("a.example", 1000.0)]
    world.now += 80_000
    world.names.take()
    assert (len(world.names), world.names._characters) == (0, 0)


@pytest.mark.parametrize("bound", ["MOST_NAMED", "MOST_CHARACTERS"])
def test_the_address_answered_longest_ago_gives_way_and_is_counted(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnsnames, bound, {"MOST_NAMED": 3, "MOST_CHARACTERS": 35}[bound])
    world = World()
    world.answered(*((f"192.0.2.{number}", f"n{number}.example") for number in range(3)))
    world.answered(("192.0.2.0", "n0.example"))
    world.answered(("192.0.2.9", "n9.example"))
    assert world.names.of("192.0.2.1") == []
    assert all(world.names.of(f"192.0.2.{number}") for number in (0, 2, 9))
    assert world.names.counters() == {
        "dns_answers": 7,
        "dns_unasked": 4,
        "dns_lost": 2,
        "dns_unreadable": 1,
        "dns_evicted_names": 1,
    }


def test_off_it_knows_nothing() -> None:
    names = DnsNames()
    names.take()
    assert (len(names), names.of("192.0.2.1"), set(names.counters().values())) == (0, [], {0})

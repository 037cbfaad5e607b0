"""What a unit has never called before: who is told of it, after which time, and who never is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from detect_traffic import T0, datagram, flow, flows, ping

from trafficmond import abi
from trafficmond.detect.detectors.new_destination import Lookups, NewDestination
from trafficmond.detect.engine import Engine, Tick
from trafficmond.detect.registry import settings_classes
from trafficmond.flows.owners import KERNEL, Owner
from trafficmond.geo.geoip import GeoIp
from trafficmond.learned import packed, unpacked
from trafficmond.model import Direction, Severity, Threat

DAY = 86400.0
US = "192.168.10.2"
UNITS = {7: "backup.service", 8: "resolver.service", 9: "web.service"}


class FakeGeoIp(GeoIp):
    """Knows the systems of some networks by the first byte of their addresses."""

    def __init__(self, systems: dict[int, int]) -> None:
        super().__init__()
        object.__setattr__(self, "systems", systems)

    def column(self, kind: str, hi: Any, lo: Any, family: Any) -> Any:  # noqa: ARG002
        known: dict[int, int] = self.systems  # type: ignore[attr-defined]
        assert kind == "asn"
        return np.array([known.get(word >> 56, 0) for word in hi.tolist()], np.object_)


class House:
    """An engine with this one detector, and a clock."""

    def __init__(self, **settings: Any) -> None:
        others = {name: each(enabled=False) for name, each in settings_classes().items()}
        self.engine = Engine({**others, NewDestination.name: NewDestination.settings_class(**settings)})
        self.know()
        self.now = T0

    def know(self, systems: dict[int, int] | None = None, units: dict[int, str] = UNITS) -> None:
        geoip = FakeGeoIp(systems or {})
        owners = {number: Owner(name, f"/system.slice/{name}") for number, name in units.items()}
        owners[KERNEL] = Owner("kernel")
        self.engine.inform(NewDestination.name, Lookups(owners.get, lambda: geoip))

    def wait(self, days: float) -> None:
        """The host is at work with its own network, an hour a tick."""
        rows = flows([called(US, "192.168.10.1", 53, 9)])
        for _ in range(int(days * 24)):
            self.now += 3600
            self.engine.feed(rows, self.now)

    def see(self, rows: Iterable[dict[str, Any]]) -> list[Threat]:
        self.now += 10
        updates = self.engine.feed(flows([{**row, "first": self.now} for row in rows]), self.now)
        return [update.threat for update in updates if update.threat.detector == NewDestination.name]

    def counters(self) -> dict[str, int]:
        counters: dict[str, int] = self.engine.status()["detectors"][NewDestination.name]
        return counters


def called(src: str, dst: str, dport: int, owner: int, **fields: Any) -> dict[str, Any]:
    make = datagram if fields.pop("udp", False) else flow
    return make(src, dst, dport, owner=owner, direction=Direction.EGRESS, **fields)


def learnt(days: float = 8, **settings: Any) -> House:
    """A backup service that has called one store for longer than it takes to be known."""
    house = House(**settings)
    assert house.see([called(US, "203.0.113.7", 22, 7)]) == []
    house.wait(days)
    return house


def test_a_new_destination_of_a_unit_with_few_is_a_low_note_once() -> None:
    house = learnt()
    assert house.see([called(US, "203.0.113.7", 22, 7)]) == []
    (threat,) = house.see([called(US, "198.51.100.9", 443, 7)])
    assert threat.severity is Severity.LOW
    assert (threat.src_ip, threat.dst_ip, threat.count) == (US, "198.51.100.9", 1)
    assert threat.summary == (
        "backup.service connected to 198.51.100.9 port 443/tcp for the first time in 8 days of watching"
    )
    assert threat.evidence["owner"] == "backup.service"
    assert threat.evidence["known"] == 1
    assert threat.evidence["ports"] == [443]
    assert house.see([called(US, "198.51.100.9", 443, 7)]) == []


@pytest.mark.parametrize(
    ("dst", "dport", "udp", "told"),
    [
        ("203.0.113.200", 22, False, 0),  # the same /24
        ("203.0.114.7", 22, False, 1),
        ("203.0.113.7", 443, False, 1),  # another service of the same host
        ("203.0.113.7", 22, True, 1),
        ("2001:db8:1:2::3", 22, False, 1),
        ("192.168.77.1", 22, False, 0),  # ours, and so never outside
        ("10.1.2.3", 22, False, 0),
        ("239.1.2.3", 1900, True, 0),
    ],
)
def test_what_a_destination_is(dst: str, dport: int, udp: bool, told: int) -> None:
    house = learnt()
    src = US if ":" not in dst else "fd00::2"
    assert len(house.see([called(src, dst, dport, 7, udp=udp)])) == told


def test_ipv6_destinations_are_recognised_by_their_48_bits() -> None:
    house = learnt()
    assert len(house.see([called("fd00::2", "2001:db8:1:2::3", 443, 7)])) == 1
    assert house.see([called("fd00::2", "2001:db8:1:ffff::9", 443, 7)]) == []
    assert len(house.see([called("fd00::2", "2001:db8:2::9", 443, 7)])) == 1


def test_an_address_of_nat64_is_the_ipv4_address_in_it() -> None:
    house = learnt()
    house.know({198: 64500})
    (threat,) = house.see([called("fd00::2", "64:ff9b::198.51.100.9", 443, 7)])
    assert "connected to 64:ff9b::c633:6409 port 443/tcp (AS64500)" in threat.summary
    house.know()
    assert house.see([called("fd00::2", "64:ff9b::198.51.100.77", 443, 7)]) == []
    assert len(house.see([called("fd00::2", "64:ff9b::198.51.101.9", 443, 7)])) == 1


@pytest.mark.parametrize(("udp", "first"), [(True, 1024), (False, 32768)])
def test_ports_that_are_agreed_upon_for_a_conversation_are_no_services(udp: bool, first: int) -> None:
    """The media of a telephone's calls, and a backup by passive FTP: another port each time, at one server."""
    house = learnt()
    (threat,) = house.see([called(US, "198.51.100.9", first + 9, 7, udp=udp)])
    assert f"port {first + 9}/" in threat.summary
    for port in range(first, 65535, 5000):
        assert house.see([called(US, "198.51.100.9", port, 7, udp=udp)]) == []
    assert len(house.see([called(US, "198.51.100.9", first - 1, 7, udp=udp)])) == 1


def test_a_ping_has_no_port() -> None:
    house = learnt()
    (threat,) = house.see([ping(US, "198.51.100.9", owner=7, direction=Direction.EGRESS)])
    assert threat.summary.startswith("backup.service connected to 198.51.100.9 icmp for the first")


def test_nothing_is_reported_while_a_unit_is_learnt() -> None:
    house = learnt(days=6)
    assert house.see([called(US, "198.51.100.9", 443, 7)]) == []
    house.wait(2)
    assert house.see([called(US, "198.51.100.9", 443, 7)]) == []
    assert len(house.see([called(US, "198.51.101.9", 443, 7)])) == 1


def test_time_when_nobody_watched_is_no_time_of_learning() -> None:
    """A clock that was set by years, as on boards without a battery, and a daemon that was away for weeks."""
    house = House()
    house.see([called(US, "203.0.113.7", 22, 7)])
    house.now += 300 * DAY
    assert house.see([called(US, "198.51.100.9", 443, 7)]) == []
    house.now -= 300 * DAY
    assert house.see([called(US, "198.51.102.9", 443, 7)]) == []
    house.wait(9)
    assert len(house.see([called(US, "198.51.101.9", 443, 7)])) == 1


def test_a_unit_that_meets_new_ones_all_the_time_is_never_reported() -> None:
    house = learnt()
    house.see([called(US, "203.0.113.9", 53, 8, udp=True)])
    house.wait(4)
    for number in range(20):
        house.see([called(US, f"23.{number}.0.9", 53, 8, udp=True)])
    house.wait(5)
    assert house.see([called(US, "24.1.0.9", 53, 8, udp=True)]) == []
    house.wait(8)  # it has stopped: what is new now is news
    assert len(house.see([called(US, "25.1.0.9", 53, 8, udp=True)])) == 1


def test_a_unit_that_changes_its_ways_is_reported_a_few_times_and_then_broad() -> None:
    house = learnt()
    told = [len(house.see([called(US, f"23.{number}.0.9", 443, 7)])) for number in range(10)]
    assert told == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_many_at_once_are_one_note() -> None:
    house = learnt()
    (threat,) = house.see([called(US, f"23.{number}.0.9", 443, 7) for number in range(30)])
    assert threat.count == 30
    first = "backup.service connected to 23.0.0.9 port 443/tcp, and 29 more, for the first time"
    assert threat.summary.startswith(first)
    assert len(threat.evidence["targets"]) == 8


def test_who_is_called_what_passes_and_what_the_kernel_says_are_nobodys() -> None:
    house = learnt()
    row = called(US, "198.51.100.9", 443, 7)
    assert house.see([{**row, "direction": Direction.INGRESS}]) == []
    assert house.see([{**row, "owner": abi.OWNER_FORWARDED}]) == []
    assert house.see([{**row, "owner": KERNEL}]) == []
    assert house.see([{**row, "owner": 0}]) == []
    assert house.see([{**row, "owner": 1234}]) == [], "a cgroup that nobody saw"
    assert house.see([{**row, "new": False}]) == []
    assert house.see([{**row, "first_flags": 0x12, "tcp_flags": 0x12}]) == [], "an answer"
    assert len(house.see([row])) == 1


def test_a_unit_that_has_never_called_anybody_is_known_for_that() -> None:
    house = House()
    house.see([flow("203.0.113.77", US, 443, owner=9, direction=Direction.INGRESS)])
    house.wait(8)
    (threat,) = house.see([called(US, "198.51.100.9", 443, 9)])
    assert threat.evidence["known"] == 0


def test_a_unit_that_was_started_again_is_the_same() -> None:
    house = learnt()
    house.know(units={4711: "backup.service"})
    assert house.see([called(US, "203.0.113.7", 22, 4711)]) == []
    assert len(house.see([called(US, "198.51.100.9", 443, 4711)])) == 1


def test_where_systems_are_known_another_prefix_of_one_is_nothing_new() -> None:
    house = House()
    house.know({23: 64500, 24: 64500, 25: 64501})
    house.see([called(US, "23.1.0.9", 443, 7)])
    house.wait(8)
    assert house.see([called(US, "24.9.0.9", 443, 7)]) == []
    (threat,) = house.see([called(US, "25.9.0.9", 443, 7), called(US, "25.10.0.9", 443, 7)])
    assert "25.9.0.9 port 443/tcp (AS64501) for" in threat.summary
    assert threat.count == 1


def test_a_database_that_comes_or_goes_makes_nothing_new() -> None:
    house = learnt()
    house.know({203: 64500, 204: 64500})
    assert house.see([called(US, "203.0.113.7", 22, 7)]) == []
    assert house.see([called(US, "204.0.113.7", 22, 7)]) == []
    house.know()
    assert house.see([called(US, "204.0.113.7", 22, 7)]) == []


def test_memory_is_bounded_and_what_goes_is_counted() -> None:
    house = House(capacity=64)
    for begin in range(0, 600, 60):
        house.see([called(US, f"23.{number % 250}.{number // 250}.9", 443, 7) for number in range(begin, begin + 60)])
    assert house.counters()["evicted"] == 600 - 64
    names = {number: f"run-{number}.service" for number in range(100, 1100)}
    house.know(units=names)
    house.see([called(US, "23.1.0.9", 443, number) for number in names])
    counters = house.counters()
    assert counters["entities"] <= counters["capacity"] == 64
    assert counters["evicted"] + counters["refused"] >= 600 - 64 + 1000 - 64


def test_what_was_learnt_outlives_the_engine() -> None:
    house, later = learnt(), House()
    assert later.engine.recall(unpacked(packed(house.engine.learned())), house.now) == []
    later.now = house.now
    assert later.see([called(US, "203.0.113.7", 22, 7)]) == []
    assert len(later.see([called(US, "198.51.100.9", 443, 7)])) == 1


def test_several_ticks_at_once_are_as_one_after_the_other() -> None:
    rng = np.random.default_rng(5)
    together, alone = House(learning=3600.0), House(learning=3600.0)
    at, found = T0, ([], [])  # type: tuple[float, tuple[list[str], list[str]]]
    for _ in range(40):
        ticks = []
        for _ in range(4):
            at += 400
            rows = [
                called(US, f"23.{rng.integers(12)}.0.9", 443, int(rng.integers(7, 10)), first=at, id=int(at * 8 + n))
                for n in range(int(rng.integers(0, 3)))
            ]
            ticks.append(Tick(flows(rows), at, 400.0))
        found[0].extend(u.threat.summary for u in together.engine.feed_ticks(ticks))
        for tick in ticks:
            found[1].extend(u.threat.summary for u in alone.engine.feed(*tick))
    ours = [[text for text in each if "for the first time" in text] for each in found]
    assert ours[0] == ours[1]
    assert ours[0]

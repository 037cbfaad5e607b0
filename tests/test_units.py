"""Whose flows are, in words: rows without an owner find who waits for them, and numbers their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trafficmond.datapath.cgroups import Cgroups
from trafficmond.datapath.waiting import WAITING
from trafficmond.flows.batch import Batch, split_address
from trafficmond.flows.owners import FORWARDED, KERNEL, NOBODY, Owner
from trafficmond.flows.report import REPORT
from trafficmond.networks import parse, parse_address
from trafficmond.protocols import ACK, RST, SYN
from trafficmond.units import Units


class Asked:
    """A kernel that takes `cost_s` to tell of one listener on tcp/80 of all addresses."""

    def __init__(self, cost_s: float = 0.0) -> None:
        self.now, self.cost_s, self.times = 0.0, cost_s, 0
        self.fails = False

    def __call__(self) -> Batch:
        self.times += 1
        self.now += self.cost_s
        if self.fails:
            raise OSError(2, "no sock_diag")
        rows = np.zeros(1, WAITING)
        rows["family"], rows["proto"], rows["port"], rows["cgroup"] = 4, 6, 80, 4711
        return rows

    def clock(self) -> float:
        return self.now


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def units(top: Path, asked: Asked) -> Any:
    cgroups = Cgroups(top)
    cgroups.start()
    made = Units(cgroups, asked, asked.clock, asked.clock)
    made.live_at([parse("192.0.2.1"), parse("192.0.2.255")])
    yield made
    made.close()


def row(dst: str = "192.0.2.1", port: int = 80, proto: int = 6, **columns: int) -> Batch:
    rows = np.zeros(1, REPORT)
    address = parse_address(dst)
    rows["dst_hi"], rows["dst_lo"] = split_address(address.packed)
    rows["family"], rows["dport"], rows["proto"] = address.version, port, proto
    for name, value in columns.items():
        rows[name] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "owner"),
    [
        (row(), 4711),
        (row(port=81), NOBODY),
        (row(proto=1), KERNEL),
        (row("198.51.100.9"), FORWARDED),
        (row("192.0.2.255", 514, 17), NOBODY),
        (row("224.0.0.251", 5353, 17), NOBODY),
        (row(owner=7), 7),
        (row(direction=1), 0),
        (row("198.51.100.9", proto=1), FORWARDED),
    ],
)
def test_what_came_in_and_got_no_answer(units: Units, rows: Batch, owner: int) -> None:
    units.set_owners(rows)
    assert rows["owner"].tolist() == [owner]


@pytest.mark.parametrize(
    ("rows", "owner"),
    [
        (row(owner=FORWARDED, reply_tcp_flags=RST | ACK), KERNEL),
        (row(owner=FORWARDED, reply_tcp_flags=RST), KERNEL),
        (row("198.51.100.9", owner=FORWARDED, reply_tcp_flags=RST | ACK), FORWARDED),
        (row(owner=FORWARDED, reply_tcp_flags=RST | ACK | SYN), FORWARDED),
        (row(owner=FORWARDED, reply_tcp_flags=RST, direction=1), FORWARDED),
        (row(owner=FORWARDED, reply_tcp_flags=RST, proto=17), FORWARDED),
        (row(owner=4711, reply_tcp_flags=RST), 4711),
    ],
)
def test_the_kernel_refuses_without_a_socket(units: Units, rows: Batch, owner: int) -> None:
    units.set_owners(rows)
    assert rows["owner"].tolist() == [owner]


def test_neighbour_discovery_of_nobody_known_is_the_kernels(units: Units, top: Path) -> None:
    """The kernel's socket for it is of whoever made the network namespace: of a container's, nobody it can see."""
    cron = (top / "system.slice" / "cron.service").stat().st_ino
    of = {"proto": 58, "direction": 1, "sport": 135}
    sent = [(of, 99), (of, 0), (of, cron), (of, KERNEL), ({**of, "sport": 128}, 99), ({**of, "direction": 0}, 99)]
    rows = np.concatenate([row("fe80::9", 0, **{**columns, "owner": owner}) for columns, owner in sent])
    rows["proto"][4] = 17
    units.set_owners(rows)
    assert rows["owner"].tolist() == [KERNEL, KERNEL, cron, KERNEL, 99, KERNEL]


def test_where_answers_are_not_seen_nobody_is_said_to_be_there(units: Units) -> None:
    units.answers = False
    rows = np.concatenate([row(), row(port=81)])
    units.set_owners(rows)
    assert rows["owner"].tolist() == [4711, 0]


def test_while_its_addresses_are_unknown_nothing_is_forwarded(top: Path, asked: Asked) -> None:
    units = Units(Cgroups(top), asked, asked.clock, asked.clock)
    rows = row("198.51.100.9")
    units.set_owners(rows)
    assert rows["owner"].tolist() == [4711]
    units.close()


def test_the_kernel_is_asked_the_more_seldom_the_more_it_has_to_tell(units: Units, asked: Asked) -> None:
    asked.cost_s = 0.03
    for _ in range(600):  # a minute of ticks
        units.set_owners(row(port=81))
        asked.now += 0.1
    assert 0.2 <= asked.times * asked.cost_s <= 0.3
    asked.fails = True
    asked.now += 60
    rows = row()
    units.set_owners(rows)
    assert rows["owner"].tolist() == [0], "that nobody waits is not known"


def test_between_two_lookups_a_new_server_is_not_nobody(units: Units, asked: Asked) -> None:
    """It may have begun to wait since the last one: unknown, until an answer or a later lookup."""
    asked.cost_s = 0.03
    seen = set()
    for _ in range(60):
        times, rows = asked.times, np.concatenate([row(port=81), row()])
        units.set_owners(rows)
        seen.add((asked.times > times, *rows["owner"].tolist()))
        asked.now += 0.1
    assert seen == {(True, NOBODY, 4711), (False, 0, 4711)}


def test_a_host_that_has_little_to_tell_is_asked_each_time(units: Units, asked: Asked) -> None:
    asked.cost_s = 0.0005
    for _ in range(50):
        units.set_owners(row(port=81))
    assert asked.times == 50
    units.set_owners(row())
    assert asked.times == 50
    asked.now += 2
    units.set_owners(row())
    assert asked.times == 51


def test_numbers_have_names_and_those_without_are_counted(top: Path, units: Units) -> None:
    cron = (top / "system.slice" / "cron.service").stat().st_ino
    rows = np.concatenate([row(owner=owner) for owner in (cron, cron, KERNEL, 12, 0)])
    found = units.owners(rows)
    assert found[cron] == Owner("cron.service", "/system.slice/cron.service")
    assert (found[KERNEL], found[0]) == (Owner("kernel"), Owner())
    units.count_unnamed(rows, found)
    assert units.unnamed == 1


def test_rows_of_units_without_names_alone_have_owners_too(units: Units) -> None:
    """A batch without any owner is one of a daemon that records none: its rows have NULL, and no sums by unit."""
    assert units.owners(row(owner=12)) == {12: Owner("cgroup 12")}


def test_who_waits_for_a_service(units: Units) -> None:
    assert [units.listeners(6, 80), units.listeners(17, 80), units.listeners(6, 81)] == [["cgroup 4711"], [], []]


def test_off_changes_and_names_nothing() -> None:
    units, rows = Units(), row()
    units.set_owners(rows)
    units.count_unnamed(rows, {})
    assert (rows["owner"].tolist(), units.owners(rows), units.on, units.unnamed) == ([0], {}, False, 0)
    units.close()

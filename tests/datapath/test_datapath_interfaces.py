"""Which interfaces the settings mean, and word of changes."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from trafficmond.datapath import interfaces
from trafficmond.datapath.interfaces import Interface, Selection, is_plain_name, name_of
from trafficmond.datapath.routes import Hop
from trafficmond.errors import DatapathError

NAMES = ("lo", "eth0", "eth1", "wlan0", "veth12", "br-lan")
ALL = [Interface(number, name, 1500, True, False, 0, "") for number, name in enumerate(NAMES, 1)]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["eth0"], ["eth0"]),
        (["eth*"], ["eth0", "eth1"]),
        (["eth[1-9]"], ["eth1"]),
        (["?th0", "wlan0"], ["eth0", "wlan0"]),
        (["/eth.|br.*/"], ["eth0", "eth1", "br-lan"]),
        (["/eth/"], []),  # a regex means the whole name
        (["ETH0"], []),
        (["*"], ["eth0", "eth1", "wlan0", "veth12", "br-lan"]),
        (["/.*/", "lo"], list(NAMES)),
        (["l?"], []),
        (["lo"], ["lo"]),
        (["default-route"], ["wlan0"]),
        (["default-route", "wlan*", "wlan0"], ["wlan0"]),
        (["tun0"], []),
        ([], []),
    ],
)
def test_patterns_mean(patterns: list[str], expected: list[str]) -> None:
    assert [each.name for each in Selection(tuple(patterns), {4, 99}).chosen(ALL)] == expected


def test_what_is_on_top_and_the_lowest_first() -> None:
    """A bridge made before its ports, a VLAN on a bond of two, a macvlan; a veth's two ends are on top of nothing."""
    made = {"br0": (0, 0), "vlan5": (1, 3), "bond0": (0, 0), "eth0": (3, 0), "eth1": (3, 0), "veth": (1, 7),
            "peer": (0, 6), "mac0": (0, 4), "gone": (99, 98)}  # fmt: skip
    present = [
        Interface(number, name, 1500, True, False, 0, interfaces.XdpMode.NONE, *stack)
        for number, (name, stack) in enumerate(made.items(), 1)
    ]
    above = interfaces.stacked(present)
    assert above == {1: set(), 2: {1}, 3: {2}, 4: {3, 8}, 5: {3}, 6: {1}, 7: set(), 8: set(), 9: set()}
    order = list(above)
    assert all(order.index(lower) < order.index(upper) for lower, uppers in above.items() for upper in uppers)
    assert order.index(9) > order.index(7) > order.index(2) > order.index(4), "else in order of their numbers"
    docker = [Interface(n, "x", 1500, True, False, 0, interfaces.XdpMode.NONE, 3 if n > 3 else 0) for n in range(1, 99)]
    assert list(interfaces.stacked(docker))[:3] == [1, 2, 4], "many containers take no slot from the uplink"
    around = [Interface(n, "x", 1500, True, False, 0, interfaces.XdpMode.NONE, 3 - n) for n in (1, 2)]
    assert len(interfaces.stacked(around)) == 2, "the kernel allows no circle, and one would not hang the daemon"


def test_routes_are_looked_up_only_where_they_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "default_routes", lambda: [Hop(4, "")])
    assert Selection.now(["default-route"]).chosen(ALL) == [ALL[3]]
    monkeypatch.setattr(interfaces, "default_routes", lambda: 1 / 0)
    assert Selection.now(["eth0"]).chosen(ALL) == [ALL[1]]


@pytest.mark.parametrize(
    ("octets", "name"),
    [
        (b"eth0\0", "eth0"),
        ("büro".encode() + b"\0", "büro"),
        (b"x\xff\xfe\0", "x\\xff\\xfe"),
        (b"a\x1b[31m\0", "a\\x1b[31m"),
        ("a\u202eb".encode() + b"\0", "a\\u202eb"),
        (b"\0", ""),
    ],
)
def test_a_name_is_shown_and_matched_in_letters(octets: bytes, name: str) -> None:
    assert name_of(octets) == name
    assert name.isprintable()
    assert Selection(("/.*/", "*")).choosers(Interface(5, name, 1500, True, False, 0, ""))


def test_the_default_route_through_the_loopback_interface_counts() -> None:
    assert Selection(("default-route",), {1}).chosen(ALL) == [ALL[0]]


@pytest.mark.parametrize(
    ("pattern", "plain"),
    [("eth0", True), ("br-lan.7", True), ("eth*", False), ("et?0", False), ("eth[0]", False), ("/eth0/", False)],
)
def test_plain_names_ought_to_exist(pattern: str, plain: bool) -> None:
    assert is_plain_name(pattern) is plain
    assert not is_plain_name("default-route")


def test_this_host_has_a_loopback_interface() -> None:
    (loopback,) = [each for each in interfaces.list_interfaces() if each.name == "lo"]
    assert loopback.ifindex == 1
    assert not loopback.raw_ip
    assert {*Selection.now(["default-route"]).routes} <= {each.ifindex for each in interfaces.list_interfaces()}


def test_a_kernel_that_refuses_netlink_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EACCES, "x")

    monkeypatch.setattr(interfaces, "dump", refuse)
    with pytest.raises(DatapathError, match=f"cannot list interfaces: {os.strerror(errno.EACCES)}; allow AF_NETLINK"):
        interfaces.list_interfaces()


NEWLINK, NEWADDR, NEWROUTE, DELROUTE = 16, 20, 24, 25


def message(kind: int, dst_len: int = 0) -> bytes:
    """A netlink message: header, then a family and, in routes, the length of the destination."""
    body = bytes([2, dst_len]) + bytes(11)  # of no whole number of words, as attributes may end
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What sends to the socket that is watched."""
    watched, sends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    watched.setblocking(False)
    monkeypatch.setattr(interfaces, "_subscribed", lambda: watched)
    yield sends
    sends.close()
    watched.close()


def test_changes_in_a_burst_are_reported_once(kernel: socket.socket) -> None:
    async def watch() -> int:
        told = []
        watching = interfaces.Watch(lambda: told.append(1))
        for _ in range(5):
            kernel.send(message(NEWADDR))
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.3)
        watching.close()
        return len(told)

    assert asyncio.run(watch()) == 1


def test_changes_without_end_are_reported_twice_a_second_and_the_last_is_not_missed(kernel: socket.socket) -> None:
    async def watch() -> tuple[list[float], float]:
        told: list[float] = []
        watching = interfaces.Watch(lambda: told.append(time.monotonic()))
        until = time.monotonic() + 1.3
        while time.monotonic() < until:
            kernel.send(message(NEWLINK))
            last = time.monotonic()
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.7)
        watching.close()
        return told, last

    told, last = asyncio.run(watch())
    assert all(later - sooner >= 0.49 for sooner, later in itertools.pairwise(told))
    assert 3 <= len(told) <= 4
    assert last < told[-1] < last + 0.6


@pytest.mark.parametrize(
    ("messages", "matter"),
    [
        ([message(NEWROUTE, 24)], False),
        ([message(DELROUTE, 128)], False),
        ([message(NEWROUTE, 0)], True),  # a default route
        ([message(DELROUTE, 0)], True),
        ([message(NEWROUTE, 24) * 3 + message(NEWADDR)], True),
        ([message(NEWROUTE, 24), message(NEWLINK)], True),
        ([b"", b"short", bytes(40)], True),  # what is not understood is looked at
    ],
)
def test_routes_of_a_router_are_not_its_own_affairs(kernel: socket.socket, messages: list[bytes], matter: bool) -> None:
    async def watch() -> bool:
        told: list[int] = []
        watching = interfaces.Watch(lambda: told.append(1))
        for each in messages:
            kernel.send(each)
        await asyncio.sleep(0.2)
        watching.close()
        return bool(told)

    assert asyncio.run(watch()) is matter


def test_a_million_routes_leave_others_their_turn(kernel: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "_READ_AT_ONCE", 4)

    async def watch() -> int:
        watching = interfaces.Watch(lambda: None)
        for _ in range(10):
            kernel.send(message(NEWROUTE, 24))
        turns = 0
        while select.select([watching._socket], [], [], 0)[0]:
            await asyncio.sleep(0)
            turns += 1
        watching.close()
        return turns

    assert asyncio.run(watch()) >= 3


def test_nothing_is_reported_after_the_end(kernel: socket.socket) -> None:
    async def watch() -> list[int]:
        told: list[int] = []
        watching = interfaces.Watch(lambda: told.append(1))
        kernel.send(message(NEWLINK))
        await asyncio.sleep(0.01)
        told.clear()  # a busy host may have slept for longer
        watching.close()
        await asyncio.sleep(0.1)
        return told

    assert asyncio.run(watch()) == []


def test_messages_that_were_lost_are_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    class Overrun(socket.socket):
        def recv(self, *_: object) -> bytes:
            raise OSError(errno.ENOBUFS, "x")

    async def watch() -> int:
        monkeypatch.setattr(interfaces, "_subscribed", lambda: Overrun(socket.AF_UNIX, socket.SOCK_DGRAM))
        told: list[int] = []
        watching = interfaces.Watch(lambda: told.append(1))
        watching._readable()
        await asyncio.sleep(0.2)
        watching.close()
        return len(told)

    assert asyncio.run(watch()) == 1

"""Which interfaces the settings mean, and word of changes."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any

import pytest

from trafficmond.datapath import interfaces
from trafficmond.datapath.interfaces import Interface, chosen, is_plain_name
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
    assert [each.name for each in chosen(ALL, patterns, lambda: {4, 99})] == expected


def test_routes_are_looked_up_only_where_they_matter() -> None:
    def never() -> set[int]:
        raise AssertionError

    assert chosen(ALL, ["eth0"], never)


def test_the_default_route_through_the_loopback_interface_counts() -> None:
    assert [each.name for each in chosen(ALL, ["default-route"], lambda: {1})] == ["lo"]


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
    assert interfaces.default_route_interfaces() <= {each.ifindex for each in interfaces.list_interfaces()}


@pytest.mark.parametrize("kind", ["socket", "netlink"])
def test_a_kernel_that_refuses_netlink_is_said(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyroute2
    from pyroute2.netlink.exceptions import NetlinkError

    def refuse(*_: Any) -> None:
        raise OSError(errno.EACCES, "x") if kind == "socket" else NetlinkError(errno.EACCES, "x")

    monkeypatch.setattr(pyroute2, "IPRoute", refuse)
    for ask in (interfaces.list_interfaces, interfaces.default_route_interfaces):
        with pytest.raises(DatapathError, match=f"{os.strerror(errno.EACCES)}; allow AF_NETLINK"):
            ask()


def test_changes_in_a_burst_are_told_once() -> None:
    async def watch() -> int:
        told = []
        watching = interfaces.Watch(lambda: told.append(1))
        try:
            for _ in range(5):
                watching._readable()
            await asyncio.sleep(0.2)
        finally:
            watching.close()
        return len(told)

    assert asyncio.run(watch()) == 1


def test_nothing_is_told_after_the_end() -> None:
    async def watch() -> list[int]:
        told: list[int] = []
        watching = interfaces.Watch(lambda: told.append(1))
        watching._readable()
        watching.close()
        await asyncio.sleep(0.1)
        return told

    assert asyncio.run(watch()) == []

"""Whose flows are: the unit of a cgroup's path, and which of several owners a flow keeps."""

from __future__ import annotations

import numpy as np
import pytest
from flow_rows import make

from trafficmond.datapath.waiting import WAITING
from trafficmond.flows.batch import DELTA, Batch, empty, split_address
from trafficmond.flows.owners import (
    FORWARDED,
    KERNEL,
    NOBODY,
    Owner,
    is_pattern,
    of_unit,
    owner_of_path,
    set_kernel_owner,
    special_owner,
    unit_name,
)
from trafficmond.flows.table import FlowTable
from trafficmond.flows.waiting import Waiting
from trafficmond.networks import parse
from trafficmond.protocols import ICMPV6, IGMP, TCP, UDP

UNIT, OTHER = 4711, 4712


@pytest.mark.parametrize(
    ("path", "unit", "uid"),
    [
        ("/system.slice/nginx.service", "nginx.service", None),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", None),
        ("/system.slice/docker-1f2e.scope/init", "docker-1f2e.scope", None),
        (
            "/machine.slice/systemd-nspawn@web.service/payload/system.slice/nginx.service",
            "systemd-nspawn@web.service",
            None,
        ),
        ("/system.slice/ssh.socket", "ssh.service", None),
        ("/user.slice/user-1000.slice/session-3.scope", "user-1000.slice", 1000),
        ("/user.slice/user-1000.slice", "user-1000.slice", 1000),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/firefox.scope",
            "user@1000.service/firefox.scope",
            1000,
        ),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", "user@1000.service/init.scope", 1000),
        ("/user.slice/user-1000.slice/user@1000.service", "user@1000.service", 1000),
        ("/evil.slice/user-0.slice/user@0.service", "user@0.service", None),
        ("/user.slice/user-1000.slice/user@1000.service/mine/nginx.service", "user@1000.service", 1000),
        ("/user.slice/user-1000.slice/mine/nginx.service", "user-1000.slice", 1000),
        ("/lxc.payload.web/system.slice/nginx.service", "/lxc.payload.web/system.slice/nginx.service", None),
        ("/system.slice/mine/nginx.service", "/system.slice/mine/nginx.service", None),
        ("/init.scope", "init.scope", None),
        ("/lxc/one", "/lxc/one", None),
        ("/", "/", None),
        ("/system.slice/_cpu.service", "cpu.service", None),
        ("/system.slice/dev-disk-by\\x2duuid.service", "dev-disk-by\\x2duuid.service", None),
        ("/a.slice/\x1b[31m.service", "\\x1b[31m.service", None),
        ("/a.slice/\udc80.service", "\\udc80.service", None),
    ],
)
def test_the_unit_of_a_path(path: str, unit: str, uid: int | None) -> None:
    found = owner_of_path(path, lambda socket: socket.replace(".socket", ".service"))
    assert (found.unit, found.uid) == (unit, uid)
    assert (found.cgroup or "").isprintable()


def test_a_path_without_end_is_cut() -> None:
    found = owner_of_path("/" + "/".join(["x" * 200] * 40))
    assert len(found.cgroup or "") == len(found.unit or "") == 512


def test_a_name_that_is_too_long_when_it_is_shown_is_no_units() -> None:
    """A folder's name has at most 255 octets, of which each may be shown as six."""
    odd = "\udcff" * 240 + ".service"
    found = owner_of_path(f"/user.slice/user-1000.slice/user@1000.service/{odd}")
    assert found.unit == "user@1000.service"
    assert len(owner_of_path(f"/system.slice/{odd}/x.scope").unit or "") < 300


def test_words_and_names_that_people_type() -> None:
    assert [special_owner(number) for number in (0, KERNEL, FORWARDED, NOBODY, UNIT)] == [
        *(Owner(), Owner("kernel"), Owner("forwarded"), Owner("nobody"), None)
    ]
    typed = ("nginx", "nginx.service", "kernel", "forwarded", "nobody", "/lxc/one", "cgroup 7", "user-1000.slice", "")
    assert [unit_name(text) for text in typed] == ["nginx.service", *typed[1:]]
    shortened = ("dbus-org.freedesktop.x", "user@1000/sync", "user@1000.service/app.scope", "user@1000", "getty@tty1")
    assert [unit_name(text) for text in shortened] == [
        *("dbus-org.freedesktop.x.service", "user@1000.service/sync.service", "user@1000.service/app.scope"),
        *("user@1000.service", "getty@tty1.service"),
    ]


def test_a_unit_may_be_a_pattern() -> None:
    """As systemctl reads it; a name that a table cut is one, so that it can be pasted."""
    for text, unit in (
        ("nginx*", "nginx.service"),
        ("getty@tty[12].service", "getty@tty2.service"),
        ("*.scope", "docker-3f9c2b7e8d1a.scope"),
        ("user@1000/app-*", "user@1000.service/app-one.scope"),
        ("docker-3f9c…", "docker-3f9c2b7e8d1a.scope"),
        ("back\\x2d*", "back\\x2dup.service"),
        ("*", "kernel"),
    ):
        assert is_pattern(unit_name(text))
        assert of_unit(text)(unit), text
        assert not of_unit(text)(None)
    assert not of_unit("nginx.*")("nginx-proxy.service")
    assert of_unit("nginx")("nginx.service")
    assert not of_unit("nginx")("nginx")


def flow_of(*owners: int, at: float = 100.0) -> Batch:
    """Deltas of one UDP flow that goes out, a record each, one after the other."""
    times = [at + number for number in range(len(owners))]
    return make(
        DELTA,
        [
            {
                "proto": UDP,
                "direction": 1,
                "owner": owner,
                "packets": 1,
                "bytes": 100,
                "new": True,
                "first": t,
                "last": t,
            }
            for owner, t in zip(owners, times, strict=True)
        ],
    )


@pytest.mark.parametrize(
    ("owners", "kept"),
    [
        ((0,), 0),
        ((UNIT,), UNIT),
        ((KERNEL, UNIT), UNIT),
        ((UNIT, KERNEL), UNIT),
        ((FORWARDED, KERNEL), KERNEL),
        ((0, FORWARDED), FORWARDED),
        ((UNIT, OTHER), OTHER),
    ],
)
def test_a_unit_goes_before_the_kernel_and_the_later_before_the_earlier(owners: tuple[int, ...], kept: int) -> None:
    table = FlowTable(16, 30.0, 300.0, seed=1)
    rows = flow_of(*owners)
    (found,) = table.update(rows, float(rows["last"].max()))
    assert found["owner"] == kept


def test_what_goes_over_to_another_unit_is_reported_for_each() -> None:
    table = FlowTable(16, 30.0, 300.0, seed=1)
    now = 100.0
    for owner, packets in ((UNIT, 3), (KERNEL, 1), (OTHER, 5)):
        now += 1
        rows = flow_of(owner, at=now)
        rows["packets"], rows["bytes"] = packets, 100 * packets
        table.update(rows, now)
    told = table.due(now, everything=True)
    assert sorted(zip(told["owner"].tolist(), told["packets"].tolist(), strict=True)) == [(UNIT, 4), (OTHER, 5)]


def test_what_only_the_kernel_sends_is_its_own() -> None:
    sent = ((ICMPV6, 135), (ICMPV6, 143), (IGMP, 0), (ICMPV6, 128), (TCP, 135))
    rows = make(DELTA, [{"proto": proto, "sport": sport, "owner": FORWARDED} for proto, sport in sent])
    set_kernel_owner(rows)
    assert rows["owner"].tolist() == [KERNEL] * 3 + [FORWARDED] * 2


def socket_of(address: str, port: int, proto: int, cgroup: int, *, only_six: bool = False) -> Batch:
    row = np.zeros(1, WAITING)
    network = parse(address)
    hi, lo = split_address(network.network_address.packed)
    row["hi"], row["lo"] = (0, 0) if network.network_address.is_unspecified else (hi, lo)
    row["family"], row["port"], row["proto"] = network.version, port, proto
    row["cgroup"], row["only_six"] = cgroup, only_six
    return row


def asks(address: str, port: int, proto: int) -> Batch:
    row = empty(DELTA, 1)
    network = parse(address)
    row["dst_hi"], row["dst_lo"] = split_address(network.network_address.packed)
    row["family"], row["dport"], row["proto"] = network.version, port, proto
    return row


def test_a_connected_socket_waits_for_its_peer_alone() -> None:
    """A receiver that was silent since the daemon's start, or longer than a flow lives: nobody's until it is known."""
    connected = socket_of("192.0.2.1", 40000, UDP, 6)
    connected["peer_hi"], connected["peer_lo"] = split_address(parse("198.51.100.9").network_address.packed)
    connected["peer_port"] = 53
    waiting = Waiting(np.concatenate([socket_of("0.0.0.0", 53, UDP, 7), connected]))
    rows = np.concatenate([asks("192.0.2.1", 40000, UDP)] * 3)
    for at, (address, port) in enumerate((("198.51.100.9", 53), ("198.51.100.9", 54), ("198.51.100.8", 53))):
        rows["src_hi"][at], rows["src_lo"][at] = split_address(parse(address).network_address.packed)
        rows["sport"][at] = port
    assert waiting.of(rows).tolist() == [6, 0, 0]
    assert waiting.at(UDP, 40000).tolist() == []
    assert len(waiting.places(UDP, 40000)) == 0


def test_who_waits_is_found_by_address_first() -> None:
    waiting = Waiting(
        np.concatenate(
            [
                socket_of("0.0.0.0", 80, TCP, 1),
                socket_of("192.0.2.1", 80, TCP, 2),
                socket_of("::", 443, TCP, 3),
                socket_of("::", 53, UDP, 4, only_six=True),
                socket_of("2001:db8::1", 53, UDP, 5),
            ]
        )
    )
    questions = [
        (("192.0.2.1", 80, TCP), 2),
        (("192.0.2.2", 80, TCP), 1),
        (("192.0.2.2", 80, UDP), 0),
        (("2001:db8::1", 80, TCP), 0),
        (("192.0.2.2", 443, TCP), 3),
        (("2001:db8::2", 443, TCP), 3),
        (("192.0.2.2", 53, UDP), 0),
        (("2001:db8::1", 53, UDP), 5),
        (("2001:db8::2", 53, UDP), 4),
        (("192.0.2.2", 80, 132), 0),
    ]
    rows = np.concatenate([asks(*question) for question, _ in questions])
    assert waiting.of(rows).tolist() == [cgroup for _, cgroup in questions]
    places = ((TCP, 80), (UDP, 53), (UDP, 80), (TCP, 443))
    assert [waiting.at(*place).tolist() for place in places] == [[1, 2], [4, 5], [], [3]]
    assert not len(Waiting(np.zeros(0, WAITING)).at(TCP, 80))
    assert Waiting(np.zeros(0, WAITING)).of(rows).tolist() == [0] * len(rows)

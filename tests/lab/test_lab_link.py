"""What the host's own stack would take is judged, whatever link headers stand before it."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from dataclasses import replace

import pytest
from door import LOGGED, ask
from link_frames import NOT_IP, PROVIDER, TAG, labelled, not_ip, stacked, tagged
from rig import XDP_DROP, XDP_PASS, Rig
from tmlab import Daemon, Lab, Listener, Sender
from tmlab.packets import udp

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

STRANGERS = ("203.0.113.7", "2001:db8:bad::7")
DROP = '[policy]\ndefault = "drop"\n' + LOGGED
SEED = int(os.environ.get("TRAFFICMON_SEED", "1"))
FOLLOWED = 386  # tags (bpf/headers.h)


class Door:
    """Frames to a port of the host, of both families, and how many of them reach it."""

    def __init__(self, lab: Lab) -> None:
        link = lab.links[0]
        self.here = (link.host_ip, link.host_ip6)
        self._sender = Sender(lab.outside, link.outside)
        self._listeners = [Listener(lab.host, address) for address in self.here]

    def knocks(self) -> list[bytes]:
        """A packet of each stranger."""
        return [udp(stranger, here) for stranger, here in zip(STRANGERS, self.here, strict=True)]

    def heard(self, frames: list[bytes]) -> int:
        """How many of `frames` come through."""
        self._sender.send(frames)
        return sum(listener.heard().total() for listener in self._listeners)


@pytest.fixture
def door(lab: Lab) -> Door:
    return Door(lab)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig() as made:
        yield made


def test_priority_tags_hide_nothing_from_a_rule_a_ban_or_a_default(lab: Lab, door: Door) -> None:
    """Linux takes off any number of tags that carry no number."""
    frames = [
        tagged(knock, *[(kind, 0xE000)] * depth)
        for knock in door.knocks()
        for kind in (TAG, PROVIDER)
        for depth in (0, 1, 2, 3, 4, 17, 120, 340)
    ]
    with Daemon(lab, LOGGED) as daemon:
        assert door.heard(frames) == len(frames)
        for stranger in STRANGERS:
            ask(daemon, "AddCidr", cidr=stranger, action="drop")
        assert door.heard(frames) == 0
        for stranger in STRANGERS:
            ask(daemon, "RemoveCidr", cidr=stranger)
            ask(daemon, "Ban", cidr=stranger, ttl_s=60)
        assert door.heard(frames) == 0
        for stranger in STRANGERS:
            ask(daemon, "Unban", cidr=stranger)
        assert door.heard(frames) == len(frames)
        daemon.configure(DROP)
        daemon.wait_status(lambda s: s["rules"]["default"] == "drop", "the default of drop")
        assert door.heard(frames) == 0


def test_what_reaches_a_socket_was_judged(lab: Lab, door: Door) -> None:
    dice = random.Random(SEED)
    with Daemon(lab, LOGGED) as daemon:
        frames = [stacked(dice, door.knocks()) for _ in range(600)]
        before = daemon.status()["accounting"]["in_flows"]["packets"]
        heard = door.heard(frames)
        assert heard > 50, "stacks that this kernel takes off"
        daemon.wait_status(lambda s: s["accounting"]["in_flows"]["packets"] >= before + heard, f"{heard} in flows")
        daemon.configure(DROP)
        daemon.wait_status(lambda s: s["rules"]["default"] == "drop", "the default of drop")
        assert door.heard(frames) == 0


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_packet_behind_link_headers_is_the_same_packet(rig: Rig, family: int) -> None:
    plain = udp(STRANGERS[family], ("10.99.0.1", "fd99::1")[family], payload=b"hello")
    for frame, vlan in (
        (plain, 0),
        (tagged(plain, (TAG, 7)), 7),
        (tagged(plain, (PROVIDER, 8), (TAG, 7)), 8),
        (tagged(plain, (TAG, 0), (TAG, 0xE007)), 7),
        (tagged(plain, *[(TAG, 0)] * 200, (TAG, 9), (TAG, 7)), 9),
        (tagged(plain, *[(PROVIDER, 0)] * FOLLOWED), 0),
        (labelled(plain, 16), 0),
        (tagged(labelled(plain, 16, 17, 18), (TAG, 7), (TAG, 6), (TAG, 5)), 7),
    ):
        rig.forget()
        assert rig.run([frame]) == [XDP_PASS]
        (flow,) = rig.account().flows
        found = [int(flow[name]) for name in ("sport", "dport", "proto", "vlan", "bytes", "payload_bytes")]
        assert found == [1024, 9, 17, vlan, len(frame), 5], frame[:32].hex()


def test_what_cannot_be_judged_is_counted_by_reason_and_dropped_where_the_default_is(rig: Rig) -> None:
    knock = udp(STRANGERS[0], "10.99.0.1")
    deep = [tagged(knock, *[(TAG, 0)] * (FOLLOWED + 1)), labelled(knock, *range(16, 33))]
    cut = [tagged(knock, (TAG, 0), (TAG, 0), (TAG, 0))[:24], labelled(knock, 16)[:16], knock[:24]]
    names = ("seen", "malformed", "malformed bytes", "unparsed_link", "short_vlan", "short_ip")
    for options, verdict in (({}, XDP_PASS), ({"drop_unparsed": True}, XDP_DROP), ({"drop_malformed": True}, XDP_DROP)):
        rig.datapath.configure(replace(rig.datapath.options, **({"drop_unparsed": False} | options)))
        rig.forget()
        assert rig.run(deep + cut) == [verdict] * 5
        totals = rig.account().totals
        assert [totals[name] for name in names] == [5, 5, sum(map(len, deep + cut)), 2, 2, 1]


def test_what_an_interface_of_its_own_takes_apart_is_not_judged_before(rig: Rig) -> None:
    """PPPoE sessions (RFC 2516) around packets of strangers: no IP here, and nothing a ban or a default is asked about.
    What ppp0 has of them is judged there."""
    frames = []
    for stranger, here, protocol in zip(STRANGERS, ("10.99.0.1", "fd99::1"), (0x0021, 0x0057), strict=True):
        knock = udp(stranger, here)
        session = struct.pack("!BBHHH", 0x11, 0, 7, len(knock) - 12, protocol) + knock[14:]
        frames += [
            tagged(knock[:12] + b"\x88\x64" + session, *tags) for tags in ((), ((TAG, 7),), ((TAG, 0), (TAG, 7)))
        ]
    rig.datapath.configure(replace(rig.datapath.options, drop_unparsed=True, drop_malformed=True))
    rig.forget()
    assert rig.run(frames) == [XDP_PASS] * len(frames)
    account = rig.account()
    assert (account.totals["seen"], account.totals["not_ip"]) == (len(frames), len(frames))
    assert account.totals["not_ip bytes"] == sum(map(len, frames))
    assert len(account.flows) == 0


def test_other_protocols_always_pass(rig: Rig) -> None:
    frames = [not_ip(ethertype) for ethertype in NOT_IP]
    frames += [tagged(frame, (TAG, 7), (TAG, 0), (TAG, 0)) for frame in frames]
    frames.append(labelled(not_ip(0x0800), 16))  # a pseudowire: no IP behind the label
    rig.datapath.configure(replace(rig.datapath.options, drop_unparsed=True, drop_malformed=True))
    rig.forget()
    assert rig.run(frames) == [XDP_PASS] * len(frames)
    totals = rig.account().totals
    assert (totals["seen"], totals["not_ip"]) == (len(frames), len(frames))
    assert totals["not_ip bytes"] == sum(map(len, frames))

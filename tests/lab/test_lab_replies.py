"""A default of drop: what the network itself needs passes, and answers pass however they come."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from door import LOGGED
from rig import XDP_DROP, XDP_PASS, Rig
from tmlab import Daemon, Lab, Sender
from tmlab.packets import ICMPV6, frame, udp

from trafficmond.model import Action
from trafficmond.policy.ids import RuleIds
from trafficmond.policy.load import Files, make_policy
from trafficmond.policy.table import compile_table

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

DROP = '[policy]\ndefault = "drop"\n' + LOGGED
IGMP = 2
NEIGHBOURS = (133, 134, 135, 136, 137, 141, 142, 148, 149)  # RFC 4890 4.4.1: hop limit 255
GROUPS = (130, 131, 132, 143, 151, 152, 153)  # link-local source, hop limit 1


def message(kind: int, hop_limit: int, source: str, options: bool = False) -> bytes:
    """An ICMPv6 message, behind the router alert that those about groups carry if `options`."""
    body = bytes([kind]) + bytes(23)
    alert = bytes([ICMPV6, 0, 5, 2, 0, 0, 1, 0])
    made = bytearray(frame(source, "ff02::1", 0 if options else ICMPV6, alert + body if options else body))
    made[14 + 7] = hop_limit
    return bytes(made)


def igmp(ttl: int, target: str) -> bytes:
    made = bytearray(frame("10.99.0.200", target, IGMP, b"\x11\x64\0\0" + bytes(8)))
    made[14 + 8] = ttl
    return bytes(made)


@pytest.fixture
def strict() -> Iterator[Rig]:
    """A data path that drops by default."""
    with Rig() as rig:
        now, policy = time.time(), make_policy(Files(), default=Action.DROP)
        ids = RuleIds().number(policy.rules, now).numbers
        words = compile_table(policy, ids, now, rig.datapath.clock.to_jiffies).words
        rig.datapath.tables.put(words)
        rig.datapath.configure(replace(rig.datapath.options, established=True))
        yield rig


def test_neighbours_and_groups_pass_if_they_cannot_have_crossed_a_router(strict: Rig) -> None:
    for kind in range(256):
        for hop_limit, source in itertools.product((1, 2, 64, 254, 255), ("fe80::9", "febf::9", "::", "2001:db8::9")):
            lifeline = hop_limit == 255 if kind in NEIGHBOURS else (kind in GROUPS and hop_limit == 1)
            if kind in GROUPS and source.startswith("2001"):
                lifeline = False
            passes = XDP_PASS if lifeline or kind in (1, 2, 3, 4) else XDP_DROP
            found = strict.run([message(kind, hop_limit, source, options) for options in (False, True)])
            assert found == [passes, passes], (kind, hop_limit, source)
    frames = [igmp(1, "224.0.0.1"), igmp(1, "239.1.2.3"), igmp(2, "224.0.0.1"), igmp(1, "10.99.0.1")]
    assert strict.run(frames) == [XDP_PASS, XDP_PASS, XDP_DROP, XDP_DROP]


def fragments(whole: bytes, size: int) -> list[bytes]:
    """The frame's IP packet in fragments of `size` bytes, a multiple of eight."""
    if whole[12:14] == b"\x08\x00":
        head, body = whole[:34], whole[34:]
    else:
        head, body = whole[:54], whole[54:]
    found = []
    for at in range(0, len(body), size):
        part, more = body[at : at + size], at + size < len(body)
        if len(head) == 34:
            made = bytearray(head[:16] + struct.pack("!HHH", 20 + len(part), 77, more << 13 | at // 8) + head[22:])
            made[24:26] = b"\0\0"
            total = sum(struct.unpack("!10H", made[14:34]))
            made[24:26] = struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
            found.append(bytes(made) + part)
        else:
            extension = struct.pack("!BBHI", head[20], 0, at | more, 77)
            found.append(head[:18] + struct.pack("!H", 8 + len(part)) + b"\x2c" + head[21:] + extension + part)
    return found


@contextlib.contextmanager
def asking(lab: Lab, here: str, port: int = 0) -> Iterator[socket.socket]:
    """A datagram socket of the host."""
    family = socket.AF_INET6 if ":" in here else socket.AF_INET
    with lab.host.entered():
        made = socket.socket(family, socket.SOCK_DGRAM)
    with made:
        made.bind((here, port))
        made.settimeout(1)
        yield made


def test_fragments_of_an_answer_pass_in_any_order(lab: Lab, ends: list[tuple[str, str]]) -> None:
    sender = Sender(lab.outside, lab.links[0].outside)
    with Daemon(lab, DROP):
        for here, there in ends:
            for order in itertools.permutations(range(3)):
                with asking(lab, here) as question:
                    question.sendto(b"?", (there, 53))
                    port, answer = question.getsockname()[1], bytes(order) * 900
                    parts = fragments(udp(there, here, 53, port, answer), 1000)
                    sender.send([parts[at] for at in order])
                    assert question.recv(4000) == answer, (here, order)
            # Others' datagrams stay out in whichever order; nor does an answer from the wrong port come in pieces.
            with asking(lab, here) as question:
                question.sendto(b"?", (there, 53))
                port = question.getsockname()[1]
                question.settimeout(0.3)
                for source, wrong in ((there[:-1] + "9", 53), (there, 54)):
                    sender.send(fragments(udp(source, here, wrong, port, bytes(2700)), 1000)[::-1])
                with pytest.raises(TimeoutError):
                    question.recv(4000)


def test_whoever_is_asked_through_a_group_or_a_broadcast_may_answer(lab: Lab, ends: list[tuple[str, str]]) -> None:
    link = lab.links[0]
    sender = Sender(lab.outside, link.outside)
    everybody = link.host_ip.rsplit(".", 1)[0] + ".255"
    with Daemon(lab, DROP):
        ifindex = int(lab.host.link(link.host)["ifindex"])
        for (here, there), group in ((ends[0], "224.0.0.251"), (ends[0], everybody), (ends[1], "ff02::fb")):
            with asking(lab, here) as question:
                question.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                if ":" in here:
                    question.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, ifindex)
                else:
                    question.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(here))
                port = question.getsockname()[1]
                question.sendto(b"who is there?", (group, 5353))
                for source, other in ((there, 5353), (there[:-1] + "9", 41234)):
                    sender.send([udp(source, here, other, port, b"me")])
                    assert question.recv(100) == b"me", (group, source)
                sender.send(fragments(udp(there[:-1] + "8", here, 5353, port, bytes(2700)), 1000))
                assert question.recv(4000) == bytes(2700)
            # A service that speaks from the port it listens on has opened it to nobody.
            with asking(lab, here, 5353) as service:
                service.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                service.sendto(b"I am here", (everybody, 5353) if "." in here else ("ff02::fb", 5353, 0, ifindex))
                service.settimeout(0.3)
                sender.send([udp(there[:-1] + "9", here, 5353, 5353, b"x")])
                with pytest.raises(TimeoutError):
                    service.recv(100)

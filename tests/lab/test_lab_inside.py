"""What tunnels carry: told apart by either loader, in both programs; the outer account stays as it was."""

from __future__ import annotations

import ipaddress
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from inside import BRIDGED, IPV4, IPV6, HostParser, geneve, gre
from rig import LONGEST, SHORTEST, XDP_PASS, Rig, host_account
from tmlab import read_capture
from tmlab.packets import ICMP, ICMPV6, MACS, TCP, UDP, frame, tcp, udp, vxlan

from trafficmond.datapath import libbpf
from trafficmond.datapath.interfaces import Selection
from trafficmond.flows.inner import Inner, inner_flows

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

PCAPS = Path(__file__).parents[3] / "shared" / "data" / "pcaps" / "robust"
A, B, A6, B6 = "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"
X, Y, X6, Y6 = "10.1.0.1", "10.1.0.2", "fd00::1", "fd00::2"
SYN, IP_IN_IP, IPV6_IN_IP, GRE, SCTP = 2, 4, 41, 47, 132

UDP4, UDP6 = udp(X, Y, 5000, 53, b"question"), udp(X6, Y6, 5000, 53, b"question")
TCP4 = tcp(X, Y, 5001, 80, SYN)
TAGGED = udp(X, Y, 5000, 53, b"question", vlan=9)
IS_UDP4, IS_UDP6, IS_TCP4 = (X, Y, 5000, 53, "UDP"), (X6, Y6, 5000, 53, "UDP"), (X, Y, 5001, 80, "TCP")
KEY, SEQUENCE, CHECKSUM = 0x2000, 0x1000, 0x8000
SEVEN = struct.pack("!I", 7)
VNI_5 = struct.pack("!II", 8 << 24, 5 << 8)


def changed(packet: bytes, at: int, *octets: int) -> bytes:
    return packet[:at] + bytes(octets) + packet[at + len(octets) :]


TUNNELS: dict[str, tuple[bytes, Inner]] = {
    "IPv4 in IPv4": (frame(A, B, IP_IN_IP, UDP4[14:]), Inner("ipip", None, *IS_UDP4)),
    "IPv6 in IPv4": (frame(A, B, IPV6_IN_IP, UDP6[14:]), Inner("ipip", None, *IS_UDP6)),
    "IPv4 in IPv6": (frame(A6, B6, IP_IN_IP, TCP4[14:]), Inner("ipip", None, *IS_TCP4)),
    "IPv6 in IPv6": (frame(A6, B6, IPV6_IN_IP, UDP6[14:]), Inner("ipip", None, *IS_UDP6)),
    "GRE": (frame(A, B, GRE, gre(UDP4[14:], IPV4)), Inner("gre", None, *IS_UDP4)),
    "GRE over IPv6 around IPv6": (frame(A6, B6, GRE, gre(UDP6[14:], IPV6)), Inner("gre", None, *IS_UDP6)),
    "GRE with a key": (frame(A, B, GRE, gre(TCP4[14:], IPV4, KEY, SEVEN)), Inner("gre", 7, *IS_TCP4)),
    "GRE with a key of 0": (frame(A, B, GRE, gre(TCP4[14:], IPV4, KEY, bytes(4))), Inner("gre", 0, *IS_TCP4)),
    "GRE with all there is": (
        frame(A, B, GRE, gre(TCP4, BRIDGED, CHECKSUM | KEY | SEQUENCE, bytes(4) + SEVEN + bytes(4))),
        Inner("gre", 7, *IS_TCP4),
    ),
    "ERSPAN I": (frame(A, B, GRE, gre(TCP4, 0x88BE)), Inner("erspan", None, *IS_TCP4)),
    "ERSPAN II": (
        frame(A, B, GRE, gre(TCP4, 0x88BE, SEQUENCE, bytes(4) + struct.pack("!HHI", 0x1064, 0x07FF, 0))),
        Inner("erspan", 0x3FF, *IS_TCP4),
    ),
    "ERSPAN III": (
        frame(A, B, GRE, gre(TCP4, 0x22EB, SEQUENCE, bytes(4) + struct.pack("!HHII", 0x2064, 5, 0, 0))),
        Inner("erspan", 5, *IS_TCP4),
    ),
    "ERSPAN III with a subheader": (
        frame(A, B, GRE, gre(TCP4, 0x22EB, SEQUENCE, bytes(4) + struct.pack("!HHII", 0x2064, 5, 0, 1) + bytes(8))),
        Inner("erspan", 5, *IS_TCP4),
    ),
    "VXLAN": (vxlan(A, B, 0xABCDEF, UDP4), Inner("vxlan", 0xABCDEF, *IS_UDP4)),
    "VXLAN over IPv6, VLAN inside": (vxlan(A6, B6, 0, TAGGED), Inner("vxlan", 0, *IS_UDP4)),
    "VXLAN in a VLAN": (udp(A, B, 1, 4789, VNI_5 + UDP4, vlan=3), Inner("vxlan", 5, *IS_UDP4)),
    "VXLAN, as Linux has it": (udp(A, B, 1, 8472, VNI_5 + UDP6), Inner("vxlan", 5, *IS_UDP6)),
    "Geneve": (geneve(A, B, 6, UDP6), Inner("geneve", 6, *IS_UDP6)),
    "Geneve with options": (geneve(A, B, 6, UDP6, options=bytes(252)), Inner("geneve", 6, *IS_UDP6)),
    "Geneve without Ethernet": (geneve(A, B, 6, TCP4[14:], IPV4, bytes(8)), Inner("geneve", 6, *IS_TCP4)),
    "SCTP inside": (
        frame(A, B, IP_IN_IP, frame(X, Y, SCTP, struct.pack("!HHII", 1, 2905, 1, 0))[14:]),
        Inner("ipip", None, X, Y, 1, 2905, "SCTP"),
    ),
    "ESP inside": (frame(A, B, IP_IN_IP, frame(X, Y, 50, bytes(20))[14:]), Inner("ipip", None, X, Y, 0, 0, "ESP")),
    "ICMP inside": (
        frame(A, B, IP_IN_IP, frame(X, Y, ICMP, bytes([3, 4, *bytes(6)]))[14:]),
        Inner("ipip", None, X, Y, 3, 4, "ICMP"),
    ),
    "a later fragment inside": (
        frame(A, B, IP_IN_IP, changed(UDP4[14:], 6, 0, 100)),
        Inner("ipip", None, X, Y, 0, 0, "UDP"),
    ),
    "a tunnel in a tunnel": (vxlan(A, B, 1, vxlan(X, Y, 2, UDP6)), Inner("vxlan", 1, X, Y, 49152, 4789, "UDP")),
}  # fmt: skip
NOTHING_INSIDE: dict[str, bytes] = {
    "no tunnel": UDP4,
    "VXLAN without a VNI": udp(A, B, 1, 4789, bytes(8) + UDP4),
    "VXLAN and no frame": vxlan(A, B, 1, b""),
    "VXLAN and half a frame": vxlan(A, B, 1, UDP4[:20]),
    "half a frame, the rest in the padding": vxlan(A, B, 1, UDP4[:10]) + bytes(60),
    "half a tag, the rest in the padding": vxlan(A, B, 1, TAGGED[:15]) + TAGGED[15:],
    "ARP inside": vxlan(A, B, 1, MACS + b"\x08\x06" + bytes(28)),
    "an inside that is longer than the outside": vxlan(A, B, 1, UDP4)[:-4] + b"",
    "the same by its own length": frame(A, B, IP_IN_IP, changed(UDP4[14:], 2, 0xFF, 0xFF)),
    "IPv4 where IPv6 is said": frame(A, B, IPV6_IN_IP, UDP4[14:]),
    "TCP inside that cannot be": frame(A, B, IP_IN_IP, changed(TCP4[14:], 32, 0x10)),
    "half a VXLAN header": udp(A, B, 1, 4789, b"\x08\0\0\0"),
    "half a GRE header": frame(A, B, GRE, b"\0\0"),
    "GRE without its key": frame(A, B, GRE, gre(b"", IPV4, KEY)),
    "PPTP": frame(A, B, GRE, gre(UDP4[14:], IPV4, 0x2001, SEVEN)),
    "GRE with routes": frame(A, B, GRE, gre(UDP4[14:], IPV4, 0x4000)),
    "half an ERSPAN header": frame(A, B, GRE, gre(bytes(4), 0x88BE, SEQUENCE, bytes(4))),
    "Geneve of a version to come": changed(geneve(A, B, 1, UDP4), 42, 0x40),
    "Geneve options beyond the packet": changed(geneve(A, B, 1, b""), 42, 0x3F),
    "a first fragment": changed(vxlan(A, B, 1, UDP4), 20, 0x20, 0),
    "a later fragment": changed(vxlan(A, B, 1, UDP4), 20, 0, 1),
}


@pytest.fixture(scope="module", params=["libbpf", "bcc"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with Rig(request.param, capacity=1024, look_inside=True) as made:
        yield made


def told(rig: Rig) -> Counter[Inner]:
    """What the packets since `forget` carried, as it goes into flows.db."""
    rows = rig.datapath.read_ledger()
    known = rig.datapath.inners(np.unique(rows["inner"][rows["inner"] != 0]))
    found: Counter[Inner] = Counter()
    for inside, packets in zip(inner_flows(rows["inner"], known), rows["packets"].tolist(), strict=True):
        found[inside] += packets
    return found


@pytest.mark.parametrize("program", ["tm_xdp", "tm_tc"])
@pytest.mark.parametrize("name", TUNNELS)
def test_each_tunnel(rig: Rig, name: str, program: str) -> None:
    packet, inside = TUNNELS[name]
    rig.forget()
    rig.run([packet] * 3, program)
    assert told(rig) == {inside: 3}


@pytest.mark.parametrize("name", NOTHING_INSIDE)
def test_what_cannot_be_read_is_nothing_and_no_harm(rig: Rig, name: str) -> None:
    packet = NOTHING_INSIDE[name]
    rig.forget()
    assert rig.run([packet]) == [XDP_PASS]
    found = rig.account()
    assert found.differences(host_account([packet])) == []
    assert not found.inners


def test_the_outer_account_is_what_it_is_without(rig: Rig) -> None:
    packets = [packet for packet, _ in TUNNELS.values()] * 2 + list(NOTHING_INSIDE.values())
    rig.forget()
    rig.run(packets)
    assert rig.account().differences(host_account(packets)) == []


def backwards(packet: bytes) -> bytes:
    """The answer to an Ethernet frame of UDP or of an ICMP echo."""
    six = packet[12:14] == b"\x86\xdd"
    size = 16 if six else 4
    at = 14 + (8 if six else 12)
    ends = packet[at + size : at + 2 * size] + packet[at : at + size]
    rest = at + 2 * size
    if packet[14 + (6 if six else 9)] == UDP:
        body = packet[rest + 2 : rest + 4] + packet[rest : rest + 2] + packet[rest + 4 :]
    else:
        body = bytes([{8: 0, 128: 129}[packet[rest]]]) + packet[rest + 1 :]
    return packet[:at] + ends + body


ECHO4 = frame(X, Y, ICMP, bytes([8, 0, *bytes(6)]))
ECHO6 = frame(X6, Y6, ICMPV6, bytes([128, 0, *bytes(6)]))


@pytest.mark.parametrize("packet", [UDP4, UDP6, ECHO4, ECHO6], ids=["UDP", "UDP over IPv6", "echo", "echo over IPv6"])
def test_both_directions_have_one_name_and_the_first_packet_gives_the_ends(rig: Rig, packet: bytes) -> None:
    rig.forget()
    rig.run([vxlan(A, B, 77, backwards(packet)), vxlan(B, A, 77, packet, sport=50000)])
    ((inside, packets),) = told(rig).items()
    assert packets == 2
    assert (inside.inner_src_ip, inside.inner_dst_ip) in ((Y, X), (Y6, X6))


def test_what_differs_inside_differs(rig: Rig) -> None:
    others = [udp(X, Y, 5000, 54), udp(X, "10.1.0.3", 5000, 53), udp(Y, X, 5000, 53), tcp(X, Y, 5000, 53, SYN), ECHO4]
    others.append(frame(X, Y, ICMP, bytes([3, 0, *bytes(6)])))
    packets = [vxlan(A, B, vni, inside) for vni in (1, 2) for inside in (UDP4, *others)]
    packets += [geneve(A, B, 1, UDP4), frame(A, B, IP_IN_IP, UDP4[14:])]
    rig.forget()
    rig.run(packets)
    assert sorted(told(rig).values()) == [1] * 16


def test_one_gre_tunnel_fills_the_whole_ledger(rig: Rig) -> None:
    """All that it carries has one outer key: the sets it falls into are chosen by what is inside."""
    rig.forget()
    rig.run([frame(A, B, GRE, gre(udp(X, Y, port, 53)[14:], IPV4)) for port in range(1, 513)])
    slots = rig._maps["tm_sets"].array
    assert np.count_nonzero(slots["sequence"]) > 380, "512 conversations in 1,024 slots"
    rig.forget()


def read_inside(packet: bytes) -> Inner | None:
    """A reader of its own: what is in a frame's first tunnel, for the kinds of packets that the captures have."""
    kind, at = int.from_bytes(packet[12:14], "big"), 14
    outer = read_ip(packet, kind, at)
    if outer is None:
        return None
    proto, _, _, at, _, fragment = outer
    if fragment:
        return None
    tunnel, number, kind = "", None, 0
    if proto in (IP_IN_IP, IPV6_IN_IP):
        tunnel, kind = "ipip", IPV4 if proto == IP_IN_IP else IPV6
    elif proto == GRE:
        flags, kind = struct.unpack_from("!HH", packet, at)
        if flags & 0x4007:
            return None
        tunnel, at = "gre", at + 4 + 4 * bool(flags & CHECKSUM)
        if flags & KEY:
            (number,) = struct.unpack_from("!I", packet, at)
            at += 4
        at += 4 * bool(flags & SEQUENCE)
        if kind == 0x88BE:
            tunnel, kind = "erspan", BRIDGED
            if flags & SEQUENCE:
                number, at = int.from_bytes(packet[at + 2 : at + 4], "big") & 0x3FF, at + 8
    elif proto == UDP and int.from_bytes(packet[at + 2 : at + 4], "big") == 6081:
        tunnel, number = "geneve", int.from_bytes(packet[at + 12 : at + 15], "big")
        kind, at = int.from_bytes(packet[at + 10 : at + 12], "big"), at + 16 + (packet[at + 8] & 63) * 4
    if kind == BRIDGED:
        kind, at = int.from_bytes(packet[at + 12 : at + 14], "big"), at + 14
    inner = read_ip(packet, kind, at) if tunnel else None
    if inner is None:
        return None
    proto, src, dst, at, end, fragment = inner
    names = {TCP: "TCP", UDP: "UDP", ICMP: "ICMP", ICMPV6: "ICMPv6"}
    ports = (0, 0)
    if not fragment and proto in (TCP, UDP):
        ports = struct.unpack_from("!HH", packet, at)
    elif not fragment and proto in (ICMP, ICMPV6):
        ports = (packet[at], packet[at + 1])
    return Inner(tunnel, number, src, dst, *ports, names.get(proto, str(proto))) if end <= len(packet) else None


def read_ip(packet: bytes, kind: int, at: int) -> tuple[int, str, str, int, int, bool] | None:
    """(protocol, source, destination, where the rest begins and ends, whether it is a fragment)."""
    if kind == IPV4 and len(packet) >= at + 20 and packet[at] >> 4 == 4:
        src, dst = (str(ipaddress.ip_address(packet[at + n : at + n + 4])) for n in (12, 16))
        end = at + int.from_bytes(packet[at + 2 : at + 4], "big")
        fragment = bool(int.from_bytes(packet[at + 6 : at + 8], "big") & 0x3FFF)
        return packet[at + 9], src, dst, at + (packet[at] & 15) * 4, end, fragment
    if kind == IPV6 and len(packet) >= at + 40 and packet[at] >> 4 == 6:
        src, dst = (str(ipaddress.ip_address(packet[at + n : at + n + 16])) for n in (8, 24))
        end = at + 40 + int.from_bytes(packet[at + 4 : at + 6], "big")
        proto, at = packet[at + 6], at + 40
        while proto in (0, 60):
            proto, at = packet[at], at + 8 + packet[at + 1] * 8
        return proto, src, dst, at, end, proto == 44
    return None


@pytest.mark.parametrize(
    ("name", "least"), [("6in4_ndpi.pcap", 127), ("geneve_mercury_aws.pcap", 224), ("erspan_zeek.pcap", 222)]
)
def test_captures_of_tunnels(rig: Rig, name: str, least: int) -> None:
    if not (PCAPS / name).exists():
        pytest.skip(f"needs a capture, which the checkout does not hold: put it at {PCAPS / name}")
    packets = [packet for packet in read_capture(PCAPS / name).frames if SHORTEST <= len(packet) <= LONGEST]
    rig.forget()
    rig.run(packets)
    found = told(rig)
    del found[Inner()]
    assert either_way(found) == either_way(Counter(filter(None, map(read_inside, packets))))
    assert found.total() >= least
    rig.forget()
    rig.run(packets)
    assert rig.account().differences(host_account(packets)) == []


def either_way(found: Counter[Inner]) -> Counter[object]:
    """The same for both directions of a conversation."""
    merged: Counter[object] = Counter()
    for inside, packets in found.items():
        one, other = (inside.inner_src_ip, inside.inner_src_port), (inside.inner_dst_ip, inside.inner_dst_port)
        ends = frozenset((one[0], other[0]) if str(inside.inner_protocol).startswith("ICMP") else (one, other))
        merged[(inside.tunnel, inside.vni, ends, inside.inner_protocol)] += packets
    return merged


def test_the_latest_conversations_are_remembered_and_those_in_use() -> None:
    """More than there is room for: who comes late asks for the first in vain, but not for one that goes on."""
    packet = bytearray(frame(A, B, IP_IN_IP, UDP4[14:]))
    host, often = HostParser(), bytes(packet)

    def conversation(number: int) -> bytes:
        packet[46:50] = number.to_bytes(4, "big")  # the inner source
        return bytes(packet)

    with Rig(look_inside=True) as rig:
        size, seed = rig.datapath.sizes.inners, rig.datapath.loaded.seed

        def known(packets: Iterable[bytes]) -> int:
            names = [found[0] for found in (host.inside(each, seed) for each in packets) if found]
            return len(rig.datapath.inners(np.array(names, np.uint64)))

        for start in range(0, size + 8192, 8192):
            rig.run([often, *map(conversation, range(start, start + 8192))])
        latest = [conversation(number) for number in range(size, size + 8192)]
        earliest = [conversation(number) for number in range(4096)]
        assert (known([often]), known(latest)) == (1, 8192)
        assert known(earliest) < 1024


@pytest.mark.parametrize("look_inside", [False, True])
def test_without_the_setting_the_programs_know_of_no_insides(look_inside: bool) -> None:
    with Rig(capacity=1024, look_inside=look_inside) as rig:
        loaded = rig.datapath.loaded
        inners = libbpf.map_info(loaded.maps["tm_inners"]).id
        for program in ("tm_xdp", "tm_tc"):
            assert (inners in libbpf.program_map_ids(loaded.programs[program])) == look_inside
        rig.run([packet for packet, _ in TUNNELS.values()])
        assert bool(rig.datapath.read_ledger()["inner"].any()) == look_inside


def test_a_change_of_the_setting_carries_the_ledger_over() -> None:
    packets = [TUNNELS["GRE with a key"][0]] * 3 + [UDP4] * 2
    with Rig("libbpf", capacity=1024, look_inside=True) as rig:
        rig.run(packets)
        for turn, look_inside in enumerate((False, True, True), start=2):
            rig.unload()
            rig.load("libbpf", look_inside=look_inside)
            assert rig.datapath.loaded.reused == (turn == 4)
            entries = libbpf.map_info(rig.datapath.loaded.maps["tm_inners"]).max_entries
            assert entries == (131072 if look_inside else 1)
            rig.datapath.attach([], Selection(()))  # to nothing: from now on nobody else counts
            rows = [rig.datapath.read_ledger() for _ in range(3)]
            rig.run(packets)
            rows.append(rig.datapath.read_ledger())
            counted = [int(batch["packets"].sum()) for batch in rows]
            # The last run's packets were not read before it ended; in the first turn none were.
            assert sum(counted) == (10 if turn == 2 else 5), counted
            carry = rows[-1]["packets"][rows[-1]["inner"] != 0].sum()
            assert carry == (3 if look_inside else 0)
            accounting = rig.datapath.accounting()
            assert accounting.seen.packets == accounting.in_flows.packets == 5 * turn

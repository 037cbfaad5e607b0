"""Captures that scapy writes, of packets that it makes up: what it finds in them is what analyze finds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

pytest.importorskip("scapy", reason="needs apt-get install python3-scapy")
import compare
from conversations import Conversations, Ends, add, apart
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, GRE, Dot1AD, Dot1Q, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw
from scapy.utils import PcapNgWriter, rdpcap, wrpcap

AT = 1_700_000_000.0
V4, V6 = ["192.0.2.1", "198.51.100.7", "203.0.113.9"], ["2001:db8::1", "2001:db8:1::7", "fe80::9"]


def frame(chance: random.Random) -> Packet:
    """One of what is on wires: tags, both families, options, extension headers, fragments, other protocols."""
    link: Packet = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    for kind in chance.choice([[], [], [Dot1Q], [Dot1AD, Dot1Q]]):
        link /= kind(vlan=chance.randrange(1, 4095))
    if chance.random() < 0.05:
        return link / ARP()
    ports = {"sport": chance.randrange(1, 65536), "dport": chance.choice([22, 53, 443, 8080])}
    v6 = chance.random() < 0.4
    inner = chance.choice([
        TCP(flags=chance.choice(["S", "SA", "A", "PA", "FA", "R"]), options=[("MSS", 1460)], **ports),
        UDP(**ports), SCTP(**ports),
        ICMPv6EchoRequest(id=7) if v6 else ICMP(type=8, id=7), GRE(proto=0x6558),
    ])  # fmt: skip
    body = inner / Raw(bytes(chance.randrange(0, 200)))
    if v6:
        src, dst = chance.sample(V6, 2)
        extra = chance.choice([None, None, IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt()])
        return link / (IPv6(src=src, dst=dst) / extra / body if extra else IPv6(src=src, dst=dst) / body)
    src, dst = chance.sample(V4, 2)
    options = chance.choice([[], [], [(b"\x94\x04\x00\x00")]])
    return (
        link
        / (IP(src=src, dst=dst, options=[]) if not options else IP(src=src, dst=dst, ihl=6, options=options[0]))
        / body
    )


def theirs(path: Path) -> Conversations:
    """What scapy's own dissection says of a capture."""
    found: Conversations = {}
    for packet in rdpcap(str(path)):
        head = packet.getlayer(IP) or packet.getlayer(IPv6)
        if head is None:
            apart(found, "not IP", 1, len(packet))
            continue
        kinds = (
            (TCP, "tcp"),
            (UDP, "udp"),
            (SCTP, "sctp"),
            (ICMP, "icmp"),
            (ICMPv6EchoRequest, "icmpv6"),
            (GRE, "gre"),
        )
        kind, name = next((kind, name) for kind, name in kinds if kind in packet)
        layer = packet[kind]
        ports = (layer.sport, layer.dport) if kind in (TCP, UDP, SCTP) else (0, 0)
        add(
            found,
            Ends(head.src, ports[0], head.dst, ports[1], name),
            float(packet.time),
            float(packet.time),
            1,
            len(packet),
        )
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("form", ["pcap", "nanoseconds", "pcapng"])
def test_the_same_conversations(tmp_path: Path, seed: int, form: str) -> None:
    chance, path = random.Random(seed), tmp_path / f"{form}.pcap"
    packets = [Ether(bytes(frame(chance))) for _ in range(120)]
    for number, packet in enumerate(packets):
        packet.time = AT + number / 8
    if form == "pcapng":
        with PcapNgWriter(str(path)) as writer:
            for packet in packets:
                writer.write(packet)
    else:
        wrpcap(str(path), packets, nano=form == "nanoseconds")
    ours, _ = compare.ours(path)
    expected = theirs(path)
    assert ours.keys() == expected.keys()
    for key, sums in expected.items():
        assert (ours[key].packets, ours[key].bytes) == (sums.packets, sums.bytes), key
        if key[1] != "none":
            assert (ours[key].first, ours[key].last) == pytest.approx((sums.first, sums.last), abs=2e-6), key

"""Imported rules against those that they come from: the same random packets through netfilter, and through ours."""

from __future__ import annotations

import ipaddress
import json
import random
import shutil
import struct
import sys
import time
from pathlib import Path

import pytest
from judging import ESP, GRE, Asked
from rig import Rig
from tmlab import Lab, Namespace, Sender
from tmlab.packets import ICMP, ICMPV6, TCP, UDP

sys.path.append(str(Path(__file__).parents[1] / "trafficctl"))
from import_judging import IMPORTED, READERS, SAMPLES, given, policy_of, random_address

from trafficmond.policy.ids import RuleIds
from trafficmond.policy.load import Policy
from trafficmond.policy.table import compile_table

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

PACKETS = 4000
PORTS = [20, 22, 23, 25, 53, 79, 80, 81, 443, 444, 2222, 5353, 5432, 7999, 8000, 8050, 8080, 8100, 8101, 9000, 9010]
PORTS += [9011, 9100, 59999, 60000, 60500, 61000, 61001]
SEEN = """
table inet tmlab_seen {{
	{sets}
	chain arrived {{ type filter hook prerouting priority -400; {arrived} }}
	chain passed {{ type filter hook input priority 400; {passed} }}
}}
"""
KINDS = {
    "ports4": (
        "ipv4_addr . inet_proto . inet_service",
        "meta l4proto { tcp, udp }",
        "ip saddr . meta l4proto . th dport",
    ),
    "ports6": (
        "ipv6_addr . inet_proto . inet_service",
        "meta l4proto { tcp, udp }",
        "ip6 saddr . meta l4proto . th dport",
    ),
    "types4": ("ipv4_addr . icmp_type", "meta l4proto icmp", "ip saddr . icmp type"),
    "types6": ("ipv6_addr . icmpv6_type", "meta l4proto ipv6-icmp", "ip6 saddr . icmpv6 type"),
    "others4": ("ipv4_addr . inet_proto", "meta l4proto { gre, esp }", "ip saddr . meta l4proto"),
    "others6": ("ipv6_addr . inet_proto", "meta l4proto { gre, esp }", "ip6 saddr . meta l4proto"),
}


def watch(host: Namespace) -> None:
    """Two chains that note who arrives and who comes through."""
    sets, chains = [], {"arrived": "", "passed": ""}
    for chain in chains:
        for kind, (types, match, what) in KINDS.items():
            sets.append(f"set {chain}_{kind} {{ type {types}; size 65535; flags dynamic; }}")
            address = "ip6 saddr ::/0" if kind.endswith("6") else "ip saddr 0.0.0.0/0"
            chains[chain] += f"{address} {match} update @{chain}_{kind} {{ {what} }}\n"
    (Path("/tmp") / f"{host}-seen.nft").write_text(SEEN.format(sets="\n".join(sets), **chains))
    path = Path("/tmp") / f"{host}-seen.nft"
    try:
        host.run("nft", "-f", path)
    finally:
        path.unlink()


def noted(host: Namespace, chain: str) -> set[tuple[str, ...]]:
    """Who was seen: address, protocol, and port or type."""
    found: set[tuple[str, ...]] = set()
    protocols = {"tcp": TCP, "udp": UDP, "gre": GRE, "esp": ESP}
    for item in json.loads(host.run("nft", "-j", "-n", "list", "table", "inet", "tmlab_seen").stdout)["nftables"]:
        held = item.get("set", {})
        name, _, kind = held.get("name", "").partition("_")
        if name != chain:
            continue
        for element in held.get("elem", ()):
            member = element.get("elem", {}).get("val", element) if isinstance(element, dict) else element
            address, *rest = member["concat"]
            if kind.startswith("types"):
                rest = [ICMP if kind.endswith("4") else ICMPV6, rest[0]]
            found.add((address, *(str(protocols.get(each, each)) for each in rest)))
    return found


def key(packet: Asked) -> tuple[str, ...]:
    kind = ipaddress.IPv4Address if packet.version == 4 else ipaddress.IPv6Address
    number = [] if packet.number is None else [packet.number]
    return str(kind(packet.address)), *(str(each) for each in (packet.proto, *number))


def random_packets(rng: random.Random, policy: Policy) -> list[Asked]:
    """No two alike, from where hosts are: within the rules' prefixes and beside them."""
    found: dict[tuple[str, ...], Asked] = {}
    while len(found) < PACKETS:
        version = rng.choice((4, 6))
        address = ipaddress.ip_address(random_address(rng, policy, version))
        if address.is_multicast or address.is_loopback or address.is_link_local or int(address) >> 120 in (0, 255):
            address = ipaddress.ip_address("198.18.0.0" if version == 4 else "2001:db8:77::") + rng.getrandbits(16)
        if version == 4 and (address.is_multicast or int(address) >> 28 == 15 or int(address) >> 24 == 0):
            continue
        proto = rng.choice((TCP, TCP, TCP, UDP, UDP, ICMP if version == 4 else ICMPV6, GRE, ESP))
        number = rng.choice(PORTS) if proto in (TCP, UDP) else None
        if proto in (ICMP, ICMPV6):
            number = rng.choice((8, 13) if version == 4 else (128, 200))
        packet = Asked(int(address), version, proto, number)
        found[key(packet)] = packet
    return list(found.values())


def summed(frame: bytes) -> bytes:
    """With the checksum of its IPv4 header."""
    if frame[12:14] != b"\x08\x00":
        return frame
    total = sum(struct.unpack("!10H", frame[14:34]))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return frame[:24] + struct.pack("!H", total) + frame[26:]


def load(host: Namespace, source: str) -> None:
    """The rules themselves, into netfilter of the host's namespace."""
    if source == "ufw":
        for family, tool in (("", "iptables-nft-restore"), ("6", "ip6tables-nft-restore")):
            chain = f"ufw{family}"
            parts = [(IMPORTED / f"ufw/{part}{family}.rules").read_text() for part in ("before", "user")]
            lines = [line for part in parts for line in part.splitlines() if line[:1] in (":", "-")]
            lines = [line for line in lines if "-m recent" not in line]  # not every kernel has it
            for way in ("INPUT", "OUTPUT"):
                lines.append(f":{way} {'DROP' if way == 'INPUT' else 'ACCEPT'} [0:0]")
                lines += [f"-A {way} -j {chain}-{part}-{way.lower()}" for part in ("before", "user")]
            declared = sorted({line for line in lines if line.startswith(":")})
            added = [line for line in lines if line.startswith("-")]
            text = "\n".join(["*filter", *declared, *added, "COMMIT", ""])
            path = Path("/tmp") / f"{host}-{source}{family}"
            path.write_text(text)
            host.run(tool, path)
            path.unlink()
        return
    host.run("nft", "-f", IMPORTED / {"nft": "server.nft", "firewalld": "public.nft"}[source])


@pytest.mark.parametrize("source", SAMPLES)
def test_every_packet_gets_the_same_from_both(source: str) -> None:
    tools = [tool for tool in ("nft", "iptables-nft-restore") if shutil.which(tool) is None]
    if tools:
        pytest.skip(f"{', '.join(tools)} is not here; install: apt-get install nftables iptables")
    rng = random.Random(17)
    policy = policy_of(READERS[source](given(*SAMPLES[source])))
    packets = random_packets(rng, policy)
    with Lab() as lab:
        link = lab.links[0]
        own = {4: ipaddress.ip_address(link.host_ip).packed, 6: ipaddress.ip_address(link.host_ip6).packed}
        # GRE begins with flags, which conntrack wants to make sense.
        marks = [0 if each.proto == GRE else 1024 + at for at, each in enumerate(packets)]
        pairs = zip(packets, marks, strict=True)
        frames = [summed(each.frame(own[each.version], mark, False)) for each, mark in pairs]
        load(lab.host, source)
        watch(lab.host)
        lab.host.run("sysctl", "-qw", "net.netfilter.nf_conntrack_checksum=0")
        with Sender(lab.outside, link.outside) as sender:
            for at in range(0, len(frames), 200):
                sender.send(frames[at : at + 200])
                time.sleep(0.01)
        deadline = time.monotonic() + 10
        keys = {key(each) for each in packets}
        while not (arrived := noted(lab.host, "arrived")) >= keys and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not keys - arrived, sorted(keys - arrived)[:5]
        passed = noted(lab.host, "passed")
    with Rig() as rig:
        rig.datapath.clock.calibrate()
        ids = RuleIds().number(policy.rules, 0.0).numbers
        rig.datapath.tables.put(compile_table(policy, ids, 0.0, int).words)
        verdicts = rig.run(frames)
    assert set(verdicts) == {1, 2}
    wrong = [
        (key(each), "passes here" if verdict == 2 else "passes there")
        for each, verdict in zip(packets, verdicts, strict=True)
        if (verdict == 2) != (key(each) in passed)
    ]
    assert not wrong, (len(wrong), wrong[:10])
    assert len(passed & keys) > PACKETS // 20

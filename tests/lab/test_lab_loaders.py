"""Either loader, the same data path: one table of packets, what each is taken for, where it is booked, its verdict."""

from __future__ import annotations

import ipaddress
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from rig import XDP_DROP, XDP_PASS, Rig
from stack import ipv4_received
from tmlab import Daemon, Flood, Lab
from tmlab.packets import ICMP, ICMPV6, MACS, TCP, UDP, frame, tcp, udp

from trafficmond import abi
from trafficmond.datapath.bans import KernelBan
from trafficmond.datapath.datapath import Datapath
from trafficmond.errors import DatapathError
from trafficmond.model import Action, Reason
from trafficmond.policy.ids import RuleIds
from trafficmond.policy.load import Files, make_policy
from trafficmond.policy.table import compile_table
from trafficmond.verdict import verdict_word

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

A, B = "192.0.2.1", "192.0.2.2"
A6, B6 = "2001:db8::1", "2001:db8::2"
SCTP, GRE = 132, 47
SYN, ACK = 2, 16
IPV4, IPV6, QTAG, STAG = 0x0800, 0x86DD, 0x8100, 0x88A8


@dataclass(frozen=True)
class Expected:
    """A flow (`proto` and what follows), or `kind`: not_ip or why it is malformed."""

    kind: str = "flow"
    proto: int = 0
    sport: int = 0
    dport: int = 0
    payload: int = 0
    vlan: int = 0
    flags: int = 0
    bits: int = 0


def tagged(packet: bytes, *tags: tuple[int, int]) -> bytes:
    return packet[:12] + b"".join(struct.pack("!HH", *tag) for tag in tags) + packet[12:]


def changed(packet: bytes, at: int, *octets: int) -> bytes:
    return packet[:at] + bytes(octets) + packet[at + len(octets) :]


def with_options(packet: bytes, options: bytes) -> bytes:
    """An IPv4 packet with options of a multiple of four bytes."""
    longer = packet[:34] + options + packet[34:]
    total = len(longer) - 14
    return changed(longer, 14, 0x45 + len(options) // 4, 0, total >> 8, total & 255)


def extended(packet: bytes, *headers: tuple[int, bytes]) -> bytes:
    """An IPv6 packet with extension headers (their numbers, and each from its second byte on)."""
    numbers = [number for number, _ in headers] + [packet[20]]
    chain = b"".join(bytes([after]) + body for after, (_, body) in zip(numbers[1:], headers, strict=True))
    length = len(packet) - 54 + len(chain)
    return packet[:18] + struct.pack("!HB", length, numbers[0]) + packet[21:54] + chain + packet[54:]


OPTIONS = bytes([0, 1, 4, 0, 0, 0, 0])  # length 0, PadN
LONG_OPTIONS = bytes([1, 1, 12, *bytes(12)])
ROUTING = bytes([2, 4, 1, 0, 0, 0, 0, *bytes(16)])
AUTHENTICATION = bytes([4, 0, 0, *bytes(20)])  # 24 bytes: length in words, less two
FIRST, LATER = bytes([0, 0, 1, 0, 0, 0, 7]), bytes([0, 0, 0xB9, 0, 0, 0, 7])

UDP4, UDP6 = udp(A, B, 1000, 53, bytes(10)), udp(A6, B6, 1000, 53, bytes(10))
TCP4, TCP6 = tcp(A, B, 1000, 80, SYN), tcp(A6, B6, 1000, 80, ACK, bytes(7))
IS_UDP = Expected(proto=UDP, sport=1000, dport=53, payload=10, bits=abi.BIT_FIRST_PAYLOAD)
IS_FIRST = Expected(proto=UDP, sport=1000, dport=53, payload=10, bits=abi.BIT_FIRST_PAYLOAD | abi.BIT_MORE_FRAGMENTS)
IS_LATER = Expected(proto=UDP, payload=18, bits=abi.BIT_FIRST_PAYLOAD | abi.BIT_FRAGMENT)
SCTP_HEADER = struct.pack("!HHII", 1000, 2905, 1, 0)

PACKETS: dict[str, tuple[bytes, Expected]] = {
    "UDP": (UDP4, IS_UDP),
    "UDP over IPv6": (UDP6, IS_UDP),
    "UDP in a padded frame": (UDP4 + bytes(20), IS_UDP),
    "TCP SYN": (TCP4, Expected(proto=TCP, sport=1000, dport=80, flags=SYN)),
    "TCP over IPv6": (
        TCP6,
        Expected(proto=TCP, sport=1000, dport=80, flags=ACK, payload=7, bits=abi.BIT_FIRST_PAYLOAD),
    ),
    "TCP with options": (
        frame(A, B, TCP, struct.pack("!HHIIBBHHH", 1000, 80, 1, 0, 8 << 4, SYN, 9, 0, 0) + bytes(12 + 3)),
        Expected(proto=TCP, sport=1000, dport=80, flags=SYN, payload=3, bits=abi.BIT_FIRST_PAYLOAD),
    ),
    "SCTP": (frame(A, B, SCTP, SCTP_HEADER), Expected(proto=SCTP, sport=1000, dport=2905)),
    "ICMP echo": (frame(A, B, ICMP, bytes([8, 0, 0, 0, *bytes(4)])), Expected(proto=ICMP, sport=8, payload=4, bits=2)),
    "ICMPv6 unreachable": (
        frame(A6, B6, ICMPV6, bytes([1, 4, 0, 0])),
        Expected(proto=ICMPV6, sport=1, dport=4),
    ),
    "GRE, which has no ports": (frame(A, B, GRE, bytes(8)), Expected(proto=GRE, payload=8, bits=2)),
    "VLAN": (tagged(UDP4, (QTAG, 0x2005)), Expected(**{**IS_UDP.__dict__, "vlan": 5})),
    "QinQ": (tagged(UDP6, (STAG, 7), (QTAG, 5)), Expected(**{**IS_UDP.__dict__, "vlan": 7})),
    "three tags": (tagged(UDP4, (STAG, 7), (QTAG, 5), (QTAG, 6)), Expected(**{**IS_UDP.__dict__, "vlan": 7})),
    "IPv4 options": (with_options(UDP4, b"\x94\x04\0\0"), IS_UDP),
    "IPv4 with all the options there can be": (with_options(UDP4, b"\x01" * 40), IS_UDP),
    "first fragment": (changed(UDP4, 20, 0x20, 0), IS_FIRST),
    "later fragment": (changed(UDP4, 20, 0x00, 0x64), IS_LATER),
    "IPv6 options": (extended(UDP6, (0, OPTIONS), (60, LONG_OPTIONS)), IS_UDP),
    "IPv6 routing header": (extended(UDP6, (43, ROUTING)), IS_UDP),
    "IPv6 authentication header": (extended(UDP6, (51, AUTHENTICATION)), IS_UDP),
    "IPv6 first fragment": (extended(UDP6, (44, FIRST)), IS_FIRST),
    "IPv6 later fragment": (extended(UDP6, (44, LATER)), Expected(**{**IS_LATER.__dict__, "bits": 2 | 1 | 16})),
    "IPv6, eight extension headers": (extended(UDP6, *[(60, OPTIONS)] * 8), IS_UDP),
    "IPv6, no next header": (frame(A6, B6, 59, b""), Expected(proto=59)),
    "ARP": (MACS + struct.pack("!H", 0x0806) + bytes(28), Expected("not_ip")),
    "MPLS": (MACS + struct.pack("!HI", 0x8847, 16 << 12 | 1 << 8 | 64) + UDP4[14:], IS_UDP),
    "MPLS without an end": (MACS + struct.pack("!H", 0x8847) + bytes(28), Expected("short_vlan")),
    "half a VLAN tag": (UDP4[:12] + struct.pack("!HB", QTAG, 0), Expected("short_vlan")),
    "no IPv4 header": (UDP4[:33], Expected("short_ip")),
    "no IPv6 header": (UDP6[:53], Expected("short_ip")),
    "IPv4 options beyond the frame": (changed(UDP4[:38], 14, 0x4F, 0, 0, 24), Expected("bad_ip_length")),
    "IPv4 header of 16 bytes": (changed(UDP4, 14, 0x44), Expected("bad_ip_header")),
    "IPv5": (changed(UDP4, 14, 0x55), Expected("bad_ip_header")),
    "IPv4 in IPv6's place": (changed(UDP6, 14, 0x45), Expected("bad_ip_header")),
    "IPv4 longer than the frame": (UDP4[:-1], Expected("bad_ip_length")),
    "IPv4 shorter than its header": (changed(UDP4, 16, 0, 19), Expected("bad_ip_length")),
    "IPv6 longer than the frame": (UDP6[:-1], Expected("bad_ip_length")),
    "IPv6 extension header cut": (
        changed(extended(UDP6, (0, OPTIONS))[:58], 18, 0, 4),
        Expected("short_extension"),
    ),
    "IPv6 extension header too long": (
        extended(UDP6, (0, bytes([9]) + OPTIONS[1:])),
        Expected("short_extension"),
    ),
    "IPv6, nine extension headers": (extended(UDP6, *[(60, OPTIONS)] * 9), Expected("deep_extensions")),
    "UDP header cut": (changed(UDP4[:38], 16, 0, 24), Expected("short_transport")),
    "TCP header cut": (changed(TCP4[:44], 16, 0, 30), Expected("short_transport")),
    "ICMP header cut": (changed(UDP4[:36], 16, 0, 22, 0, 0, 0, 0, 64, ICMP), Expected("short_transport")),
    "SCTP header cut": (frame(A, B, SCTP, SCTP_HEADER[:8]), Expected("short_transport")),
    "TCP header of 16 bytes": (changed(TCP4, 46, 0x40), Expected("bad_transport")),
    "TCP options beyond the packet": (changed(TCP4, 46, 0xF0), Expected("bad_transport")),
    "UDP longer than the packet": (changed(UDP4, 38, 0, 99), Expected("bad_transport")),
    "UDP shorter than its header": (changed(UDP4, 38, 0, 7), Expected("bad_transport")),
}


@pytest.fixture(scope="module", params=[("libbpf", False), ("bcc", False), ("libbpf", True), ("bcc", True)], ids=str)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    loader, look_inside = request.param
    with Rig(loader, capacity=1024, look_inside=look_inside) as made:
        assert made.datapath.loaded.loader == loader
        yield made


@pytest.mark.parametrize("name", PACKETS)
def test_each_packet_is_taken_for_what_it_is(rig: Rig, name: str) -> None:
    packet, expected = PACKETS[name]
    rig.forget()
    assert rig.run([packet]) == [XDP_PASS]
    account = rig.account()
    assert {reason: count for reason, count in account.totals.items() if count} == {
        "seen": 1,
        "seen bytes": len(packet),
        **({} if expected.kind == "flow" else {"not_ip": 1, "not_ip bytes": len(packet)}
           if expected.kind == "not_ip" else {"malformed": 1, "malformed bytes": len(packet), expected.kind: 1}),
    }  # fmt: skip
    if expected.kind != "flow":
        assert len(account.flows) == 0
        return
    (flow,) = account.flows
    assert (flow["packets"], flow["bytes"]) == (1, len(packet))
    found = Expected(
        "flow", *(int(flow[name]) for name in ("proto", "sport", "dport", "payload_bytes", "vlan", "tcp_flags", "bits"))
    )
    assert found == expected
    source = ipaddress.ip_address(A6 if flow["family"] == 6 else A)
    value = int(source) if source.version == 6 else 0xFFFF << 32 | int(source)
    assert (int(flow["src_hi"]) << 64 | int(flow["src_lo"])) == value


DROPPED, MONITORED, LIMITED, GUARDED = "203.0.113.0/24", "203.0.113.128/25", "198.51.100.0/24", "203.0.113.9/32"
RULES = [
    {"cidr": DROPPED, "action": "drop"},
    {"cidr": MONITORED, "action": "monitor"},
    {"cidr": LIMITED, "action": "limit", "limit": "1/s", "burst": 3},
    {"cidr": "2001:db8:bad::/48", "action": "drop"},
    {"cidr": "2001:db8:bad:1::/64", "action": "allow"},
]


def test_verdicts(rig: Rig) -> None:
    datapath, now = rig.datapath, time.time()
    ending = {"cidr": "203.0.113.64/26", "action": "allow", "expires": now + 1.0}
    policy = make_policy(Files(), runtime=[*RULES, ending], guard=[(GUARDED, "own")], allowlist=["192.0.2.9"])
    ids = RuleIds().assign(policy.rules, now)
    datapath.install(compile_table(policy, ids, now, datapath.clock.to_jiffies).words)
    banned = [ipaddress.ip_network(cidr) for cidr in ("192.0.2.0/28", "203.0.113.9", "2001:db8:bad:1::7")]
    for network in banned:
        datapath.bans.put(KernelBan(network, now + 1.0))
    datapath.configure(datapath.options)

    def passes(source: str) -> bool:
        (verdict,) = rig.run([udp(source, B6 if ":" in source else B)])
        assert verdict in (XDP_DROP, XDP_PASS)
        return verdict == XDP_PASS

    rig.forget()
    expected = {
        "203.0.113.1": False,
        "203.0.113.200": True,
        "203.0.113.65": True,  # by the rule that ends
        "203.0.113.9": True,  # the guard, over a rule and a ban
        "192.0.2.9": True,  # the allowlist, over a ban
        "192.0.2.1": False,  # the ban
        "192.0.2.16": True,  # the default
        "2001:db8:bad::7": False,
        "2001:db8:bad:1::8": True,
        "2001:db8:bad:1::7": False,
    }
    assert {source: passes(source) for source in expected} == expected
    assert [passes("198.51.100.1") for _ in range(5)] == [True] * 3 + [False] * 2
    words = {int(word) for word in datapath.drain()["verdict"]}
    assert verdict_word(Action.DROP, Reason.BAN) in words
    reasons = {word >> abi.REASON_SHIFT & abi.REASON_MASK for word in words}
    assert reasons >= {Reason.DEFAULT, Reason.RULE, Reason.BAN, Reason.ALLOWLIST, Reason.GUARD, Reason.LIMIT}
    time.sleep(1.1)
    assert (passes("203.0.113.65"), passes("192.0.2.1"), passes("2001:db8:bad:1::7")) == (False, True, True)
    for network in banned:
        assert datapath.bans.remove(network)
    datapath.configure(datapath.options)


def test_a_table_of_any_size(rig: Rig) -> None:
    """Up and down through every slot that tables lie in; each table drops the packets of one source of its own."""
    datapath, sources = rig.datapath, [f"198.18.0.{number}" for number in range(1, 8)]
    sizes = (2, abi.SMALL_PAGES, abi.SMALL_PAGES + 1, abi.LARGE_PAGES, abi.LARGE_PAGES + 1, abi.LARGE_PAGES, 2)
    for dropped, pages in zip(sources, sizes, strict=True):
        of_both = [{"cidr": dropped, "action": "drop"}, {"cidr": f"2001:db8::{dropped}", "action": "drop"}]
        policy = make_policy(Files(), runtime=of_both)
        ids = RuleIds().assign(policy.rules, 0.0)
        words = compile_table(policy, ids, 0.0, datapath.clock.to_jiffies).words
        larger = np.zeros(max(len(words), pages * abi.PAGE_WORDS), np.uint32)
        larger[: len(words)] = words
        datapath.install(larger)
        for source in sources:
            for packet in (udp(source, B), udp(f"2001:db8::{source}", B6)):
                assert rig.run([packet]) == [XDP_DROP if source == dropped else XDP_PASS]
    rig.forget()


def test_bans_are_for_a_family_and_for_services(rig: Rig) -> None:
    datapath, everything = rig.datapath, ipaddress.ip_network("::/0")
    packets = {
        "UDP 53": udp(A, B, 1000, 53),
        "UDP 54": udp(A, B, 1000, 54),
        "TCP 53": tcp(A, B, 1000, 53, SYN),
        "TCP 8100": tcp(A, B, 1000, 8100, SYN),
        "later fragment": changed(UDP4, 20, 0x00, 0x64),
        "GRE": frame(A, B, GRE, bytes(8)),
        "IPv6": UDP6,
    }

    def dropped(*bans: KernelBan) -> set[str]:
        for ban in bans:
            datapath.bans.put(ban)
        datapath.configure(datapath.options)
        rig.forget()
        found = {name for name, verdict in zip(packets, rig.run(packets.values()), strict=True) if verdict == XDP_DROP}
        assert set(datapath.bans) == set(bans), "what is read back is what was put there"
        for ban in bans:
            assert datapath.bans.remove(ban.network)
        datapath.configure(datapath.options)
        return found

    source = ipaddress.ip_network(A)
    assert dropped(KernelBan(everything, None)) == {"IPv6"}
    assert dropped(KernelBan(everything, None), KernelBan(source, None)) == set(packets)
    tcp_53, both = (abi.WHAT_TCP + 53, abi.WHAT_TCP + 53), (abi.WHAT_UDP + 53, abi.WHAT_UDP + 53)
    assert dropped(KernelBan(source, None, (tcp_53, both))) == {"UDP 53", "TCP 53"}
    others = (abi.WHAT_TCP + 8000, abi.WHAT_TCP + 8100), (abi.WHAT_OTHER + GRE, abi.WHAT_OTHER + GRE)
    fragments = (abi.WHAT_FRAGMENT + UDP, abi.WHAT_FRAGMENT + UDP)
    bans = KernelBan(source, None, (*others, fragments)), KernelBan(ipaddress.ip_network("192.0.2.0/24"), None, (both,))
    assert dropped(*bans) == {"TCP 8100", "GRE", "later fragment"}, "the narrower ban alone is looked at"
    for number in range(1, abi.BAN_SETS):
        datapath.bans.put(KernelBan(ipaddress.ip_network(f"198.51.100.{number}"), None, ((number, number),)))
    datapath.bans.put(KernelBan(ipaddress.ip_network("198.51.100.99"), None, ((7, 7),)))
    with pytest.raises(DatapathError, match="31 sets of services already"):
        datapath.bans.put(KernelBan(source, None, (both,)))
    for ban in list(datapath.bans):
        assert datapath.bans.remove(ban.network)


def test_a_table_on_probation_is_taken_back_by_the_kernel_itself(rig: Rig) -> None:
    datapath, options = rig.datapath, rig.datapath.options

    def table(*dropped: str, pages: int = 0) -> npt.NDArray[np.uint32]:
        policy = make_policy(Files(), runtime=[{"cidr": cidr, "action": "drop"} for cidr in dropped])
        ids = RuleIds().assign(policy.rules, 0.0)
        words = compile_table(policy, ids, 0.0, datapath.clock.to_jiffies).words
        return np.concatenate([words, np.zeros(max(0, pages * abi.PAGE_WORDS - len(words)), np.uint32)])

    def dropped() -> list[str]:
        sources = A, "203.0.113.1", A6, "2001:db8:bad::1"
        verdicts = [rig.run([udp(source, B6 if ":" in source else B)]) for source in sources]
        return [source for source, verdict in zip(sources, verdicts, strict=True) if verdict == [XDP_DROP]]

    datapath.install(table(A, A6))
    before = [A, A6]
    assert (dropped(), datapath.on_trial_until) == (before, None)
    for pages in (0, abi.SMALL_PAGES + 1, 0):  # the second takes the place of the first, whatever its size
        on_trial, end = table("203.0.113.0/24", "2001:db8:bad::/48", pages=pages), time.time() + 0.6
        datapath.try_out(on_trial, replace(options, drop_malformed=True), end)
        assert dropped() == ["203.0.113.1", "2001:db8:bad::1"]
        assert rig.run([UDP4[:-1]]) == [XDP_DROP], "the switches go with the table"
        assert datapath.on_trial_until == pytest.approx(end, abs=0.1)
    datapath.install(table(A))  # what is confirmed may change meanwhile
    assert dropped() == ["203.0.113.1", "2001:db8:bad::1"]
    while time.time() < end + 0.02:
        time.sleep(0.01)
    assert (dropped(), rig.run([UDP4[:-1]])) == ([A], [XDP_PASS])
    assert datapath.on_trial_until == pytest.approx(end, abs=0.1), "it is still told that there was one"

    datapath.try_out(on_trial, options, time.time() + 60)
    assert dropped() == ["203.0.113.1", "2001:db8:bad::1"]
    banned = ipaddress.ip_network(A6)
    datapath.bans.put(KernelBan(banned, None))
    datapath.configure(options)
    assert dropped() == ["203.0.113.1", A6, "2001:db8:bad::1"], "a ban that is made meanwhile acts meanwhile"
    datapath.roll_back()
    assert (dropped(), datapath.on_trial_until) == ([A, A6], None), "and stays"
    assert datapath.bans.remove(banned)
    datapath.configure(options)
    assert dropped() == [A]
    datapath.try_out(on_trial, options, time.time() + 60)
    datapath.confirm(on_trial, options)
    assert (dropped(), datapath.on_trial_until) == (["203.0.113.1", "2001:db8:bad::1"], None)
    datapath.install(table())
    rig.forget()


def test_malformed_packets_are_dropped_if_the_policy_says_so(rig: Rig) -> None:
    datapath = rig.datapath
    datapath.configure(replace(datapath.options, drop_malformed=True))
    try:
        rig.forget()
        verdicts = dict(zip(PACKETS, rig.run([packet for packet, _ in PACKETS.values()]), strict=True))
        for name, (_, expected) in PACKETS.items():
            assert (verdicts[name] == XDP_PASS) == (expected.kind in ("flow", "not_ip")), name
        assert datapath.accounting().dropped.packets == list(verdicts.values()).count(XDP_DROP) > 10
    finally:
        datapath.configure(replace(datapath.options, drop_malformed=False))


def test_the_two_take_over_from_each_other_with_every_count() -> None:
    with Rig("libbpf", capacity=1024) as rig:
        for turn, loader in enumerate(("libbpf", "bcc", "libbpf"), start=1):
            if turn > 1:
                rig.unload()
                rig.load(loader)
                assert (rig.datapath.loaded.loader, rig.datapath.loaded.reused) == (loader, True)
            rig.run([UDP4] * 5 + [UDP6] * 7 + [TCP4] * 1)
            accounting = rig.datapath.accounting()
            assert accounting.seen.packets == accounting.in_flows.packets == 13 * turn
            gained = rig.datapath.drain()
            assert sorted(gained["packets"].tolist()) == [1, 5, 7], "what was read before comes again, or not at all"
            assert gained["new"].all() == (turn == 1), "the flows are found in the slots where the other put them"


@pytest.mark.parametrize("part", ["Clock", "BanTable", "Predecessors"])
def test_a_load_that_fails_half_way_leaves_nothing_open(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    def open_files() -> list[str]:
        return sorted(str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())

    with Rig("libbpf", capacity=1024) as rig:
        rig.unload()
        options, before = rig.datapath.options, open_files()
        with monkeypatch.context() as patched:
            patched.setattr(f"trafficmond.datapath.datapath.{part}", fail)
            with pytest.raises(OSError, match="Cannot allocate"):
                Datapath(options)
        assert open_files() == before
        rig.load("libbpf")  # the pins are free, and whole
        assert rig.datapath.loaded.reused


def test_a_daemon_changes_its_loader_under_traffic_without_a_gap() -> None:
    settings = 'on_stop = "keep"\nloader = "{}"\n[flows]\ninterval = "200ms"\ncapacity = 1024\n'
    with (
        Lab(quiet=True) as lab,
        Daemon(lab, settings.format("libbpf")) as daemon,
        Flood(lab, lab.links[0], "198.18.0.0/20") as flood,
    ):
        daemon.control("add-cidr", "198.18.0.0/15", "--save")
        flood.start(pause_s=0.02)
        for loader in ("libbpf", "bcc", "libbpf"):
            if daemon.process is None or daemon.process.poll() is not None:
                daemon.configure(settings.format(loader))
                daemon.start(timeout=60)
            status = daemon.status()
            assert status["loader"] == loader, status["loader_reason"]
            daemon.stop()
        sent = flood.stop()
        daemon.start()
        seen = daemon.wait_status(lambda s: s["accounting"]["seen"]["packets"] >= sent, f"all {sent} packets")
        assert seen["accounting"]["seen"]["packets"] == seen["accounting"]["dropped"]["packets"] == sent
        assert ipv4_received(lab) == 0, "the filter had a gap"

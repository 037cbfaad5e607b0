"""Either loader, the same data path: one table of packets, what each is taken for, where it is booked, its verdict."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from loader_packets import A6, B6, GRE, PACKETS, SYN, TCP4, UDP4, UDP6, A, B, Expected, changed
from rig import XDP_DROP, XDP_PASS, Rig
from stack import ipv4_received
from tmlab import Daemon, Flood, Lab
from tmlab.packets import UDP, frame, tcp, udp

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
    ids = RuleIds().number(policy.rules, now).numbers
    datapath.tables.put(compile_table(policy, ids, now, datapath.clock.to_jiffies).words)
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
    words = {int(word) for word in datapath.read_ledger()["verdict"]}
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
        ids = RuleIds().number(policy.rules, 0.0).numbers
        words = compile_table(policy, ids, 0.0, datapath.clock.to_jiffies).words
        larger = np.zeros(max(len(words), pages * abi.PAGE_WORDS), np.uint32)
        larger[: len(words)] = words
        datapath.tables.put(datapath.tables.stage(larger) if pages % 2 else larger)
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
    with pytest.raises(DatapathError, match="bans already name 31 sets of services"):
        datapath.bans.put(KernelBan(source, None, (both,)))
    for ban in list(datapath.bans):
        assert datapath.bans.remove(ban.network)


def test_a_table_on_probation_is_taken_back_by_the_kernel_itself(rig: Rig) -> None:
    datapath, options = rig.datapath, rig.datapath.options

    def table(*dropped: str, pages: int = 0) -> npt.NDArray[np.uint32]:
        policy = make_policy(Files(), runtime=[{"cidr": cidr, "action": "drop"} for cidr in dropped])
        ids = RuleIds().number(policy.rules, 0.0).numbers
        words = compile_table(policy, ids, 0.0, datapath.clock.to_jiffies).words
        return np.concatenate([words, np.zeros(max(0, pages * abi.PAGE_WORDS - len(words)), np.uint32)])

    def dropped() -> list[str]:
        sources = A, "203.0.113.1", A6, "2001:db8:bad::1"
        verdicts = [rig.run([udp(source, B6 if ":" in source else B)]) for source in sources]
        return [source for source, verdict in zip(sources, verdicts, strict=True) if verdict == [XDP_DROP]]

    datapath.tables.put(table(A, A6))
    before = [A, A6]
    assert (dropped(), datapath.on_trial_until) == (before, None)
    for pages in (0, abi.SMALL_PAGES + 1, 0):  # the second takes the place of the first, whatever its size
        on_trial, end = table("203.0.113.0/24", "2001:db8:bad::/48", pages=pages), time.time() + 0.6
        datapath.try_out(on_trial, replace(options, drop_malformed=True), end)
        assert dropped() == ["203.0.113.1", "2001:db8:bad::1"]
        assert rig.run([UDP4[:-1]]) == [XDP_DROP], "the switches go with the table"
        assert datapath.on_trial_until == pytest.approx(end, abs=0.1)
    datapath.tables.put(table(A))  # what is confirmed may change meanwhile
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
    datapath.tables.put(table())
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
            gained = rig.datapath.read_ledger()
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

"""What a packet costs: the program that the daemon has attached, against others, interleaved in one process.

Each program runs through BPF_PROG_TEST_RUN on one CPU; the daemons whose programs are measured live on the other.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from contestants import (
    LISTS,
    TRACE_LENGTH,
    Contestants,
    Prefix,
    fresh_flows,
    mixed_prefixes,
    packed,
    skewed_flows,
    xdp_filter,
)
from earlier import earlier
from figures import Figure, difference, interleaved, ratio
from tmlab import Daemon, Flood, Lab, bpf
from tmlab.daemon import ROOT
from tmlab.packets import udp

ROUNDS = 21
ROUNDS_OF_FULL = 31  # of what differs by misses of the last cache, for which all that runs on the machine contends
PACKET = udp("198.51.100.7", "10.0.0.1", payload=bytes(18))
TAGGED = udp("198.51.100.7", "10.0.0.1", payload=bytes(18), vlan=7)
IPV6 = udp("2001:db8:7::7", "2001:db8::1", payload=bytes(18))
BENCH_CPU = 0
_QUIET = '[[log]]\nformat = "jsonl"\npath = "{home}/traffic.jsonl"\nactions = ["drop"]\n'
_DAEMON_CPU = ["taskset", "--cpu-list", str((os.cpu_count() or 1) - 1)]


class Guarded:
    """A lab of its own with a daemon on it; `run` runs the attached program as if packets came from that wire."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        prefixes: Sequence[Prefix] = (),
        action: str = "monitor",
        *,
        rules: str = "",
        tree: Path = ROOT,
    ) -> None:
        self.lab = stack.enter_context(Lab(quiet=True))
        tables = "".join(f'[[list]]\npath = "{{home}}/{number}.txt"\naction = "{action}"\n' for number in range(LISTS))
        self.daemon = Daemon(self.lab, tables + _QUIET, rules={"bench.toml": rules}, prefix=_DAEMON_CPU, tree=tree)
        stack.callback(self.daemon.remove)
        lines = [f"{socket.inet_ntoa(network.to_bytes(4, 'big'))}/{length}\n" for network, length in prefixes]
        for number in range(LISTS):
            (self.daemon.home / f"{number}.txt").write_text("".join(lines[number::LISTS]))
        stack.enter_context(self.daemon)
        link = self.lab.links[0]
        found = self.lab.host.link(link.host)
        self.ifindex = int(found["ifindex"])
        self.program = bpf.program_by_id(found["xdp"]["prog"]["id"])
        self.egress = bpf.program_of_link(self.daemon.pins / "links" / f"tcx-{self.ifindex}")
        self.sent = 0

    def run(self, program: int, packets: int, packet: bytes = PACKET) -> float:
        """CPU nanoseconds a packet of `program`, whatever it is."""
        with self.lab.host.entered():
            return bpf.run(program, packet, packets, ingress_ifindex=self.ifindex).cpu_ns

    def leave(self, program: int, packets: int) -> float:
        """The same of a program for what goes out."""
        with self.lab.host.entered():
            return bpf.run(program, PACKET, packets, egress_ifindex=self.ifindex).cpu_ns

    def count(self, program: int, packets: int) -> float:
        """The same for a program that ends in ours; what was run is remembered for `lost`."""
        self.sent += packets
        return self.run(program, packets)

    def lost(self) -> int:
        """Packets run so far that status does not account for, and bytes as well: the larger difference."""
        deadline = time.monotonic() + 20
        while True:
            accounting = self.daemon.status()["accounting"]
            pending = accounting.get("pending") or {"packets": 0, "bytes": 0}
            if (accounting["seen"]["packets"] >= self.sent and not pending["packets"]) or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        wrong = []
        for unit, sent in (("packets", self.sent), ("bytes", self.sent * len(PACKET))):
            parts = sum(accounting[part][unit] for part in ("in_flows", "unattributed", "not_ip", "malformed"))
            wrong.append(abs(sent - parts - pending[unit]))
        return int(max(wrong))


@contextlib.contextmanager
def _on_one_cpu() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {BENCH_CPU})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measure(full_table: Sequence[Prefix]) -> Iterator[Figure]:
    """All figures of a packet's cost; `full_table` is empty where there is none to load."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_on_one_cpu())
        others = stack.enter_context(Contestants())
        before = earlier()
        yield from _usual_frames(stack, others, before)
        yield from _rules_with_ports(stack)
        yield from _many_flows(stack, others, before, full_table)


def _usual_frames(stack: contextlib.ExitStack, others: Contestants, before: Path | None) -> Iterator[Figure]:
    """One flow under one rule, in each form that has a lane of its own."""
    filter_program = xdp_filter("203.0.113.9", others.pins)
    rule = [(0xCB007109, 32)]
    guarded = Guarded(stack, rule)
    packets = 500_000

    def coming(program: int, packet: bytes = PACKET) -> Callable[[], float]:
        return lambda: guarded.run(program, packets, packet)

    contest = {
        "pass": coming(others.trivial),
        "xdp_filter": coming(filter_program),
        "usual": coming(others.usual),
        "trafficmon": coming(guarded.program),
        "ipv6": coming(guarded.program, IPV6),
        "vlan": coming(guarded.program, TAGGED),
        "egress": lambda: guarded.leave(guarded.egress, packets),
        "egress_pass": lambda: guarded.leave(others.trivial_out, packets),
    }
    if before:
        then = Guarded(stack, rule, tree=before)
        contest["then"] = lambda: then.run(then.program, packets)
        contest["egress_then"] = lambda: then.leave(then.egress, packets)
    samples = interleaved(contest, ROUNDS)
    of = "trafficmon"
    yield ratio("hot_path_vs_xdpfilter", "one flow, one rule: against xdp-filter", samples, of, "xdp_filter", 0.72)
    yield ratio("hot_path_net", "... less what passing alone takes", samples, of, "xdp_filter", 0.55, net_of="pass")
    yield ratio("hot_path_ipv6_vs_ipv4", "... IPv6 against IPv4", samples, "ipv6", of, 1.15)
    yield ratio("hot_path_vlan_vs_plain", "... in a VLAN against untagged", samples, "vlan", of, 1.15)
    yield ratio("egress_vs_ingress", "... going out against coming in", samples, "egress", of)
    if before:
        yield ratio("hot_path_vs_earlier", "... against the earlier revision", samples, of, "then")
        out = "egress", "egress_then"
        yield ratio("tc_vs_earlier", "going out, against the earlier revision", samples, *out, 0.8)
        yield ratio("tc_net_vs_earlier", "... less what passing alone takes", samples, *out, net_of="egress_pass")


def _rules_with_ports(stack: contextlib.ExitStack) -> Iterator[Figure]:
    """What a rule with ports costs, where it is and where it is not what decides."""
    services = ", ".join(f'"tcp/{port}"' for port in range(8000, 8030))
    elsewhere = f'[[rule]]\ncidr = "203.0.113.0/24"\naction = "drop"\nports = [{services}]\n'
    here = '[[rule]]\ncidr = "198.51.100.0/24"\naction = "allow"\n'
    contestants = {
        "plain": Guarded(stack, rules=here),
        "unused": Guarded(stack, rules=here + elsewhere),
        "hit": Guarded(stack, rules=elsewhere + here + 'ports = ["udp/9"]\n'),
    }

    def run(guarded: Guarded) -> Callable[[], float]:
        return lambda: guarded.run(guarded.program, 500_000)

    samples = interleaved({name: run(guarded) for name, guarded in contestants.items()}, ROUNDS)
    yield difference("ports_elsewhere_ns", "rules with ports elsewhere: more a packet", samples, "unused", "plain", 2)
    yield difference("ports_hit_ns", "a rule with ports decides: more a packet", samples, "hit", "plain", 6)


def _many_flows(
    stack: contextlib.ExitStack, others: Contestants, before: Path | None, full_table: Sequence[Prefix]
) -> Iterator[Figure]:
    """Ten thousand rules and more, and flows that the caches do not hold."""
    prefixes = mixed_prefixes(10_000)
    many_rules = Guarded(stack, prefixes)
    others.usual_rules(prefixes)

    def traced(program: int) -> Callable[[], float]:
        return lambda: many_rules.run(others.before(program), TRACE_LENGTH // 2)

    def ours(guarded: Guarded) -> Callable[[], float]:
        return lambda: guarded.count(others.before(guarded.program), TRACE_LENGTH // 2)

    contest = {"pass": traced(others.trivial), "usual": traced(others.usual), "trafficmon": ours(many_rules)}
    if before:
        contest["then"] = ours(Guarded(stack, prefixes, tree=before))
    flood = packed(fresh_flows(prefixes))
    for name, what, steps, goal in (
        ("skewed_100k", "10k rules, 100k flows, few of them busy", packed(skewed_flows(prefixes, 100_000)), 0.21),
        ("flood", "10k rules, every packet a new flow", flood, 0.16),
    ):
        others.follow(steps)
        samples = interleaved(contest, ROUNDS)
        both = "trafficmon", "usual"
        yield ratio(f"{name}_vs_usual", f"{what}: against the usual design", samples, *both, goal)
        yield ratio(f"{name}_net", "... less what passing alone takes", samples, *both, net_of="pass")
        if before:
            yield ratio(f"{name}_vs_earlier", "... against the earlier revision", samples, "trafficmon", "then")
    lost = many_rules.lost()
    yield Figure("flood_lost_packets", "packets or bytes of these floods not accounted for", lost, "", lost, lost, 1, 0)
    if not full_table:
        return
    full = Guarded(stack, full_table)
    floods = {"10k": (many_rules, flood), "full": (full, packed(fresh_flows(full_table)))}

    def flooded(name: str) -> Callable[[], float]:
        guarded, steps = floods[name]

        def measure_one() -> float:
            others.follow(steps)
            return ours(guarded)()

        return measure_one

    samples = interleaved({name: flooded(name) for name in floods}, ROUNDS_OF_FULL)
    what = f"a flood from within {len(full_table):,} rules: against that of 10k"
    yield ratio("rules_full_vs_10k", what, samples, "full", "10k", 1.3)


def measure_nft() -> Iterator[Figure]:
    """Dropping by 100,000 prefixes on a wire: trafficmon with its accounting against an nftables interval set."""
    # Half of each /24, so that no two prefixes can be joined; the flood comes from these halves alone.
    prefixes = [((11 << 24) + (number << 8), 25) for number in range(100_000)]
    packets = 200_000
    with contextlib.ExitStack() as stack:
        stack.enter_context(_on_one_cpu())
        ours = Guarded(stack, prefixes, action="drop")
        theirs = stack.enter_context(Lab(quiet=True))
        interface = theirs.links[0].host
        theirs.host.run("ethtool", "-K", interface, "gro", "on")  # a receive ring without XDP
        elements = ",".join(f"{socket.inet_ntoa(n.to_bytes(4, 'big'))}/{length}" for n, length in prefixes)
        rules = f"""
            table netdev bench {{
                set listed {{ type ipv4_addr; flags interval; elements = {{ {elements} }} }}
                chain ingress {{
                    type filter hook ingress device {interface} priority 0
                    ip saddr @listed counter drop
                }}
            }}"""
        path = ours.daemon.home / "rules.nft"
        path.write_text(rules)
        theirs.host.run("nft", "-f", path, timeout=120)
        floods = {
            "nft": stack.enter_context(Flood(theirs, theirs.links[0], "11.0.0.0/8", randomly=True, every=8)),
            "trafficmon": stack.enter_context(Flood(ours.lab, ours.lab.links[0], "11.0.0.0/8", randomly=True, every=8)),
        }
        samples = interleaved({name: _timed(flood, packets) for name, flood in floods.items()}, ROUNDS)
        dropped = ours.daemon.wait_status(
            lambda s: s["interfaces"][0]["dropped_packets"] >= floods["trafficmon"].sent, "every packet dropped"
        )["interfaces"][0]["dropped_packets"]
        counted = theirs.host.run("nft", "list", "chain", "netdev", "bench", "ingress").stdout
        assert f"packets {floods['nft'].sent} " in counted, (
            f"nft did not drop all {floods['nft'].sent} packets: {counted}"
        )
        assert dropped == floods["trafficmon"].sent
        yield ratio("drop_100k_vs_nft", "drops by 100k prefixes over veth: nftables' time against ours",
                    samples, "nft", "trafficmon", 2.5, at_least=True)  # fmt: skip


def _timed(flood: Flood, packets: int) -> Callable[[], float]:
    return lambda: flood.send(packets).cpu_ns

"""What a packet costs: the program that the daemon has attached, against others, interleaved in one process.

Each program runs through BPF_PROG_TEST_RUN on one CPU; the daemons whose programs are measured live on the other.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence

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
from figures import Figure, interleaved, ratio
from tmlab import Daemon, Flood, Lab, bpf
from tmlab.packets import udp

ROUNDS = 11
ROUNDS_OF_FULL = 31  # of what differs by misses of the last cache, for which all that runs on the machine contends
PACKET = udp("198.51.100.7", "10.0.0.1", payload=bytes(18))
BENCH_CPU = 0
_QUIET = '[[log]]\nformat = "jsonl"\npath = "{home}/traffic.jsonl"\nactions = ["drop"]\n'
_DAEMON_CPU = ["taskset", "--cpu-list", str((os.cpu_count() or 1) - 1)]


class Guarded:
    """A lab of its own with a daemon on it; `run` runs the attached program as if packets came from that wire."""

    def __init__(self, stack: contextlib.ExitStack, prefixes: Sequence[Prefix], action: str = "monitor") -> None:
        self.lab = stack.enter_context(Lab(quiet=True))
        tables = "".join(f'[[list]]\npath = "{{home}}/{number}.txt"\naction = "{action}"\n' for number in range(LISTS))
        self.daemon = Daemon(self.lab, tables + _QUIET, prefix=_DAEMON_CPU)
        stack.callback(self.daemon.remove)
        lines = [f"{socket.inet_ntoa(network.to_bytes(4, 'big'))}/{length}\n" for network, length in prefixes]
        for number in range(LISTS):
            (self.daemon.home / f"{number}.txt").write_text("".join(lines[number::LISTS]))
        stack.enter_context(self.daemon)
        link = self.lab.links[0]
        found = self.lab.host.link(link.host)
        self.ifindex = int(found["ifindex"])
        self.program = bpf.program_by_id(found["xdp"]["prog"]["id"])
        self.sent = 0

    def run(self, program: int, packets: int) -> float:
        """CPU nanoseconds a packet of `program`, whatever it is."""
        with self.lab.host.entered():
            return bpf.run(program, PACKET, packets, ingress_ifindex=self.ifindex).cpu_ns

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
        filter_program = xdp_filter("203.0.113.9", others.pins)
        one_rule = Guarded(stack, [(0xCB007109, 32)])
        prefixes = mixed_prefixes(10_000)
        many_rules = Guarded(stack, prefixes)
        others.usual_rules(prefixes)

        def plain(program: int) -> Callable[[], float]:
            return lambda: one_rule.run(program, 500_000)

        def traced(program: int) -> Callable[[], float]:
            return lambda: many_rules.run(others.before(program), TRACE_LENGTH // 2)

        def ours(guarded: Guarded) -> Callable[[], float]:
            return lambda: guarded.count(others.before(guarded.program), TRACE_LENGTH // 2)

        samples = interleaved(
            {
                "pass": plain(others.trivial),
                "xdp_filter": plain(filter_program),
                "usual": plain(others.usual),
                "trafficmon": plain(one_rule.program),
            },
            ROUNDS,
        )
        yield ratio(
            "hot_path_vs_xdpfilter", "one flow, one rule: against xdp-filter", samples, "trafficmon", "xdp_filter", 0.75
        )

        contest = {"pass": traced(others.trivial), "usual": traced(others.usual), "trafficmon": ours(many_rules)}
        others.follow(packed(skewed_flows(prefixes, 100_000)))
        samples = interleaved(contest, ROUNDS)
        yield ratio("skewed_100k_vs_usual", "10k rules, 100k flows, few of them busy: against the usual design",
                    samples, "trafficmon", "usual", 0.35)  # fmt: skip

        flood = packed(fresh_flows(prefixes))
        others.follow(flood)
        samples = interleaved(contest, ROUNDS)
        yield ratio("flood_vs_usual", "10k rules, every packet a new flow: against the usual design",
                    samples, "trafficmon", "usual", 0.30)  # fmt: skip
        lost = many_rules.lost()
        yield Figure(
            "flood_lost_packets", "packets or bytes of these floods not accounted for", lost, "", lost, lost, 1, 0
        )
        if full_table:
            full = Guarded(stack, full_table)
            floods = {"10k": (many_rules, flood), "full": (full, packed(fresh_flows(full_table)))}

            def flooded(name: str) -> Callable[[], float]:
                guarded, steps = floods[name]

                def measure_one() -> float:
                    others.follow(steps)
                    return ours(guarded)()

                return measure_one

            samples = interleaved({name: flooded(name) for name in floods}, ROUNDS_OF_FULL)
            yield ratio("rules_full_vs_10k", f"a flood from within {len(full_table):,} rules: against that of 10k",
                        samples, "full", "10k", 1.3)  # fmt: skip


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

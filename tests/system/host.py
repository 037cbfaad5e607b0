"""The machine as its administrator sees it, and what steps expect of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from debian import PATIENCE, Failure, Machine

UNIT = "trafficmond.service"
RULES = "/etc/trafficmon/cidr.d"
SETTINGS = "/etc/trafficmon/trafficmond.toml"
HERE, GATEWAY = "192.0.2.1", "192.0.2.2"  # the machine, and its neighbour as its default route
PEER = "192.0.2.3"  # the neighbour as anybody: what comes from a gateway is guarded and cannot be dropped
STRANGER = "192.0.2.4"  # the neighbour as somebody who connects and never logs in
INSTALL = "apt-get install -y -q --no-install-recommends"


class Host:
    """The machine as its administrator sees it."""

    def __init__(self, machine: Machine) -> None:
        self.run, self.popen, self.folder = machine.run, machine.popen, machine.folder
        self.machine = machine

    def meet_neighbour(self) -> None:
        """Joins it by a veth to a neighbour in a network namespace."""
        for line in (
            "ip netns add peer",
            "ip link add uplink type veth peer name eth0 netns peer",
            f"ip address add {HERE}/24 dev uplink",
            "ip link set uplink up",
            f"ip route add default via {GATEWAY}",
            f"ip -n peer address add {GATEWAY}/24 dev eth0",
            f"ip -n peer address add {PEER}/24 dev eth0",
            f"ip -n peer address add {STRANGER}/24 dev eth0",
            "ip -n peer link set eth0 up",
            "ip -n peer link set lo up",
        ):
            self.run(line)

    def json(self, command: str, user: str = "root") -> Any:
        """What `trafficctl -o json COMMAND` answers."""
        return json.loads(self.run(f"trafficctl -o json {command}", user).stdout)

    def ping(self, count: int = 3, interval: float = 0.05, source: str = PEER) -> int:
        """How many of `count` pings from the neighbour are answered."""
        done = self.run(f"ip netns exec peer ping -q -I {source} -i {interval} -W 1 -c {count} {HERE}", check=False)
        return int(done.stdout.split(" received")[0].split()[-1])

    def pid(self) -> int:
        """The daemon's process."""
        return int(self.run(f"systemctl show -P MainPID {UNIT}").stdout)

    def program(self) -> int:
        """The id of the XDP program on the uplink, 0 without one."""
        (link,) = json.loads(self.run("ip -d -j link show dev uplink").stdout)
        return int(link.get("xdp", {}).get("prog", {}).get("id", 0))

    def seen(self) -> int:
        """Packets that crossed the uplink while it was watched."""
        return int(self.json("status")["accounting"]["seen"]["packets"])


def must(holds: bool, expected: str, saw: object = "") -> None:
    """Raises Failure unless it holds."""
    if not holds:
        raise Failure(f"expected {expected}; saw {saw}")


def soon(holds: Callable[[], object], expected: str, within: float = 10) -> float:
    """Waits until it holds and returns the seconds that took. Raises Failure if it does not in time."""
    began = time.monotonic()
    saw: object = None
    while time.monotonic() - began < within * PATIENCE:
        try:
            saw = holds()
        except (Failure, KeyError, ValueError) as error:
            saw = error
        else:
            if saw:
                return time.monotonic() - began
        time.sleep(0.1)
    raise Failure(f"expected {expected} within {within * PATIENCE:.0f} s; last: {saw}")


def count_pings(host: Host) -> str:
    """500 pings are 500 packets more each way, all accounted for."""
    before = host.json("status")["accounting"]
    must(host.ping(500, 0.005) == 500, "500 of 500 pings answered", "fewer")
    time.sleep(1.5)
    accounting = host.json("status")["accounting"]
    grown = accounting["seen"]["packets"] - before["seen"]["packets"]
    must(1000 <= grown <= 1020, "500 packets in, 500 out and a few of ARP", grown)
    parts = ("in_flows", "unattributed", "not_ip", "malformed", "pending")
    total = sum((accounting.get(part) or {"packets": 0})["packets"] for part in parts)
    must(
        total == accounting["seen"]["packets"],
        "seen = in flows + unattributed + not IP + malformed + pending",
        accounting,
    )
    return f"{grown} packets more; seen {accounting['seen']['packets']} = sum of its parts"


def without_a_gap(host: Host, command: str, what: str, settle: float = 20) -> str:
    """Runs `command` while a neighbour whose packets are to be dropped sends 200 a second."""
    host.run(f'printf \'[[rule]]\\ncidr = "{PEER}"\\naction = "drop"\\n\' >{RULES}/30-gap.toml && trafficctl reload')
    must(host.ping() == 0, "the neighbour's packets dropped to begin with", "some passed")
    before, started = host.seen(), host.pid()
    ping = host.popen(f"exec ip netns exec peer ping -q -I {PEER} -i 0.005 -W 1 {HERE}")
    time.sleep(1)
    host.run(command, timeout=settle + 60)
    took = soon(lambda: host.pid() not in (0, started) and host.seen(), "another daemon that answers", settle)
    time.sleep(1)
    host.run("pkill -INT -x ping")
    summary = ping.communicate(timeout=10)[0]
    sent, received = (int(summary.split(word)[0].split()[-1]) for word in (" packets transmitted", " received"))
    must(received == 0, f"none of {sent} packets to pass", f"{received} passed")
    seen = host.seen() - before
    must(sent <= seen <= sent + 30, f"{sent} packets counted over it (and a few of ARP)", seen)
    host.run(f"rm {RULES}/30-gap.toml && trafficctl reload")
    must(host.ping() == 3, "pings answered once the rule is gone", "not all")
    return f"{what}: {sent} sent, {received} passed, {seen} counted; back after {took:.1f} s"

"""An administrator's day with trafficmon, step by step. Each step says what it does, and fails with what it saw."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from debian import Failure, Machine

UNIT = "trafficmond.service"
RULES = "/etc/trafficmon/cidr.d"
HERE, PEER = "192.0.2.1", "192.0.2.2"  # the machine and its only neighbour, which is its default route
XDP = f"ip -d -j link show dev uplink"
INSTALL = "apt-get install -y -q --no-install-recommends"
ONLY_OURS = "-o Dir::Etc::sourcelist=/etc/apt/sources.list.d/trafficmon.list -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0"


class Host:
    """The machine as its administrator sees it, joined by a veth to a neighbour in a network namespace."""

    def __init__(self, machine: Machine) -> None:
        self.run, self.popen = machine.run, machine.popen
        for line in (
            "ip netns add peer",
            "ip link add uplink type veth peer name eth0 netns peer",
            f"ip address add {HERE}/24 dev uplink",
            "ip link set uplink up",
            f"ip route add default via {PEER}",
            f"ip -n peer address add {PEER}/24 dev eth0",
            "ip -n peer link set eth0 up",
            "ip -n peer link set lo up",
        ):
            self.run(line)

    def json(self, command: str, user: str = "root") -> Any:
        """What `trafficctl -o json COMMAND` answers."""
        return json.loads(self.run(f"trafficctl -o json {command}", user).stdout)

    def ping(self, count: int = 3) -> int:
        """How many of `count` pings from the neighbour are answered."""
        done = self.run(f"ip netns exec peer ping -q -i 0.05 -W 1 -c {count} {HERE}", check=False)
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
    while time.monotonic() - began < within:
        try:
            saw = holds()
        except (Failure, KeyError, ValueError) as error:
            saw = error
        else:
            if saw:
                return time.monotonic() - began
        time.sleep(0.1)
    raise Failure(f"expected {expected} within {within:.0f} s; last: {saw}")

"""What the checks in an emulated kernel share: a lab with one daemon, and what must hold."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from tmlab import Daemon, Lab, Listener, Sender
from tmlab.packets import udp
from verified import verified

ROOT = Path(__file__).resolve().parents[2]
BAD, GOOD, BAD6, TRIED = "203.0.113.7", "198.51.100.7", "2001:db8:bad::7", "198.51.100.99"
TOLD = dict(word.partition("=")[::2] for word in Path("/proc/cmdline").read_text().split())
LOADER = TOLD.get("trafficmon.loader", "libbpf")
ONLY = TOLD.get("trafficmon.only", "")  # the one check to do; empty: all
SETTINGS = f"""\
loader = "{LOADER}"
on_stop = "keep"
[flows]
interval = "200ms"
capacity = 1024
[[log]]
format = "jsonl"
path = "{{home}}/traffic.jsonl"
"""
SLOWNESS = int(TOLD.get("trafficmon.slowness", "1"))
SLOW = 240.0 * SLOWNESS  # an emulated verifier, on a machine that does other work too
START = {"libbpf": SLOW, "bcc": 1000.0 * SLOWNESS}


class Wrong(Exception):
    """Something came out otherwise than it must."""


def must(holds: bool, what: str, saw: object) -> None:
    """Raises Wrong unless it holds."""
    if not holds:
        raise Wrong(f"{what}; saw {saw}")


class Rig:
    """A lab with a daemon in it, an open port and strangers before it; a start takes seconds here, so all share one."""

    def __init__(self, lab: Lab, daemon: Daemon) -> None:
        self.lab, self.daemon, self.link = lab, daemon, lab.links[0]
        self.features: dict[str, str] = {}  # "yes", a word, or "no: " and the reason
        self.sender = Sender(lab.outside, self.link.outside)
        self._listeners = [Listener(lab.host, self.link.host_ip), Listener(lab.host, self.link.host_ip6)]

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A call to the daemon."""
        with self.daemon.client() as client:
            return client.call(method, **parameters)

    def heard(self, source: str, packets: int = 5) -> int:
        """How many of `packets` from `source` reach the port."""
        target = self.link.host_ip6 if ":" in source else self.link.host_ip
        self.sender.send([udp(source, target, payload=b"hello")] * packets)
        return self.arrived()[source]

    def arrived(self) -> Counter[str]:
        """Packets at the port since the last time, by source."""
        time.sleep(0.3)
        return sum((listener.heard() for listener in self._listeners), start=Counter[str]())

    def accounting(self) -> dict[str, int]:
        """Packets of each account."""
        counts = self.daemon.status()["accounting"].items()
        by_name = ("malformed_by", "others")
        return {name: (count or {"packets": 0})["packets"] for name, count in counts if name not in by_name}


def note_verified(on: Rig, how: str = "") -> None:
    """How many instructions the verifier looked at, of each program."""
    for name, count in sorted(verified(on.daemon.pid).items()):
        on.features[f"verified in {name}{how}"] = f"{count:,}" if count else "no: told since Linux 5.16"


def tc_filters(on: Rig) -> str:
    return str(on.lab.host.run("tc", "filter", "show", "dev", on.link.host, "egress").stdout)

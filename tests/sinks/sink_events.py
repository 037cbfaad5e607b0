"""Events and threats for the tests of the sinks."""

from __future__ import annotations

import ipaddress

import numpy as np

from trafficmond.flows.batch import Batch, split_address
from trafficmond.flows.events import EVENT, Kind
from trafficmond.flows.names import Names
from trafficmond.model import Action, Direction, Reason, Severity, Threat
from trafficmond.verdict import verdict_word

AWKWARD = 'a "b",\\ü\x1b\n'
NAMES = Names({2: "eth0"}, {5: AWKWARD})


def event(
    src: str = "203.0.113.5",
    dst: str = "192.168.1.100",
    *,
    sport: int = 12345,
    dport: int = 22,
    proto: int = 6,
    size: int = 64,
    at: float = 1732834800.25,
    action: Action = Action.MONITOR,
    reason: Reason = Reason.DEFAULT,
    rule: int = 0,
    vlan: int = 0,
    kind: Kind = Kind.NEW,
    direction: Direction = Direction.INGRESS,
) -> Batch:
    """A batch of one event."""
    row = np.zeros(1, EVENT)
    for side, text in (("src", src), ("dst", dst)):
        row[side + "_hi"], row[side + "_lo"] = split_address(ipaddress.ip_address(text).packed)
    row["family"] = ipaddress.ip_address(src).version
    row["timestamp"], row["sport"], row["dport"], row["proto"], row["packet_size"] = at, sport, dport, proto, size
    row["direction"], row["vlan"], row["ifindex"], row["kind"] = direction, vlan, 2, kind
    row["verdict"] = verdict_word(action, reason, rule)
    return row


def many(count: int, first: int = 0) -> Batch:
    """Events told apart by their packet_size and source port: together they hold the number of each."""
    batch = np.repeat(event(), count)
    number = np.arange(first, first + count)
    batch["sport"], batch["packet_size"] = number & 0xFFFF, number >> 16
    return batch


def threat(severity: Severity = Severity.HIGH, src: str | None = "203.0.113.5") -> Threat:
    """A port scan."""
    return Threat(
        "port_scan",
        severity,
        "T1046",
        src,
        "192.168.1.100",
        1732834800.0,
        1732834860.5,
        40,
        "203.0.113.5 probed 40 ports",
        {"unit": "ports", "sample": [22, 23, 25]},
        "t-1",
    )

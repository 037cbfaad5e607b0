"""REPORT rows of every kind: both families, ports and ICMP, answered, unanswered, and replies alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from trafficmond import abi
from trafficmond.flows.batch import V4_MAPPED, Batch
from trafficmond.flows.names import Names
from trafficmond.flows.report import REPORT, End
from trafficmond.model import Action, Direction, Reason
from trafficmond.verdict import verdict_word

NOW = 1_700_000_000.25


def _vxlan() -> bytes:
    inner = np.zeros((), abi.INNER)
    inner["src"][15], inner["dst"][15], inner["sport"], inner["dport"], inner["proto"] = 1, 2, 40000, 53, 17
    inner["scope"], inner["tunnel"], inner["number"] = abi.SCOPE_IPV6 | abi.SCOPE_NUMBERED, abi.VXLAN, 0xFFFFFF
    return inner.tobytes()


VXLAN = ["vxlan", 0xFFFFFF, "::1", "::2", 40000, 53, "UDP"]  # what inner 9 stands for
NAMES = Names({2: "eth0", 3: "wan0"}, {6: "bad neighbours", 7: "it's \\ odd\n"}, {9: _vxlan()})
V6_NET = 0x20010DB800000000
DROPPED = verdict_word(Action.DROP, Reason.RULE, 6)
COUNTERS = ("packets", "bytes", "reply_packets", "reply_bytes")


def reports(count: int = 1, *, at: float = NOW, **columns: Any) -> Batch:
    """TCP flows that differ in their source port, answered, the last packet of each at `at`; columns override."""
    batch = np.zeros(count, REPORT)
    batch["id"] = np.arange(count)
    batch["src_lo"] = V4_MAPPED | np.uint64(0xC0000201)
    batch["dst_lo"] = V4_MAPPED | np.uint64(0xC6336402)
    batch["sport"] = 1024 + np.arange(count) % 60000
    batch["dport"], batch["proto"], batch["family"], batch["ifindex"], batch["vlan"] = 443, 6, 4, 2, 100
    batch["verdict"] = verdict_word(Action.MONITOR, Reason.DEFAULT)
    batch["packets"] = 1 + np.arange(count) % 7
    batch["bytes"] = batch["packets"] * 100
    batch["reply_packets"] = 1 + np.arange(count) % 3
    batch["reply_bytes"] = batch["reply_packets"] * 50
    batch["tcp_flags"], batch["reply_tcp_flags"] = 0x1B, 0x12
    batch["first"], batch["last"], batch["end"] = at - 1.5, at, End.CLOSED
    for name, value in columns.items():
        batch[name] = value
    return batch


def every_kind(count: int, *, at: float = NOW) -> Batch:
    """`count` rows of each kind."""
    v6 = {"family": 6, "src_hi": V6_NET, "src_lo": 1, "dst_hi": V6_NET, "dst_lo": np.arange(count) + 2}
    silent = {"reply_packets": 0, "reply_bytes": 0, "reply_tcp_flags": 0}
    alone = {"packets": 0, "bytes": 0, "tcp_flags": 0}
    icmp = {"proto": 1, "sport": 8, "dport": 0, "tcp_flags": 0, "reply_tcp_flags": 0}
    hosts = V4_MAPPED | (np.uint64(0x0A000000) + np.arange(count, dtype=np.uint64))
    return np.concatenate(
        [
            reports(count, at=at),
            reports(count, at=at, dport=80, verdict=DROPPED, direction=Direction.EGRESS, **silent),
            reports(count, at=at, dport=81, end=End.ACTIVE, **alone),
            reports(count, at=at, proto=17, dport=53, tcp_flags=0, reply_tcp_flags=0, **v6),
            reports(count, at=at, proto=17, dport=54, tcp_flags=0, **(v6 | silent)),
            reports(count, at=at, src_lo=hosts, **icmp),
            reports(count, at=at, src_lo=hosts, **(icmp | silent | {"sport": 3, "dport": 1})),
            reports(count, at=at, **(v6 | icmp | {"proto": 58, "sport": 128})),
            reports(count, at=at, **(v6 | icmp | silent | {"proto": 58, "sport": 1, "dport": 4})),
        ]
    )


def totals(rows: Batch) -> dict[str, int]:
    """The sums that must arrive."""
    return {name: int(rows[name].sum()) for name in COUNTERS}

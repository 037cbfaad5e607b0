"""What a tunnel's packets carry, in words."""

from __future__ import annotations

import numpy as np

from trafficmond import abi
from trafficmond.flows.inner import NOTHING, Inner, inner_flows


def inner(tunnel: int, number: int | None, src: str, dst: str, ports: tuple[int, int], proto: int, six: bool) -> bytes:
    made = np.zeros((), abi.INNER)
    made["src"], made["dst"] = (np.frombuffer(bytes.fromhex(end.zfill(32)), np.uint8) for end in (src, dst))
    made["sport"], made["dport"] = ports
    made["tunnel"], made["number"], made["proto"] = tunnel, number or 0, proto
    made["scope"] = (abi.SCOPE_IPV6 if six else 0) | (0 if number is None else abi.SCOPE_NUMBERED)
    return made.tobytes()


def test_both_families_and_tunnels_with_and_without_a_number() -> None:
    known = {
        5: inner(abi.VXLAN, 0xFFFFFF, "ffffc0000201", "ffffc6336402", (40000, 443), 6, False),
        (1 << 64) - 1: inner(abi.GRE, 0, "20010db8" + "0" * 23 + "1", "ff02" + "0" * 27 + "1", (135, 0), 58, True),
        7: inner(abi.IPIP, None, "ffff0a000001", "ffff0a000002", (0, 0), 200, False),
        8: inner(99, 1, "1", "2", (1, 2), 17, True),
    }
    told = inner_flows(np.array([7, 0, 5, (1 << 64) - 1, 6, 5, 8], np.uint64), known)
    vxlan = Inner("vxlan", 0xFFFFFF, "192.0.2.1", "198.51.100.2", 40000, 443, "TCP")
    assert told == [
        Inner("ipip", None, "10.0.0.1", "10.0.0.2", 0, 0, "IP-200"),
        NOTHING,
        vxlan,
        Inner("gre", 0, "2001:db8::1", "ff02::1", 135, 0, "ICMPv6"),
        NOTHING,
        vxlan,
        Inner("tunnel 99", 1, "::1", "::2", 1, 2, "UDP"),
    ]


def test_nothing_known_is_nothing_told() -> None:
    assert inner_flows(np.array([0, 3], np.uint64), {}) == [NOTHING, NOTHING]
    assert NOTHING == (None,) * 7

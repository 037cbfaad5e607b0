"""The moment for live screens: rates by flow and by host, from the FLOW batch of the latest tick. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from trafficmond import networks
from trafficmond.flows.batch import Batch, Column, address_text, within
from trafficmond.flows.names import Names
from trafficmond.model import Action
from trafficmond.protocols import protocol_name, protocol_number
from trafficmond.verdict import action_of

Row = dict[str, Any]

_PORT_DIGITS = 5


def top_flows(flows: Batch, seconds: float, now: float, names: Names, sort: str, match: str, limit: int) -> list[Row]:
    """`LiveFlow` rows of the flows that moved in the last `seconds`, the busiest first."""
    flows = flows[_matching(flows, match)]
    packets, octets = _moved(flows)
    order = np.argsort(-(packets if sort == "packets" else octets), kind="stable")[:limit]
    return [
        {
            "src_ip": _address(row, "src"),
            "dst_ip": _address(row, "dst"),
            "src_port": int(row["sport"]),
            "dst_port": int(row["dport"]),
            "protocol": protocol_name(int(row["proto"])),
            "interface": names.interface(int(row["ifindex"])),
            "action": str(Action(action_of(int(row["verdict"])))),
            "packets": int(row["packets"] + row["reply_packets"]),
            "bytes": int(row["bytes"] + row["reply_bytes"]),
            "packets_per_s": float(packets[at] / seconds),
            "bytes_per_s": float(octets[at] / seconds),
            "age_s": max(0.0, now - float(row["first"])),
        }
        for at in order.tolist()
        for row in (flows[at],)
    ]


def top_hosts(flows: Batch, seconds: float, sort: str, match: str, limit: int) -> list[Row]:
    """`LiveHost` rows: each address with what it sent and received in the last `seconds`, the busiest first."""
    flows = flows[_matching(flows, match)]
    packets, octets = _moved(flows)
    ends = np.zeros(2 * len(flows), [("hi", "u8"), ("lo", "u8"), ("family", "u1")])
    for half, side in enumerate(("src", "dst")):
        part = ends[half * len(flows) : (half + 1) * len(flows)]
        part["hi"], part["lo"], part["family"] = flows[f"{side}_hi"], flows[f"{side}_lo"], flows["family"]
    hosts, which = np.unique(ends, return_inverse=True)
    count = np.bincount(which, minlength=len(hosts))
    sent = np.bincount(which, np.tile(packets, 2), len(hosts))
    carried = np.bincount(which, np.tile(octets, 2), len(hosts))
    order = np.argsort(-(sent if sort == "packets" else carried), kind="stable")[:limit]
    return [
        {
            "address": address_text(int(hosts["hi"][at]), int(hosts["lo"][at]), int(hosts["family"][at])),
            "flows": int(count[at]),
            "packets_per_s": float(sent[at] / seconds),
            "bytes_per_s": float(carried[at] / seconds),
        }
        for at in order.tolist()
    ]


def _moved(flows: Batch) -> tuple[Column, Column]:
    packets = (flows["d_packets"] + flows["d_reply_packets"]).astype(np.float64)
    octets = (flows["d_bytes"] + flows["d_reply_bytes"]).astype(np.float64)
    return packets, octets


def _address(row: Any, side: str) -> str:
    return address_text(int(row[f"{side}_hi"]), int(row[f"{side}_lo"]), int(row["family"]))


def _matching(flows: Batch, match: str) -> Column:
    """Which flows a word means: a port, a protocol, an address or a prefix; all of them for an empty one."""
    text = match.strip()
    if not text:
        return np.ones(len(flows), bool)
    if text.isdecimal() and text.isascii() and len(text) <= _PORT_DIGITS:
        port = int(text)
        ports: Column = (flows["sport"] == port) | (flows["dport"] == port)
        return ports
    try:
        network = networks.parse(text)
    except ValueError:
        try:
            proto: Column = flows["proto"] == protocol_number(text)
        except ValueError:
            return np.zeros(len(flows), bool)
        return proto
    found = np.zeros(len(flows), bool)
    for side in ("src", "dst"):
        found |= within(flows, side, network)
    return found

"""FLOW rows for detector tests, made in a line each, and a detector fed with them as the engine would."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from trafficmond.detect.attempts import GRACE_S, Attempts
from trafficmond.detect.base import PATIENCE_S, Detector, DetectorInput
from trafficmond.detect.senders import Senders
from trafficmond.detect.windows import Columns
from trafficmond.flows.batch import FLOW, Batch, empty, split_address
from trafficmond.model import Threat

ICMP, TCP, UDP = 1, 6, 17
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
T0 = 1_700_000_000.0
FIRST_PAYLOAD, SPOKE_FIRST = 0x02, 0x08

_ids = itertools.count(1)


def flow(src: str, dst: str, dport: int, **fields: Any) -> dict[str, Any]:
    """A flow as it looks when first seen: a SYN without an answer, unless `fields` say otherwise."""
    row: dict[str, Any] = {
        "src": src,
        "dst": dst,
        "dport": dport,
        "sport": 40000,
        "proto": TCP,
        "first": T0,
        "packets": 1,
        "bytes": 60,
        "first_flags": SYN,
        "tcp_flags": SYN,
        "first_len": 60,
        "new": True,
    }
    row.update(fields)
    return row


def datagram(src: str, dst: str, dport: int, **fields: Any) -> dict[str, Any]:
    """A datagram without an answer."""
    return flow(src, dst, dport, **{"proto": UDP, "tcp_flags": 0, "first_flags": 0, "bits": FIRST_PAYLOAD, **fields})


def ping(src: str, dst: str, **fields: Any) -> dict[str, Any]:
    """An echo request without an answer."""
    return flow(src, dst, 0, **{"proto": ICMP, "sport": 8, "tcp_flags": 0, "first_flags": 0, **fields})


def refused(row: dict[str, Any]) -> dict[str, Any]:
    """The same, answered by a reset."""
    return {**row, "reply_packets": 1, "reply_bytes": 60, "reply_tcp_flags": RST | ACK, "reply_first_flags": RST | ACK}


def talk(row: dict[str, Any], sent: int = 300, got: int = 3000, **fields: Any) -> dict[str, Any]:
    """The same, as a finished conversation."""
    tcp = row["proto"] == TCP
    ours, theirs = (SYN | ACK | PSH | FIN, SYN | ACK | PSH | FIN) if tcp else (0, 0)
    grown = {
        **row,
        "packets": 6,
        "bytes": sent + 400,
        "payload_bytes": sent,
        "payload_packets": 2,
        "reply_packets": 5,
        "reply_bytes": got + 350,
        "reply_payload_bytes": got,
        "reply_payload_packets": 2,
        "tcp_flags": ours,
        "reply_tcp_flags": theirs,
        "reply_first_flags": SYN | ACK if tcp else 0,
        "ended": tcp,
    }
    return {**grown, **fields}


def flows(rows: Iterable[Mapping[str, Any]]) -> Batch:
    """A FLOW batch of the rows; what a row does not say follows from the rest."""
    rows = list(rows)
    batch = empty(FLOW, len(rows))
    for out, row in zip(batch, rows, strict=True):
        for side in ("src", "dst"):
            address = ipaddress.ip_address(row[side])
            out[f"{side}_hi"], out[f"{side}_lo"] = split_address(address.packed)
            out["family"] = address.version
        out["id"] = row.get("id", next(_ids))
        for name, value in row.items():
            if name not in ("src", "dst", "id"):
                out[name] = value
        out["last"] = row.get("last", row["first"])
        out["reply_first"] = row["first"] + 0.01 if row.get("reply_packets") else np.nan
        for name in ("packets", "bytes", "reply_packets", "reply_bytes"):
            out[f"d_{name}"] = row.get(f"d_{name}", out[name])
    return batch


class Watch:
    """One detector, fed as the engine feeds it."""

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.attempts, self.senders = Attempts(), Senders()
        self.now = T0

    def see(self, rows: Iterable[Mapping[str, Any]], after: float = 1.0) -> list[Threat]:
        """All threats that a batch `after` seconds later leads to, its attempts judged and patience at its end."""
        batch = flows(rows)
        self.now += after
        found = self._feed(batch, self.now)
        self.now += GRACE_S
        found += self._feed(empty(FLOW), self.now)
        later = self.now + PATIENCE_S
        return found + (self._feed(empty(FLOW), later) if self.detector.due(later) else [])

    def _feed(self, batch: Batch, now: float) -> list[Threat]:
        columns = Columns(batch)
        seen = DetectorInput(columns, Columns(self.attempts.feed(columns, now)), now, senders=self.senders)
        return [threat for _, threat in self.detector.feed(seen)]


def watch(detector: type[Any], **settings: Any) -> Watch:
    """A Watch of a detector with its defaults, or with these settings."""
    return Watch(detector(detector.settings_class(**settings)))


def many(count: int, network: str = "10.0.0.0/8") -> list[str]:
    """So many addresses of a network."""
    base = ipaddress.ip_network(network)[1]
    return [str(base + index) for index in range(count)]

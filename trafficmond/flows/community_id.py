"""Community ID v1, seed 0: the flow identifier that Zeek, Suricata, Arkime and others share.

https://github.com/corelight/community-id-spec: SHA-1 over seed, ordered endpoints and protocol.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from hashlib import sha1

import numpy as np

from trafficmond.flows import compiled
from trafficmond.flows.batch import Batch, Column
from trafficmond.flows.canonical import canonical
from trafficmond.protocols import ICMP, ICMPV6, SERVED

WITH_PORTS = (ICMP, ICMPV6, *SERVED)

# The hashed bytes, in network order; protocols without ports end before them.
_V4 = np.dtype(
    [("seed", ">u2"), ("a", ">u4"), ("b", ">u4"), ("proto", "u1"), ("pad", "u1"), ("p", ">u2"), ("q", ">u2")]
)
_V6 = np.dtype(
    [
        ("seed", ">u2"),
        ("a_hi", ">u8"),
        ("a_lo", ">u8"),
        ("b_hi", ">u8"),
        ("b_lo", ">u8"),
        ("proto", "u1"),
        ("pad", "u1"),
        ("p", ">u2"),
        ("q", ">u2"),
    ]
)
_PORT_BYTES = 4


def digests(rows: Batch) -> list[bytes]:
    """The 20-byte SHA-1 of each row with `batch.ENDPOINTS`; the same for both directions of a flow."""
    found: list[bytes] = [b""] * len(rows)
    for chosen, text, length in _hashed(rows):
        for row, digest in zip(chosen.tolist(), _sha1_each(text, length), strict=True):
            found[row] = digest
    return found


def _hashed(rows: Batch) -> Iterator[tuple[Column, Batch, int]]:
    """(rows, the hashed bytes of each, their length)."""
    key = canonical(rows)
    ports = np.isin(rows["proto"], WITH_PORTS)
    v4 = rows["family"] == 4
    for layout, family in ((_V4, v4), (_V6, ~v4)):
        for with_ports in (True, False):
            chosen = np.flatnonzero(family & (ports == with_ports))
            if not len(chosen):
                continue
            text = np.zeros(len(chosen), layout)
            if layout is _V4:
                text["a"], text["b"] = key.a_lo[chosen] & 0xFFFFFFFF, key.b_lo[chosen] & 0xFFFFFFFF
            else:
                text["a_hi"], text["a_lo"] = key.a_hi[chosen], key.a_lo[chosen]
                text["b_hi"], text["b_lo"] = key.b_hi[chosen], key.b_lo[chosen]
            text["proto"] = rows["proto"][chosen]
            text["p"], text["q"] = key.a_port[chosen], key.b_port[chosen]
            yield chosen, text, layout.itemsize - (0 if with_ports else _PORT_BYTES)


def _sha1_each(text: Batch, length: int) -> list[bytes]:
    size, data = text.dtype.itemsize, text.tobytes()
    return [sha1(data[at : at + length]).digest() for at in range(0, len(data), size)]


def community_ids(rows: Batch) -> list[str]:
    """The Community ID of each row."""
    found = np.zeros(len(rows), "U30")
    for chosen, text, length in _hashed(rows):
        found[chosen] = compiled.community_texts(text, length)
    found[_portless(rows)] = ""
    texts: list[str] = found.tolist()
    return texts


def community_texts(rows: Batch, digests_of_rows: list[bytes]) -> list[str]:
    """ "1:" and the base64 of each row's digest; empty, as the specification proposes, if ports are needed and unknown:
    in later fragments."""
    return [
        "" if portless else "1:" + binascii.b2a_base64(digest, newline=False).decode("ascii")
        for digest, portless in zip(digests_of_rows, _portless(rows).tolist(), strict=True)
    ]


def _portless(rows: Batch) -> Column:
    return np.asarray(np.isin(rows["proto"], SERVED) & (rows["sport"] == 0) & (rows["dport"] == 0))


def flow_hash_text(digest: bytes) -> str:
    """Eight hex digits, the same in both directions: the first four bytes of the Community ID's digest."""
    return digest[:4].hex()

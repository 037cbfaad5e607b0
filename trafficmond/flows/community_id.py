"""Community ID v1, seed 0: the flow identifier that Zeek, Suricata, Arkime and others share.

https://github.com/corelight/community-id-spec: SHA-1 over seed, ordered endpoints and protocol.
"""

import binascii
from collections.abc import Iterator

import numpy as np

from trafficmond.flows import compiled
from trafficmond.flows.batch import Batch, Column
from trafficmond.flows.canonical import canonical
from trafficmond.protocols import ICMP, ICMPV6, SERVED

WITH_PORTS = (ICMP, ICMPV6, *SERVED)

# The hashed bytes, in network order; protocols without ports end before them.
_REST = [("proto", "u1"), ("pad", "u1"), ("p", ">u2"), ("q", ">u2")]
_V4 = np.dtype([("seed", ">u2"), ("a", ">u4"), ("b", ">u4"), *_REST])
_V6 = np.dtype([("seed", ">u2"), *((name, ">u8") for name in ("a_hi", "a_lo", "b_hi", "b_lo")), *_REST])
_PORT_BYTES = 4


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


def _texts(rows: Batch) -> Column:
    found = np.zeros(len(rows), "U30")
    for chosen, text, length in _hashed(rows):
        found[chosen] = compiled.community_texts(text, length)
    return found


def community_ids(rows: Batch) -> list[str]:
    """ "1:" and the base64 of the hash of each row with `batch.ENDPOINTS`; empty, as the specification proposes, if
    ports are needed and unknown: in later fragments."""
    found = _texts(rows)
    found[np.isin(rows["proto"], SERVED) & (rows["sport"] == 0) & (rows["dport"] == 0)] = ""
    texts: list[str] = found.tolist()
    return texts


def flow_hashes(rows: Batch) -> list[str]:
    """Eight hex digits for each row, the same for both directions of a flow: the first four bytes of that hash."""
    return [binascii.a2b_base64(text[2:10])[:4].hex() for text in _texts(rows).tolist()]

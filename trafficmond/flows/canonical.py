"""One form for the two directions of a conversation: endpoints ordered, ICMP types paired.

The order and the ICMP pairs are those of Community ID v1 (corelight/community-id-spec, after Zeek).
"""

from typing import NamedTuple

import numpy as np

from trafficmond import abi
from trafficmond.flows.batch import Batch, Column
from trafficmond.protocols import ICMP, ICMPV6

# (request, reply) message types; any other type is one-way and pairs with nothing.
_PAIRS = {
    ICMP: ((8, 0), (10, 9), (13, 14), (15, 16), (17, 18)),
    ICMPV6: ((128, 129), (130, 131), (133, 134), (135, 136), (139, 140), (144, 145)),
}
_NO_MATE = -1

TYPE_UNKNOWN = 256
"""The type (sport) of ICMP if a log does not have it. It pairs with itself: both directions are one flow; the
initiator is the side that is seen first."""


def _tables() -> tuple[Column, Column]:
    mate = np.full((256, TYPE_UNKNOWN + 1), _NO_MATE, np.int16)
    reply = np.zeros((256, TYPE_UNKNOWN + 1), bool)
    for proto, pairs in _PAIRS.items():
        mate[proto, TYPE_UNKNOWN] = TYPE_UNKNOWN
        for asks, answers in pairs:
            mate[proto, asks], mate[proto, answers] = answers, asks
            reply[proto, answers] = True
    return mate, reply


MATE, REPLY = _tables()


class Canonical(NamedTuple):
    """Columns, a row each: endpoint `a` is the smaller in (address, port), except in one-way ICMP: the sender."""

    a_hi: Column
    a_lo: Column
    b_hi: Column
    b_lo: Column
    a_port: Column  # ICMP: the type that `a` sends
    b_port: Column  # ICMP: the type that `b` answers with; one-way: the code
    swapped: Column  # bool: the row's source is `b`


def canonical(rows: Batch) -> Canonical:
    """The canonical endpoints of rows with `batch.ENDPOINTS`."""
    src_hi, src_lo, dst_hi, dst_lo = rows["src_hi"], rows["src_lo"], rows["dst_hi"], rows["dst_lo"]
    sport, dport = rows["sport"], rows["dport"]
    swapped = (src_hi > dst_hi) | ((src_hi == dst_hi) & ((src_lo > dst_lo) | ((src_lo == dst_lo) & (sport > dport))))

    icmp = np.flatnonzero((rows["proto"] == ICMP) | (rows["proto"] == ICMPV6))
    if len(icmp):
        kind = np.minimum(sport[icmp], TYPE_UNKNOWN)
        mate = MATE[rows["proto"][icmp], kind]
        paired = (mate != _NO_MATE) & ~later_fragments(rows[icmp])
        dport = dport.copy()
        dport[icmp[paired]] = mate[paired]
        same_host = (src_hi[icmp] == dst_hi[icmp]) & (src_lo[icmp] == dst_lo[icmp])
        swapped[icmp] = paired & np.where(same_host, kind > mate, swapped[icmp])

    return Canonical(
        np.where(swapped, dst_hi, src_hi),
        np.where(swapped, dst_lo, src_lo),
        np.where(swapped, src_hi, dst_hi),
        np.where(swapped, src_lo, dst_lo),
        np.where(swapped, dport, sport),
        np.where(swapped, sport, dport),
        swapped,
    )


def reply_ports(rows: Batch) -> tuple[Column, Column]:
    """(sport, dport) of the answers to rows: swapped, or of ICMP the type that answers, if there is one."""
    icmp = (rows["proto"] == ICMP) | (rows["proto"] == ICMPV6)
    mate = MATE[rows["proto"], np.minimum(rows["sport"], TYPE_UNKNOWN)]
    sport = np.where(icmp, np.where(mate != _NO_MATE, mate, rows["sport"]), rows["dport"])
    return sport, np.where(icmp, np.where(mate != _NO_MATE, 0, rows["dport"]), rows["sport"])


def later_fragments(rows: Batch) -> Column:
    """A mask of ICMP or ICMPv6 rows without a type: later fragments, whose 0 is not an echo reply's. False if the
    layout does not mark fragments."""
    if "bits" not in (rows.dtype.names or ()):
        return np.zeros(len(rows), bool)
    typeless = (rows["bits"] & abi.BIT_FRAGMENT != 0) & (rows["sport"] == 0) & (rows["dport"] == 0)
    return np.asarray(typeless & ((rows["proto"] == ICMP) | (rows["proto"] == ICMPV6)))


def as_echoes(fragments: Batch) -> tuple[Batch, Batch]:
    """(requests, replies): `later_fragments` as parts of either."""
    requests, replies = fragments.copy(), fragments.copy()
    for rows, of_v4, of_v6 in ((requests, 8, 128), (replies, 0, 129)):
        rows["bits"] = 0
        rows["sport"] = np.where(rows["proto"] == ICMP, of_v4, of_v6)
    return requests, replies

"""What the referee of the flow table asks of single rows."""

from __future__ import annotations

import numpy as np

from trafficmond.flows.batch import Batch, Column
from trafficmond.flows.canonical import MATE, REPLY, TYPE_UNKNOWN, later_fragments
from trafficmond.flows.owners import FORWARDED, KERNEL
from trafficmond.flows.processes import MOST_SERIALS, word
from trafficmond.flows.services import KNOWN
from trafficmond.flows.state import ANSWERED_S, CLOSE_LINGER_S, ESTABLISHED_S
from trafficmond.protocols import ACK, FIN, RST, TCP

_NO_MATE = -1
_FIRST, _PAST = np.uint64(word(0, 0)), np.uint64(word(0, MOST_SERIALS))  # owners that name a process
_CGROUP = (1 << 32) - 1


def kept_s(rows: Batch, idle_s: float) -> Column:
    """Seconds after its last packet that each STATE row is kept; `idle_s` where it is no conversation.

    A TCP connection is one from the handshake's third packet on, and a shorter one from the first FIN on. Datagrams are
    one once answered, and as lasting as a connection once they went on in both directions for longer than `idle_s`.
    """
    flags, reply = rows["tcp_flags"], rows["reply_tcp_flags"]
    tcp, answered = rows["proto"] == TCP, rows["reply_packets"] > 0
    answered &= rows["packets"] > 0
    answered &= ~tcp | (flags & reply & ACK != 0)
    open_ = (flags | reply) & (FIN | RST) == 0
    went_on = (rows["packets"] > 1) & (rows["reply_packets"] > 1) & (rows["last"] - rows["first"] > idle_s)
    lasting = answered & np.where(tcp, open_, went_on)
    kept = np.where(lasting, ESTABLISHED_S, np.where(answered, ANSWERED_S, 0.0))
    kept = np.maximum(kept, idle_s)
    found: Column = np.where(rows["closed"], min(CLOSE_LINGER_S, idle_s), kept)
    return found


def from_service(rows: Batch, in_order: bool) -> Column:
    """Which rows a server seems to send: from a well-known service to a port that is none, else from the lower port.

    `in_order`: the order of the rows tells better than the lower port does.
    """
    sport, dport = rows["sport"], rows["dport"]
    ours, theirs = KNOWN[sport], KNOWN[dport]
    lower = np.zeros(len(rows), bool) if in_order else sport < dport
    found: Column = np.where(ours != theirs, ours, lower)
    return found


def rank(owners: Column) -> Column:
    """How much each owner says: a unit 3, the kernel 2, forwarded 1, nothing 0."""
    ranks = np.where(owners == KERNEL, 2, np.where(owners == np.uint64(FORWARDED), 1, 3))
    return np.where(owners == 0, 0, ranks)


def says_more(had: Column, current: Column) -> Column:
    """Where an owner that a flow had names a process of the cgroup that it is in now."""
    same = had & np.uint64(_CGROUP) == current
    more: Column = (had >= _FIRST) & (had < _PAST) & same
    return more


def icmp_role(rows: Batch) -> tuple[Column, Column]:
    """(asks, answers): which rows are ICMP requests that have a reply, and which are such replies.

    What looks like a reply and goes to a group was not asked for by it: routers and neighbours advertise themselves.
    """
    kind = np.minimum(rows["sport"], TYPE_UNKNOWN)
    answers = REPLY[rows["proto"], kind]
    asks = (MATE[rows["proto"], kind] != _NO_MATE) & ~answers
    return asks, answers & ~later_fragments(rows) & ~_to_group(rows)


def _to_group(rows: Batch) -> Column:
    """Which rows go to a multicast address (RFC 4291 2.7, RFC 5771)."""
    of_v6 = (rows["family"] == 6) & (rows["dst_hi"] >> np.uint64(56) == 0xFF)
    to_group: Column = of_v6 | ((rows["family"] == 4) & (rows["dst_lo"] >> np.uint64(28) & np.uint64(0xF) == 0xE))
    return to_group

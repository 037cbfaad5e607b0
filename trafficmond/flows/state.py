"""A row of the flow table: a FLOW row with internal fields, and how long it is kept without a packet. A conversation
that pauses is the same when it continues.

A TCP connection is a conversation from the handshake's third packet on, until both sides have closed it. Datagrams are
one once answered, and are kept like a connection once they lasted longer than the idle timeout in both directions. The
times follow those of NATs, so that a conversation that passes them is one here as well: RFC 5382 (REQ-5, a TCP
connection), RFC 4787 (REQ-5, a datagram exchange).
"""

import numpy as np

from trafficmond.flows.batch import FLOW, Batch

CLOSE_LINGER_S = 2.0  # a closed connection's last acknowledgements still belong to it
ESTABLISHED_S = 7440.0
ANSWERED_S = 300.0

STATE = np.dtype(
    [
        *((name, FLOW.fields[name][0]) for name in FLOW.names or () if FLOW.fields),
        # not yet reported
        ("p_packets", "u8"),
        ("p_bytes", "u8"),
        ("p_reply_packets", "u8"),
        ("p_reply_bytes", "u8"),
        ("since", "f8"),  # first packet of the pending part; inf: nothing is pending
        ("reply_verdict", "u4"),
        ("side", "?"),  # the initiator is the canonical endpoint b
        ("sure", "?"),  # the initiator is known by a SYN or an ICMP request, not only by order
        ("closed", "?"),
    ]
)


def as_flows(rows: Batch) -> Batch:
    """A copy of the FLOW part of STATE rows."""
    count = len(rows)
    raw = np.ascontiguousarray(rows).view(np.uint8).reshape(count, STATE.itemsize)
    return np.ascontiguousarray(raw[:, : FLOW.itemsize]).view(FLOW).reshape(count)


def last_rows(gone: Batch) -> Batch:
    """FLOW rows that only mark these STATE rows as ended."""
    batch = as_flows(gone)
    for name in ("d_packets", "d_bytes", "d_reply_packets", "d_reply_bytes"):
        batch[name] = 0
    batch["new"] = False
    batch["ended"] = True
    return batch

"""A row of the flow table: a FLOW row, what the table alone knows of it, and for how long it is remembered without a
packet. A conversation pauses, and is the same when it goes on.

A TCP connection is one from the handshake's third packet to the first FIN. Datagrams are one once answered, and as
lasting as a connection once they went on in both directions for longer than what is idle. The times are those that NATs
are held to, so what passes them is one conversation here as well: RFC 5382 (REQ-5, an established TCP connection), RFC
4787 (REQ-5, a datagram exchange).
"""

from __future__ import annotations

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
    """The FLOW part of STATE rows, copied."""
    count = len(rows)
    raw = np.ascontiguousarray(rows).view(np.uint8).reshape(count, STATE.itemsize)
    return np.ascontiguousarray(raw[:, : FLOW.itemsize]).view(FLOW).reshape(count)


def last_rows(gone: Batch) -> Batch:
    """FLOW rows that say no more than that these STATE rows are over."""
    batch = as_flows(gone)
    for name in ("d_packets", "d_bytes", "d_reply_packets", "d_reply_bytes"):
        batch[name] = 0
    batch["new"] = False
    batch["ended"] = True
    return batch

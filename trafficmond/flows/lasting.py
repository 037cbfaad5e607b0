"""For how long a flow is remembered without a packet: a conversation pauses, and is the same when it goes on.

The times are those that NATs are held to, so what passes them is one conversation here as well: RFC 5382 (REQ-5, an
established TCP connection), RFC 4787 (REQ-5, a datagram exchange).
"""

from __future__ import annotations

import numpy as np

from trafficmond.flows.batch import Batch, Column
from trafficmond.protocols import ACK, FIN, RST, TCP

CLOSE_LINGER_S = 2.0  # a closed connection's last acknowledgements still belong to it
ESTABLISHED_S = 7440.0
ANSWERED_S = 300.0


def kept_s(rows: Batch, idle_s: float) -> Column:
    """Seconds after its last packet that each STATE row is kept; `idle_s` where it is no conversation.

    A TCP connection is one from the handshake's third packet to the first FIN. Datagrams are one once answered, and
    as lasting as a connection once they went on in both directions for longer than `idle_s`.
    """
    flags, reply = rows["tcp_flags"], rows["reply_tcp_flags"]
    tcp, answered = rows["proto"] == TCP, rows["reply_packets"] > 0
    answered &= rows["packets"] > 0
    open_ = (flags & reply & ACK != 0) & ((flags | reply) & (FIN | RST) == 0)
    went_on = (rows["packets"] > 1) & (rows["reply_packets"] > 1) & (rows["last"] - rows["first"] > idle_s)
    lasting = answered & np.where(tcp, open_, went_on)
    kept = np.where(lasting, ESTABLISHED_S, np.where(answered & ~tcp, ANSWERED_S, 0.0))
    kept = np.maximum(kept, idle_s)
    found: Column = np.where(rows["closed"], min(CLOSE_LINGER_S, idle_s), kept)
    return found

"""REPORT: the part of a flow not reported yet, for the store and the exporters."""

import enum
import math

import numpy as np

from trafficmond.flows import compiled
from trafficmond.flows.batch import ENDPOINTS, Batch, empty, take
from trafficmond.verdict import is_drop


class End(enum.IntEnum):
    """Why a flow is reported: IPFIX flowEndReason (IANA information element 136)."""

    IDLE = 1
    ACTIVE = 2  # continues; reported because it is active for long, or because its verdict changed
    CLOSED = 3
    FORCED = 4  # continues; the daemon stops
    LACK_OF_RESOURCES = 5


REPORT = np.dtype(
    [
        ("id", "u8"),
        *ENDPOINTS,  # src is the initiator; verdict is that of the row's packets
        ("inner", "u8"),  # as in DELTA
        ("owner", "u8"),  # as in FLOW; if there were no replies, who waits there
        ("first", "f8"),  # of the packets of this row, epoch seconds
        ("last", "f8"),
        ("packets", "u8"),
        ("bytes", "u8"),
        ("reply_packets", "u8"),
        ("reply_bytes", "u8"),
        ("tcp_flags", "u1"),  # OR since the flow began
        ("reply_tcp_flags", "u1"),
        ("end", "u1"),  # End
    ]
)

# Columns of flows.db and ClickHouse -> fields of REPORT; all others have one name.
FIELDS = {"first_seen": "first", "last_seen": "last", "src_port": "sport", "dst_port": "dport", "protocol_num": "proto"}

_COUNTERS = ("packets", "bytes", "reply_packets", "reply_bytes")
_REPORTED = (
    *((name, name) for name in ("id", *(name for name, *_ in ENDPOINTS), "inner", "owner", "last")),
    *((name, name) for name in ("tcp_flags", "reply_tcp_flags")),
    ("since", "first"),
    *(("p_" + name, name) for name in _COUNTERS),
)


def reports(rows: Batch, end: End) -> list[Batch]:
    """REPORT batches of the pending part of STATE rows, which is cleared in them.

    All packets of a row have its verdict. If only one side of a flow is dropped (replies that a rule forbids), the flow
    gives two rows, one per side; otherwise replies have the initiator's verdict.
    """
    pending = np.flatnonzero(rows["since"] < math.inf)
    if not len(pending):
        return []
    batch = empty(REPORT, len(pending))
    compiled.gather(rows, pending, batch, _REPORTED)
    batch["end"] = end
    reply_verdict = rows["reply_verdict"][pending]
    reported = slice(None) if len(pending) == len(rows) else pending
    for name in _COUNTERS:
        rows["p_" + name][reported] = 0
    rows["since"][reported] = math.inf
    apart = np.flatnonzero((batch["reply_packets"] > 0) & (is_drop(batch["verdict"]) != is_drop(reply_verdict)))
    if not len(apart):
        return [batch]
    replies = take(batch, apart)
    replies["verdict"] = reply_verdict[apart]
    replies["packets"] = replies["bytes"] = 0
    batch["reply_packets"][apart] = batch["reply_bytes"][apart] = 0
    return [take(batch, batch["packets"] + batch["reply_packets"] > 0), replies]

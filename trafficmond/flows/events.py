"""Events: log entries about single packets, chosen from the ledger's deltas.

A ledger record that began under a verdict of monitor or drop gives one event "new", for its first packet. A record that
continues gives one event "sample" per reading, for its last packet. A budget limits both; "new" comes first.
"""

from collections.abc import Collection

import numpy as np

from trafficmond.flows import compiled
from trafficmond.flows.batch import ENDPOINTS, Batch, empty, spread, take
from trafficmond.model import Action, Named
from trafficmond.verdict import action_of


class Kind(Named):
    """EVENT.kind."""

    NEW = 0  # the first packet of a flow under this verdict
    SAMPLE = 1  # the latest packet of a flow that continues


EVENT = np.dtype(
    [
        ("timestamp", "f8"),  # of the packet, epoch seconds
        *ENDPOINTS,  # of the packet as it travelled: src sent it
        ("owner", "u8"),  # as in DELTA; ingress: who waits there
        ("packet_size", "u2"),  # on the wire from the Ethernet header
        ("kind", "u1"),  # Kind
        ("tcp_flags", "u1"),  # NEW: of this packet; SAMPLE: OR since the record began
        ("ttl", "u1"),  # TTL or hop limit of the record's first packet
        ("packets", "u8"),  # of the record in this reading, the one shown included
    ]
)

_SHARED = tuple((name, name) for name in (*(name for name, *_ in ENDPOINTS), "owner", "ttl", "packets"))


def events(deltas: Batch, now: float, budget: int, loud_words: Collection[int] = ()) -> tuple[Batch, int]:
    """The EVENT batch of one reading, oldest packet first, and how many events the budget (rows) suppressed.

    Beyond the budget, "new" comes before "sample", and either kind is spread evenly over the reading, so that the start
    of a flood does not hide later events. A packet's time is never later than `now`. Packets with the verdicts
    `loud_words` always give events: a rule in shadow would have dropped or logged them.
    """
    action = action_of(deltas["verdict"])
    loud = (action == Action.MONITOR) | (action == Action.DROP)
    if loud_words:
        loud |= np.isin(deltas["verdict"], list(loud_words))
    new = np.flatnonzero(loud & deltas["new"])
    going = np.flatnonzero(loud & ~deltas["new"] & (deltas["packets"] > 0))
    total = len(new) + len(going)
    new = spread(new, budget)
    going = spread(going, budget - len(new))

    chosen = np.concatenate([new, going])
    batch = empty(EVENT, len(chosen))
    compiled.gather(deltas, chosen, batch, _SHARED)
    fresh = slice(0, len(new))
    rest = slice(len(new), None)
    batch["kind"][rest] = Kind.SAMPLE
    for column, of_new, of_going in (
        ("timestamp", "first", "last"),
        ("packet_size", "first_len", "last_len"),
        ("tcp_flags", "first_flags", "tcp_flags"),
    ):
        batch[column][fresh] = deltas[of_new][new]
        batch[column][rest] = deltas[of_going][going]
    np.minimum(batch["timestamp"], now, out=batch["timestamp"])
    return take(batch, np.argsort(batch["timestamp"], kind="stable")), total - len(chosen)

"""One conversation of a client with a server: both directions, what TCP says in it, the verdicts it can be under."""

from __future__ import annotations

from collections.abc import Callable

from trafficmond.flows.batch import Batch
from trafficmond.model import Action, Reason
from trafficmond.verdict import verdict_word

SYN, SYN_ACK, ACK, FIN_ACK, RST = 0x02, 0x12, 0x10, 0x11, 0x04
CLIENT, SERVER = "192.0.2.1", "198.51.100.2"
THERE = {"src": CLIENT, "dst": SERVER, "sport": 40000, "dport": 443}
BACK = {"src": SERVER, "dst": CLIENT, "sport": 443, "dport": 40000, "direction": 1}
ALLOW = verdict_word(Action.ALLOW, Reason.RULE, 3)
MONITOR = verdict_word(Action.MONITOR, Reason.RULE, 4)
DROP = verdict_word(Action.DROP, Reason.RULE, 5)

Deltas = Callable[..., Batch]  # the fixture `deltas`


def total(batch: Batch, *columns: str) -> int:
    """The sum of these columns over all rows."""
    return sum(int(batch[column].sum()) for column in columns)

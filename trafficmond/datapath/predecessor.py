"""The ledger of an earlier daemon that had other sizes: read to its end once its programs have been replaced."""

from __future__ import annotations

from trafficmond.datapath.clock import Clock
from trafficmond.datapath.ledger import Ledger, mapped
from trafficmond.datapath.loader import Loaded
from trafficmond.datapath.pins import Pins
from trafficmond.flows.batch import Batch

# A packet may be under way in the old program on another CPU at the moment of its replacement: it is booked before the
# drain after the next, an interval later.
_DRAINS = 2
UNREADABLE = (
    "an earlier version of trafficmon kept its ledger in another layout: what it had counted since its last drain is "
    "not in the flows"
)


class Predecessors:
    """Every other ledger that is pinned."""

    def __init__(self, loaded: Loaded, pins: Pins, clock: Clock) -> None:
        self._pins = pins
        self._ledgers: list[Ledger] = []
        self._drains = _DRAINS
        for sizes, maps in pins.others():
            if sizes is None:
                loaded.notes.append(UNREADABLE)
                continue
            old = Loaded("", {}, maps, 0, reused=True)
            self._ledgers.append(mapped(old, sizes, clock))
            old.close()

    def drain(self) -> list[Batch]:
        """What they gained since the last call; to be called once nothing but the new programs is attached. With the
        last drain they are forgotten."""
        if not self._drains:
            return []
        found = [ledger.drain() for ledger in self._ledgers]
        self._drains -= 1
        if not self._drains:
            self.close()
            self._pins.remove_others()
        return found

    def close(self) -> None:
        """Unmaps what is left."""
        for ledger in self._ledgers:
            ledger.close()
        self._ledgers.clear()

"""The ledger of an earlier daemon with other sizes: read to its end once its programs are replaced, with its totals."""

import numpy as np

from trafficmond import abi, npt
from trafficmond.datapath.accounting import words
from trafficmond.datapath.clock import Clock
from trafficmond.datapath.ledger import Ledger, mapped
from trafficmond.datapath.loader import Loaded
from trafficmond.datapath.mapped import Mapped
from trafficmond.datapath.pins import Pins
from trafficmond.flows.batch import Batch

# A packet that the old program is processing when it is replaced is counted before the reading after the next.
_READINGS = 2
UNREADABLE = (
    "the ledger of the earlier version has another layout: what that version counted after its last reading is missing "
    "from the flows"
)

CARRIED_SLOT = abi.MAX_INTERFACES - 1  # of the totals: no interface gets it, so the kernel never writes there


class Predecessors:
    """Every other ledger that is pinned; `totals` are those of the new one."""

    def __init__(self, loaded: Loaded, pins: Pins, clock: Clock, totals: npt.NDArray[np.void]) -> None:
        self._pins = pins
        self._carried = totals[2 * CARRIED_SLOT : 2 * CARRIED_SLOT + 1]
        self._old: list[tuple[Ledger, Mapped]] = []
        self._readings = _READINGS
        for sizes, maps in pins.others():
            if sizes is None:
                loaded.notes.append(UNREADABLE)
                continue
            old = Loaded("", {}, maps, 0, reused=True)
            mapped_totals = Mapped(maps["tm_totals"], abi.TOTALS, sizes.entries()["tm_totals"])
            self._old.append((mapped(old, sizes, clock), mapped_totals))
            old.close()

    def read_ledgers(self) -> list[Batch]:
        """Reads what they gained since the last call; called once only the new programs are attached. With the last
        reading their totals are added to the new ones and the ledgers removed."""
        if not self._readings:
            return []
        found = [ledger.read() for ledger, _ in self._old]
        self._readings -= 1
        if not self._readings:
            for ledger, totals in self._old:  # everything in their flows counts as evicted, having left the cache
                carried, cached, recovered = self._carried, ledger.in_cache(), ledger.recovered()
                words(carried)[:] += words(totals.array).sum(axis=0)
                for unit in ("packets", "bytes"):
                    carried["unattributed"][unit] -= getattr(recovered, unit)
                    carried["evicted"][unit] += getattr(cached, unit) + getattr(recovered, unit)
            self.close()
            self._pins.remove_others()
        return found

    def close(self) -> None:
        for ledger, totals in self._old:
            ledger.close()
            totals.close()
        self._old.clear()
        self._carried = self._carried[:0].copy()  # no view of unmapped memory

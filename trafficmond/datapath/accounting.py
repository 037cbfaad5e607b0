"""The kernel's counters, by the names in bpf/abi.h: every word of abi.TOTALS only grows."""

from typing import Any

import numpy as np

from trafficmond import abi, npt
from trafficmond.dataclass import dataclass
from trafficmond.datapath.ledger import Ledger, Sums
from trafficmond.flows.malformed import by_reason

COUNTS = tuple(name for name in abi.TOTALS.names or () if abi.TOTALS[name] == abi.COUNT)
_NAMED = ("seen", "unattributed", "not_ip", "malformed", "dropped")  # those with an attribute of their own below


@dataclass(frozen=True, slots=True)
class Accounting:
    """Exact totals of all packets: seen = in_flows + unattributed + not_ip + malformed + pending (came meanwhile)."""

    seen: Sums
    in_flows: Sums
    unattributed: Sums
    not_ip: Sums
    malformed: Sums
    dropped: Sums
    others: dict[str, Sums]  # every other count
    malformed_by: dict[str, int]  # packets by reason

    @property
    def pending(self) -> Sums:
        """Packets that arrived while the counters were read."""
        rest = self.in_flows + self.unattributed + self.not_ip + self.malformed
        return Sums(self.seen.packets - rest.packets, self.seen.bytes - rest.bytes)


def account(totals: npt.NDArray[Any], ledger: Ledger) -> Accounting:
    """The present totals, read in an order that keeps `pending` from being negative."""
    # Evictions are read before the cache: a record evicted in between counts nowhere, not twice.
    evicted, unattributed = _sums(totals, "evicted"), _sums(totals, "unattributed")
    recovered = ledger.recovered()
    cached = ledger.in_cache()
    not_ip, malformed, dropped = (_sums(totals, name) for name in ("not_ip", "malformed", "dropped"))
    by = totals["malformed_by"].sum(axis=0)
    return Accounting(
        seen=_sums(totals, "seen"),
        in_flows=cached + evicted + recovered,
        unattributed=Sums(unattributed.packets - recovered.packets, unattributed.bytes - recovered.bytes),
        not_ip=not_ip,
        malformed=malformed,
        dropped=dropped,
        others={name: _sums(totals, name) for name in COUNTS if name not in _NAMED},
        malformed_by=by_reason(by),
    )


def words(totals: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """The same memory as numbers, with one more axis, for sums and differences of all counters."""
    return np.asarray(totals.view(np.uint64).reshape(*totals.shape, -1))


def _sums(totals: npt.NDArray[Any], name: str) -> Sums:
    return Sums(int(totals[name]["packets"].sum()), int(totals[name]["bytes"].sum()))

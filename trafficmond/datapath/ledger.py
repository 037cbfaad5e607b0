"""Reads the kernel's ledger: what each flow record gained since the last time, to the packet and the byte.

The kernel alone writes slots and the rings' heads; this reader alone writes the rings' tails and `tm_taken`, its note
of how much of each slot it has read. The order makes it exact without a lock: slots first, rings second, so an owner
that is missing from its slot is always in the ring by the time the ring is read, unless the ring was full, in
which case the kernel has put the whole record into `unattributed`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trafficmond import abi
from trafficmond.datapath.clock import Clock
from trafficmond.datapath.loader import Loaded, Sizes
from trafficmond.datapath.mapped import Mapped
from trafficmond.flows.batch import DELTA, Batch

_COUNTERS = ("packets", "bytes", "payload_bytes", "payload_packets")
_RETRIES = 3  # re-reads of slots that changed hands while they were copied; the rest wait for the next drain


@dataclass(frozen=True, slots=True)
class Sums:
    """Packets and bytes."""

    packets: int
    bytes: int

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.packets + other.packets, self.bytes + other.bytes)


class Ledger:
    """The maps of one load, mapped."""

    def __init__(self, loaded: Loaded, sizes: Sizes, clock: Clock) -> None:
        self._sizes = sizes
        self._clock = clock
        entries = sizes.entries()
        self._slots = Mapped(loaded.maps["tm_sets"], abi.FLOW, 2 * entries["tm_sets"])
        self._taken = Mapped(loaded.maps["tm_taken"], abi.TAKEN, entries["tm_taken"])
        self._rings = Mapped(loaded.maps["tm_rings"], abi.RING, entries["tm_rings"])
        self._evicted = Mapped(loaded.maps["tm_evicted"], abi.FLOW, entries["tm_evicted"])

    def drain(self) -> Batch:
        """What every record gained since the last call, as a DELTA batch (one row a record, in no order)."""
        records, bases = self._read_slots()
        pieces = [_deltas(records, bases), *self._read_rings()]
        self._recover()
        flows = np.concatenate([flows for flows, _, _ in pieces])
        gains = {name: np.concatenate([gain[name] for _, gain, _ in pieces]) for name in _COUNTERS}
        new = np.concatenate([new for _, _, new in pieces])
        moved = gains["packets"] > 0
        return self._columns(flows[moved], {name: gain[moved] for name, gain in gains.items()}, new[moved])

    def in_cache(self) -> Sums:
        """Packets and bytes in the flow cache now."""
        slots = self._slots.array
        return Sums(int(slots["packets"].sum()), int(slots["bytes"].sum()))

    def recovered(self) -> Sums:
        """What the kernel calls unattributed although it had been read before (see tm_ring.recovered)."""
        recovered = self._rings.array["recovered"]
        return Sums(int(recovered["packets"].sum()), int(recovered["bytes"].sum()))

    def used(self) -> int:
        """Slots that hold a record."""
        return int(np.count_nonzero(self._slots.array["sequence"]))

    def evicted_records(self) -> int:
        """Records that have passed through the rings."""
        return int(self._rings.array["head"].sum())

    def close(self) -> None:
        """Unmaps everything."""
        for mapped in (self._slots, self._taken, self._rings, self._evicted):
            mapped.close()

    def _read_slots(self) -> tuple[Batch, Batch]:
        """(records, what had been taken of them) for each slot that moved, and notes them as taken."""
        slots, taken = self._slots.array, self._taken.array
        moved = (slots["packets"] != taken["packets"]) | (slots["sequence"] != taken["sequence"])
        where = np.flatnonzero(moved)
        records = slots[where]
        for _ in range(_RETRIES):
            torn = (records["sequence"] != slots["sequence"][where]) | (records["sequence"] & 1 == 1)
            if not torn.any():
                break
            records[torn] = slots[where[torn]]
        else:
            whole = ~torn
            where, records = where[whole], records[whole]
        before = taken[where]
        for name in (*_COUNTERS, "sequence"):
            column = taken[name]
            column[where] = records[name]
        gone = (before["sequence"] != 0) & (before["sequence"] != records["sequence"])
        self._gone_at, self._gone = where[gone], before[gone]
        before[before["sequence"] != records["sequence"]] = np.zeros((), abi.TAKEN)
        return records, before

    def _read_rings(self) -> Iterator[tuple[Batch, dict[str, npt.NDArray[np.uint64]], npt.NDArray[np.bool_]]]:
        """The deltas of what was evicted, a piece a CPU."""
        taken, ring_size = self._taken.array, self._sizes.ring
        self._found = np.zeros(len(self._gone), bool)
        for cpu in range(self._sizes.cpus):
            ring = self._rings.array[cpu]
            head, tail = int(ring["head"]), int(ring["tail"])
            if head == tail:
                continue
            index = cpu * ring_size + (np.arange(tail, head) & (ring_size - 1))
            records = self._evicted.array[index]
            self._rings.array["tail"][cpu] = head
            slot, sequence = records["slot"], records["sequence"]
            bases = np.zeros(len(records), abi.TAKEN)
            if len(self._gone):
                at = np.minimum(np.searchsorted(self._gone_at, slot), len(self._gone) - 1)
                match = (self._gone_at[at] == slot) & (self._gone["sequence"][at] == sequence)
                bases[match] = self._gone[at[match]]
                self._found[at[match]] = True
            current = taken["sequence"][slot] == sequence  # evicted after the slots were read
            bases[current] = taken[slot[current]]
            taken[slot[current]] = np.zeros((), abi.TAKEN)
            yield _deltas(records, bases)

    def _recover(self) -> None:
        """Books what had been read of records that then went to `unattributed` whole."""
        lost = ~self._found
        if lost.any():
            per_cpu = self._gone_at[lost] // self._sizes.capacity
            recovered = self._rings.array["recovered"]
            for name in ("packets", "bytes"):
                np.add.at(recovered[name], per_cpu, self._gone[name][lost])

    def _columns(self, flows: Batch, gains: dict[str, npt.NDArray[np.uint64]], new: npt.NDArray[np.bool_]) -> Batch:
        out = np.zeros(len(flows), DELTA)
        key = flows["key"]
        for end in ("src", "dst"):
            words = np.ascontiguousarray(key[end]).view(">u8").reshape(-1, 2)
            out[f"{end}_hi"], out[f"{end}_lo"] = words[:, 0], words[:, 1]
        six = key["scope"] & abi.SCOPE_IPV6 != 0
        for end in ("src", "dst"):  # v4-mapped already, but an IPv4 packet's upper half is zero by definition
            out[f"{end}_hi"][~six] = 0
        out["family"] = np.where(six, 6, 4)
        out["direction"] = key["scope"] & abi.SCOPE_EGRESS
        for name in ("sport", "dport", "proto", "vlan", "ifindex", "verdict"):
            out[name] = key[name]
        for name in ("first_len", "last_len", "tcp_flags", "first_flags", "bits", "ttl"):
            out[name] = flows[name]
        for name, gain in gains.items():
            out[name] = gain
        out["first"] = self._clock.to_epoch(flows["first"])
        out["last"] = self._clock.to_epoch(flows["last"])
        out["new"] = new
        return out


def _deltas(records: Batch, bases: Batch) -> tuple[Batch, dict[str, npt.NDArray[np.uint64]], npt.NDArray[np.bool_]]:
    gains = {name: records[name].astype(np.uint64) - bases[name].astype(np.uint64) for name in _COUNTERS}
    return records, gains, bases["sequence"] == 0

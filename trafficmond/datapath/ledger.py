"""Reads the kernel's ledger: the exact gain of each flow record since the last reading.

Only the kernel writes slots and the rings' heads. Only this reader writes the rings' tails and `tm_taken`, its note of
how much of each slot it has read. The order of reading makes it exact without a lock: first slots, then rings. An owner
that has left its slot is in the ring when the ring is read. If the ring was full, the kernel has added the whole record
to `unattributed`.

A slot's sequence number is even while it has an owner. When the end of a slot's owner was read from the ring, the note
of the slot is that owner's number plus one, until the next owner is noted. A record that is seen again is thus known to
be old, whether the kernel was interrupted between eviction and replacement or this reader was killed.
"""

from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from trafficmond import abi, npt
from trafficmond.dataclass import dataclass
from trafficmond.datapath.clock import Clock
from trafficmond.datapath.loader import Loaded, Sizes
from trafficmond.datapath.mapped import Mapped
from trafficmond.flows import compiled, owners
from trafficmond.flows.batch import DELTA, Batch, empty, put, take

_NOTED = tuple((name, name) for name in abi.TAKEN.names or ())
_CHUNK = 4096  # records converted to rows at once: both fit into the second-level cache
_RETRIES = 3  # re-reads of slots that changed hands while they were copied; the rest wait for the next reading

Where = npt.NDArray[np.intp]
Piece = tuple[Batch, Batch]  # records, and the part of each that was read before


@dataclass(frozen=True, slots=True)
class Sums:
    packets: int
    bytes: int

    def __add__(self, other: Self) -> Self:
        return type(self)(self.packets + other.packets, self.bytes + other.bytes)


@dataclass(eq=False)
class Ledger:
    """Four arrays: `slots` and `evicted` of abi.FLOW, `taken` of abi.TAKEN, `rings` of abi.RING; `sizes` of each."""

    _slots: Mapped
    _taken: Mapped
    _rings: Mapped
    _evicted: Mapped
    _sizes: Sizes
    _clock: Clock

    def read(self) -> Batch:
        """Reads what every record gained since the last call, as a DELTA batch (one row per record, unordered)."""
        where, copies = self._copy_slots()
        pieces = [
            _only(records["packets"] > bases["packets"], records, bases)
            for records, bases in (*self._read_rings(), self._note_slots(where, copies))
        ]
        out, at = empty(DELTA, sum(len(records) for records, _ in pieces)), 0
        for records, bases in pieces:
            for begin in range(0, len(records), _CHUNK):
                part = records[begin : begin + _CHUNK]
                self._fill(out[at : at + len(part)], part, bases[begin : begin + _CHUNK])
                at += len(part)
        return out

    def in_cache(self) -> Sums:
        """Packets and bytes in the flow cache now."""
        slots = self._slots.array
        return Sums(int(slots["packets"].sum()), int(slots["bytes"].sum()))

    def recovered(self) -> Sums:
        """Packets and bytes in `unattributed` that had been read before (see tm_ring.recovered)."""
        recovered = self._rings.array["recovered"]
        return Sums(int(recovered["packets"].sum()), int(recovered["bytes"].sum()))

    def used(self) -> int:
        """The number of slots with a record."""
        return int(np.count_nonzero(self._slots.array["sequence"]))

    def evicted_records(self) -> int:
        """The number of records that passed through the rings."""
        return int(self._rings.array["head"].sum())

    def clear_owners(self) -> None:
        """Clears the owners of records: programs that write none would leave an earlier program's in later records."""
        owners_of = self._slots.array["owner"]
        if owners_of.any():
            owners_of[:] = 0

    def close(self) -> None:
        for array in (self._slots, self._taken, self._rings, self._evicted):
            array.close()

    def _copy_slots(self) -> tuple[Where, Batch]:
        """(slots, records) of those that changed, each record with a single owner's values. Nothing is noted yet."""
        where = compiled.moved(self._slots.array, self._taken.array)
        records, whole = self._copy(where)
        for _ in range(_RETRIES):
            torn = np.flatnonzero(~whole)
            if not len(torn):
                break
            records[torn], whole[torn] = self._copy(where[torn])
        whole &= records["packets"] > 0  # a new owner that has not counted a packet yet
        return _only(whole, where, records)

    def _copy(self, where: Where) -> tuple[Batch, npt.NDArray[np.bool_]]:
        """Records, and which of them had the same owner from beginning to end.

        The kernel updates the packet count last and it is read first, so it is never ahead of the other counters: an
        excess of these counts in the next reading, when the packet count has changed as well.
        """
        slots = self._slots.array
        sequence, packets = slots["sequence"][where], slots["packets"][where]
        records = take(slots, where)
        whole = (slots["sequence"][where] == sequence) & (sequence & 1 == 0)
        records["packets"] = packets
        return records, whole

    def _read_rings(self) -> Iterator[Piece]:
        """The evicted records, a piece per CPU. Marks their slots as read to the end, then moves the tail."""
        taken, ring_size = self._taken.array, self._sizes.ring
        for cpu in range(self._sizes.cpus):
            ring = self._rings.array[cpu]
            head, tail = int(ring["head"]), int(ring["tail"])
            if head == tail:
                continue
            index = cpu * ring_size + (np.arange(tail, head) & (ring_size - 1))
            records = take(self._evicted.array, index)
            slot, sequence = records["slot"], records["sequence"]
            bases = take(taken, slot)
            unread = _follows(sequence, bases["sequence"])  # all, unless a reader was killed before moving the tail
            bases[bases["sequence"] != sequence] = np.zeros((), abi.TAKEN)
            last = len(slot) - 1 - np.unique(slot[::-1], return_index=True)[1]  # the latest eviction from each slot
            self._mark(slot[last], sequence[last] | 1, slot[bases["sequence"] != 0])
            self._rings.array["tail"][cpu] = head
            yield _only(unread, records, bases)

    def _mark(self, where: Where, sequence: npt.NDArray[np.uint32], ended: npt.NDArray[np.uint32]) -> None:
        """Notes that these slots were read up to an owner's end; `ended`: those whose noted owner was in the ring."""
        taken = self._taken.array
        before = take(taken, where)
        later = _follows(sequence, before["sequence"])
        noted = taken["sequence"]
        noted[where[later]] = sequence[later]
        self._recover(where, before, later & ~np.isin(where, ended))

    def _note_slots(self, where: Where, records: Batch) -> Piece:
        """Notes copies of slots as read, except for owners whose end the ring has shown meanwhile."""
        taken = self._taken.array
        before = take(taken, where)
        current = _follows(records["sequence"], before["sequence"])
        where, records, before = _only(current, where, records, before)
        note = np.empty(len(where), abi.TAKEN)
        compiled.gather(records, np.arange(len(where)), note, _NOTED)
        put(taken, where, note)
        replaced = before["sequence"] != records["sequence"]
        self._recover(where, before, replaced)
        before[replaced] = np.zeros((), abi.TAKEN)
        return records, before

    def _recover(self, where: Where, before: Batch, replaced: npt.NDArray[np.bool_]) -> None:
        """Counts the read part of owners whose whole is in `unattributed`: replaced, but not in the ring."""
        lost = replaced & (before["sequence"] != 0) & (before["sequence"] & 1 == 0)
        if lost.any():
            per_cpu = where[lost] // self._sizes.capacity
            recovered = self._rings.array["recovered"]
            for name in ("packets", "bytes"):
                np.add.at(recovered[name], per_cpu, before[name][lost])

    def _fill(self, out: Batch, flows: Batch, bases: Batch) -> None:
        compiled.gained(flows, bases, out)
        for name in ("first", "last"):
            out[name] = self._clock.to_epoch(out[name])
        owners.set_kernel_owner(out)


def _only(mask: npt.NDArray[np.bool_], *batches: npt.NDArray[Any]) -> tuple[Any, ...]:
    """The masked rows of each batch; the batches themselves if these are all."""
    return batches if mask.all() else tuple(take(batch, mask) for batch in batches)


def _follows(sequence: npt.NDArray[np.uint32], other: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Whether each number is `other` or a later one; they wrap."""
    return np.asarray((sequence - other).astype(np.int32) >= 0)


def mapped(loaded: Loaded, sizes: Sizes, clock: Clock) -> Ledger:
    entries, maps = sizes.entries(), loaded.maps
    return Ledger(
        Mapped(maps["tm_sets"], abi.FLOW, 2 * entries["tm_sets"]),
        Mapped(maps["tm_taken"], abi.TAKEN, entries["tm_taken"]),
        Mapped(maps["tm_rings"], abi.RING, entries["tm_rings"]),
        Mapped(maps["tm_evicted"], abi.FLOW, entries["tm_evicted"]),
        sizes,
        clock,
    )

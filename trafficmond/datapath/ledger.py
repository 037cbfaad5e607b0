"""Reads the kernel's ledger: what each flow record gained since the last time, to the packet and the byte.

The kernel alone writes slots and the rings' heads; this reader alone writes the rings' tails and `tm_taken`, its note
of how much of each slot it has read. The order makes it exact without a lock: slots first, rings second, so an owner
that is missing from its slot is always in the ring by the time the ring is read, unless the ring was full, in
which case the kernel has put the whole record into `unattributed`.

A slot's sequence number is even while it has an owner. The note of a slot whose owner has been read to its end, in the
ring, is that owner's number plus one, until the next owner is noted: whatever is met again is known to be old, be it
because the kernel was held up between eviction and replacement or because this reader was killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from trafficmond import abi, npt
from trafficmond.datapath.clock import Clock
from trafficmond.datapath.loader import Loaded, Sizes
from trafficmond.datapath.mapped import Mapped
from trafficmond.flows import compiled, owners
from trafficmond.flows.batch import DELTA, Batch, empty, put, take

_COUNTERS = ("packets", "bytes", "payload_bytes", "payload_packets")
_CHUNK = 4096  # records that become rows at once: these and those stay in the second-level cache
_RETRIES = 3  # re-reads of slots that changed hands while they were copied; the rest wait for the next reading

Where = npt.NDArray[np.intp]
Piece = tuple[Batch, Batch]  # records, and what had been taken of each before


@dataclass(frozen=True, slots=True)
class Sums:
    """Packets and bytes."""

    packets: int
    bytes: int

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.packets + other.packets, self.bytes + other.bytes)


class Array(Protocol):
    """Memory shared with the kernel, as `mapped.Mapped` is."""

    array: npt.NDArray[Any]

    def close(self) -> None:
        """Lets go of the memory."""
        ...


class Ledger:
    """Four arrays: `slots` and `evicted` of abi.FLOW, `taken` of abi.TAKEN, `rings` of abi.RING; `sizes` of each."""

    def __init__(self, slots: Array, taken: Array, rings: Array, evicted: Array, sizes: Sizes, clock: Clock) -> None:
        self._slots = slots
        self._taken = taken
        self._rings = rings
        self._evicted = evicted
        self._sizes = sizes
        self._clock = clock

    def read(self) -> Batch:
        """What every record gained since the last call, as a DELTA batch (one row a record, in no order)."""
        where, copies = self._copy_slots()
        pieces = [_moved(*piece) for piece in (*self._read_rings(), self._note_slots(where, copies))]
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
        """What the kernel calls unattributed although it had been read before (see tm_ring.recovered)."""
        recovered = self._rings.array["recovered"]
        return Sums(int(recovered["packets"].sum()), int(recovered["bytes"].sum()))

    def used(self) -> int:
        """Slots that hold a record."""
        return int(np.count_nonzero(self._slots.array["sequence"]))

    def evicted_records(self) -> int:
        """Records that have passed through the rings."""
        return int(self._rings.array["head"].sum())

    def disown(self) -> None:
        """Forgets whose the records are. For a ledger that goes on with programs that do not tell: they do not write
        there, and what earlier ones wrote would be told of later records."""
        owners_of = self._slots.array["owner"]
        if owners_of.any():
            owners_of[:] = 0

    def close(self) -> None:
        """Unmaps everything."""
        for array in (self._slots, self._taken, self._rings, self._evicted):
            array.close()

    def _copy_slots(self) -> tuple[Where, Batch]:
        """(slots, records) of those that moved, each record as one owner left it. Nothing is noted yet."""
        slots, taken = self._slots.array, self._taken.array
        moved = (slots["packets"] != taken["packets"]) | (slots["sequence"] != taken["sequence"])
        where = np.flatnonzero(moved)
        records, whole = self._copy(where)
        for _ in range(_RETRIES):
            torn = np.flatnonzero(~whole)
            if not len(torn):
                break
            records[torn], whole[torn] = self._copy(where[torn])
        whole &= records["packets"] > 0  # an owner that moved in without having booked yet
        return (where, records) if whole.all() else (where[whole], take(records, whole))

    def _copy(self, where: Where) -> tuple[Batch, npt.NDArray[np.bool_]]:
        """Records, and which of them had the same owner from beginning to end.

        The kernel books a packet's other counters before it counts it, so packets, read first, are never ahead of
        them: what a copy has too early is made good when the packet count moves.
        """
        slots = self._slots.array
        sequence, packets = slots["sequence"][where], slots["packets"][where]
        records = take(slots, where)
        whole = (slots["sequence"][where] == sequence) & (sequence & 1 == 0)
        records["packets"] = packets
        return records, whole

    def _read_rings(self) -> Iterator[Piece]:
        """What was evicted, a piece a CPU. Its slots are marked as read to the end, then the ring's tail follows."""
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
            unread = _follows(sequence, bases["sequence"])  # all, unless a reader was killed before it moved the tail
            bases[bases["sequence"] != sequence] = np.zeros((), abi.TAKEN)
            last = len(slot) - 1 - np.unique(slot[::-1], return_index=True)[1]  # the latest eviction from each slot
            self._mark(slot[last], sequence[last] | 1, slot[bases["sequence"] != 0])
            self._rings.array["tail"][cpu] = head
            yield (records, bases) if unread.all() else (take(records, unread), take(bases, unread))

    def _mark(self, where: Where, sequence: npt.NDArray[np.uint32], met: npt.NDArray[np.uint32]) -> None:
        """Notes that these slots were read up to an owner's end; `met` are those whose noted owner was in the ring."""
        taken = self._taken.array
        before = take(taken, where)
        later = _follows(sequence, before["sequence"])
        noted = taken["sequence"]
        noted[where[later]] = sequence[later]
        self._recover(where, before, later & ~np.isin(where, met))

    def _note_slots(self, where: Where, records: Batch) -> Piece:
        """Notes copies of slots as taken, but for owners that the ring has told the end of meanwhile."""
        taken = self._taken.array
        before = take(taken, where)
        current = _follows(records["sequence"], before["sequence"])
        if not current.all():
            where, records, before = where[current], take(records, current), take(before, current)
        note = np.empty(len(where), abi.TAKEN)
        for name in (*_COUNTERS, "sequence"):
            note[name] = records[name]
        put(taken, where, note)
        replaced = before["sequence"] != records["sequence"]
        self._recover(where, before, replaced)
        before[replaced] = np.zeros((), abi.TAKEN)
        return records, before

    def _recover(self, where: Where, before: Batch, replaced: npt.NDArray[np.bool_]) -> None:
        """Books what had been read of owners that then went to `unattributed` whole: replaced, but not in the ring."""
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
        owners.correct(out)


def _moved(records: Batch, bases: Batch) -> Piece:
    """Those that have gained packets."""
    moved = records["packets"] > bases["packets"]
    return (records, bases) if moved.all() else (take(records, moved), take(bases, moved))


def _follows(sequence: npt.NDArray[np.uint32], other: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Whether each number is `other` or a later one; they wrap."""
    return np.asarray((sequence - other).astype(np.int32) >= 0)


def mapped(loaded: Loaded, sizes: Sizes, clock: Clock) -> Ledger:
    """The ledger of one load, mapped."""
    entries, maps = sizes.entries(), loaded.maps
    return Ledger(
        Mapped(maps["tm_sets"], abi.FLOW, 2 * entries["tm_sets"]),
        Mapped(maps["tm_taken"], abi.TAKEN, entries["tm_taken"]),
        Mapped(maps["tm_rings"], abi.RING, entries["tm_rings"]),
        Mapped(maps["tm_evicted"], abi.FLOW, entries["tm_evicted"]),
        sizes,
        clock,
    )

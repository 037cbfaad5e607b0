"""The process of this host that a flow belongs to (flows.processes). The kernel notes it at bind, connect or send.

A record of the ledger gets its process when it begins, while the kernel still has the note. Its owner is then a number
for the cgroup and the process, which stays with the flow.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from trafficmond.datapath.processes_seen import ProcessesSeen
from trafficmond.flows.batch import Batch, Column, take
from trafficmond.flows.processes import END, MOST_SERIALS, NOTE, attempts, both_ends, local_ends, may_name, served, word
from trafficmond.flows.waiting import keys
from trafficmond.model import Direction
from trafficmond.protocols import SYN, UDP

# bound: process names for flows (`flows.processes`) | the one used longest ago is evicted and counted
MOST = 16384
# bound: flow records looked up in one tick (`flows.processes`) | further records get no process, and are counted
MOST_ASKED = 32768
_SOON_S = 0.1  # allowed difference between the clocks of ledger and notes


class Process(NamedTuple):
    """The process of a flow, within its unit."""

    pid: int
    name: str


class _Known(NamedTuple):
    cgroup: int
    process: Process


class Processes:
    """Processes of flows; off while it has no source. The loop's thread owns it."""

    def __init__(self, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.source: ProcessesSeen | None = None
        self._clock, self._monotonic = clock, monotonic
        self._owners: OrderedDict[_Known, int] = OrderedDict()  # the one seen longest ago first
        self._known: dict[int, _Known] = {}
        self._serial = 0
        self._since = clock()
        self._asked = np.zeros(0, np.uint64)  # numbers of older records that were looked up
        self._counted = dict.fromkeys(("unseen", "given_way", "reused", "protocols", "forgotten"), 0)

    @property
    def on(self) -> bool:
        return self.source is not None

    def counters(self) -> dict[str, int]:
        """The counters, as `metrics.families` names them."""
        counted = {**self._counted, "lost": self.source.counts().lost if self.source else 0}
        return {f"process_{name}": count for name, count in counted.items()}

    def of(self, owner: int) -> Process | None:
        """The process that an owner names."""
        known = self._known.get(owner)
        return known.process if known else None

    def name(self, deltas: Batch) -> None:
        """Sets the owner of new records to the process that sent them, in place."""
        if self.source is None:
            return
        asks = (deltas["direction"] == Direction.EGRESS) & may_name(deltas["owner"])
        asks &= deltas["new"] | self._older(deltas, asks)
        self._counted["protocols"] += int((asks & ~served(deltas)).sum())
        asks = np.flatnonzero(asks & served(deltas))
        if len(asks) > MOST_ASKED:
            self._counted["given_way"] += len(asks) - MOST_ASKED
            asks = asks[:MOST_ASKED]
        if not len(asks):
            return
        rows = take(deltas, asks)
        notes, reused = self._noted(self.source, rows)
        found = notes["pid"] != 0
        self._counted["reused"] += int(reused.sum())
        self._counted["given_way" if self.source.may_lack() else "unseen"] += int((~found & ~reused).sum())
        deltas["owner"][asks] = self._worded(rows["owner"], notes)

    def _older(self, rows: Batch, asks: Column) -> Column:
        """A mask of the records from before this daemon that it has not looked up yet."""
        older = asks & ~rows["new"] & (rows["first"] < self._since)
        at = np.flatnonzero(older)
        if len(at):
            of = take(rows, at)
            words = (of[name] for name in ("src_lo", "dst_lo", "sport", "dport"))
            records = keys((of["first"].view(np.uint64), *words))
            older[at] = ~np.isin(records, self._asked)
            known = self._asked if len(self._asked) < 4 * MOST_ASKED else records  # those that ended are forgotten
            self._asked = np.union1d(known, records)
        return np.asarray(older)

    def wait(self, rows: Batch, owners: Column) -> Column:
        """`owners`, those waiting for these incoming rows, with the waiting process."""
        asks = np.flatnonzero(may_name(owners) & served(rows))
        if self.source is None or not len(asks):
            return owners
        notes, _ = _local_notes(self.source, take(rows, asks), "dst")
        owners = owners.copy()
        owners[asks] = self._worded(owners[asks], notes)
        return owners

    def at(self, ends: Batch) -> list[Process]:
        """The processes that wait at local ENDs."""
        notes = self.source.waiting(ends) if self.source else np.zeros(0, NOTE)
        return sorted({_process(note) for note in notes if note["pid"]})

    def _noted(self, source: ProcessesSeen, rows: Batch) -> tuple[Batch, Column]:
        """A NOTE of each row, and whether it is missing because another process used the port later."""
        notes, late = np.zeros(len(rows), NOTE), np.zeros(len(rows), bool)
        until = self._ticks(rows["first"] + _SOON_S)
        opened = np.flatnonzero(attempts(rows))
        if len(opened):
            notes[opened], late[opened] = _latest([source.sent(both_ends(take(rows, opened)))], until[opened])
        # Nothing waits where records began with a SYN of ours.
        rest = np.flatnonzero(
            (notes["pid"] == 0) & ~late & ~(attempts(rows) & (rows["first_flags"] & np.uint8(SYN) != 0))
        )
        if len(rest):
            notes[rest], late[rest] = _local_notes(source, take(rows, rest), "src", until[rest])
        return notes, late

    def _ticks(self, at: Column) -> Column:
        return np.asarray(np.maximum((at - self._clock() + self._monotonic()) * 1e9, 0).astype(np.uint64))

    def _worded(self, owners: Column, notes: Batch) -> Column:
        """Owners that name the noted processes; those without a note as they are."""
        worded = owners.copy()
        for at in np.flatnonzero(notes["pid"]).tolist():
            worded[at] = self._word(_Known(int(owners[at]), _process(notes[at])))
        return worded

    def _word(self, known: _Known) -> int:
        found = self._owners.get(known)
        if found is not None:
            self._owners.move_to_end(known)
            return found
        self._serial = (self._serial + 1) % MOST_SERIALS
        owner = self._owners[known] = word(known.cgroup, self._serial)
        self._known[owner] = known
        if len(self._owners) > MOST:
            _, gone = self._owners.popitem(last=False)
            del self._known[gone]
            self._counted["forgotten"] += 1
        return owner


def _process(note: np.void) -> Process:
    """The process of a note. Terminal control characters in its command are made visible."""
    text = note["name"].decode("utf-8", "backslashreplace")
    return Process(int(note["pid"]), text if text.isprintable() else ascii(text)[1:-1])


def _local_notes(source: ProcessesSeen, rows: Batch, side: str, until: Column | None = None) -> tuple[Batch, Column]:
    """_latest of the processes that wait at each row's own end, or sent datagrams from there."""
    own = local_ends(rows, side)
    every = own.copy()
    every["local"] = 0
    ends = own, every
    found = [_each(source.waiting, each) for each in ends]
    datagrams = rows["proto"] == UDP
    if datagrams.any():
        found += [np.where(datagrams, _each(source.sent, each), np.zeros(1, NOTE)) for each in ends]
    return _latest(found, until)


def _each(ask: Callable[[Batch], Batch], ends: Batch) -> Batch:
    """The NOTE of each end, looked up once per distinct end."""
    distinct, which = np.unique(ends.view(f"V{END.itemsize}"), return_inverse=True)
    return np.asarray(ask(distinct.view(END))[which])


def _latest(found: list[Batch], until: Column | None = None) -> tuple[Batch, Column]:
    """The latest note of each row not later than `until`, and whether all its notes are later."""
    best, late = found[0].copy(), np.zeros(len(found[0]), bool)
    best[:] = np.zeros(1, NOTE)
    for notes in found:
        after = notes["at_ns"] > until if until is not None else np.zeros(len(notes), bool)
        late |= after & (notes["pid"] != 0)
        better = (notes["pid"] != 0) & ~after & (notes["at_ns"] >= best["at_ns"])
        best[better] = notes[better]
    return best, late & (best["pid"] == 0)

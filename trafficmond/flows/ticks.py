"""A tick in one call of C (bpf/host_tick.h), without reports: a day of quiet traffic has thousands of these, whose cost
is the number of calls. `table.py` does the same in any other case."""

import ctypes
import math
import mmap
from typing import NamedTuple

import numpy as np

from trafficmond.compiled import fields
from trafficmond.flows.batch import FLOW, Batch, Column
from trafficmond.flows.compiled import Loops, at_address, library

_FIELDS = "row deadline quiet id slot"


class _Flows(ctypes.Structure):
    """struct tm_flows."""

    _fields_ = fields(
        (ctypes.c_void_p, _FIELDS), (ctypes.c_uint32, "count room capacity most_quiet"), (ctypes.c_double, "next")
    )


class TickResult(NamedTuple):
    """The result of a tick: the FLOW rows of `FlowTable.update`, the number of flows, when something is due."""

    rows: Batch
    flows: int
    due: float


class Ticks:
    """Merges ticks into the arrays of a table with these `loops`."""

    def __init__(self, loops: Loops) -> None:
        self._loops = loops
        loaded = library()
        self._tick = loaded.tm_tick
        # Not numpy's own memory: of a large array it asks for pages of 2 MiB, and small ticks touch a little of many.
        self._work = np.frombuffer(
            mmap.mmap(-1, loaded.tm_tick_size(), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8
        )
        self._flows, self._out, self._outs = _Flows(), ctypes.c_void_p(), ctypes.c_uint32()
        self._outputs = ctypes.addressof(self._out), ctypes.addressof(self._outs)
        self._begin = at_address(self._work)
        self._rows: Batch | None = None  # of the table at the last tick

    def take(
        self,
        table: tuple[Column, ...],
        count: int,
        limits: tuple[int, int],
        deltas: Batch,
        times: tuple[float, float, float],
    ) -> TickResult | None:
        """Merge `deltas`. `times`: of the tick before, of this tick, and the earliest deadline, before which nothing is
        due. `table`: rows, deadlines, quiet, ids and slots, `count` of each, whose `limits` are flows and quiet
        ones. None, with nothing done, if the tick is not of the usual kind."""
        flows = self._flows
        before, now, flows.next = times
        if table[0] is not self._rows:  # else all are where they were
            self._rows = table[0]
            for name, array in zip(_FIELDS.split(), table, strict=True):
                setattr(flows, name, at_address(array))
        flows.count, flows.room, (flows.capacity, flows.most_quiet) = count, len(table[0]), limits
        due = self._tick(
            ctypes.addressof(flows), self._begin, at_address(deltas), len(deltas), self._loops.rules(before), now,
            *self._outputs,
        )  # fmt: skip
        if math.isnan(due):
            return None
        at = (self._out.value or 0) - self._begin
        rows = self._work[at : at + self._outs.value * FLOW.itemsize]
        return TickResult(rows.copy().view(FLOW), flows.count, due)

"""Detects clients that act by the clock: with equal gaps, as those of health checks.

Each gap is compared with the one before it. So a pause of any length spoils only two of them.
"""

import numpy as np

from trafficmond.detect.windows import BoundedTable
from trafficmond.flows.batch import Batch, Column

FIELDS = ("last", "gap")
"""Fields of a table: the last moment, and the last gap."""
FADING = ("gaps", "even")
"""Fields of a table: number of gaps, and of those as long as the one before; the caller lets them decay."""
# A second is the shortest interval of health checks (Kubernetes' least periodSeconds). A program's clock is
# exact but for its own load; pauses between guesses come on top of what the server takes, of which PAM makes 2 s that
# vary by a quarter (pam_fail_delay): after a pause of five more seconds every second gap differs by more than this.
_LEAST_S, _OFF, _OFF_S = 0.9, 0.03, 0.1
# Some records tell whole seconds only, which makes of equal gaps such that differ by one.
_WHOLE_S = 1.0
_GAPS, _EVEN_SHARE = 10, 0.75


def note(table: BoundedTable, slots: Column, moments: Column) -> None:
    """Record a moment for each of the slots, which may repeat."""
    order = np.lexsort((moments, slots))
    slot, at, rows = slots[order], moments[order], table.rows
    first = np.ones(len(slot), bool)
    first[1:] = slot[1:] != slot[:-1]
    last = np.flatnonzero(np.append(first[1:], True)) if len(slot) else order
    gap = at - np.where(first, rows["last"][slot], np.roll(at, 1))
    gap[first & (rows["last"][slot] == 0)] = 0
    before = np.where(first, rows["gap"][slot], np.roll(gap, 1))
    rows["last"][slot[last]], rows["gap"][slot[last]] = at[last], gap[last]
    table.add("gaps", slot, before > 0)
    off_s = np.where((at % 1 == 0) & (gap % 1 == 0) & (before % 1 == 0), _WHOLE_S, _OFF_S)
    table.add("even", slot, (before > 0) & (gap >= _LEAST_S) & (np.abs(gap - before) <= _OFF * gap + off_s))


def is_clock(states: Batch) -> Column:
    """A mask of rows of a table that act by the clock, with pauses of at least a second."""
    return (states["gaps"] >= _GAPS) & (states["even"] >= _EVEN_SHARE * states["gaps"])

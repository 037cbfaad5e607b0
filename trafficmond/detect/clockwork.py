"""Detects clients that act by the clock: with equal gaps, as those of health checks, or with growing ones, as those of
programs that try again later each time. Gaps that vary by chance do not grow more than a few times in a row. Each gap
is compared with the one before it, so a pause spoils only two of them; what was lost in between spoils none.
"""

import numpy as np

from trafficmond.detect.windows import BoundedTable
from trafficmond.flows.batch import Batch, Column

FIELDS = ("last", "gap", "older")
"""Fields of a table: the last moment, the last gap, and the one before it."""
FADING = ("gaps", "even", "sum", "sum2")
"""Fields of a table, which the caller lets decay: number of gaps, of even ones, sum of all but pauses, of squares."""
# A second is the shortest interval of health checks (Kubernetes' least periodSeconds). A timer is exact, except for the
# load of its host. A guesser pauses after each answer, and PAM delays a refusal by 2 s that vary by a quarter
# (pam_fail_delay): even with a pause of five seconds, every second gap differs by more than this.
_LEAST_S, _OFF, _OFF_S = 0.9, 0.03, 0.1
# Some records have whole seconds only, so equal gaps may differ by one.
_WHOLE_S = 1.0
_GAPS, _EVEN_SHARE, _LOST = 10, 0.75, 2  # ... and so many in between may be lost
# Programs make their pause up to twice as long each time, many by half: what was lost makes one gap of two such, of 1.5
# and 2.25 times the one before.
_TWO_LONGER, _TWO = 3.75, 1.9
# A loop that pauses for a random time up to a limit has gaps that vary by 1 / sqrt(3) at most; longer gaps are pauses.
_PACED, _PAUSE_S = 0.58, 60.0
_LATE_S = 1800.0  # later by more than twice that: the clock was set back


def note(table: BoundedTable, slots: Column, moments: Column) -> None:
    """Record a moment for each of the slots, which may repeat."""
    rows = table.rows
    order = np.lexsort((moments, slots))
    # A connection whose end was not seen is reported late; it counts as lost.
    order = order[np.abs(rows["last"][slots] - moments - _LATE_S)[order] >= _LATE_S]
    slot, at = slots[order], moments[order]
    last = replaced(rows["last"], slot, at)
    gap = np.where(last == 0, 0, at - last)
    for field, power in (("sum", 1), ("sum2", 2)):
        table.add(field, slot, np.where(np.abs(gap) < _PAUSE_S, gap, 0) ** power)
    before = replaced(rows["gap"], slot, gap)
    older = replaced(rows["older"], slot, before)
    table.add("gaps", slot, before > 0)
    short, long = np.minimum(gap, before), np.maximum(gap, before)
    times = np.clip(np.floor(long / np.maximum(short, _LEAST_S) + 0.25), 1, 1 + _LOST)
    whole = (times == 1) & (at % 1 == 0) & (gap % 1 == 0) & (before % 1 == 0)
    even = np.abs(long - times * short) <= _OFF * long + np.where(whole, _WHOLE_S, _OFF_S)
    even |= (gap > before) & (gap <= _TWO_LONGER * before)
    # The next one after two in one is shorter than these, and longer than the one before them.
    two = (older > 0) & (before >= _TWO * older)
    even |= two & (gap >= np.maximum(older, before / 2)) & (gap <= before)
    table.add("even", slot, even & (before > 0) & (short >= _LEAST_S))


def replaced(field: Column, slots: Column, values: Column) -> Column:
    """Put each value into its slot of a table's field; return the one before it. Equal slots must be in a row."""
    same = np.concatenate([[False], slots[1:] == slots[:-1]])[: len(slots)]
    before: Column = np.where(same, np.roll(values, 1), field[slots])
    field[slots] = values  # of several, the last one
    return before


def is_clock(states: Batch) -> Column:
    """A mask of rows of a table that act by the clock, with pauses of at least a second."""
    return (states["gaps"] >= _GAPS) & (states["even"] >= _EVEN_SHARE * states["gaps"])


def is_paced(states: Batch) -> Column:
    """A mask of rows of a table whose gaps vary no more than those of a loop; calls at chance moments vary more."""
    paced: Column = states["sum2"] * (states["gaps"] + 1) <= (1 + _PACED**2) * states["sum"] ** 2
    return paced

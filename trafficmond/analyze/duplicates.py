"""Connections that a monitor tells of many times are one flow each: Suricata's flow event, the two halves of its
netflow, and every alert on the way name the same connection, with the same start, in one file or in several; so do
Zeek's logs in two forms or of long connections.

Since records come by their start, those of one connection come together, and only those of one moment are held: of a
millisecond, which is all that one of two logs may have of their times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from trafficmond.analyze.rows import BATCH, RECORD, counted_records
from trafficmond.analyze.run_stats import RunStats
from trafficmond.detect.windows import mix
from trafficmond.flows.batch import Batch, Column, empty, join, take
from trafficmond.flows.services import KNOWN
from trafficmond.model import Action
from trafficmond.protocols import ACK, ICMP, ICMPV6, SYN
from trafficmond.verdict import action_of

EVENT, HALF, FLOW = 1, 2, 3
"""Ranks: what an event on the way says, one direction of a connection, the whole of it."""

HELD = 1 << 18
"""Records of one moment that are compared with each other; more of them are compared in parts."""

_INEXACT = 5e-4  # of a millisecond: what the seconds of a double lack of it at most

_ENDS = (("src_hi", "dst_hi"), ("src_lo", "dst_lo"))
_SUMS = ("packets", "bytes", "payload_bytes", "tcp_flags", "first_flags")


def once(batches: Iterable[Batch], stats: RunStats, note: Callable[[str, int], None]) -> Iterator[Batch]:
    """The RECORD rows, which come by their start, a connection once; counted in the run's account, and how many told
    of it again is noted."""
    held = empty(RECORD)

    def counted(rows: Batch) -> Batch:
        joined, again = _once(rows)
        if again:
            note("records that told of a connection again were joined with it", again)
        return counted_records(joined, stats)

    for batch in _parts(batches):
        rows = join([held, batch])
        moments = _moments(rows)
        edge = int(np.searchsorted(moments, moments[-1])) if len(rows) else 0
        if len(rows) - edge > HELD:
            edge = len(rows)
        held = rows[edge:]
        if edge:
            yield counted(rows[:edge])
    if len(held):
        yield counted(held)


def _parts(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same rows in batches of at most BATCH: what is compared is copied several times."""
    for batch in batches:
        yield from (batch[at : at + BATCH] for at in range(0, len(batch), BATCH))


def _once(rows: Batch) -> tuple[Batch, int]:
    """One row a connection: the best that tells of it, the halves put together; and how many told of it again."""
    keys = _keys(rows)
    found = np.sort(keys)
    if not (found[1:] == found[:-1]).any():
        return rows, 0
    order = np.lexsort(
        (
            -(rows["packets"] + rows["reply_packets"]).astype(np.int64) * (rows["rank"] == EVENT),
            -rows["rank"].astype(np.int8),
            keys,
        )
    )
    rows, keys = take(rows, order), keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    of = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(rows))))
    best = rows[starts]
    halves = _put_together(best, rows, of)
    dropped = np.bitwise_or.reduceat(action_of(rows["verdict"]) == Action.DROP, starts)
    told = rows[np.flatnonzero(action_of(rows["verdict"]) == Action.DROP)]
    if len(told):
        best["verdict"][dropped] = told["verdict"][0]
    best["end"] = np.maximum.reduceat(rows["end"], starts)
    return best[np.argsort(best["start"], kind="stable")], len(rows) - len(best) - halves


def _moments(rows: Batch) -> Column:
    """The milliseconds in which the rows start, whether what is finer was cut off or not."""
    moments: Column = np.floor(rows["start"] * 1e3 + _INEXACT)
    return moments


def _keys(rows: Batch) -> Column:
    """One number for all that tells of a connection: its number, its start, and its ends in either order."""
    icmp = (rows["proto"] == ICMP) | (rows["proto"] == ICMPV6)
    sides = [
        mix(rows[side + "_hi"], rows[side + "_lo"], np.where(icmp, 0, rows[port]))
        for side, port in (("src", "sport"), ("dst", "dport"))
    ]
    keys = mix(rows["told"], _moments(rows), sides[0] + sides[1], rows["proto"])
    alone = np.flatnonzero(rows["told"] == 0)
    keys[alone] = mix(np.arange(len(alone)), np.full(len(alone), 1))
    return keys


def _put_together(best: Batch, rows: Batch, of: Column) -> int:
    """The first half is the one to the server, as Suricata writes them; what goes back is the other. How many had
    one."""
    lead = best[of]
    icmp = (rows["proto"] == ICMP) | (rows["proto"] == ICMPV6)
    back = (lead["rank"] == HALF) & (rows["rank"] == HALF)
    for one, other in _ENDS:
        back &= rows[one] == lead[other]
    back &= icmp & (rows["src_lo"] != rows["dst_lo"]) | ~icmp & (rows["sport"] == lead["dport"])
    back &= np.arange(len(rows)) > np.searchsorted(of, of)
    groups, first = np.unique(of[back], return_index=True)
    other = rows[np.flatnonzero(back)[first]]
    for name in _SUMS:
        best["reply_" + name][groups] = other[name]
    best["reply_first_flags"][groups] = _answer(other["tcp_flags"])
    _turn(best, groups)
    return len(groups)


def _turn(best: Batch, groups: Column) -> None:
    """Puts the halves the other way round where the first one to be told is the answer: by its flags, or, where both
    sides or neither showed a SYN, by the port of a service."""
    rows = best[groups]
    asked, answered = rows["tcp_flags"] & SYN != 0, rows["reply_tcp_flags"] & SYN != 0
    icmp = (rows["proto"] == ICMP) | (rows["proto"] == ICMPV6)
    served = KNOWN[np.where(icmp, 0, rows["sport"])] & ~KNOWN[np.where(icmp, 0, rows["dport"])]
    turned = groups[np.where(asked == answered, served, answered)]
    rows = best[turned]
    for one, other in (*_ENDS, ("sport", "dport"), *((name, "reply_" + name) for name in _SUMS)):
        best[one][turned], best[other][turned] = rows[other], rows[one]
    flags = best["tcp_flags"][turned]
    best["first_flags"][turned] = np.where(flags & SYN, SYN, flags & ACK)
    best["reply_first_flags"][turned] = _answer(best["reply_tcp_flags"][turned])


def _answer(flags: Column) -> Column:
    """The first flags of a side that answered: SYN with ACK where it showed a SYN at all."""
    syn_ack: Column = np.where(flags & SYN, SYN | ACK, flags & ACK)
    return syn_ack

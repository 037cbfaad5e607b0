"""Reduces connections that a monitor reports several times to one flow each.

Suricata's flow event, the two halves of its netflow, and every alert name the same connection, with the same start, in
one file or in several. Zeek reports a connection twice in two forms of a log, or in its log of long connections.

Records come sorted by their start, so those of one connection are close together. Only the records of one millisecond
are held, because one of two logs may have times in milliseconds only.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from trafficmond.analyze.rows import BATCH, RECORD, counted_records
from trafficmond.analyze.run_stats import RunStats
from trafficmond.detect.windows import mix
from trafficmond.flows.batch import Batch, Column, empty, join, take
from trafficmond.flows.services import FTP_DATA, KNOWN
from trafficmond.model import Action
from trafficmond.protocols import ACK, ICMP, ICMPV6, SYN
from trafficmond.verdict import action_of

EVENT, HALF, FLOW = 1, 2, 3
"""Ranks of a record: an event during the connection, one direction of it, or the whole connection."""

HELD = 1 << 18
"""Records of one moment that are compared with each other; more of them are compared in parts."""

_INEXACT = 5e-4  # of a millisecond: the largest rounding error of seconds as a double

_ENDS = (("src_hi", "dst_hi"), ("src_lo", "dst_lo"))
_SUMS = ("packets", "bytes", "payload_bytes", "tcp_flags", "first_flags")


def once(batches: Iterable[Batch], stats: RunStats, note: Callable[[str, int], None]) -> Iterator[Batch]:
    """Yields the RECORD rows, sorted by start, with each connection once, and counts them in the run's account. The
    number of repeated records is noted."""
    held = empty(RECORD)

    def counted(rows: Batch) -> Batch:
        joined, again = _once(rows)
        if again:
            note("repeated records of a connection were counted once", again)
        return counted_records(joined, stats)

    # Rows are copied several times while they are compared, so at most BATCH are taken at a time.
    for batch in (each[at : at + BATCH] for each in batches for at in range(0, len(each), BATCH)):
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


# bound: open TCP connections in an Argus file (`trafficctl analyze`) | the oldest one is forgotten
OPEN_MAX = 16384


def opened_once(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The RECORD rows, sorted by start. Argus reports a connection every few seconds while it lasts (EVENT): what
    follows such a record has no handshake."""
    known: dict[int, None] = {}
    for batch in batches:
        went_on = []
        for at in np.flatnonzero(batch["connection"]).tolist():
            if (ends := int(batch["connection"][at])) in known:
                went_on.append(at)
                del known[ends]
            if batch["rank"][at] == EVENT:
                known[ends] = None
                if len(known) > OPEN_MAX:
                    del known[next(iter(known))]
        if went_on:
            batch = batch.copy()  # what comes from the disk cannot be changed
            for side in ("", "reply_"):
                batch[side + "tcp_flags"][went_on] &= ~SYN & 0xFF
                batch[side + "first_flags"][went_on] = batch[side + "tcp_flags"][went_on] & ACK
        yield batch


def _once(rows: Batch) -> tuple[Batch, int]:
    """One row for each connection: its best record, or its two halves combined; and the number of repeated records."""
    keys = _keys(rows)
    found = np.sort(keys)
    if not (found[1:] == found[:-1]).any():
        return rows, 0
    sizes = (rows["packets"] + rows["reply_packets"]).astype(np.int64) * (rows["rank"] == EVENT)
    order = np.lexsort((-sizes, -rows["rank"].astype(np.int8), keys))
    rows, keys = take(rows, order), keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    of = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(rows))))
    best = rows[starts]
    halves = _put_together(best, rows, of)
    dropped = np.bitwise_or.reduceat(action_of(rows["verdict"]) == Action.DROP, starts)
    drops = rows[np.flatnonzero(action_of(rows["verdict"]) == Action.DROP)]
    if len(drops):
        best["verdict"][dropped] = drops["verdict"][0]
    best["end"] = np.maximum.reduceat(rows["end"], starts)
    return best[np.argsort(best["start"], kind="stable")], len(rows) - len(best) - halves


def _moments(rows: Batch) -> Column:
    """The millisecond in which each row starts, whether its time has more digits or not."""
    return np.asarray(np.floor(rows["start"] * 1e3 + _INEXACT))


def _keys(rows: Batch) -> Column:
    """One key for all records of a connection: a hash of its id, its start, and its two ends in either order."""
    icmp = (rows["proto"] == ICMP) | (rows["proto"] == ICMPV6)
    sides = [
        mix(rows[side + "_hi"], rows[side + "_lo"], np.where(icmp, 0, rows[port]))
        for side, port in (("src", "sport"), ("dst", "dport"))
    ]
    keys = mix(rows["connection"], _moments(rows), sides[0] + sides[1], rows["proto"])
    alone = np.flatnonzero(rows["connection"] == 0)
    keys[alone] = mix(np.arange(len(alone)), np.full(len(alone), 1))
    return keys


def _put_together(best: Batch, rows: Batch, of: Column) -> int:
    """Combines two halves. The first one is that of the client, as Suricata writes them, unless `_swap` finds
    otherwise. Returns how many had a second half."""
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
    _swap(best, groups)
    return len(groups)


def _swap(best: Batch, groups: Column) -> None:
    """Swaps the two directions if the first half is the answer: by its flags or, if both sides or neither sent a SYN,
    by the port of a known service."""
    rows = best[groups]
    asked, answered = rows["tcp_flags"] & SYN != 0, rows["reply_tcp_flags"] & SYN != 0
    icmp = (rows["proto"] == ICMP) | (rows["proto"] == ICMPV6)
    sport, dport = (np.where(icmp, 0, rows[port]) for port in ("sport", "dport"))
    served = (KNOWN[sport] | (dport == FTP_DATA)) & ~KNOWN[dport]
    turned = groups[np.where(asked == answered, served, answered)]
    rows = best[turned]
    for one, other in (*_ENDS, ("sport", "dport"), *((name, "reply_" + name) for name in _SUMS)):
        best[one][turned], best[other][turned] = rows[other], rows[one]
    flags = best["tcp_flags"][turned]
    best["first_flags"][turned] = np.where(flags & SYN, SYN, flags & ACK)
    best["reply_first_flags"][turned] = _answer(best["reply_tcp_flags"][turned])


def _answer(flags: Column) -> Column:
    """The flags of the first packet of a side that answered: SYN and ACK if it sent a SYN."""
    return np.asarray(np.where(flags & SYN, SYN | ACK, flags & ACK))

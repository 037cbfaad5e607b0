"""The turns in which deltas of one reading are merged, if a flow has several connections or verdict words."""

import numpy as np

from trafficmond.flows.batch import Batch, Column
from trafficmond.protocols import ACK, FIN, RST, SYN, TCP

TIE_S = 2e-5  # within one tick of the kernel's clock, the packet to the service, or the SYN, came first
_MOST = 64  # connections of one flow in one reading; further ones count as part of the last
_LOW32 = np.uint64(0xFFFFFFFF)


def starts_of(ids: Column) -> Column:
    """The start of each run of equal ids."""
    return np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))


def connections(deltas: Batch, ids: Column, side: Column, before: float) -> tuple[Batch, list[Column]]:
    """The deltas, and the rows of each turn in order: a turn begins with a SYN, and ends before the next one. A SYN
    before all packets of the other side and of an earlier batch, and before an end, is only sent again.

    The table decides whether a SYN begins another connection, since it has the state before. A record may span several,
    if another CPU has their handshakes: its last packet, and so its end, are those of the last one. So it counts there,
    as if it had begun with that packet.
    """
    every = np.arange(len(ids))
    opens = opening(deltas)
    if not opens.any():
        return deltas, [every]
    began = begins(deltas, before)
    lasts = (deltas["proto"] == TCP) & (~deltas["new"] | (deltas["tcp_flags"] & (FIN | RST) != 0)) & ~opens
    starts = starts_of(ids)
    sizes = np.diff(np.append(starts, len(ids)))
    old = ~deltas["new"]
    ended = np.where(deltas["tcp_flags"] & (FIN | RST) != 0, deltas["last"], np.inf)
    firsts = [np.minimum.reduceat(np.where((side == other) | old, began, ended), starts) for other in (True, False)]
    a, b = (np.repeat(first, sizes) for first in firsts)
    opens &= began > np.where(side, b, a) + TIE_S
    if not opens.any():
        return deltas, [every]
    at = np.flatnonzero(np.repeat(np.logical_or.reduceat(opens, starts), sizes))
    # Within a tick the SYN comes first.
    when = np.where(lasts, deltas["last"], began - np.where(opens, TIE_S, 0.0))
    at = at[np.lexsort((~opens[at], when[at], ids[at]))]
    begin = starts_of(ids[at])
    rows = np.diff(np.append(begin, len(at)))
    count = np.cumsum(opens[at])
    turn = np.zeros(len(ids), np.int64)
    turn[at] = np.minimum(count - np.repeat(count[begin], rows), _MOST)
    latest = np.maximum.accumulate(np.where(opens[at], np.arange(len(at)), -1))  # the SYN before each
    spans = lasts[at] & (latest >= np.repeat(begin, rows)) & (began[at] < began[at[latest]])
    if spans.any():
        deltas = deltas.copy()
        deltas["first"][at[spans]] = deltas["last"][at[spans]]
    return deltas, [np.flatnonzero(turn == number) for number in range(int(turn.max()) + 1)]


def verdicts(deltas: Batch, ids: Column, side: Column) -> Column | None:
    """The turn of each delta, so that a turn has one verdict word per flow and side; None: one turn. Verdict words of a
    flow and side are ordered by their latest packet."""
    starts = starts_of(ids)
    verdict = deltas["verdict"]
    mixed = np.zeros(len(starts), bool)
    for side_rows in (side, ~side):
        least = np.minimum.reduceat(np.where(side_rows, verdict, _LOW32), starts)
        mixed |= least < np.maximum.reduceat(np.where(side_rows, verdict, 0), starts)
    if not mixed.any():
        return None
    at = np.flatnonzero(np.repeat(mixed, np.diff(np.append(starts, len(ids)))))
    few, verdict = deltas[at], deltas["verdict"][at]
    order = np.lexsort((few["last"], verdict, side[at], ids[at]))
    at, few, verdict = at[order], few[order], verdict[order]
    new_side = np.concatenate([[True], (ids[at][1:] != ids[at][:-1]) | (side[at][1:] != side[at][:-1])])
    new_word = new_side | np.concatenate([[True], verdict[1:] != verdict[:-1]])
    # Latest packet of each word, then the rank of the words within their side by it.
    word = np.cumsum(new_word) - 1
    word_last = np.maximum.reduceat(few["last"], np.flatnonzero(new_word))
    word_side = (np.cumsum(new_side) - 1)[new_word]
    rank_order = np.lexsort((word_last, word_side))
    side_start = np.concatenate([[0], np.flatnonzero(np.diff(word_side[rank_order])) + 1])
    rank = np.empty(len(word_side), np.int64)
    rank[rank_order] = np.arange(len(word_side)) - np.repeat(
        side_start, np.diff(np.concatenate([side_start, [len(word_side)]]))
    )
    turn = np.zeros(len(ids), np.int64)
    turn[at] = rank[word]
    return turn


def begins(deltas: Batch, before: float) -> Column:
    """The earliest possible time of each delta's first packet, after a reading at `before`: a record that continues had
    none of this batch's packets before that."""
    going = np.where(deltas["packets"] == 1, deltas["last"], np.maximum(deltas["first"], before))
    return np.asarray(np.minimum(np.where(deltas["new"], deltas["first"], going), deltas["last"]))


def opening(deltas: Batch) -> Column:
    """A mask of deltas that begin with a SYN: those of records that do, and of records with nothing but SYNs."""
    flags = deltas["tcp_flags"]
    only = flags & (SYN | ACK | FIN | RST) == SYN
    syn = (deltas["proto"] == TCP) & (deltas["first_flags"] & (SYN | ACK) == SYN)
    return np.asarray(syn & (deltas["new"] | only))

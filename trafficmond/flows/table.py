"""The flow table: ledger deltas in, bidirectional flows and exact reports out.

Invariant: over any run, what the reports carry plus what is still pending in the table equals what the deltas
carried, to the packet and the byte; a report says of every packet the verdict it was given, so far as `action`
goes, and the initiator's verdict word in full.

Rows live densely in one structured array; a sorted array of 64-bit flow ids leads to them. A batch is sorted by
id once, and everything else is a handful of vector operations over groups, so a flood costs no more a row than
ordinary traffic. Strangers choose the keys, so ids come from a keyed universal hash: nobody without the key can
make two flows collide with a probability above 2**-64 a pair.
"""

from __future__ import annotations

import itertools
import math
import random

import numpy as np

from trafficmond.flows.absorb import STATE, Groups, as_flows, fold, new_rows
from trafficmond.flows.batch import FLOW, Batch, Column, empty, join, put, take
from trafficmond.flows.canonical import canonical
from trafficmond.flows.report import REPORT, End, reports

CLOSE_LINGER_S = 2.0  # a closed connection's last acknowledgements still belong to it

_KEY_WORDS = 12  # 32-bit words of a canonical key
_INNER_WORDS = 2  # and of what is inside; where that is nothing anywhere, they add nothing and are left out
_FIRST_ROWS = 256
_GROWTH = 1.5
_BLOCK_FLOWS = 8192  # rows and deltas of a block stay in the second-level cache
_EVICT_FRACTION = 16  # make room for at least 1/16 of the capacity at once
_LOW32 = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


class FlowTable:
    """Bidirectional flows of one observer, at most `capacity` of them.

    A flow ends when both sides closed or one reset (after CLOSE_LINGER_S), or after `idle_timeout_s` without a
    packet; a long one is reported every `active_timeout_s`. `seed` makes ids repeatable (tests, offline
    analysis); None takes the system's randomness. Counters: `evicted` flows let go early for want of room.
    """

    def __init__(self, capacity: int, idle_timeout_s: float, active_timeout_s: float, seed: int | None = None) -> None:
        self.capacity = max(1, capacity)
        self.evicted = 0
        self._idle = idle_timeout_s
        self._active = active_timeout_s
        self._linger = min(CLOSE_LINGER_S, idle_timeout_s)
        self._now = -math.inf
        self._ready: list[Batch] = []

        source = random.SystemRandom() if seed is None else random.Random(seed)
        self._keys = np.array(
            [[source.getrandbits(64) for _ in range(2)] for _ in range(1 + _KEY_WORDS + _INNER_WORDS)], dtype=np.uint64
        )
        self._count = 0
        self._rows = empty(STATE, min(_FIRST_ROWS, self.capacity))
        self._deadline = np.full(len(self._rows), math.inf)
        self._ids = np.empty(0, np.uint64)  # sorted
        self._slots = np.empty(0, np.uint32)  # the row of each id

    def __len__(self) -> int:
        return self._count

    @property
    def memory_bytes(self) -> int:
        """What the table's arrays take."""
        return self._rows.nbytes + self._deadline.nbytes + self._ids.nbytes + self._slots.nbytes

    def configure(self, capacity: int, idle_timeout_s: float, active_timeout_s: float) -> None:
        """Other limits from now on; flows beyond a smaller capacity are evicted, and so reported."""
        self.capacity = max(1, capacity)
        self._idle, self._active = idle_timeout_s, active_timeout_s
        self._linger = min(CLOSE_LINGER_S, idle_timeout_s)
        if self._count > self.capacity:
            self._evict(self._count - self.capacity, np.empty(0, np.int64))
        self._set_deadlines(np.arange(self._count), self._rows[: self._count])

    def update(self, deltas: Batch, now: float) -> Batch:
        """Take in a DELTA batch; return a FLOW row for each flow it changed, and one for each that went idle.

        `ended` is True in one row of a flow only: when it closed, or when it went idle (its d_* are then 0).
        """
        changed = []
        if len(deltas):
            ids, side = self._identify(deltas)
            order = np.argsort(ids, kind="stable")
            deltas, ids, side = take(deltas, order), ids[order], side[order]
            for part in self._parts(ids):
                changed.append(self._absorb(deltas[part], ids[part], side[part]))
        self._meet(now)
        idle = self._let_go(now)
        if len(idle):
            changed.append(idle)
        return changed[0] if len(changed) == 1 else np.concatenate([empty(FLOW), *changed])

    def due(self, now: float, everything: bool = False) -> Batch:
        """The REPORT rows that are due: of flows that ended, were evicted or changed verdict, and of active ones.

        With `everything`, whatever is pending (on stop, or on demand); the flows stay.
        """
        self._meet(now)
        self._let_go(now)
        live = self._rows[: self._count]
        slots = np.flatnonzero(live["since"] < math.inf if everything else self._deadline[: self._count] <= now)
        if len(slots):
            rows = take(live, slots)
            self._report(rows, End.FORCED if everything else End.ACTIVE)
            put(self._rows, slots, rows)
            self._set_deadlines(slots, rows)
        ready, self._ready = self._ready, []
        return ready[0] if len(ready) == 1 else np.concatenate([empty(REPORT), *ready])

    def pending(self) -> Batch:
        """The REPORT rows of all that was not told yet, as `due` would tell it with `everything`; nothing changes."""
        live = self._rows[: self._count]
        rows = take(live, np.flatnonzero(live["since"] < math.inf))
        return join([empty(REPORT), *self._ready, *reports(rows, End.FORCED)])

    # ---- identity ----

    def _identify(self, deltas: Batch) -> tuple[Column, Column]:
        """(id, swapped) of each delta; block by block, for the processor's cache."""
        ids, swapped = np.empty(len(deltas), np.uint64), np.empty(len(deltas), bool)
        for begin in range(0, len(deltas), _BLOCK_FLOWS):
            block = slice(begin, begin + _BLOCK_FLOWS)
            ids[block], swapped[block] = self._hash(deltas[block])
        return ids, swapped

    def _hash(self, deltas: Batch) -> tuple[Column, Column]:
        """(id, swapped): id by the multilinear hash family, mod 2**64, upper half, twice.

        Strongly universal for 32-bit words (Carter and Wegman 1981; Lemire and Kaser 2014, "Strongly universal
        string hashing is fast"), so each half collides with probability 2**-32 whatever the keys' author chose.
        """
        key = canonical(deltas)
        inner = deltas["inner"]
        words = np.empty((_KEY_WORDS + _INNER_WORDS * bool(inner.any()), len(deltas)), np.uint64)
        for at, address in ((0, key.a_hi), (2, key.a_lo), (4, key.b_hi), (6, key.b_lo)):
            words[at] = address >> _32
            words[at + 1] = address & _LOW32
        words[8] = key.a_port.astype(np.uint64) << np.uint64(16) | key.b_port
        words[9] = deltas["ifindex"]
        words[10] = deltas["vlan"]
        words[11] = deltas["proto"].astype(np.uint64) << np.uint64(8) | deltas["family"]
        if len(words) > _KEY_WORDS:
            words[12], words[13] = inner >> _32, inner & _LOW32
        halves = []
        for half in range(2):
            first, *keys = self._keys[:, half]
            total = np.full(len(deltas), first)
            for word, factor in zip(words, keys, strict=False):
                total += word * factor
            halves.append(total)
        return (halves[0] & ~_LOW32) | halves[1] >> _32, key.swapped

    def _parts(self, ids: Column) -> list[slice]:
        """The sorted batch in slices of at most `capacity` flows each: a flood larger than the table stays exact."""
        starts = _starts(ids)
        if len(starts) <= self.capacity:
            return [slice(None)]
        cuts = [*starts[:: self.capacity].tolist(), len(ids)]
        return [slice(begin, end) for begin, end in itertools.pairwise(cuts)]

    def _find(self, ids: Column) -> tuple[Column, Column]:
        """(found, slot) of each sorted, unique id."""
        if not self._count:
            return np.zeros(len(ids), bool), np.zeros(len(ids), np.int64)
        at = np.minimum(np.searchsorted(self._ids, ids), self._count - 1)
        return self._ids[at] == ids, self._slots[at].astype(np.int64)

    # ---- taking in ----

    def _absorb(self, deltas: Batch, ids: Column, side: Column) -> Batch:
        """The FLOW rows of a sorted part; see `_parts`."""
        turn = _turns(deltas, ids, side)
        if turn is None:
            return self._take_in(deltas, ids, side, first=True)
        chosen = turn == 0
        batch = self._take_in(take(deltas, chosen), ids[chosen], side[chosen], first=True)
        for number in range(1, int(turn.max()) + 1):
            chosen = turn == number
            later = self._take_in(take(deltas, chosen), ids[chosen], side[chosen], first=False)
            put(batch, np.searchsorted(batch["id"], later["id"]), later)
        return batch

    def _take_in(self, deltas: Batch, ids: Column, side: Column, *, first: bool) -> Batch:
        """Fold in deltas that hold one verdict word a flow and side; block by block, for the processor's cache."""
        starts = _starts(ids)
        flow_ids = ids[starts]
        found, slots = self._find(flow_ids)
        lacking = self._count + np.count_nonzero(~found) - self.capacity
        if lacking > 0:
            self._evict(lacking, slots[found])
            found, slots = self._find(flow_ids)

        ends = np.append(starts, len(ids))
        batch = np.empty(len(starts), FLOW)
        fresh = []
        for begin in range(0, len(starts), _BLOCK_FLOWS):
            block = slice(begin, min(begin + _BLOCK_FLOWS, len(starts)))
            of = slice(ends[block.start], ends[block.stop])
            groups = Groups(deltas[of], ids[of], side[of], self._now)
            known, at = found[block], slots[block][found[block]]
            rows = np.empty(len(known), STATE)
            put(rows, known, take(self._rows, at))
            put(rows, ~known, new_rows(groups, np.flatnonzero(~known)))
            # A SYN on a closed connection begins another flow of the same name.
            reopened = np.flatnonzero(known & groups.reopens(rows)) if first else np.empty(0, np.int64)
            if len(reopened):
                self._report(take(rows, reopened), End.CLOSED)
                put(rows, reopened, new_rows(groups, reopened))
            told = fold(rows, groups, first=first)
            if len(told):
                self._report(told, End.ACTIVE)
            old = take(rows, known)
            put(self._rows, at, old)
            self._set_deadlines(at, old)
            fresh.append(take(rows, ~known))
            put(batch, block, as_flows(rows))
        self._insert(flow_ids[~found], fresh)
        return batch

    def _insert(self, ids: Column, blocks: list[Batch]) -> None:
        """Add rows of new flows, whose ids are sorted and not in the table."""
        if not len(ids):
            return
        need = self._count + len(ids)
        if need > len(self._rows):
            self._resize(min(self.capacity, max(need, int(len(self._rows) * _GROWTH))))
        at = np.searchsorted(self._ids, ids)
        self._ids = np.insert(self._ids, at, ids)
        self._slots = np.insert(self._slots, at, np.arange(self._count, need, dtype=np.uint32))
        for rows in blocks:
            slots = slice(self._count, self._count + len(rows))
            put(self._rows, slots, rows)
            self._set_deadlines(slots, rows)
            self._count += len(rows)

    def _set_deadlines(self, slots: Column | slice, rows: Batch) -> None:
        """When each row must be looked at again: idle, closed for long enough, or active for long enough."""
        ends = rows["last"] + np.where(rows["closed"], self._linger, self._idle)
        self._deadline[slots] = np.minimum(ends, rows["since"] + self._active)

    # ---- letting go ----

    def _meet(self, now: float) -> None:
        """Note the time. After a step backwards nothing may wait for the time that was."""
        if now < self._now and self._count:
            latest = now + max(self._idle, self._active)
            np.minimum(self._deadline[: self._count], latest, out=self._deadline[: self._count])
            live = self._rows[: self._count]
            ahead = live["last"] > now
            live["last"][ahead] = now
            pending = (live["since"] > now) & (live["since"] < math.inf)
            live["since"][pending] = now
        self._now = now

    def _let_go(self, now: float) -> Batch:
        """Remove the flows that are over; FLOW rows of those that went idle."""
        slots = np.flatnonzero(self._deadline[: self._count] <= now)
        if not len(slots):
            return empty(FLOW)
        rows = take(self._rows, slots)
        closed = rows["closed"]
        over = rows["last"] + np.where(closed, self._linger, self._idle) <= now
        self._remove(slots[over & closed], End.CLOSED)
        # Removal moves rows: look the idle ones up again by their ids.
        ids = np.sort(rows["id"][over & ~closed])
        if not len(ids):
            return empty(FLOW)
        gone = self._remove(self._find(ids)[1], End.IDLE)
        batch = as_flows(gone)
        for name in ("d_packets", "d_bytes", "d_reply_packets", "d_reply_bytes"):
            batch[name] = 0
        batch["new"] = False
        batch["ended"] = True
        return batch

    def _evict(self, lacking: int, keep: Column) -> None:
        """Let go of those silent for longest, unanswered before answered: a flood makes room for itself first."""
        live = self._rows[: self._count]
        score = live["last"] + np.where(live["reply_packets"] > 0, self._idle, 0.0)
        score[keep] = math.inf
        count = min(max(lacking, self.capacity // _EVICT_FRACTION), self._count - len(keep))
        self._remove(np.argpartition(score, count - 1)[:count], End.LACK_OF_RESOURCES)
        self.evicted += count

    def _report(self, rows: Batch, end: End) -> None:
        """Queue the pending part of the rows, and clear it in them."""
        self._ready.extend(reports(rows, end))

    def _remove(self, slots: Column, end: End) -> Batch:
        """Report and drop rows; the last rows move into the holes, so that rows stay dense. The STATE rows removed."""
        if not len(slots):
            return empty(STATE)
        rows = take(self._rows, slots)
        gone = rows.copy()
        self._report(rows, end)
        left = self._count - len(slots)
        stays = np.ones(self._count, bool)
        stays[slots] = False
        keep = stays[self._slots]
        self._ids, self._slots = self._ids[keep], self._slots[keep]
        holes = np.flatnonzero(~stays[:left])
        movers = left + np.flatnonzero(stays[left:])
        put(self._rows, holes, take(self._rows, movers))
        self._deadline[holes] = self._deadline[movers]
        self._slots[np.searchsorted(self._ids, self._rows["id"][holes])] = holes
        self._count = left
        if left < len(self._rows) // 4 and len(self._rows) > _FIRST_ROWS:
            self._resize(max(_FIRST_ROWS, left * 2))
        return gone

    def _resize(self, size: int) -> None:
        for name in ("_rows", "_deadline"):
            grown = np.empty(size, getattr(self, name).dtype)
            put(grown, slice(self._count), getattr(self, name)[: self._count])
            setattr(self, name, grown)


def _starts(ids: Column) -> Column:
    """Where each run of equal ids begins."""
    return np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))


def _turns(deltas: Batch, ids: Column, side: Column) -> Column | None:
    """In which turn each delta is folded in, so that a turn holds one verdict word a flow and side; None: one turn.

    Verdict words of a flow and side take their turns in order of their latest packet.
    """
    starts = _starts(ids)
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

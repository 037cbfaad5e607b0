"""The flow table: ledger deltas in, bidirectional flows and exact reports out.

Invariant: over any run, the reports plus the pending parts in the table equal the deltas, to the packet and the byte; a
report has the `action` of all its packets, and the initiator's full verdict word.

Rows are dense in one structured array, found by a sorted array of 64-bit flow ids. A batch is sorted by id once; the
rest is a few vector operations over groups, so a row costs no more in a flood.
"""

import itertools
import math
import os

import numpy as np

from trafficmond.flows import compiled
from trafficmond.flows.batch import FLOW, Batch, Column, empty, join, put, take
from trafficmond.flows.canonical import as_echoes, later_fragments
from trafficmond.flows.report import REPORT, End, reports
from trafficmond.flows.state import STATE, last_rows
from trafficmond.flows.ticks import Ticks
from trafficmond.flows.turns import connections, starts_of, verdicts
from trafficmond.protocols import FIN, RST

_FIRST_ROWS = 256
_FEW_ROWS = 1 << 14  # beyond these there is room for all at once: what no row is in takes no memory, and none is copied
_GROWTH = 1.5
_EVICT_FRACTION = 16  # make room for at least 1/16 of the capacity at once
_QUIET_FRACTION = 4  # quiet conversations have at most 1/4 of the capacity
_KEY_WORDS = 12  # 32-bit words of a canonical key
_INNER_WORDS = 2  # and of `inner`; left out if it is 0 in all rows


class FlowTable:
    """Bidirectional flows of one observer, at most `capacity` of them.

    A flow ends when both sides closed or one reset (after CLOSE_LINGER_S), or after `idle_timeout_s` without a packet.
    A conversation is reported then, and kept for longer (see `state`), so that it is neither new nor ended when it
    continues. A long one is reported every `active_timeout_s`. `seed` makes ids repeatable (tests, offline analysis);
    None uses the system's randomness. `in_order`: deltas of one time come in the order of their packets. Without
    `reporting`, `due` returns nothing, and `update` no flow that only went idle. Counters: `evicted` flows removed
    early for lack of room.
    """

    def __init__(
        self,
        capacity: int,
        idle_timeout_s: float,
        active_timeout_s: float,
        seed: int | None = None,
        *,
        in_order: bool = False,
        reporting: bool = True,
    ) -> None:
        self._reporting = reporting
        self.capacity = max(1, capacity)
        self.evicted = 0
        self._idle = idle_timeout_s
        self._active = active_timeout_s
        self._now = -math.inf
        self._ready: list[Batch] = []
        self._over: list[Batch] = []  # FLOW rows of connections replaced before they were returned

        self._identity = _Identity(seed)
        self._loops = compiled.Loops(self._identity.keys, idle_timeout_s, active_timeout_s, in_order=in_order)
        self._ticks = None if reporting else Ticks(self._loops)
        self._due = -math.inf  # before this nothing is due
        self._count = 0
        self._most = 0  # since the last change of size
        self._rows = empty(STATE, min(_FIRST_ROWS, self.capacity))
        self._deadline = np.full(len(self._rows), math.inf)
        self._quiet = np.zeros(len(self._rows), bool)  # idle, reported, and kept
        self._ids = np.empty(len(self._rows), np.uint64)  # sorted
        self._slots = np.empty(len(self._rows), np.uint32)  # the row of each id

    def set_listening(self, ports: Column) -> None:
        """Sets the ports on which this host accepts TCP connections: of older ones the other host is the initiator."""
        self._loops.set_listening(ports)

    def __len__(self) -> int:
        return self._count

    def configure(self, capacity: int, idle_timeout_s: float, active_timeout_s: float) -> None:
        """Change the limits; flows beyond a smaller capacity are evicted, and so reported."""
        self.capacity = max(1, capacity)
        self._idle, self._active = idle_timeout_s, active_timeout_s
        self._loops.configure(idle_timeout_s, active_timeout_s)
        if self._count > self.capacity:
            self._evict(self._count - self.capacity, np.empty(0, np.int64))
        self._set_deadlines(np.arange(self._count), self._rows[: self._count])

    def update(self, deltas: Batch, now: float) -> Batch:
        """Take in a DELTA batch; return a FLOW row for each flow it changed, and one for each that went idle.

        `ended` is True in one row of a flow only: when it closed, or when it went idle (its d_* are then 0). If one
        connection follows another on the same ports, each has its own row, the earlier one first.
        """
        deltas = np.ascontiguousarray(deltas)
        if self._ticks and now >= self._now and (taken := self._at_once(self._ticks, deltas, now)) is not None:
            return taken
        self._due = -math.inf
        changed = []
        if len(deltas):
            known = self._ids[: self._count]
            ids, side, earliest = self._identity.of(deltas, self._now, known, self._loops)
            # Flows that expired before these packets are over; the packets do not prolong them.
            changed.append(self._expire(min(now, earliest)))
            order, *_ = compiled.groups(ids)
            deltas, ids, side = take(deltas, order), ids[order], side[order]
            for part in self._parts(ids):
                changed += self._absorb(deltas[part], ids[part], side[part])
        self._advance_clock(now)
        changed.append(self._expire(now))
        changed = [rows for rows in changed if len(rows)]
        return join(changed) if changed else empty(FLOW)

    def due(self, now: float, everything: bool = False) -> Batch:
        """The REPORT rows that are due: of flows that ended, were evicted or changed verdict, and of active ones. With
        `everything`, all that is pending (on stop); the flows stay."""
        if self._now <= now < self._due:
            return empty(REPORT)
        self._advance_clock(now)
        self._expire(now)
        live = self._rows[: self._count]
        slots = np.flatnonzero(live["since"] < math.inf if everything else self._deadline[: self._count] <= now)
        end = End.FORCED if everything else End.ACTIVE
        if len(slots) == len(live):  # in place: no second copy of a full table
            self._report(live, end)
            self._set_deadlines(slice(len(live)), live)
        elif len(slots):
            rows = take(live, slots)
            self._report(rows, end)
            put(self._rows, slots, rows)
            self._set_deadlines(slots, rows)
        ready, self._ready = self._ready, []
        return join(ready) if ready else empty(REPORT)

    def pending(self) -> Batch:
        """The REPORT rows of everything pending, as `due` returns with `everything`; nothing changes."""
        live = self._rows[: self._count]
        rows = take(live, np.flatnonzero(live["since"] < math.inf))
        return join([empty(REPORT), *self._ready, *reports(rows, End.FORCED)])

    def _at_once(self, ticks: Ticks, deltas: Batch, now: float) -> Batch | None:
        """`update` and `due` of a usual tick; None, with nothing done, for any other tick."""
        table = self._rows, self._deadline, self._quiet, self._ids, self._slots
        limits = self.capacity, self.capacity // _QUIET_FRACTION
        taken = ticks.take(table, self._count, limits, deltas, (self._now, now, self._due))
        if taken is None:
            return None
        self._now, self._count, self._due = now, taken.flows, taken.due
        self._most = max(self._most, self._count)
        self._shrink()
        return taken.rows

    # ---- looking up ----

    def _parts(self, ids: Column) -> list[slice]:
        """The sorted batch in slices of at most `capacity` flows each: a flood larger than the table stays exact."""
        if len(ids) <= self.capacity or len(starts := starts_of(ids)) <= self.capacity:
            return [slice(None)]
        cuts = [*starts[:: self.capacity].tolist(), len(ids)]
        return [slice(begin, end) for begin, end in itertools.pairwise(cuts)]

    def _find(self, ids: Column) -> tuple[Column, Column]:
        """(found, slot) of each sorted, unique id."""
        if not self._count:
            return np.zeros(len(ids), bool), np.zeros(len(ids), np.int64)
        at = np.minimum(np.searchsorted(self._ids[: self._count], ids), self._count - 1)
        return self._ids[at] == ids, self._slots[at].astype(np.int64)

    # ---- taking in ----

    def _absorb(self, deltas: Batch, ids: Column, side: Column) -> list[Batch]:
        """The FLOW rows of a sorted part; see `_parts`."""
        if not self._loops.takes_turns(deltas, ids, side, self._now):
            batch, _ = self._take_in(deltas, ids, side, opens=True, later=False)
            over, self._over = self._over, []
            return [*over, batch]
        batches: list[Batch] = []
        deltas, turns = connections(deltas, ids, side, self._now)
        for at in turns:
            whole = len(at) == len(deltas)
            rows = (deltas, ids, side) if whole else (take(deltas, at), ids[at], side[at])
            batch, initial = self._absorb_turn(*rows, later=bool(batches))
            if not initial.all():  # no other connection after all: more packets of the one before
                batches[-1] = batches[-1][~np.isin(batches[-1]["id"], batch["id"][~initial])]
            batches.append(batch)
        batches, self._over = [*self._over, *batches], []
        return batches

    def _absorb_turn(self, deltas: Batch, ids: Column, side: Column, *, later: bool) -> tuple[Batch, Column]:
        """(FLOW rows, mask of those that are the first of their connection in this batch)."""
        turn = verdicts(deltas, ids, side)
        if turn is None:
            return self._take_in(deltas, ids, side, opens=True, later=later)
        chosen = turn == 0
        batch, initial = self._take_in(take(deltas, chosen), ids[chosen], side[chosen], opens=True, later=later)
        for number in range(1, int(turn.max()) + 1):
            chosen = turn == number
            rest, _ = self._take_in(take(deltas, chosen), ids[chosen], side[chosen], opens=False, later=True)
            put(batch, np.searchsorted(batch["id"], rest["id"]), rest)
        return batch, initial

    def _take_in(self, deltas: Batch, ids: Column, side: Column, *, opens: bool, later: bool) -> tuple[Batch, Column]:
        """Merge deltas with one verdict word per flow and side. `opens`: they may open other connections. `later`: they
        are not the first of their flows in this batch."""
        starts = starts_of(ids)
        flow_ids = ids[starts]
        found, slots = self._find(flow_ids)
        lacking = self._count + np.count_nonzero(~found) - self.capacity
        if lacking > 0:
            self._evict(lacking, slots[found])
            found, slots = self._find(flow_ids)

        self._make_room(self._count + int(np.count_nonzero(~found)))
        table, fresh = (self._rows, self._deadline, self._quiet), self._rows[self._count :]
        into = self._loops.merge(table, (deltas, ids, side), (found, slots, starts), fresh, opens=opens, later=later)
        if len(into.reopened):  # another connection replaced these
            self._report(into.reopened, End.CLOSED)
            self._over.append(last_rows(into.reopened[~into.reopened["closed"]]))
        if len(into.reported):
            self._report(into.reported, End.ACTIVE)
        self._insert(flow_ids[~found], into.fresh)
        return into.flows, into.initial

    def _make_room(self, need: int) -> None:
        if need > len(self._rows):
            more = max(need, int(len(self._rows) * _GROWTH))
            self._resize(min(self.capacity, more) if more < _FEW_ROWS else self.capacity)

    def _insert(self, ids: Column, rows: Batch) -> None:
        """Add new flows, whose ids are sorted and not in the table, and whose `rows` follow the others."""
        if not len(ids):
            return
        need = self._count + len(ids)
        at = np.searchsorted(self._ids[: self._count], ids)
        self._ids[:need] = np.insert(self._ids[: self._count], at, ids)
        new = np.arange(self._count, need, dtype=np.uint32)
        self._slots[:need] = np.insert(self._slots[: self._count], at, new)
        self._set_deadlines(slice(self._count, need), rows)
        self._count = need
        self._most = max(self._most, need)

    def _set_deadlines(self, slots: Column | slice, rows: Batch) -> None:
        """Set when each row must be checked again: idle, closed or quiet for long enough, or active for long."""
        self._quiet[slots] = False
        self._due = -math.inf
        self._deadline[slots] = self._loops.deadlines(np.ascontiguousarray(rows))[0]

    def _kept(self, rows: Batch) -> Column:
        return self._loops.deadlines(rows)[1]

    # ---- expiry ----

    def _advance_clock(self, now: float) -> None:
        """Advance to `now`. After a step backwards deadlines of the old clock no longer count."""
        if now < self._now and self._count:
            self._due = -math.inf
            latest = now + max(self._idle, self._active)
            np.minimum(self._deadline[: self._count], latest, out=self._deadline[: self._count])
            live = self._rows[: self._count]
            ahead = live["last"] > now
            live["last"][ahead] = now
            pending = (live["since"] > now) & (live["since"] < math.inf)
            live["since"][pending] = now
        self._now = now

    def _expire(self, now: float) -> Batch:
        """Remove the flows that are over; return FLOW rows of those that went idle."""
        slots = np.flatnonzero(self._deadline[: self._count] <= now)
        if not len(slots):
            return empty(FLOW)
        rows = take(self._rows, slots)
        over = rows["last"] + self._kept(rows) <= now
        self._rest(slots[~over & (rows["last"] + self._idle <= now)])
        closed = rows["closed"]
        self._remove(slots[over & closed], End.CLOSED)
        # Removal moves rows: find the idle ones again by their ids.
        ids = np.sort(rows["id"][over & ~closed])
        gone = self._remove(self._find(ids)[1], End.IDLE) if len(ids) else empty(STATE)
        self._forget_quiet()
        if not self._reporting:
            gone = take(gone, (gone["tcp_flags"] | gone["reply_tcp_flags"]) & (FIN | RST) != 0)
        return last_rows(gone)

    def _rest(self, slots: Column) -> None:
        """Report the pending part of conversations that went quiet, and keep them."""
        rows = take(self._rows, slots)
        self._report(rows, End.IDLE)
        put(self._rows, slots, rows)
        self._set_deadlines(slots, rows)
        self._quiet[slots] = True

    def _forget_quiet(self) -> None:
        """Limit quiet conversations to their share of the table; the least valuable are removed first."""
        most = self.capacity // _QUIET_FRACTION
        quiet = np.flatnonzero(self._quiet[: self._count])
        if len(quiet) <= most:
            return
        count = min(len(quiet), len(quiet) - most + most // _EVICT_FRACTION)
        self._remove(quiet[np.argpartition(self._worth(quiet), count - 1)[:count]], End.LACK_OF_RESOURCES)
        self.evicted += count

    def _worth(self, slots: Column | slice) -> Column:
        """The value of flows: last packet plus the time that their kind is kept, so unanswered ones go first."""
        rows = take(self._rows, slots)
        return np.asarray(rows["last"] + np.where(rows["reply_packets"] > 0, self._kept(rows), 0.0))

    def _evict(self, lacking: int, keep: Column) -> None:
        """Evict the least valuable flows: a flood's own flows first."""
        score = self._worth(slice(self._count))
        score[keep] = math.inf
        count = min(max(lacking, self.capacity // _EVICT_FRACTION), self._count - len(keep))
        self._remove(np.argpartition(score, count - 1)[:count], End.LACK_OF_RESOURCES)
        self.evicted += count

    def _report(self, rows: Batch, end: End) -> None:
        """Queue the pending part of the rows, and clear it in them."""
        if self._reporting:
            self._ready.extend(reports(rows, end))
        else:
            rows["since"] = math.inf
            rows["p_packets"] = rows["p_bytes"] = rows["p_reply_packets"] = rows["p_reply_bytes"] = 0

    def _remove(self, slots: Column, end: End) -> Batch:
        """Report and drop rows; the last rows move into the holes, so that rows stay dense. Returns the STATE rows."""
        if not len(slots):
            return empty(STATE)
        gone = take(self._rows, slots)
        self._report(gone, end)
        left = self._count - len(slots)
        stays = np.ones(self._count, bool)
        stays[slots] = False
        keep = stays[self._slots[: self._count]]
        ids, slots_of = self._ids[:left], self._slots[:left]
        ids[:], slots_of[:] = self._ids[: self._count][keep], self._slots[: self._count][keep]
        holes = np.flatnonzero(~stays[:left])
        movers = left + np.flatnonzero(stays[left:])
        put(self._rows, holes, take(self._rows, movers))
        self._deadline[holes], self._quiet[holes] = self._deadline[movers], self._quiet[movers]
        slots_of[np.searchsorted(ids, self._rows["id"][holes])] = holes
        self._count = left
        self._shrink()
        return gone

    def _shrink(self) -> None:
        if self._count < self._most // 4 and self._most > _FIRST_ROWS:
            self._resize(max(_FIRST_ROWS, self._count * 2))

    def _resize(self, size: int) -> None:
        self._most = self._count
        for name in ("_rows", "_deadline", "_quiet", "_ids", "_slots"):
            grown = np.empty(size, getattr(self, name).dtype)
            put(grown, slice(self._count), getattr(self, name)[: self._count])
            setattr(self, name, grown)


class _Identity:
    """The flow of a delta: its 64-bit id, and whether its direction is swapped.

    Senders choose the fields behind an id, so ids are a keyed universal hash: without the key nobody can make two flows
    collide with a probability above 2**-64 a pair: the multilinear hash family, mod 2**64, upper half, twice, strongly
    universal for 32-bit words (Carter and Wegman 1981; Lemire and Kaser 2014).
    """

    def __init__(self, seed: int | None) -> None:
        size = 16 * (1 + _KEY_WORDS + _INNER_WORDS)
        if seed is None:
            drawn = os.urandom(size)
        else:
            from random import Random

            drawn = Random(seed).randbytes(size)
        self.keys = np.frombuffer(drawn, np.uint64).reshape(-1, 2)

    def of(self, deltas: Batch, before: float, known: Column, loops: compiled.Loops) -> tuple[Column, Column, float]:
        """(id, swapped) of each delta, and when the first began; `before`: last reading, `known`: the flows' ids."""
        ids, swapped, fragments, earliest = loops.identify(deltas, before)
        if fragments:  # ICMP fragments belong to their ping, if it is known or in this batch
            later = later_fragments(deltas)
            at, others = np.flatnonzero(later), np.append(known, ids[~later])
            for echoes in reversed(as_echoes(deltas[at])):
                echo_ids, echo_swapped, *_ = loops.identify(echoes, before)
                part = np.isin(echo_ids, others)
                ids[at[part]], swapped[at[part]] = echo_ids[part], echo_swapped[part]
        return ids, swapped, earliest

"""What the flow table's loops in C do, again with numpy: the referee that they are held against."""

from __future__ import annotations

import math

import numpy as np
from flow_referee_rows import from_service, icmp_role, kept_s, rank, says_more

from trafficmond import abi
from trafficmond.flows.batch import Batch, Column, empty, put, take
from trafficmond.flows.canonical import MATE, canonical, later_fragments
from trafficmond.flows.compiled import Merged
from trafficmond.flows.state import CLOSE_LINGER_S, STATE, as_flows
from trafficmond.flows.table import FlowTable
from trafficmond.flows.turns import TIE_S, begins, opening
from trafficmond.protocols import ACK, FIN, RST, SYN, TCP
from trafficmond.verdict import is_drop

_BLOCK_FLOWS = 64  # small, so that there are several
_KEY_WORDS = 12  # 32-bit words of a canonical key
_LOW32 = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


class Table(FlowTable):
    """A flow table that makes its rows with numpy."""

    def __init__(
        self, capacity: int, idle_s: float, active_s: float, seed: int, *, in_order: bool, reporting: bool
    ) -> None:
        super().__init__(capacity, idle_s, active_s, seed, in_order=in_order, reporting=reporting)
        self._loops = Loops(self._identity.keys, idle_s, active_s, in_order=in_order)  # type: ignore[assignment]
        self._ticks = None


class Loops:
    """In the place of `compiled.Loops`."""

    def __init__(self, keys: Column, idle_s: float, active_s: float, *, in_order: bool) -> None:
        self.keys, self._in_order, self._before = keys, in_order, -math.inf
        self.configure(idle_s, active_s)

    def configure(self, idle_s: float, active_s: float) -> None:
        self._idle, self._active = idle_s, active_s

    def identify(self, deltas: Batch, before: float) -> tuple[Column, Column, int, float]:
        self._before = before
        fragments = int(np.count_nonzero(later_fragments(deltas)))
        return *self._hash(deltas), fragments, float(np.min(begins(deltas, before), initial=math.inf))

    def takes_turns(self, _deltas: Batch, _ids: Column, _side: Column, before: float) -> bool:
        """Whoever asks may always look for turns, and finds one."""
        self._before = before
        return True

    def deadlines(self, rows: Batch) -> tuple[Column, Column]:
        kept = kept_s(rows, self._idle)
        tell = np.where(rows["since"] < math.inf, np.minimum(kept, self._idle), kept)
        return np.minimum(rows["last"] + tell, rows["since"] + self._active), kept

    def merge(
        self,
        table: tuple[Batch, Column, Column],
        of_deltas: tuple[Batch, Column, Column],
        of_groups: tuple[Column, Column, Column],
        fresh_rows: Batch,
        *,
        opens: bool,
        later: bool,
    ) -> Merged:
        (deltas, ids, side), (found, slots, starts) = of_deltas, of_groups
        table_rows, deadline, quiet = table
        ends = np.append(starts, len(ids))
        into = Merged(len(starts), fresh_rows)
        into.initial = np.full(len(starts), not later)
        fresh, replaced, told = [], [], []
        for begin in range(0, len(starts), _BLOCK_FLOWS):
            block = slice(begin, min(begin + _BLOCK_FLOWS, len(starts)))
            of = slice(ends[block.start], ends[block.stop])
            groups = Groups(deltas[of], ids[of], side[of], self._before, in_order=self._in_order)
            known, at = found[block], slots[block][found[block]]
            rows = np.empty(len(known), STATE)
            put(rows, known, take(table_rows, at))
            put(rows, ~known, new_rows(groups, np.flatnonzero(~known)))
            into.initial[block] |= ~known
            reopened = np.flatnonzero(known & groups.reopens(rows, CLOSE_LINGER_S)) if opens else np.empty(0, np.int64)
            if len(reopened):
                replaced.append(take(rows, reopened))
                put(rows, reopened, new_rows(groups, reopened))
                into.initial[block][reopened] = True
            told.append(merge(rows, groups, into.initial[block]))
            old = take(rows, known)
            put(table_rows, at, old)
            deadline[at], quiet[at] = self.deadlines(old)[0], False
            fresh.append(take(rows, ~known))
            put(into.flows, block, as_flows(rows))
        into.fresh, into.reopened, into.reported = (
            np.concatenate([empty(STATE), *each]) for each in (fresh, replaced, told)
        )
        put(fresh_rows, slice(len(into.fresh)), into.fresh)
        return into

    def _hash(self, deltas: Batch) -> tuple[Column, Column]:
        """(id, swapped), block by block for the processor's cache."""
        ids, swapped = np.empty(len(deltas), np.uint64), np.empty(len(deltas), bool)
        for begin in range(0, len(deltas), _BLOCK_FLOWS):
            block = slice(begin, begin + _BLOCK_FLOWS)
            ids[block], swapped[block] = self._hash_block(deltas[block])
        return ids, swapped

    def _hash_block(self, deltas: Batch) -> tuple[Column, Column]:
        """(id, swapped): id by the multilinear hash family, mod 2**64, upper half, twice.

        Strongly universal for 32-bit words (Carter and Wegman 1981; Lemire and Kaser 2014, "Strongly universal
        string hashing is fast"), so each half collides with probability 2**-32 whatever the keys' author chose.
        """
        key = canonical(deltas)
        inner = deltas["inner"]
        words = np.empty((_KEY_WORDS + 2 * bool(inner.any()), len(deltas)), np.uint64)
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
            first, *keys = self.keys[:, half]
            total = np.full(len(deltas), first)
            for word, factor in zip(words, keys, strict=False):
                total += word * factor
            halves.append(total)
        return (halves[0] & ~_LOW32) | halves[1] >> _32, key.swapped


_FIRST_PAYLOAD, _SPOKE_FIRST = abi.BIT_FIRST_PAYLOAD, abi.BIT_SPOKE_FIRST  # about one packet, not an OR
_SURE_LEAD_S = 1e9  # evidence before order: as if it had been seen decades ago
_RANK_S = 1e11  # more than any time

_REPORTED = ("packets", "bytes")  # also counted since the last report, and in this batch

_TWINS = (  # swapped when it turns out that the other side began
    ("src_hi", "dst_hi"),
    ("src_lo", "dst_lo"),
    ("sport", "dport"),
    ("packets", "reply_packets"),
    ("bytes", "reply_bytes"),
    ("payload_bytes", "reply_payload_bytes"),
    ("payload_packets", "reply_payload_packets"),
    ("tcp_flags", "reply_tcp_flags"),
    ("bits", "reply_bits"),
    ("first_flags", "reply_first_flags"),
    ("p_packets", "p_reply_packets"),
    ("p_bytes", "p_reply_bytes"),
    ("verdict", "reply_verdict"),
)


class Groups:
    """A sorted DELTA batch as groups of one flow each, with the evidence of who began it.

    `before` is the time of the previous reading: a record that goes on had none of this batch's packets before it.
    `in_order`: rows that begin at the same time come in the order of their packets.
    """

    def __init__(self, deltas: Batch, ids: Column, side: Column, before: float, *, in_order: bool = False) -> None:
        self.deltas = deltas
        self.row_side = side
        self.starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
        self.ids = ids[self.starts]
        self.of = np.repeat(np.arange(len(self.starts)), np.diff(np.append(self.starts, len(ids))))

        tcp = deltas["proto"] == TCP
        handshake = deltas["first_flags"] & (SYN | ACK)
        asks, answers = icmp_role(deltas)
        asks |= tcp & (handshake == SYN)
        answers |= tcp & (handshake == SYN | ACK)
        sure = asks | answers
        seen = deltas["first"] + np.where(from_service(deltas, in_order) & ~sure | answers, TIE_S, 0.0)
        # A SYN goes before all: a record that goes on may have begun with the connection before.
        seen -= np.where(sure, _SURE_LEAD_S, 0.0) + np.where(opening(deltas), _SURE_LEAD_S, 0.0)
        lead = self.earliest(seen)
        self.lead = lead
        self.sure = sure[lead]
        self.side = side[lead] ^ answers[lead]  # the initiator's
        self.lead_answers = answers[lead]
        # A SYN-ACK that is not of the connection before (bpf/opening.h): the other side agrees that there is another.
        self.agreed = np.logical_or.reduceat(tcp & answers & deltas["new"], self.starts)
        self.known = begins(deltas, before)
        # When each began, as part of this; where a conversation's packets were spread over CPUs, several records of it
        # begin within one tick of the kernel's clock: the handshake's is the first.
        self.began = np.where(deltas["new"], deltas["first"], self.known) - np.where(sure, TIE_S, 0.0)
        self.first_seen = np.minimum.reduceat(self.known, self.starts)

    def earliest(self, when: Column) -> Column:
        """The row of each group with the least `when`."""
        hits = np.flatnonzero(when == np.minimum.reduceat(when, self.starts)[self.of])[::-1]
        rows = np.empty(len(self.starts), np.int64)
        rows[self.of[hits]] = hits
        return rows

    def reopens(self, rows: Batch, linger_s: float) -> Column:
        """Whether each group opens another connection than that of its STATE row.

        That is a SYN after an end was seen of either side, or in what was more than a SYN: after `linger_s` of quiet,
        or if it is answered by a SYN-ACK of its own, be it in the next batch. (Where packets are spread over CPUs, an
        end may be told with an earlier connection.)
        """
        lead = take(self.deltas, self.lead)
        begins_so, goes_on = opening(lead), _goes_on(lead)
        opens = np.flatnonzero(begins_so | goes_on & self.agreed & (lead["first"] > rows["first"] + slack(lead, rows)))
        found = np.zeros(len(rows), bool)
        rows, at = take(rows, opens), self.known[self.lead[opens]]
        seen, reply = rows["tcp_flags"], rows["reply_tcp_flags"]
        over = (seen | reply) & (FIN | RST) != 0
        spoke, later = seen & ACK != 0, at > rows["first"] + TIE_S
        was_open = spoke | (rows["payload_packets"] + rows["reply_payload_packets"] > 0)
        found[opens] = later & (over | was_open & self.agreed[opens]) | spoke & (at - rows["last"] > linger_s)
        return found


def slack(deltas: Batch, rows: Batch) -> Column:
    """How much the first packet of a record may seem to move while a flow lasts: the wall clock drifts."""
    return np.asarray(TIE_S + 1e-3 * np.maximum(deltas["last"] - rows["first"], 0.0))


def _goes_on(deltas: Batch) -> Column:
    """Which deltas are of a record that began with a SYN, in an earlier batch."""
    begun: Column = (deltas["proto"] == TCP) & (deltas["first_flags"] & (SYN | ACK) == SYN) & ~deltas["new"]
    return begun


def new_rows(groups: Groups, chosen: Column) -> Batch:
    """Empty STATE rows for the chosen groups, which the table has no row of."""
    lead = take(groups.deltas, groups.lead[chosen])
    rows = empty(STATE, len(chosen))
    for name in ("proto", "family", "direction", "vlan", "ifindex", "inner", "first_flags", "first_len", "verdict"):
        rows[name] = lead[name]
    rows["reply_verdict"] = lead["verdict"]
    flip = groups.lead_answers[chosen]
    for ours, theirs in (("src_hi", "dst_hi"), ("src_lo", "dst_lo"), ("sport", "dport")):
        rows[ours] = np.where(flip, lead[theirs], lead[ours])
        rows[theirs] = np.where(flip, lead[ours], lead[theirs])
    icmp = np.flatnonzero(flip & (lead["proto"] != TCP))
    rows["sport"][icmp] = MATE[lead["proto"][icmp], lead["sport"][icmp]]
    rows["dport"][icmp] = 0
    rows["direction"] ^= flip
    rows["id"] = groups.ids[chosen]
    rows["side"] = groups.side[chosen]
    rows["sure"] = groups.sure[chosen]
    rows["first"] = rows["last"] = groups.first_seen[chosen]
    rows["reply_first"] = math.nan
    rows["since"] = math.inf
    # A connection that was forgotten goes on: it was opened when its record began, and is not new.
    rows["new"] = True
    resumed = np.flatnonzero((lead["proto"] == TCP) & ~lead["new"] & ~opening(lead))
    rows["new"][resumed] = False
    rows["first"][resumed] = np.minimum(lead["first"], rows["first"])[resumed]
    return rows


def merge(rows: Batch, groups: Groups, initial: Column) -> Batch:
    """Merge the groups into their STATE rows, in place; `initial`: these are the first of the row in this batch.

    Returns copies of those rows, as they were, whose pending part must be reported under the verdict it was
    given before another takes its place; in `rows` that part is cleared.
    """
    deltas, starts, of = groups.deltas, groups.starts, groups.of
    _correct(rows, groups)

    ours = groups.row_side == rows["side"][of]
    mine, theirs = np.flatnonzero(ours), np.flatnonzero(~ours)
    row_of = {}
    for name, picked in (("mine", mine), ("theirs", theirs)):
        row = np.full(len(rows), -1)
        row[of[picked]] = picked
        row_of[name] = row
    spoke, answered = row_of["mine"] >= 0, row_of["theirs"] >= 0

    # What a record saw before this connection is not of it. Of ends only a FIN leaks, and only into packets without
    # payload: what comes after any other begins a record (bpf/opening.h).
    stale = ~deltas["new"] & (deltas["first"] < rows["first"][of] - slack(deltas, rows[of]))
    old = stale & (deltas["payload_packets"] == 0) & (deltas["tcp_flags"] != deltas["first_flags"])
    leaks = {"tcp_flags": np.where(old, FIN, 0), "bits": np.where(stale, _SPOKE_FIRST, 0)}

    # Verdicts, before anything is added to the pending part.
    verdict = np.where(spoke, deltas["verdict"][row_of["mine"]], rows["verdict"])
    reply_verdict = np.where(answered, deltas["verdict"][row_of["theirs"]], rows["reply_verdict"])
    unheard = ~spoke & (rows["packets"] == 0)
    verdict = np.where(unheard, reply_verdict, verdict)
    changed = (verdict != rows["verdict"]) & ((rows["p_packets"] > 0) | (unheard & (rows["p_reply_packets"] > 0)))
    dropped = is_drop(reply_verdict) | is_drop(rows["reply_verdict"]) | is_drop(verdict) | is_drop(rows["verdict"])
    moved = (reply_verdict != rows["reply_verdict"]) | (verdict != rows["verdict"])
    changed |= moved & dropped & (rows["p_reply_packets"] > 0)
    owner = _owners(rows, groups)
    changed |= (rank(rows["owner"]) == rank(owner)) & (rows["owner"] != owner)
    changed = np.flatnonzero(changed & (rows["since"] < math.inf))
    reported = take(rows, changed)
    if len(changed):
        for name in ("p_packets", "p_bytes", "p_reply_packets", "p_reply_bytes"):
            rows[name][changed] = 0
        rows["since"][changed] = math.inf
    rows["verdict"], rows["reply_verdict"] = verdict, reply_verdict
    rows["owner"] = owner

    # Firsts of each side.
    if len(mine):
        silent = spoke & (rows["packets"] == 0)
        at = groups.earliest(np.where(ours, groups.began, math.inf))
        pick = np.flatnonzero(silent)
        rows["first_flags"][pick] = deltas["first_flags"][at[pick]]
        rows["first_len"][pick] = deltas["first_len"][at[pick]]
        rows["bits"][pick] |= deltas["bits"][at[pick]] & _FIRST_PAYLOAD
    if len(theirs):
        pick = np.flatnonzero(answered & (rows["reply_packets"] == 0))
        at = groups.earliest(np.where(ours, math.inf, groups.began))
        rows["reply_first"][pick] = np.where(stale, groups.known, deltas["first"])[at[pick]]
        rows["reply_first_flags"][pick] = deltas["first_flags"][at[pick]]
        rows["reply_bits"][pick] |= deltas["bits"][at[pick]] & _FIRST_PAYLOAD

    # Sums and ORs, a side each.
    for name in ("packets", "bytes", "payload_bytes", "payload_packets"):
        column = np.ascontiguousarray(deltas[name])
        total = np.add.reduceat(column, starts)
        of_mine = np.add.reduceat(column * ours, starts)
        for prefix, amount in (("", of_mine), ("reply_", total - of_mine)):
            rows[prefix + name] += amount
            if name in _REPORTED:
                rows["p_" + prefix + name] += amount
                rows["d_" + prefix + name] = np.where(initial, amount, rows["d_" + prefix + name] + amount)
    for name, mask in (("tcp_flags", 0xFF), ("bits", 0xFF & ~_FIRST_PAYLOAD)):
        column = deltas[name] & np.uint8(mask) & ~leaks[name].astype(np.uint8)
        rows[name] |= np.bitwise_or.reduceat(column * ours, starts)
        rows["reply_" + name] |= np.bitwise_or.reduceat(column * ~ours, starts)

    # Times and ends.
    fresh = rows["new"] & (rows["packets"] + rows["reply_packets"] == rows["d_packets"] + rows["d_reply_packets"])
    quiet = rows["since"] == math.inf
    rows["since"] = np.where(quiet, np.where(fresh, rows["first"], groups.first_seen), rows["since"])
    rows["last"] = np.maximum(rows["last"], np.maximum.reduceat(deltas["last"], starts))
    flags, reply_flags = rows["tcp_flags"], rows["reply_tcp_flags"]
    closed = (rows["proto"] == TCP) & (((flags | reply_flags) & RST) | (flags & reply_flags & FIN) != 0)
    closes = closed & ~rows["closed"]
    rows["ended"] = closes | (rows["ended"] & ~initial)
    rows["closed"] = closed
    rows["new"] = fresh
    return reported


def _owners(rows: Batch, groups: Groups) -> Column:
    """Whose each row is after this batch: a unit goes before the kernel, which ends a unit's connections and answers
    for nobody's, and of two units the one that sent last; a process that is known before one that is not."""
    owners = groups.deltas["owner"]
    if not owners.any():
        return rows["owner"].copy()
    ranks = rank(owners)
    best = groups.earliest(-(ranks * _RANK_S + groups.deltas["last"]))
    keeps = (ranks[best] < rank(rows["owner"])) | says_more(rows["owner"], owners[best])
    found: Column = np.where(keeps, rows["owner"], owners[best])
    return found


def _correct(rows: Batch, groups: Groups) -> None:
    """Turn flows round whose initiator was only guessed, where a SYN or SYN-ACK now says otherwise."""
    wrong = np.flatnonzero(groups.sure & ~rows["sure"] & (groups.side != rows["side"]))
    if len(wrong):
        turned = take(rows, wrong)
        for one, other in _TWINS:
            turned[one], turned[other] = rows[other][wrong], rows[one][wrong]
        answered = turned["reply_packets"] > 0
        turned["reply_first"] = np.where(answered, turned["first"], math.nan)
        turned["direction"] ^= 1
        turned["side"] = groups.side[wrong]
        put(rows, wrong, turned)
    rows["sure"] |= groups.sure

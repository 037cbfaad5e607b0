"""Flow records as the daemon would have seen them: a row a direction, and long flows in portions over their time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from trafficmond import abi
from trafficmond.analyze.rows import RECORD
from trafficmond.flows.batch import DELTA, ENDPOINTS, Batch, Column, empty, join, take
from trafficmond.flows.canonical import icmp_mate
from trafficmond.model import Direction
from trafficmond.protocols import ACK, ICMP, ICMPV6, PSH, SYN, TCP

STEP_S = 10.0
"""A long flow comes in a portion each so many seconds. One with fewer than a packet in two of them is not spread: an
idle timeout would break it into many flows, at regular intervals that are none of the traffic's own."""

_AT_ONCE = 65536  # rows of long flows that are made at a time
_PORTIONS_MAX = 8640  # a day; the rest of a longer flow comes with its last portion
_SEGMENT = 1448  # payload of a full TCP segment on Ethernet, to guess how many packets carried payload
_OPENING = SYN | ACK | PSH
_ANSWER_S = 0.001  # formats do not say when the first answer came: after the flow table's tie, before anything else


def spread(batches: Iterable[Batch]) -> Iterator[Batch]:
    """DELTA rows of RECORD rows that come by their start: a row a direction, and of long flows one a STEP_S."""
    long = _Long()
    for batch in batches:
        portions = _portions(batch)
        yield _deltas(take(batch, portions == 1))
        long.add(take(batch, portions > 1))
        yield from long.until(float(batch["start"][-1]))
    yield from long.until(math.inf)


class _Long:
    """Flows that come in portions, and how many of each were given."""

    def __init__(self) -> None:
        self._rows = empty(RECORD)
        self._given = np.empty(0, np.int64)

    def add(self, rows: Batch) -> None:
        self._rows = join([self._rows, rows])
        self._given = np.concatenate([self._given, np.zeros(len(rows), np.int64)])

    def until(self, horizon: float) -> Iterator[Batch]:
        """The portions that begin up to `horizon`, at most about _AT_ONCE rows at a time."""
        while len(self._rows):
            start, portions = self._rows["start"], _portions(self._rows)
            due = np.clip(np.floor((horizon - start) / STEP_S) + 1, self._given, portions)
            if (due - self._given).sum() > _AT_ONCE:
                next_at = (start + self._given * STEP_S)[due > self._given].min()
                reach = next_at + STEP_S * max(1, _AT_ONCE // len(start))
                due = np.clip(np.floor((reach - start) / STEP_S) + 1, self._given, due)
            missing = due.astype(np.int64) - self._given
            if not missing.any():
                return
            which = np.repeat(np.arange(len(start)), missing)
            number = np.arange(len(which)) - np.repeat(np.cumsum(missing) - missing, missing) + self._given[which]
            yield _deltas(self._rows[which], number, portions[which])
            self._given = self._given + missing
            left = self._given < portions
            self._rows, self._given = self._rows[left], self._given[left]


def _portions(rows: Batch) -> Column:
    """In how many portions each flow comes: one each STEP_S, no two in a row empty; 1 if it is short or sparse."""
    wanted = np.ceil((rows["end"] - rows["start"]) / STEP_S)
    packets = np.maximum(rows["packets"], rows["reply_packets"]).astype(np.float64)
    portions: Column = np.where((wanted > 1) & (2 * packets >= wanted), np.minimum(wanted, _PORTIONS_MAX), 1).astype(
        np.int64
    )
    return portions


def _deltas(rows: Batch, number: Column | int = 0, portions: Column | int = 1) -> Batch:
    """The rows of both directions for portion `number` of each flow. Flags that close come with the last one.

    Packets are shared out evenly and bytes by the packets, so that all portions together hold both exactly.
    """
    opening, closing = np.equal(number, 0), np.equal(np.add(number, 1), portions)
    at = rows["start"] + np.multiply(number, STEP_S)
    seen = np.where(closing, np.minimum(rows["end"], at + STEP_S), at)
    out = []
    for prefix in ("", "reply_"):
        total = rows[prefix + "packets"].astype(np.int64)
        before, after = total * number // portions, total * np.add(number, 1) // portions
        if not prefix:  # who began sends a packet in the first portion, however few there are
            before, after = (
                np.where(np.equal(part, 0), 0, np.maximum(sent, np.minimum(total, 1)))
                for part, sent in ((number, before), (np.add(number, 1), after))
            )
        packets = (after - before).astype(np.uint64)
        octets, payload = (
            (_part(rows[prefix + name], after, total) - _part(rows[prefix + name], before, total)).astype(np.uint64)
            for name in ("bytes", "payload_bytes")
        )
        delta = empty(DELTA, len(rows))
        for name, *_ in ENDPOINTS:
            delta[name] = rows[name]
        delta["first"] = rows["start"]
        delta["last"] = seen
        if prefix:
            _turn(delta)
            delta["bits"] = rows["reply_bits"]
        delta["packets"], delta["bytes"], delta["payload_bytes"] = packets, octets, payload
        delta["payload_packets"] = np.minimum(packets, (payload + _SEGMENT - 1) // _SEGMENT)
        delta["first_len"] = delta["last_len"] = np.minimum(octets // np.maximum(packets, 1), 0xFFFF)
        flags = rows[prefix + "tcp_flags"]
        delta["tcp_flags"] = np.where(closing | (total == 1), flags, flags & _OPENING)
        delta["first_flags"] = rows[prefix + "first_flags"]
        datagrams = (rows["proto"] != TCP) & (rows[prefix + "payload_bytes"] > 0)
        delta["bits"] |= np.where(datagrams, abi.BIT_FIRST_PAYLOAD, 0).astype(np.uint8)
        delta["new"] = opening
        out.append(take(delta, packets > 0))
    return join(out)


def _part(column: Column, packets: Column, total: Column) -> Column:
    """What the first `packets` of `total` hold of a sum, rounded down; in two steps, so that no product overflows."""
    whole, rest = np.divmod(column.astype(np.int64), np.maximum(total, 1))
    part: Column = whole * packets + rest * packets // np.maximum(total, 1)
    return part


def _turn(delta: Batch) -> None:
    """Makes rows the responder's, whose first packet came a little after the initiator's."""
    for one, other in (("src_hi", "dst_hi"), ("src_lo", "dst_lo")):
        delta[one], delta[other] = delta[other].copy(), delta[one].copy()
    icmp = (delta["proto"] == ICMP) | (delta["proto"] == ICMPV6)
    mate = icmp_mate(delta["proto"], delta["sport"])
    sport = np.where(icmp, np.where(mate >= 0, mate, delta["sport"]), delta["dport"])
    delta["dport"] = np.where(icmp, np.where(mate >= 0, 0, delta["dport"]), delta["sport"])
    delta["sport"] = sport
    delta["direction"] = np.where(delta["direction"] == Direction.INGRESS, Direction.EGRESS, Direction.INGRESS)
    delta["first"] += _ANSWER_S
    delta["last"] = np.maximum(delta["last"], delta["first"])

"""Turns flow records into the rows that the daemon would have seen: one for each direction, long flows in portions."""

import math
from collections.abc import Iterable, Iterator

import numpy as np

from trafficmond import abi
from trafficmond.analyze.rows import RECORD
from trafficmond.flows.batch import DELTA, ENDPOINTS, Batch, Column, empty, join, take
from trafficmond.flows.canonical import reply_ports
from trafficmond.flows.state import ESTABLISHED_S
from trafficmond.model import Direction
from trafficmond.protocols import ACK, ICMP, ICMPV6, PSH, SYN, TCP

STEP_S = 10.0
"""A long flow is split into portions of this many seconds. It stays whole if it has fewer than one packet in two
portions: an idle timeout would end it again and again, at regular intervals that the traffic does not have. A TCP
connection does not end so, and has a portion at its beginning, one at its end, and those that keep it known between."""
DENSE_STEP_S = 1.0
"""The same for many pings, and datagrams without an answer: they may be a flood, whose rate is that of its own time."""

_PAUSE_S = ESTABLISHED_S / 2
_AT_ONCE = 65536  # rows of long flows that are made at a time
_DAY_S = 86400.0  # a longer flow has its rest in the last portion
_DENSE = 50  # packets a second: fewer make no flood
_ONE_WAY = 20  # packets for each one back
_SEGMENT = 1448  # payload of a full TCP segment on Ethernet, to estimate how many packets had payload
_OPENING = SYN | ACK | PSH
_ANSWER_S = 0.001  # assumed delay of the first answer: after ties in the flow table, before all else


def spread(batches: Iterable[Batch]) -> Iterator[Batch]:
    """DELTA rows of RECORD rows sorted by start: one row for each direction, and for each STEP_S of a long flow."""
    long = _Long()
    for batch in batches:
        portions, _ = _portions(batch)
        yield _deltas(take(batch, portions == 1))
        long.add(take(batch, portions > 1))
        yield from long.until(float(batch["start"][-1]))
    yield from long.until(math.inf)


class _Long:
    """Flows that are split, and how many portions of each were yielded."""

    def __init__(self) -> None:
        self._rows = empty(RECORD)
        self._given = np.empty(0, np.int64)

    def add(self, rows: Batch) -> None:
        self._rows = join([self._rows, rows])
        self._given = np.concatenate([self._given, np.zeros(len(rows), np.int64)])

    def until(self, horizon: float) -> Iterator[Batch]:
        """Yields the portions that begin up to `horizon`, in batches of about _AT_ONCE rows."""
        while len(self._rows):
            start, (portions, step) = self._rows["start"], _portions(self._rows)
            due = np.clip(np.floor((horizon - start) / step) + 1, self._given, portions)
            if (due - self._given).sum() > _AT_ONCE:
                next_at = (start + self._given * step)[due > self._given].min()
                reach = next_at + DENSE_STEP_S * max(1, _AT_ONCE // len(start))
                due = np.clip(np.floor((reach - start) / step) + 1, self._given, due)
            missing = due.astype(np.int64) - self._given
            if not missing.any():
                return
            which = np.repeat(np.arange(len(start)), missing)
            number = np.arange(len(which)) - np.repeat(np.cumsum(missing) - missing, missing) + self._given[which]
            yield _deltas(take(self._rows, which), number)
            self._given = self._given + missing
            left = self._given < portions
            self._rows, self._given = take(self._rows, left), self._given[left]


def _portions(rows: Batch) -> tuple[Column, Column]:
    """(number, step) of the portions of each flow: one each `step` seconds, without two empty ones in a row; 1 if it is
    short, or sparse and no connection."""
    lasts, tcp = rows["end"] - rows["start"], rows["proto"] == TCP
    stays = tcp & (rows["tcp_flags"] & rows["reply_tcp_flags"] & ACK != 0)
    least, most = (of(rows["packets"], rows["reply_packets"]).astype(np.float64) for of in (np.minimum, np.maximum))
    poured = (most >= _ONE_WAY * least) | (rows["proto"] == ICMP) | (rows["proto"] == ICMPV6)  # pings, answered or not
    dense = ~tcp & poured & (most >= _DENSE * lasts)
    step = np.where(dense, DENSE_STEP_S, STEP_S)
    wanted = np.ceil(lasts / step)
    split = 2 * most >= wanted
    pauses = np.maximum(np.ceil(np.minimum(lasts, _DAY_S) / _PAUSE_S), 1)
    pauses = np.where(pauses < least, pauses, 1)
    idle = ~split & stays & (least > 1)
    number = np.where(split & (wanted > 1), np.minimum(wanted, np.floor(_DAY_S / step)), np.where(idle, pauses + 1, 1))
    return number.astype(np.int64), np.where(idle, np.minimum(lasts, _DAY_S) / pauses, step)


def _deltas(rows: Batch, number: Column | int = 0) -> Batch:
    """The rows of both directions for portion `number` of each flow. Flags that close the flow are in the last portion.

    Packets are divided evenly, and bytes in proportion to packets, so that the sums over all portions are exact.
    """
    portions, step = _portions(rows)
    opening, closing = np.equal(number, 0), np.equal(np.add(number, 1), portions)
    at = rows["start"] + np.multiply(number, step)
    seen = np.where(portions == 1, rows["end"], np.where(closing, np.minimum(rows["end"], at + step), at))
    out = []
    for prefix in ("", "reply_"):
        total = rows[prefix + "packets"].astype(np.int64)
        before, after = total * number // portions, total * np.add(number, 1) // portions
        if not prefix:  # the initiator has a packet in the first portion, however few it sent
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
            _swap(delta)
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
        began = opening & (total == 0) & (prefix == "")  # even one that sent nothing
        out.append(take(delta, (packets > 0) | began))
    return join(out)


def _part(column: Column, packets: Column, total: Column) -> Column:
    """The part of a sum for the first `packets` of `total`, rounded down; in two steps, so no product overflows."""
    whole, rest = np.divmod(column.astype(np.int64), np.maximum(total, 1))
    return np.asarray(whole * packets + rest * packets // np.maximum(total, 1))


def _swap(delta: Batch) -> None:
    """Turns rows into those of the responder, whose first packet came a little after the initiator's."""
    for one, other in (("src_hi", "dst_hi"), ("src_lo", "dst_lo")):
        delta[one], delta[other] = delta[other].copy(), delta[one].copy()
    delta["sport"], delta["dport"] = reply_ports(delta)
    delta["direction"] = np.where(delta["direction"] == Direction.INGRESS, Direction.EGRESS, Direction.INGRESS)
    delta["first"] += _ANSWER_S
    delta["last"] = np.maximum(delta["last"], delta["first"])

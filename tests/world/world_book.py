"""Synthetic conversations by the column: what the roles of a house and its attackers write, as RECORD batches.

A `Book` is one run's traffic. Its methods take scalars or arrays that numpy broadcasts together; times are seconds
since `MONDAY`, sizes are payload bytes. Everything random comes from the book's own generator, so a seed is a world.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np
import numpy.typing as npt

from trafficmond import abi
from trafficmond.analyze.rows import RECORD
from trafficmond.flows.batch import V4_MAPPED, Batch
from trafficmond.model import Action, Direction
from trafficmond.protocols import ACK, FIN, ICMP, PSH, RST, SYN, TCP, UDP
from trafficmond.verdict import verdict_word

MONDAY = 1_699_833_600.0
"""Epoch seconds of a Monday's midnight (2023-11-13, UTC): when every world begins."""

MINUTE, HOUR, DAY, WEEK = 60.0, 3600.0, 86400.0, 604800.0
ECHO = 8  # ICMP type
MSS = 1448  # payload of a full segment: Ethernet's 1500 bytes less 20 of IPv4, 20 of TCP and 12 of time stamps
EPHEMERAL = (32768, 61000)  # Linux: net.ipv4.ip_local_port_range

Times = npt.NDArray[np.float64]
Value = Any  # a number, or an array of them

_SYN_BYTES, _ACK_BYTES, _DATAGRAM_BYTES, _LINK_BYTES = 74, 66, 42, 14


def host(text: str) -> int:
    """An IPv4 address as a number."""
    return int(ipaddress.IPv4Address(text))


class Book:
    """Conversations, written down in any order."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self._batches: list[Batch] = []

    def rows(self) -> Batch:
        """Everything written so far, by start."""
        rows = np.concatenate([np.empty(0, RECORD), *self._batches])
        rows = rows[np.argsort(rows["start"], kind="stable")]
        self._batches = [rows]
        return rows

    # ---- chance ----

    def ports(self, count: int) -> npt.NDArray[np.int64]:
        """Source ports as a kernel hands them out."""
        return self.rng.integers(*EPHEMERAL, count)

    def public(self, count: int) -> npt.NDArray[np.int64]:
        """Distinct addresses of the public Internet, in networks that are nobody's private space."""
        found = np.unique(self.rng.integers(host("23.0.0.0"), host("99.255.255.255"), 2 * count + 16))
        self.rng.shuffle(found)
        return found[:count]

    def heavy(self, count: int, median: float, shape: float = 1.2, most: float = 2e9) -> npt.NDArray[np.int64]:
        """Sizes with a Pareto tail: 1.0 to 1.3 for files on the web (Crovella and Bestavros, ToN 1997)."""
        scale = median / 2 ** (1 / shape)
        return np.minimum(scale * (1 + self.rng.pareto(shape, count)), most).astype(np.int64)

    def poisson(self, begin: float, end: float, per_day: float) -> Times:
        """Moments without memory between two times."""
        number = self.rng.poisson(per_day * (end - begin) / DAY)
        return np.sort(self.rng.uniform(begin, end, number))

    def rhythm(self, begin: float, end: float, every: float, jitter: float = 0.0) -> Times:
        """Moments `every` seconds, each off by up to `jitter` of that; the clock itself does not drift."""
        beats = np.arange(begin + self.rng.uniform(0, every), end, every)
        return np.sort(beats + self.rng.uniform(-jitter, jitter, len(beats)) * every)

    def waking(self, day: int, per_day: float, begin: float = 8.0, end: float = 23.0) -> Times:
        """Moments at which a person sits there: evenings more than mornings."""
        hours = begin + (end - begin) * self.rng.beta(2.0, 1.5, self.rng.poisson(per_day))
        return np.sort(day * DAY + hours * HOUR)

    # ---- conversations ----

    def tcp(
        self,
        at: Value,
        src: Value,
        dst: Value,
        dport: Value,
        sent: Value = 0,
        got: Value = 0,
        lasts: Value = 0.2,
        *,
        sport: Value = None,
        greets: bool = False,
        ends: bool = True,
    ) -> None:
        """Connections that were accepted; `greets`: the server speaks first, as SSH and SMTP do."""
        rows = self._blank(at, src, dst, dport, sport, TCP)
        mine, theirs = (np.broadcast_to(np.asarray(each, np.int64), len(rows)) for each in (sent, got))
        up, down = -(-mine // MSS), -(-theirs // MSS)
        rows["end"] = rows["start"] + lasts
        rows["payload_bytes"], rows["reply_payload_bytes"] = mine, theirs
        rows["packets"] = 3 + up + (down + 1) // 2
        rows["reply_packets"] = 2 + down + (up + 1) // 2
        for prefix in ("", "reply_"):
            rows[prefix + "bytes"] = rows[prefix + "payload_bytes"] + _ACK_BYTES * rows[prefix + "packets"] + 8
        closing = FIN if ends else 0
        rows["tcp_flags"] = SYN | ACK | closing | np.where(mine > 0, PSH, 0)
        rows["reply_tcp_flags"] = SYN | ACK | closing | np.where(theirs > 0, PSH, 0)
        rows["first_flags"], rows["reply_first_flags"] = SYN, SYN | ACK
        rows["reply_bits"] = abi.BIT_SPOKE_FIRST if greets else 0
        self._batches.append(rows)

    def questions(
        self, at: Value, src: Value, dst: Value, dport: Value, count: int, sent: int, got: int, lasts: Value
    ) -> None:
        """Connections in which so many questions are asked and answered, a segment each, of `sent` and `got` bytes."""
        rows = self._blank(at, src, dst, dport, None, TCP)
        rows["end"] = rows["start"] + lasts
        rows["payload_bytes"], rows["reply_payload_bytes"] = count * sent, count * got
        rows["packets"], rows["reply_packets"] = count + 3, count + 2
        for prefix in ("", "reply_"):
            rows[prefix + "bytes"] = rows[prefix + "payload_bytes"] + _ACK_BYTES * rows[prefix + "packets"] + 8
        rows["tcp_flags"] = rows["reply_tcp_flags"] = SYN | ACK | PSH | FIN
        rows["first_flags"], rows["reply_first_flags"] = SYN, SYN | ACK
        self._batches.append(rows)

    def trickle(
        self, at: Value, src: Value, dst: Value, dport: Value, first: int, each: int, every: float, lasts: float
    ) -> None:
        """Connections that send `first` bytes, then `each` every so often, get nothing and are not closed."""
        pieces = 1 + int(lasts // every)
        rows = self._blank(at, src, dst, dport, None, TCP)
        rows["end"] = rows["start"] + lasts
        rows["payload_bytes"] = first + each * (pieces - 1)
        rows["packets"], rows["reply_packets"] = 2 + pieces, 1 + pieces
        rows["bytes"] = rows["payload_bytes"] + _ACK_BYTES * rows["packets"]
        rows["reply_bytes"] = _ACK_BYTES * rows["reply_packets"]
        rows["tcp_flags"], rows["first_flags"] = SYN | ACK | PSH, SYN
        rows["reply_tcp_flags"] = rows["reply_first_flags"] = SYN | ACK
        self._batches.append(rows)

    def crumbs(self, at: Value, src: Value, dst: Value, dport: Value, first: int, each: int, every: float,
               lasts: float) -> None:  # fmt: skip
        """Connections that ask once, get `first` bytes and then `each` every so often, and are not closed."""
        pieces = 1 + int(lasts // every)
        rows = self._blank(at, src, dst, dport, None, TCP)
        rows["end"] = rows["start"] + lasts
        rows["payload_bytes"], rows["reply_payload_bytes"] = 250, first + each * (pieces - 1)
        rows["packets"], rows["reply_packets"] = 2 + pieces, 2 + pieces
        for prefix in ("", "reply_"):
            rows[prefix + "bytes"] = rows[prefix + "payload_bytes"] + _ACK_BYTES * rows[prefix + "packets"]
        rows["tcp_flags"], rows["first_flags"] = SYN | ACK | PSH, SYN
        rows["reply_tcp_flags"], rows["reply_first_flags"] = SYN | ACK | PSH, SYN | ACK
        self._batches.append(rows)

    def refused(self, at: Value, src: Value, dst: Value, dport: Value, *, sport: Value = None) -> None:
        """Openings answered by a reset."""
        rows = self._opening(at, src, dst, dport, sport, 1)
        rows["reply_packets"], rows["reply_bytes"] = 1, 54
        rows["reply_tcp_flags"] = rows["reply_first_flags"] = RST | ACK
        self._batches.append(rows)

    def silent(self, at: Value, src: Value, dst: Value, dport: Value, tries: Value = 1, *, sport: Value = None) -> None:
        """Openings that nobody answered; retransmitted after 1, 3, 7... seconds (RFC 6298)."""
        rows = self._opening(at, src, dst, dport, sport, tries)
        rows["end"] = rows["start"] + 2.0 ** (rows["packets"] - 1.0) - 1
        self._batches.append(rows)

    def half_open(self, at: Value, src: Value, dst: Value, dport: Value, *, sport: Value = None) -> None:
        """Openings that were answered and then left so."""
        rows = self._opening(at, src, dst, dport, sport, 1)
        rows["reply_packets"], rows["reply_bytes"] = 1, _SYN_BYTES
        rows["reply_tcp_flags"] = rows["reply_first_flags"] = SYN | ACK
        self._batches.append(rows)

    def udp(
        self,
        at: Value,
        src: Value,
        dst: Value,
        dport: Value,
        sent: Value,
        got: Value = 0,
        lasts: Value = 0.02,
        *,
        packets: Value = 1,
        replies: Value = None,
        sport: Value = None,
    ) -> None:
        """Datagrams and, where `got` is more than nothing, answers; as many as `packets` unless said."""
        rows = self._blank(at, src, dst, dport, sport, UDP)
        theirs = np.broadcast_to(np.asarray(got, np.int64), len(rows))
        rows["end"] = rows["start"] + lasts
        rows["payload_bytes"], rows["reply_payload_bytes"] = sent, theirs
        rows["packets"] = packets
        rows["reply_packets"] = np.where(theirs > 0, rows["packets"] if replies is None else replies, 0)
        for prefix in ("", "reply_"):
            rows[prefix + "bytes"] = rows[prefix + "payload_bytes"] + _DATAGRAM_BYTES * rows[prefix + "packets"]
        self._batches.append(rows)

    def ping(self, at: Value, src: Value, dst: Value, size: Value = 56, *, answered: Value = True, packets: Value = 1,
             lasts: Value = 0.02, got: Value = None) -> None:  # fmt: skip
        """Echo requests of `size` bytes each; answers of the same unless `got` says their bytes in all."""
        rows = self._blank(at, src, dst, 0, ECHO, ICMP)
        rows["end"] = rows["start"] + lasts
        rows["packets"], rows["payload_bytes"] = packets, np.asarray(size) * np.asarray(packets)
        rows["reply_packets"] = np.where(answered, rows["packets"], 0)
        rows["reply_payload_bytes"] = np.where(answered, rows["payload_bytes"] if got is None else got, 0)
        for prefix in ("", "reply_"):
            rows[prefix + "bytes"] = rows[prefix + "payload_bytes"] + _DATAGRAM_BYTES * rows[prefix + "packets"]
        self._batches.append(rows)

    def bare(self, at: Value, src: Value, dst: Value, proto: int, packets: int, size: int, lasts: Value) -> None:
        """Packets of a protocol without ports, `size` bytes of payload each, and no answer."""
        rows = self._blank(at, src, dst, 0, 0, proto)
        rows["end"] = rows["start"] + lasts
        rows["packets"], rows["payload_bytes"] = packets, packets * size
        rows["bytes"] = rows["payload_bytes"] + _DATAGRAM_BYTES * rows["packets"]
        self._batches.append(rows)

    def _opening(self, at: Value, src: Value, dst: Value, dport: Value, sport: Value, tries: Value) -> Batch:
        rows = self._blank(at, src, dst, dport, sport, TCP)
        rows["packets"] = tries
        rows["bytes"] = rows["packets"] * _SYN_BYTES
        rows["tcp_flags"] = rows["first_flags"] = SYN
        return rows

    def _blank(self, at: Value, src: Value, dst: Value, dport: Value, sport: Value, proto: int) -> Batch:
        at, src, dst, dport = np.broadcast_arrays(
            np.atleast_1d(np.asarray(at, np.float64)),
            *(np.asarray(each, np.int64) for each in (src, dst, dport)),
        )
        rows = np.zeros(len(at), RECORD)
        for side, numbers in (("src", src), ("dst", dst)):
            rows[f"{side}_lo"] = V4_MAPPED | numbers.astype(np.uint64)
        rows["sport"] = self.ports(len(at)) if sport is None else sport
        rows["dport"], rows["proto"], rows["family"] = dport, proto, 4
        rows["start"] = rows["end"] = MONDAY + at
        rows["direction"], rows["verdict"] = Direction.INGRESS, verdict_word(Action.MONITOR)
        return rows

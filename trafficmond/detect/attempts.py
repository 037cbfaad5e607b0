"""Connection attempts and their outcomes, which most detectors count instead of packets or flows.

An attempt is a flow whose first packet asks for something. If that packet is sent again, it is the same attempt. An
attempt is judged at the age of `GRACE_S`, by the state of its flow. If a capture has one direction only, the
initiator's own progress (an ACK after its SYN) shows that the attempt was answered.
"""

import enum

import numpy as np

from trafficmond import abi
from trafficmond.detect.ours import Prefixes
from trafficmond.detect.windows import Columns, members, mix
from trafficmond.flows.batch import Batch, Column, empty, join, take
from trafficmond.flows.canonical import TYPE_UNKNOWN
from trafficmond.protocols import ACK, FIN, ICMP, ICMPV6, PSH, RST, SCTP, SYN, TCP, UDP, URG, WITH_PORTS

GRACE_S = 1.0
"""Age at which an attempt is judged: TCP's initial retransmission timeout (RFC 6298), longer than most round trips."""

_FLAGS = FIN | SYN | RST | PSH | ACK | URG  # ECE and CWR may come with any (RFC 3168)
_ICMP_ASKS = members(8, 13, 15, 17, TYPE_UNKNOWN)  # echo, timestamp, information, address mask (RFC 792, 950)
_ICMPV6_ASKS = members(128, 139, TYPE_UNKNOWN)  # echo, node information (RFC 4443, 4620)
_PORTS = members(*WITH_PORTS, size=256)
_FIRST_EPHEMERAL = 1024
_EMPTY_BYTES = 64  # of a frame with an empty datagram: padded to 60, with IPv6 62
_HANDSHAKES = 6  # packets of a client that opens a connection and closes it again, some sent twice
ONE_WAY_PORTS = members(162, 514, 2055, 2152, 4739, 4754, 4789, 6081, 6343, 8125, 8472, 9995, 9996)
"""UDP ports whose protocol never answers on the same ports: traps, syslog, NetFlow, IPFIX, sFlow, StatsD, and the
tunnels GTP-U, GRE-in-UDP, VXLAN and Geneve, whose source port is a hash of the inner packet (RFC 7348, 8926)."""
# The destination ports that go up by one a probe: traceroute(8) from 33434, tracepath(8) from 44444.
_TRACES = members(*range(33434, 33690), *range(44444, 44573))
# UDP services from 1024 on that are misused as reflectors (CISA TA14-017A, reports since): MS SQL, L2TP, SSDP, ARMS,
# WS-Discovery, Sentinel, mDNS, CoAP, Ubiquiti, TP-240, memcached, VxWorks, Quake, Steam, Lantronix, Plex, DVRs.
HIGH_SERVICES = members(1434, 1701, 1900, 3283, 3702, 5093, 5353, 5683, 10001, 10074, 11211, 17185, 26000, 27015, 27960)
HIGH_SERVICES |= members(30718, 32410, 32412, 32414, 37810)
# bound: connection attempts that wait for their outcome | detectors judge further attempts at once; these are counted
_PENDING = 16384


class Kind(enum.IntEnum):
    NONE = 0  # no attempt
    SYN = 1
    STEALTH = 2  # NULL, FIN, Xmas...: no connection begins like that
    STRAY = 3  # an ACK or FIN-ACK without a connection: of a scan, or of an old connection
    DATAGRAM = 4
    ICMP = 5
    PROTOCOL = 6  # an IP protocol without ports


class Outcome(enum.IntEnum):
    SILENT = 1
    REFUSED = 2  # reset
    HALF_OPEN = 3  # the initiator did not respond to the SYN-ACK
    ABANDONED = 4  # opened, then closed or reset by the initiator without data
    ANSWERED = 5


_ENDPOINTS = [
    *((name, "u8") for name in ("src_hi", "src_lo", "dst_hi", "dst_lo")),
    *((name, "u2") for name in ("sport", "dport")),
    *((name, "u1") for name in ("proto", "family")),
]
ATTEMPT = np.dtype(
    [
        ("id", "u8"),  # of the connection
        *_ENDPOINTS,
        ("src", "u8"),  # hash of the source address
        ("dst", "u8"),  # ... of the destination address
        ("at", "f8"),
        ("packets", "u8"),
        ("payload_bytes", "u8"),
        ("reply_packets", "u8"),
        ("reply_payload_bytes", "u8"),
        ("tcp_flags", "u1"),
        ("reply_tcp_flags", "u1"),
        ("first_len", "u2"),
        ("kind", "u1"),
        ("outcome", "u1"),
    ]
)
_CHANGING = ("packets", "payload_bytes", "reply_packets", "reply_payload_bytes", "tcp_flags", "reply_tcp_flags")
_OF_FLOWS = (*(name for name, _ in _ENDPOINTS), "first_len", *_CHANGING)


def is_group(hi: Column, lo: Column, family: Column) -> Column:
    """A mask of addresses that are multicast, the limited broadcast, or unspecified (0.0.0.0, ::)."""
    low = lo & np.uint64(0xFFFFFFFF)
    v4 = (low >= np.uint64(0xE0000000)) & (low < np.uint64(0xF0000000)) | (low == np.uint64(0xFFFFFFFF)) | (low == 0)
    v6 = (hi >> np.uint64(56) == np.uint64(0xFF)) | ((hi == 0) & (lo == 0))
    return np.where(family == 4, v4, v6)


def kinds(flows: Columns) -> Column:
    """The Kind of attempt that each flow began with; NONE for replies, errors, and packets in midstream."""
    proto, flags = flows["proto"], flows["first_flags"] & _FLAGS
    sport, dport = flows["sport"], flows["dport"]
    bare = flows["bits"] & abi.BIT_FIRST_PAYLOAD == 0
    answer = are_served(flows) & (proto != SCTP)
    # No answer is empty, and none over TCP has flags that do not acknowledge anything (RFC 9293; 0: not recorded).
    empty_datagram = bare & (proto == UDP) & (flows["first_len"] <= _EMPTY_BYTES)

    kind = np.zeros(len(flows), np.uint8)
    tcp = proto == TCP
    odd = (flags & (ACK | RST | SYN) == 0) | (flags & (SYN | FIN | ACK) == SYN | FIN)
    lone = tcp & bare & (flows["tcp_flags"] & RST == 0)  # no reset, which some records do not tell from a first packet
    kind[lone & odd & (~answer | (flags != 0))] = Kind.STEALTH
    stray = (flags == ACK) | (flags == FIN | ACK)
    kind[lone & stray & ~answer & (flows["payload_bytes"] == 0) & (flows["packets"] <= 2)] = Kind.STRAY
    kind[tcp & opens(flows)] = Kind.SYN
    datagram = _PORTS[proto] & ~tcp
    one_way = (proto == UDP) & ONE_WAY_PORTS[dport]
    kind[datagram & (~answer | empty_datagram) & ~one_way & (sport | dport != 0)] = Kind.DATAGRAM
    asks = (proto == ICMP) & _ICMP_ASKS[sport] | (proto == ICMPV6) & _ICMPV6_ASKS[sport]
    kind[asks] = Kind.ICMP
    kind[~_PORTS[proto] & (proto != ICMP) & (proto != ICMPV6)] = Kind.PROTOCOL
    kind[is_group(flows["dst_hi"], flows["dst_lo"], flows["family"])] = Kind.NONE
    kind[flows["packets"] == 0] = Kind.NONE  # only replies: no request was seen
    return kind


def opens(flows: Columns) -> Column:
    """A mask of TCP flows seen from their opening: from its SYN or, if that was lost, the acknowledged SYN-ACK."""
    first, answer = flows["first_flags"] & _FLAGS, flows["reply_first_flags"] & (SYN | ACK)
    found: Column = (first & (SYN | ACK | RST | FIN) == SYN) | (first & (ACK | RST) == ACK) & (answer == SYN | ACK)
    return found


def are_served(flows: Columns) -> Column:
    """A mask of flows from a service port to a client's, which may be lower: replies whose request was not seen."""
    sport, dport = flows["sport"], flows["dport"]
    udp = flows["proto"] == UDP
    asks = udp & HIGH_SERVICES[dport] & ~HIGH_SERVICES[sport] & (sport >= _FIRST_EPHEMERAL)
    served: Column = ((sport < dport) | udp & HIGH_SERVICES[sport] & (sport != dport)) & ~asks
    return served & (dport >= _FIRST_EPHEMERAL)


def judge(attempts: Batch) -> Column:
    """The Outcome of each attempt, from the state of its flow."""
    flags, reply = attempts["tcp_flags"], attempts["reply_tcp_flags"]
    replied = attempts["reply_packets"] > 0
    wordless = (attempts["payload_bytes"] == 0) & (attempts["reply_payload_bytes"] == 0)
    # More acknowledgements than that show a reply that takes another path.
    wordless &= attempts["packets"] <= _HANDSHAKES
    accepted = replied & (reply & SYN != 0)
    refused = replied & (reply & SYN == 0) & (reply & RST != 0)
    went_on = (flags & ACK != 0) | accepted & (attempts["reply_payload_bytes"] > 0)  # some formats have no ACK
    gave_up = wordless & (flags & (RST | FIN) != 0)

    syn = np.full(len(attempts), Outcome.SILENT, np.uint8)
    syn[replied | went_on] = Outcome.ANSWERED
    syn[accepted & ~went_on] = Outcome.HALF_OPEN
    syn[gave_up] = Outcome.ABANDONED
    syn[refused] = Outcome.REFUSED

    other = np.where(replied, Outcome.ANSWERED, Outcome.SILENT)
    # An SCTP answer to a scan is an ABORT; an association takes a second packet (RFC 9260).
    other[(attempts["proto"] == SCTP) & (attempts["packets"] < 2)] = Outcome.SILENT
    odd = np.where(refused, Outcome.REFUSED, other)
    kind = attempts["kind"]
    return np.where(kind == Kind.SYN, syn, np.where(attempts["proto"] == TCP, odd, other)).astype(np.uint8)


def proven(attempts: Columns) -> Column:
    """A mask of attempts whose source is not forged: the TCP server sent data, so its SYN-ACK was acknowledged."""
    real: Column = (attempts["kind"] == Kind.SYN) & (attempts["tcp_flags"] & ACK != 0)
    return real & (attempts["reply_payload_bytes"] > 0)


def joined(attempts: Columns, more: Batch, tick: Column) -> Columns:
    """The attempts and `more` of them, with the tick of each."""
    every = Columns(np.concatenate([attempts.rows(np.arange(len(attempts))), more]))
    every.put("tick", np.concatenate([attempts["tick"], tick]))
    return every


def with_resets(attempts: Columns, flows: Columns, ours: Prefixes) -> Columns:
    """The attempts, and those of which only the reset shows, as no client of ours causes: a SYN-ACK without its SYN, or
    a SYN on another path, if we refused it (RFC 9293, 3.5.2; others may have answered a forged address)."""
    rows = flows.take((flows["tcp_flags"] & (_FLAGS ^ ACK) == RST) & flows["new"] & (flows["proto"] == TCP))
    lower = rows["sport"] < rows["dport"]
    lone = lower & (rows["tcp_flags"] & ACK != 0) & (rows["reply_packets"] == 0) & (rows["packets"] <= _HANDSHAKES)
    lone &= ours.side(rows, "src") & ~ours.side(rows, "dst")
    chosen = lone | (rows["reply_first_flags"] & (SYN | ACK) == SYN | ACK)
    if not chosen.any():
        return attempts
    more = Attempts.of_flows(rows.take(chosen), np.where(lone, Kind.SYN, Kind.STRAY)[chosen])
    more["outcome"] = np.where(lower, Outcome.REFUSED, Outcome.ANSWERED)[chosen]
    for one, other in (("src_hi", "dst_hi"), ("src_lo", "dst_lo"), ("src", "dst"), ("sport", "dport")):
        more[one], more[other] = more[other].copy(), more[one].copy()
    return joined(attempts, more, rows["tick"][chosen])


def _explained(attempts: Batch) -> Column:
    """A mask of stealth and stray attempts that proved to be part of a conversation, and of unanswered traces."""
    talks = (attempts["payload_bytes"] > 0) | (attempts["reply_payload_bytes"] > 0) | (attempts["packets"] > 2)
    answered = (attempts["reply_packets"] > 0) & (attempts["reply_tcp_flags"] & RST == 0)
    odd = (attempts["kind"] == Kind.STEALTH) | (attempts["kind"] == Kind.STRAY)
    trace = (attempts["proto"] == UDP) & _TRACES[attempts["dport"]] & (attempts["reply_packets"] == 0)
    explained: Column = odd & (talks | answered) | trace
    return explained


def _chosen(one: Batch, of_one: Column, other: Batch, of_other: Column) -> Batch:
    """The chosen rows of both, without a copy where one of them is chosen whole and the other not at all."""
    if not of_one.any() and of_other.all():
        return other
    return join([take(one, of_one), take(other, of_other)])


def _connection(flows: Columns) -> Column:
    """A number that distinguishes consecutive connections on the same ports, which share a flow's id."""
    return mix(flows["id"], flows["first"].view(np.uint64))


def _new_attempts(flows: Columns) -> tuple[Columns, Column]:
    """The flows that are new and attempts, and the Kind of each."""
    rows = flows.take(flows["new"])
    kind = kinds(rows)
    begun = kind != Kind.NONE
    return rows.take(begun), kind[begun]


class Attempts:
    """New attempts in, judged attempts out, `GRACE_S` later.

    At most `capacity` wait at once; more are judged at once, and counted in `early`: that is in floods, which get no
    replies anyway.
    """

    def __init__(self, capacity: int = _PENDING) -> None:
        self.early = 0
        self._capacity = capacity
        self._pending = empty(ATTEMPT)  # sorted by id

    def __len__(self) -> int:
        return len(self._pending)

    def feed(self, flows: Columns, now: float) -> Batch:
        """Process FLOW rows; return the judged ATTEMPT rows, unordered."""
        stays = self._updated(self._pending, flows)
        if not stays.all():
            self._pending = take(self._pending, stays)
        fresh = self.of_flows(*_new_attempts(flows))
        # Attempts must not wait longer after the clock was set back.
        waits, fresh_waits = (np.abs(attempts["at"] - now) < GRACE_S for attempts in (self._pending, fresh))
        excess = np.flatnonzero(fresh_waits)[max(0, self._capacity - int(np.count_nonzero(waits))) :]
        fresh_waits[excess] = False
        self.early += len(excess)
        judged = _chosen(self._pending, ~waits, fresh, ~fresh_waits)
        if fresh_waits.any() or not waits.all():
            pending = _chosen(self._pending, waits, fresh, fresh_waits)
            self._pending = take(pending, np.argsort(pending["id"]))
        explained = _explained(judged)
        if explained.any():
            judged = take(judged, ~explained)
        judged["outcome"] = judge(judged)
        return judged

    def feed_ticks(self, flows: Columns, ends: Column) -> tuple[Batch, Column]:
        """The same for several ticks, in order of time: (the judged ATTEMPT rows, the tick of each)."""
        rows, kind = _new_attempts(flows)
        begun = self.of_flows(rows, kind)
        if len(self._pending) + len(begun) > self._capacity:
            parts = [self.feed(flows.take(flows["tick"] == tick), end) for tick, end in enumerate(ends.tolist())]
            return join(parts), np.repeat(np.arange(len(ends)), [len(part) for part in parts])
        attempts = join([self._pending, begun])
        since = np.concatenate([np.full(len(self._pending), -1), rows["tick"]])
        first = np.maximum(since, 0)
        judged_at = np.maximum(first, np.searchsorted(ends, attempts["at"] + GRACE_S))
        # Attempts must not wait longer after the clock was set back.
        judged_at = np.where(attempts["at"] - ends[first] >= GRACE_S, first, judged_at)
        place = np.argsort(attempts["id"], kind="stable")
        attempts, since, judged_at = take(attempts, place), since[place], judged_at[place]
        stays = self._updated(attempts, flows, since, judged_at)
        attempts, since, judged_at, place = take(attempts, stays), since[stays], judged_at[stays], place[stays]
        waits = judged_at == len(ends)
        self._pending = take(attempts, waits)
        # In the order of `feed`: those that waited, by id, then the others in their order.
        at_once = since == judged_at
        order = np.lexsort((np.where(at_once, place, np.arange(len(attempts))), at_once, judged_at))
        order = order[: np.count_nonzero(~waits)]
        judged, judged_at = take(attempts, order), judged_at[order]
        needed = ~_explained(judged)
        judged, judged_at = take(judged, needed), judged_at[needed]
        judged["outcome"] = judge(judged)
        return judged, judged_at

    @staticmethod
    def _updated(attempts: Batch, flows: Columns, since: Column | None = None, until: Column | None = None) -> Column:
        """Update attempts, sorted by id, with their flows, if given of the ticks after `since` and up to `until`;
        return a mask of those that remain attempts."""
        stays: Column = np.ones(len(attempts), bool)
        if not len(attempts):
            return stays
        young = flows.take(~flows["new"] & (flows["first"] >= attempts["at"].min()))
        ids = _connection(young)
        at = np.minimum(np.searchsorted(attempts["id"], ids), len(attempts) - 1)
        known = attempts["id"][at] == ids
        if since is not None and until is not None:
            known &= (young["tick"] > since[at]) & (young["tick"] <= until[at])
        at, young = at[known], young.take(known)
        for name in _CHANGING:
            attempts[name][at] = young[name]  # of several rows the last, which is the latest
        # A flow whose direction was swapped began with a reply.
        turned = (young["src_lo"] != attempts["src_lo"][at]) | (young["sport"] != attempts["sport"][at])
        stays[at[turned]] = False
        return stays

    @staticmethod
    def of_flows(rows: Columns, kind: Column) -> Batch:
        """ATTEMPT rows of flows, each of such a Kind."""
        attempts = empty(ATTEMPT, len(rows))
        attempts["id"] = _connection(rows)
        rows.gather(attempts, _OF_FLOWS)
        for name, column in (("at", "first"), ("src", "src"), ("dst", "dst")):
            attempts[name] = rows[column]
        attempts["kind"] = kind
        return attempts

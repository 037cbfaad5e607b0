"""Connections held open at one service by clients that never finish their request, or hardly read the reply.

Counted by victim are simultaneous connections that have sent small pieces for ten seconds without getting a byte. Long
polling sends its request at once and does not count. Slow reading and silence are a note, as are devices that nobody
answers.
"""

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.dataclass import dataclass
from trafficmond.detect.base import DetectorInput, address, format_sources
from trafficmond.detect.forms import PORTS as WEB_PORTS
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.windows import Columns, estimate, mark, mix
from trafficmond.flows.batch import Column
from trafficmond.model import Severity, Threat
from trafficmond.protocols import ACK, FIN, RST, SYN, TCP

_HELD_S = 9.5  # a server can wait that long for a request (Apache's RequestReadTimeout begins at 10 to 20 s)
_PIECES, _PIECE_BYTES = 4, 120  # packets so far, and what they carried on average, handshake included
_TICK_S, _TICKS = 15.0, 3  # the tools send a piece each 10 to 15 s (slowloris, slowhttptest: 10 s)
# Slow reading, as slowhttptest does it (32 bytes each 5 s after a first buffer of about 1 KiB): bytes a second and a
# packet, packets of the question and of the answer, and connections of each source: browsers open 6 to a host.
_CRUMBS_S, _CRUMB_BYTES, _QUESTION, _ANSWER, _EACH = 128, 300, 3, 4, 7
_OPENING = 3  # a client's packets without payload: SYN, ACK, and one that was lost or acknowledges a keep-alive
_DRIPS = 2  # packets with payload for each of the server's: a question has an answer
_BARE_BYTES = 70  # a segment without payload
# A window that stays closed is probed after 0.2 s, 0.4 s and so on (RFC 9293, 3.8.6.1): five times in seven seconds,
# beside SYN-ACK and acknowledgement. After a minute, keep-alives every 15 s of an idle connection are as many.
_BARE, _YOUNG_S, _SEGMENT = 7, 60, 1448
_MAP = 1024
_ONE_SOURCE = 0.9
_MANY = 5  # times the threshold: of high severity


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, help="Look for connections held open by unfinished requests.")
    connections: int = setting(100, min=10, max=500, help="Such connections at one service at the same time.")
    memory: float = duration(
        "5m", min="1m", max="1h", help="After this long without such a connection, the count starts again."
    )
    capacity: int = setting(1024, min=64, max=1 << 20, help="Services watched at once; 1.4 kB each.")


class SlowHttp(GroupedDetector[Settings]):
    name = "slow_http"
    technique = "T1499.002"
    dedup_key = ("dst_ip",)
    idle_timeout_s = 300.0
    fields = (
        ("heard", "f8"),
        ("total", "f8"),
        ("from_source", "f8"),
        ("read", "f8"),  # of the total: connections that hardly read, are silent, or of which one side is seen
        ("source", "u8"),
        ("sources", "u1", 256),
        ("map", "u1", _MAP),  # of connections: 0, or the tick of their last piece
    )
    evidence_bonus_s = 30.0

    def choose(self, seen: DetectorInput) -> Columns:
        flows, age = seen.flows, seen.flows["last"] - seen.flows["first"]
        some = (flows["proto"] == TCP) & (age >= _HELD_S) & (flows["reply_payload_bytes"] <= _CRUMBS_S * age)
        # Closed without a byte of either side.
        silent = some & flows["ended"] & (flows["payload_bytes"] + flows["reply_payload_bytes"] == 0)
        some &= ((flows["tcp_flags"] | flows["reply_tcp_flags"]) & (FIN | RST) == 0) & (flows["payload_bytes"] > 0)
        flows = flows.take(silent | some & (flows["packets"] >= _PIECES) & (flows["d_packets"] > 0))
        held = flows["first_flags"] & (SYN | ACK) == SYN
        # Where the server's side is not seen, the client's shows that it has nothing to acknowledge.
        unseen = (flows["reply_packets"] == 0) & (flows["payload_packets"] + _OPENING >= flows["packets"])
        held &= (flows["tcp_flags"] & ACK != 0) & ((flows["reply_tcp_flags"] & SYN != 0) | unseen)
        writes = (flows["reply_payload_bytes"] == 0) & (flows["payload_bytes"] <= _PIECE_BYTES * flows["packets"])
        reads = (flows["reply_payload_bytes"] > 0) & (flows["payload_packets"] <= _QUESTION)
        reads &= (flows["reply_packets"] >= _ANSWER) & (flows["d_reply_bytes"] > _BARE_BYTES * flows["d_reply_packets"])
        reads &= flows["reply_payload_bytes"] <= _CRUMB_BYTES * flows["reply_packets"]
        # The segments with payload must have been counted; if they are an estimate, the others may have payload too.
        segments, octets = flows["reply_payload_packets"].astype(np.int64), flows["reply_payload_bytes"]
        closed = (segments > -(-octets.astype(np.int64) // _SEGMENT)) & (flows["payload_packets"] <= _QUESTION)
        closed &= (flows["reply_packets"] >= segments + _BARE) & (flows["last"] - flows["first"] <= _YOUNG_S)
        # Within TLS the first answers are those of its handshake, and a header line every few seconds gets none.
        drips = (segments > 0) & (flows["payload_packets"] >= _DRIPS * segments)
        drips &= flows["payload_bytes"] <= _PIECE_BYTES * flows["packets"]
        return flows.take(held & (writes | reads | closed | drips))

    def key(self, rows: Columns) -> Column:
        return mix(rows["dst"], rows["dport"])

    def judge(self, found: Entities) -> tuple[Column, Column]:
        rows, known, now = self.table.rows, found.known, found.heard
        stale = known[np.abs(now - rows["heard"][known]) > self.settings.memory]
        for field in ("total", "from_source", "read", "sources", "map"):
            rows[field][stale] = 0
        first = found.rows["src"][found.by.first[found.watched]]
        rows["source"][known] = np.where(rows["total"][known] == 0, first, rows["source"][known])
        rows["heard"][known] = now
        flows = found.kept
        tick = _tick(found.seen.ends[flows["tick"]]).astype(np.uint8)
        fresh = mark(rows["map"], found.slot, mix(flows["id"]), tick) == 0
        mark(rows["sources"], found.slot, flows["src"])
        found.add(total=fresh, from_source=fresh & (rows["source"][found.slot] == flows["src"]))
        writes = (flows["payload_bytes"] > 0) & (flows["reply_payload_bytes"] == 0) & (flows["reply_packets"] > 0)
        found.add(read=fresh & ~writes)
        held = self._held(found)
        over = held >= self.settings.connections
        at = np.flatnonzero(over & (found.states("read") > 0.5 * found.states("total")))
        over[at] = held[at] >= _EACH * estimate(rows["sources"][found.slots[at]])
        return over, held

    def _held(self, found: Entities) -> Column:
        """The number of connections of each entity with a piece within the last ticks."""
        held = np.zeros(len(found.slots))
        maps = self.table.rows["map"][found.known]
        age = (_tick(found.heard)[:, None] - maps.astype(np.int64)) % 255
        held[found.watched] = estimate((maps > 0) & (age < _TICKS))
        return held

    def threat(self, found: Entities, entity: int) -> Threat:
        one, state = found.first(entity), found.state(entity)
        held, sources = int(self._held(found)[entity]), int(estimate(state["sources"]))
        single = bool(state["from_source"] >= _ONE_SOURCE * state["total"])
        src, dst = (address(one, "src") if single else None), address(one, "dst")
        reads, high = bool(state["read"] > 0.5 * state["total"]), held >= _MANY * self.settings.connections
        ours = bool(found.seen.ours.side(found.rows, "src")[found.by.first[entity]]) and single
        reports = (held < _EACH * sources or ours) and not WEB_PORTS[one["dport"]]
        return self.found(
            Severity.LOW if reads or reports else Severity.HIGH if high else Severity.MEDIUM,
            f"{src or format_sources(sources, state['sources'])} hold {held:,} connections open "
            f"at port {one['dport']} of {dst} " + ("and hardly use them" if reads else "without finishing a request"),
            {"unit": "connections", "held": held, "sources": sources, "ports": [int(one["dport"])]},
            src=src,
            dst=dst,
            times=(found.all(entity)["first"].min(), found.all(entity)["last"].max()),
            count=state["total"],
        )


def _tick(now: Column) -> Column:
    return (now // _TICK_S).astype(np.int64) % 255 + 1

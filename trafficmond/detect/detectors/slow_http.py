"""Connections held open at one service by clients that never finish their request, or hardly read the reply.

Counted by victim are simultaneous connections that have sent small pieces for ten seconds without getting a byte. Long
polling sends its request at once and does not count. Slow reading and silence are a note, as are unanswered devices.
"""

from collections.abc import Mapping

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.dataclass import dataclass
from trafficmond.detect.base import DetectorInput, address, format_sources
from trafficmond.detect.forms import PORTS as WEB_PORTS
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.windows import Columns, estimate, mark, members, mix
from trafficmond.flows.batch import FLOW, Batch, Column, empty, join, take
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
_BARE_BYTES = 66, 86  # of a frame without payload, with time stamps, over IPv4 and IPv6
# A window that stays closed is probed after 0.2 s, 0.4 s and so on (RFC 9293, 3.8.6.1): five times in seven seconds,
# beside SYN-ACK and acknowledgement. After a minute, keep-alives every 15 s of an idle connection are as many.
_BARE, _YOUNG_S = 7, 60
_ENDS = SYN | ACK | FIN | RST  # flags that show how a connection began, and whether it is over
_GREETING = 512  # a server that speaks first: its reply to the connection (RFC 5321, 4.5.3.1.5)
_TLS = members(443, 465, 636, 853, 990, 993, 995, 8443)  # no server is silent there after a complete hello
# bound: connections without a question, until they are counted | further ones are not counted
_WAITING = 4096
_MAP = 1024  # places to count connections in
_ONE_SOURCE = 0.9  # the share of the connections from which on a source is named
_MANY = 5  # times the threshold are of high severity
_PIECEWISE, _HARDLY, _SILENT = range(3)  # requests in pieces; connections hardly used or of one side; without payload


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, help="Look for connections held open by unfinished requests.")
    connections: int = setting(100, min=10, max=500, help="Such connections at one service at the same time.")
    memory: float = duration("5m", min="1m", max="1h", help="The count restarts after so long without one.")
    capacity: int = setting(1024, min=64, max=1 << 20, help="Services watched at once; 1.3 kB each.")


class SlowHttp(GroupedDetector[Settings]):
    name = "slow_http"
    technique = "T1499.002"
    dedup_key = ("dst_ip",)
    idle_timeout_s = 300.0
    fields = (
        ("heard", "f8"),
        ("total", "f8"),
        ("from_source", "f8"),
        ("source", "u8"),
        ("sources", "u1", 256),
        ("map", "u1", _MAP),  # of connections: 0, or the tick of their last piece
    )
    evidence_bonus_s = 30.0
    _waiting = empty(FLOW)  # opened, and nothing since
    _refused = 0  # that found no room there

    def choose(self, seen: DetectorInput) -> Columns:
        flows = seen.flows
        flows = flows.take((flows["proto"] == TCP) & (flows["last"] - flows["first"] >= _HELD_S))
        age, some = flows["last"] - flows["first"], flows["d_packets"] > 0
        # Closed without a byte of either side.
        silent = flows["ended"] & (flows["payload_bytes"] + flows["reply_payload_bytes"] == 0)
        some &= ((flows["tcp_flags"] | flows["reply_tcp_flags"]) & (FIN | RST) == 0) & (flows["payload_bytes"] > 0)
        held = (flows["first_flags"] & (SYN | ACK) == SYN) & (silent | some & (flows["packets"] >= _PIECES))
        # Where the server's side is not seen, the client's shows that it has nothing to acknowledge.
        unseen = (flows["reply_packets"] == 0) & (flows["payload_packets"] + _OPENING >= flows["packets"])
        held &= (flows["tcp_flags"] & ACK != 0) & ((flows["reply_tcp_flags"] & SYN != 0) | unseen)
        writes = (flows["reply_payload_bytes"] == 0) & (flows["payload_bytes"] <= _PIECE_BYTES * flows["packets"])
        bare = flows["d_reply_bytes"] <= flows["d_reply_packets"] * np.where(flows["family"] == 4, *_BARE_BYTES)
        asks = (flows["reply_payload_bytes"] > 0) & (flows["payload_packets"] <= _QUESTION)
        reads = asks & ~bare & (flows["reply_packets"] >= _ANSWER)
        reads &= flows["reply_payload_bytes"] <= _CRUMB_BYTES * flows["reply_packets"]
        segments = flows["reply_payload_packets"].astype(np.int64)
        closed = asks & bare & (flows["d_reply_packets"] > 0) & (age <= _YOUNG_S)
        closed &= flows["reply_packets"] >= segments + _BARE
        # Within TLS the first answers are those of its handshake, and a header line every few seconds gets none.
        drips = (segments > 0) & (flows["payload_packets"] >= _DRIPS * segments)
        drips &= flows["payload_bytes"] <= _PIECE_BYTES * flows["packets"]
        slow = (reads | drips) & (flows["reply_payload_bytes"] <= _CRUMBS_S * age)
        rows = flows.take(held & (writes | closed | slow))
        mute, tick = self._mute(seen)
        if len(mute):
            tick, rows = np.concatenate([rows["tick"], tick]), Columns(join([rows.rows(np.arange(len(rows))), mute]))
            rows.put("tick", tick)
        writes = (rows["reply_payload_bytes"] == 0) & (rows["reply_packets"] > 0)
        kind = np.where(writes, _PIECEWISE, _HARDLY)
        rows.put("kind", np.where(rows["payload_bytes"] == 0, _SILENT, kind))
        return rows

    def _mute(self, seen: DetectorInput) -> tuple[Batch, Column]:
        """Rows of open connections on which a client has waited for _HELD_S without a question, and their ticks."""
        flows = seen.flows
        opened = (flows["new"] | (flows["last"] - flows["first"] < _HELD_S)) & (flows["proto"] == TCP)
        opened &= flows["tcp_flags"] & _ENDS == SYN | ACK
        opened &= flows["reply_tcp_flags"] & _ENDS == SYN | ACK
        said = flows["reply_payload_bytes"]
        opened &= (flows["payload_bytes"] == 0) & (said <= _GREETING) | (said == 0) & _TLS[flows["dport"]]
        found, ticks = [empty(FLOW)], [np.empty(0, np.intp)]
        for tick in np.unique(flows["tick"]).tolist() if len(self._waiting) or opened.any() else ():
            end, here = seen.ends[tick], np.flatnonzero(flows["tick"] == tick)
            goes_on = np.isin(self._waiting["id"], flows["id"][here][~flows["new"][here]])
            waiting = join([take(self._waiting, ~goes_on), flows.rows(here[opened[here]])])
            self._refused += max(len(waiting) - _WAITING, 0)
            waiting = waiting[:_WAITING]
            due = np.abs(end - waiting["first"]) >= _HELD_S
            found.append(take(waiting, due))
            found[-1]["last"], found[-1]["payload_bytes"] = end, 0
            ticks.append(np.full(np.count_nonzero(due), tick))
            self._waiting = take(waiting, ~due)
        return join(found), np.concatenate(ticks)

    def key(self, rows: Columns) -> Column:
        return mix(rows["dst"], rows["dport"], rows["kind"])

    def judge(self, found: Entities) -> tuple[Column, Column]:
        rows, known, now = self.table.rows, found.known, found.heard
        stale = known[np.abs(now - rows["heard"][known]) > self.settings.memory]
        for field in ("total", "from_source", "sources", "map"):
            rows[field][stale] = 0
        first = found.rows["src"][found.by.first[found.watched]]
        rows["source"][known] = np.where(rows["total"][known] == 0, first, rows["source"][known])
        rows["heard"][known] = now
        flows = found.kept
        tick = _tick(found.seen.ends[flows["tick"]]).astype(np.uint8)
        fresh = mark(rows["map"], found.slot, mix(flows["id"]), tick) == 0
        mark(rows["sources"], found.slot, flows["src"])
        found.add(total=fresh, from_source=fresh & (rows["source"][found.slot] == flows["src"]))
        held = self._held(found)
        over = held >= self.settings.connections
        at = np.flatnonzero(over & (found.rows["kind"][found.by.first] != _PIECEWISE))
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
        used = found.rows["kind"][found.by.first[entity]] == _PIECEWISE
        high = held >= _MANY * self.settings.connections
        ours = bool(found.seen.ours.side(found.rows, "src")[found.by.first[entity]]) and single
        reports = (held < _EACH * sources or ours) and not WEB_PORTS[one["dport"]]
        return self.found(
            Severity.LOW if reports or not used else Severity.HIGH if high else Severity.MEDIUM,
            f"{src or format_sources(sources, state['sources'])} hold {held:,} connections open "
            f"at port {one['dport']} of {dst} " + ("without finishing a request" if used else "and hardly use them"),
            {"unit": "connections", "held": held, "sources": sources, "ports": [int(one["dport"])]},
            src=src,
            dst=dst,
            times=(found.all(entity)["first"].min(), found.all(entity)["last"].max()),
            count=state["total"],
        )

    def counters(self) -> Mapping[str, int]:
        counts = super().counters()
        return {**counts, "refused": counts["refused"] + self._refused}


def _tick(now: Column) -> Column:
    return (now // _TICK_S).astype(np.int64) % 255 + 1

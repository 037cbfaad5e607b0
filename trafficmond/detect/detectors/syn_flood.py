"""Many unfinished connections to one victim, which the threat names, because sources are forged.

The attacker is named only if one source sends nearly all of them.
"""

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.dataclass import dataclass
from trafficmond.detect.attempts import Kind, Outcome
from trafficmond.detect.base import Detection, DetectorInput, address, format_sources
from trafficmond.detect.carpet import SCATTERED_HOSTS, FloodDetector
from trafficmond.detect.forms import PORTS as WEB_PORTS
from trafficmond.detect.grouped import Entities
from trafficmond.detect.windows import Columns, Grouped, decay, estimate, mark, mix
from trafficmond.flows.batch import Batch, Column
from trafficmond.model import Severity, Threat
from trafficmond.protocols import ACK, FIN, RST, SYN, TCP, UDP

_REFUSED_WEIGHT = 0.25  # a reset costs the victim little, and clients of a stopped service cause many
_RETRANSMISSIONS = 6  # of one opening: tcp_syn_retries of Linux (ip-sysctl); more with the same tuple are a flood
# Clients that get no answer send the SYN again after 1, 3 and 7 seconds (RFC 6298); forged addresses do not.
_RETRY_S, _RETRIED_SHARE = 0.9, 0.5
_RETURNS = 3
# If no answer is seen, clients of a stopped service are known by their return only, so these take more at such a pace.
_UNSURE_FACTOR, _SEEN_RETURNS, _COUNTED_SOURCES = 4, 1.5, 700
_ANY_PORT = -1
_ANY_PORT_FACTOR = 8  # a flood over random ports must be this much larger, and from many sources
_ANY_PORT_SOURCES = 64
_MORE_THAN_A_SCAN, _LEAST_S = 5000, 0.5  # openings a second at one host: no scan has so many (nmap -T5 stays below)
_ONE_SOURCE = 0.9
# A QUIC client that was answered goes on with its handshake, and sends again what was lost (RFC 9000, 14.1; RFC 9002).
_QUIC, _QUIC_FIRST, _BY_UDP = 443, 1228, 0x10000


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, help="Look for SYN floods.")
    unfinished: int = setting(
        256, min=16, max=1 << 20, help="Unfinished connections to one port of one host in a window."
    )
    window: float = duration(
        "10s", min="1s", max="5m", help="Connections count less with age: a third after this time."
    )
    completed_share: float = setting(
        0.25, min=0.0, max=1.0, help="A port is not overloaded if a larger share of its connections is finished."
    )
    capacity: int = setting(4096, min=64, max=1 << 20, help="Victims watched at once; 0.6 kB each.")


class SynFlood(FloodDetector[Settings]):
    name = "syn_flood"
    technique = "T1499.001"
    dedup_key = ("dst_ip",)
    idle_timeout_s = 300.0
    fields = (
        *(
            (name, "f8")
            for name in ("at", "unfinished", "completed", "retried", "mute", "total", "muted", "from_source")
        ),
        ("source", "u8"),
        *((name, "u1", 256) for name in ("map", "all")),  # of sources: without those who are mute, and with them
    )
    evidence_bonus_s = 5.0
    spread_hosts = SCATTERED_HOSTS  # the client's side alone shows a finished opening, so no farm seems flooded
    unit = "openings"

    def victims(self, rows: Columns, seen: DetectorInput) -> list[Detection]:
        detections = self.examine(rows, seen)
        named = {(tick, threat.dst_ip) for tick, threat in detections}
        # The victim as a whole only if none of its ports is reported.
        rows.put("port", np.full(len(rows), _ANY_PORT))
        return detections + [each for each in self.examine(rows, seen) if (each.tick, each.threat.dst_ip) not in named]

    def choose(self, seen: DetectorInput) -> Columns:
        rows = Columns(_openings(seen))
        rows.put("port", rows["dport"] + np.where(rows["proto"] == UDP, _BY_UDP, 0))
        return rows

    def add_amounts(self, rows: Columns) -> float:
        rows.put("amount", rows["weight"] * ~rows["mute"])
        rows.put("other", (rows["weight"] == 0) & ~rows["retried"])
        return float(self.settings.unfinished)

    def key(self, rows: Columns) -> Column:
        return mix(rows["dst"], rows["port"])

    def weight(self, rows: Columns, by: Grouped) -> Column:
        return by.sum(rows["weight"])

    def judge(self, found: Entities) -> tuple[Column, Column]:
        settings, rows, known = self.settings, self.table.rows, found.known
        decay(rows, known, found.heard, settings.window, ("unfinished", "completed", "retried", "mute"))
        idle = rows["unfinished"][known] < 1
        for field in ("total", "muted", "from_source", "map", "all"):
            rows[field][known[idle]] = 0
        rows["since"][known[idle]] = found.heard[idle]
        rows["source"][known[idle]] = found.rows["src"][found.by.first[found.watched][idle]]

        weight, source, slot = found.kept["weight"], found.kept["src"], found.slot
        retried, blamed = found.kept["retried"], weight > 0
        for field, which in (("all", blamed), ("map", blamed & ~found.kept["mute"])):
            mark(rows[field], slot[which], source[which])
        found.add(
            unfinished=weight,
            total=weight,
            completed=~blamed & ~retried,
            retried=retried,
            mute=found.kept["mute"],
            muted=found.kept["mute"],
            from_source=weight * ~found.kept["mute"] * (rows["source"][slot] == source),
        )
        unfinished, completed = found.states("unfinished"), found.states("completed")
        over = unfinished >= (_ANY_PORT_FACTOR if found.rows["port"][0] == _ANY_PORT else 1) * settings.unfinished
        over &= completed < settings.completed_share * (unfinished + completed)
        return over, unfinished - found.states("mute")

    def threat(self, found: Entities, entity: int) -> Threat | None:
        state, one, settings = found.state(entity), found.first(entity), self.settings
        any_port = bool(found.rows["port"][0] == _ANY_PORT)
        unfinished, total, by = state["unfinished"] - state["mute"], state["total"] - state["muted"], state["map"]
        mute = unfinished < (_ANY_PORT_FACTOR if any_port else 1) * settings.unfinished
        if mute:
            unfinished, total, by = state["unfinished"], state["total"], state["all"]
        sources = int(estimate(by))
        mine = found.rows["weight"][found.by.of == entity]
        refused = np.count_nonzero(mine == _REFUSED_WEIGHT) > 0.5 * len(mine)
        moderate = len(mine) / max(found.seen.widths[found.tick[entity]], 1.0) < _MORE_THAN_A_SCAN
        # A few sources that scan do not fill a backlog; a burst may fall into two ticks.
        lasted = max(np.ptp(found.rows["at"][found.by.of == entity]) or np.inf, _LEAST_S)
        if any_port and sources < _ANY_PORT_SOURCES and moderate and len(mine) < _MORE_THAN_A_SCAN * lasted:
            return None
        single = sources == 1 if mute else state["from_source"] >= _ONE_SOURCE * total
        src, dst = (address(one, "src") if single else None), address(one, "dst")
        where = "many ports" if any_port else f"port {one['dport']}"
        severity = Severity.CRITICAL if unfinished >= 16 * settings.unfinished else Severity.HIGH
        # A stopped service looks the same: its clients try again, and are refused.
        missed = state["retried"] >= _RETRIED_SHARE * unfinished or (refused and moderate and not any_port)
        # Their addresses come back, which forged ones do not, and at most once a second; bots come faster.
        seldom = unfinished <= settings.window * sources
        returns = total >= _RETURNS * sources
        # Where their resets are not seen, some time must pass until they have come back.
        silent = np.mean(found.rows["silent"][found.by.of == entity]) > _ONE_SOURCE
        least = _UNSURE_FACTOR * settings.unfinished
        slow = len(mine) * settings.window < least * max(found.seen.widths[found.tick[entity]], 1.0)
        returns |= silent and total >= _SEEN_RETURNS * sources and sources <= _COUNTED_SOURCES
        missed |= bool(((returns and seldom) or (silent and slow and total < least)) and not any_port)
        return self.found(
            Severity.LOW if missed or mute else severity,
            f"{'silent' if mute else 'unfinished'} connections to {where} of {dst}: {unfinished:,.0f} "
            f"in {settings.window:.0f} s from {src or format_sources(sources, by)}",
            {
                "unit": "openings",
                "unfinished": int(unfinished),
                "completed": int(state["completed"]),
                "retried": int(state["retried"]),
                "sources": sources,
                "ports": [] if any_port else [int(one["dport"])],
            },
            src=src,
            dst=dst,
            times=(state["since"], found.now[entity]),
            count=state["total"],
        )


def _openings(seen: DetectorInput) -> Batch:
    """_OPENING rows for each opening judged, each that is sent again, and each tuple that is opened again and again."""
    each, flows = seen.attempts, seen.flows
    quic = (each["proto"] == UDP) & (each["dport"] == _QUIC) & (each["first_len"] >= _QUIC_FIRST)
    attempts = each.take((each["kind"] == Kind.SYN) | quic & (each["outcome"] == Outcome.ANSWERED))
    asks = (flows["d_packets"] > 0) & (flows["proto"] == TCP) & (flows["first_flags"] & (SYN | ACK) == SYN)
    asks &= (flows["tcp_flags"] & (ACK | RST) == 0) & (flows["packets"] > 1)
    asks &= (flows["payload_bytes"] == 0) & (flows["reply_payload_bytes"] == 0)  # some formats have no ACK
    stuck = asks & (flows["d_packets"] > _RETRANSMISSIONS) & ~flows["new"]
    retried = asks & (flows["packets"] <= _RETRANSMISSIONS) & (flows["reply_packets"] == 0)
    retried &= flows["last"] - flows["first"] >= _RETRY_S
    again = np.flatnonzero(stuck | retried)
    rows = np.zeros(len(attempts) + len(again), _OPENING)
    begun, after = slice(len(attempts)), slice(len(attempts), None)
    for name in (*_ADDRESSES, "family", "proto", "dport", "tick"):
        rows[name] = np.concatenate([attempts[name], flows[name][again]])
    rows["at"] = np.concatenate([attempts["at"], flows["last"][again]])
    rows["retried"][after] = retried[again]
    rows["silent"][begun] = attempts["outcome"] == Outcome.SILENT
    rows["weight"] = np.concatenate([attempts["packets"], np.where(retried, 0, flows["d_packets"])[again]])
    rows["weight"][begun][attempts["packets"] <= _RETRANSMISSIONS] = 1.0
    rows["weight"][begun][attempts["outcome"] == Outcome.REFUSED] *= _REFUSED_WEIGHT
    # A backlog fills because the third packet is missing (RFC 4987): a client that sent it has finished the handshake.
    third = (attempts["outcome"] == Outcome.ABANDONED) & (attempts["tcp_flags"] & ACK != 0)
    # A stranger who finishes it, and then says nothing to a web server, takes a place in it as well.
    answered, flags = attempts["outcome"] == Outcome.ANSWERED, attempts["tcp_flags"] | attempts["reply_tcp_flags"]
    mute = (flags & (SYN | ACK | FIN | RST) == SYN | ACK) & (attempts["reply_packets"] > 0)
    mute &= attempts["payload_bytes"] + attempts["reply_payload_bytes"] == 0
    mute |= (attempts["proto"] == UDP) & (attempts["packets"] == 1)
    mute &= answered & WEB_PORTS[attempts["dport"]] & ~seen.ours.side(attempts, "src")
    rows["mute"][begun], rows["weight"][begun][third | answered & ~mute] = mute, 0.0
    return rows


_ADDRESSES = ("src_hi", "src_lo", "dst_hi", "dst_lo", "src", "dst")
_OPENING = np.dtype(
    [
        *((name, "u8") for name in _ADDRESSES),
        *((name, "f8") for name in ("weight", "at")),  # weight 0: completed, or counted before
        *((name, "?") for name in ("silent", "retried", "mute")),  # retried: unanswered, and sent again
        *((name, "u4") for name in ("dport", "family", "proto", "tick")),
    ]
)

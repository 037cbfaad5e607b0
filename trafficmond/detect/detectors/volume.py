"""Far more one-way packets to one victim than usual.

Traffic that is answered is wanted, however much it is. Echo requests count even if answered, because nobody pings so
fast. Large datagrams are assumed to be media. Datagrams at the pace of a call or a game are assumed to belong to one.
"""

import math
from typing import Any

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.dataclass import dataclass
from trafficmond.detect.attempts import ONE_WAY_PORTS, is_group
from trafficmond.detect.base import Detection, DetectorInput, address, format_sources
from trafficmond.detect.carpet import FloodDetector
from trafficmond.detect.grouped import Entities
from trafficmond.detect.windows import Columns, Grouped, estimate, mark, members, mix
from trafficmond.flows.batch import Column
from trafficmond.flows.canonical import TYPE_UNKNOWN
from trafficmond.model import Severity, Threat
from trafficmond.protocols import ACK, ICMP, ICMPV6, RST, SYN, TCP, UDP

_ONE_WAY = 20  # packets for each packet back
_MEDIA_BYTES = 1000  # video in RTP or MPEG-TS fills its packets (7 x 188 bytes and headers)
_MEDIA_PACKETS = 50  # ... and comes in few flows of many packets
_MEDIA_FACTOR = 5.0
# The same holds for a tunnel (IP in IP, GRE, ESP: RFC 2003, 2784, 4303), whose other direction may take another route.
_TUNNELS = members(4, 41, 47, 50, size=256)
# The packets of a flood are of one size, those in a tunnel of many.
_UNLIKE = 0.1
# Acknowledgements in it are as small as those of TCP, plus the headers of IPv6 and GRE.
_CLEAR_TUNNELS, _TUNNEL_ACK_BYTES = members(4, 41, 47, size=256), 128
_ICMP_FACTOR = 0.5  # hosts themselves send at most 1000 a second by default, answers included (icmp_msgs_per_sec)
_ONE_WAY_FACTOR = 10.0  # for protocols that are never answered
_SERVICES = 1024
# A call (50 packets a second, RFC 3551 with 20 ms each) and a game (60 to 128 moves a second) have a steady pace. A
# flood comes as fast as possible, or with one or two packets from each forged address.
_PACE, _PACED_PACKETS = 150, 20
_CYCLES = 1100  # audio of studios has a packet each millisecond (AES67), as cyclic data of machines at most
# Reflected answers may be recognised only after 3,000 packets: at the rate of a flood, after this time.
_PATIENCE_S = 3.0
# bound: floods not yet reported, because they may be reflected answers | the oldest one is reported at once
_WAITING = 1024
# A QUIC client begins with a full datagram (RFC 9000, 14.1), and then sends acknowledgements while it downloads.
_QUIC, _QUIC_FIRST, _QUIC_LATER = 443, 1228, 600
_SHORT = 3  # packets of a TCP flow that was never a connection
_MOST_FRAGMENTS = 44  # of a datagram after the first: 64 KiB in packets of 1,500 bytes
_LOCAL_GROUPS = np.uint64(0xE00000)  # 224.0.0.0/24: link-local control (RFC 5771), not used for streams
_ONE_SOURCE = 0.9
# Packets from so few servers to a client's port are answers seen in one direction, unless they are very many.
_FEW_SERVERS, _LOUD = 4, 10
# Replies of a busy DNS or time server may take another route. A host under a flood says at least: port closed.
_DNS = 53
_ASKED = members(_DNS, 123)
_SCATTERED_SHARE, _PORTS = 0.5, 64512  # of the datagrams go to a port of their own; the ports from 1024 on
# Of the threshold: scattered datagrams of so many sources are not wanted, if the host's answers to them would be seen.
_NOTED, _SOURCES = 0.25, 64
_TICK_S = 0.75  # batches closer than this, or parts of one, are one tick of about a second


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, help="Look for floods of unanswered packets.")
    packets: int = setting(1000, min=10, max=1 << 30, help="Unanswered packets a second to one host.")
    factor: float = setting(4.0, min=1.0, max=1000.0, help="The rate must also be this many times the usual one.")
    memory: float = duration("1h", min="10s", max="1d", help="The time over which the host's usual rate is learned.")
    capacity: int = setting(4096, min=64, max=1 << 20, help="Victims watched at once; 0.4 kB each.")


class Volume(FloodDetector[Settings]):
    name = "volume"
    technique = "T1498.001"
    dedup_key = ("dst_ip",)
    suppressed_by = ("amplification", "syn_flood")
    idle_timeout_s = 300.0
    fields = (
        *((name, "f8") for name in ("tick", "rate", "usual", "total", "peak", "over", "began", "noted", "grew")),
        ("map", "u1", 256),
    )
    evidence_bonus_s = 10.0
    patience_s = _PATIENCE_S

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # By victim: when to report a threat, and the threat. Not stored: after a restart, a flood that continues is
        # reported when it is seen again, because the table has its beginning.
        self._waiting: dict[str, tuple[float, Threat]] = {}

    def victims(self, rows: Columns, seen: DetectorInput) -> list[Detection]:
        back = [dst for dst, (until, _) in self._waiting.items() if until - seen.ends[0] > _PATIENCE_S]
        early = [Detection(0, self._waiting.pop(dst)[1]) for dst in back]  # the clock was set back
        found = early + self.examine(rows, seen)
        named = {detection.threat.dst_ip for detection in found}
        self._waiting = {dst: each for dst, each in self._waiting.items() if dst not in named}
        for tick, now in enumerate(seen.ends.tolist()):
            beyond = len(self._waiting) - _WAITING
            over = [dst for at, (dst, (until, _)) in enumerate(self._waiting.items()) if until <= now or at < beyond]
            found += [Detection(tick, self._waiting.pop(dst)[1]) for dst in over]
        return found

    def due(self, now: float) -> bool:
        return any(_is_over(until, now) for until, _ in self._waiting.values())

    def choose(self, seen: DetectorInput) -> Columns:
        return _one_way(seen)

    def add_amounts(self, rows: Columns) -> float:
        flood = ~(rows["answer"] | rows["error"] | rows["client"] | rows["media"])
        rows.put("amount", rows["poured"] * flood)
        rows.put("other", np.zeros(len(rows)))
        return self.settings.packets * self.spread_window_s

    def scattered(self, rows: Columns) -> bool:
        """Whether nearly all are datagrams between high ports, most of them to a port of their own: answers come to the
        few ports that were asked from, and questions to the port of a service."""
        loose = (rows["proto"] == UDP) & (rows["packets"] <= _SHORT)
        loose &= (rows["sport"] >= _SERVICES) & (rows["dport"] >= _SERVICES)
        ports = len(np.unique(rows["dport"][loose]))
        return ports >= _SCATTERED_SHARE * min(len(rows), _PORTS) and bool(loose.mean() >= _ONE_SOURCE)

    def key(self, rows: Columns) -> Column:
        return rows["dst"]

    def weight(self, rows: Columns, by: Grouped) -> Column:
        rate = by.sum(rows["weight"])
        return np.where(rate >= 0.1 * self.settings.packets, rate, 0)

    def judge(self, found: Entities) -> tuple[Column, Column]:
        settings, rows, slot = self.settings, self.table.rows, found.known
        self._next_tick(slot, found.heard)
        rows["rate"][slot] += _rate(found)[found.watched]
        rate, unusual = found.states("rate"), settings.factor * found.states("usual")
        noted = rate >= np.maximum(_NOTED * settings.packets, unusual)
        for first, last, over in (("began", "over", noted & (rate >= settings.packets)), ("grew", "noted", noted)):
            begins = slot[over[found.watched]]
            now = found.heard[over[found.watched]]
            restarts = np.abs(now - rows[last][begins]) > self.idle_timeout_s
            rows[first][begins[restarts]] = now[restarts]
            for field in ("peak", "map", *(("total",) if over is noted else ())):
                rows[field][begins[restarts]] = 0
            rows[last][begins] = now
        rows["peak"][slot] = np.maximum(rows["peak"][slot], rows["rate"][slot])
        rows["total"][slot] += found.by.sum(found.rows["packets"])[found.watched]
        mark(rows["map"], found.slot, found.kept["src"])
        return noted, rate

    def _next_tick(self, slots: Column, now: Column) -> None:
        """When a new tick begins, adds the rate of the last one to the usual rate, which fades meanwhile. Of a flood,
        only the rate that makes it one is added, so that a long one does not soon seem usual."""
        rows, settings = self.table.rows, self.settings
        begins = np.abs(now - rows["tick"][slots]) >= _TICK_S
        slots, now = slots[begins], now[begins]
        fade = np.exp(-np.abs(now - rows["tick"][slots]) / settings.memory)
        share, usual = 1 - math.exp(-1 / settings.memory), rows["usual"][slots]
        rate = np.minimum(rows["rate"][slots], np.maximum(settings.packets, settings.factor * usual))
        rows["usual"][slots] = fade * usual + share * rate
        rows["rate"][slots] = 0
        rows["tick"][slots] = now

    def threat(self, found: Entities, entity: int) -> Threat | None:
        mine, state = found.rows.take(found.by.of == entity), found.state(entity)
        victim = found.by.keys[entity], found.seen, found.tick[entity]
        if _earned(mine, *victim):
            return None
        packets = mine["packets"].astype(np.float64)
        heaviest = Grouped(mix(mine["src_hi"], mine["src_lo"]))
        sums = heaviest.sum(packets)
        top = int(sums.argmax())
        single = sums[top] >= _ONE_SOURCE * packets.sum()
        sources, loud = int(estimate(state["map"])), state["peak"] >= _LOUD * self.settings.packets
        if single and _is_scan(mine, loud):
            return None
        if len(sums) <= _FEW_SERVERS and not loud and packets[mine["client"]].sum() > 0.5 * packets.sum():
            return None
        src, dst = address(mine, "src", heaviest.first[top]) if single else None, address(mine, "dst", 0)
        noted = state["rate"] < self.settings.packets
        visible = exchanges = found.seen.senders.know(victim[0], found.now[entity])
        # By then, a flood of its network is known.
        visible &= dst not in self._waiting and found.now[entity] - state["grew"] >= self.spread_window_s
        if noted and not (visible and len(sums) >= _SOURCES and self.scattered(mine)):
            return None
        asked = (mine["proto"] == UDP) & (_ASKED[mine["dport"]] | mine["client"] & (mine["service"] == _DNS))
        unheard = packets[asked].sum() > 0.5 * packets.sum() and not _sent(*victim, None if exchanges else mine["src"])
        # What our devices report to us (cameras too), or carry between our hosts, by a protocol that never answers; and
        # what many of them send from one port, because the questions may not have been seen.
        udp, steady = mine["proto"] == UDP, (packets >= _PACED_PACKETS) & (mine["weight"] <= _CYCLES)
        steady = steady & (mine["dport"] >= _SERVICES) | (not single) & _is_from_one_port(mine)
        reports = udp & (ONE_WAY_PORTS[mine["dport"]] | steady & (not loud)) | mine["media"]
        reports &= found.seen.ours.side(mine, "src")
        low = packets[reports & found.seen.ours.side(mine, "dst")].sum() > 0.5 * packets.sum() or noted
        low |= unheard and not loud
        rate = state["rate" if noted else "peak"]
        heard = packets[mine["heard"]].sum()  # pings, which count also if they are answered
        what = "pings" if heard > 0.5 * packets.sum() else "unanswered packets" + " and pings" * bool(heard)
        threat = self.found(
            Severity.LOW if low else Severity.HIGH if loud else Severity.MEDIUM,
            f"about {rate * packets.sum() / (mine['odd'] * packets).sum():,.0f} {what} a second to {dst} "
            f"from {src or format_sources(sources, state['map'])}",
            {
                "unit": "packets",
                "peak_weighted_packets_s": int(rate),
                "usual_weighted_packets_s": int(state["usual"]),
                "bytes": int(mine["bytes"].sum()),
                "sources": sources,
                "protocols": sorted({int(proto) for proto in np.unique(mine["proto"])}),
            },
            src=src,
            dst=dst,
            times=(mine["first"].min(), found.now[entity]),
            count=state["total"],
        )
        until = float(state["began"]) + _PATIENCE_S
        if noted or _is_over(until, float(found.now[entity])):
            return threat
        self._waiting[dst] = until, threat
        return None


def _is_over(until: float, now: float) -> bool:
    """Whether the wait is over; also if the clock was set back, so that it does not prolong the wait."""
    return now >= until or until - now > _PATIENCE_S


def _one_way(seen: DetectorInput) -> Columns:
    """The flows whose packets in this batch got no answer, as seen by their sender.

    Their `weight` is packets a second, multiplied by how unusual it is to send so many of this kind.
    """
    flows = seen.flows
    proto, first, replies = flows["proto"], flows["first_flags"], flows["reply_tcp_flags"]
    # Answers to questions that were not seen count for the host that answers.
    unasked = (flows["packets"] == 0) & (flows["d_reply_packets"] > 0)
    packets = np.where(unasked, flows["d_reply_packets"], flows["d_packets"])
    # A reset is no answer: the victim's kernel does not know the connection.
    reset = (proto == TCP) & (replies & (SYN | RST) == RST) & (flows["reply_payload_bytes"] == 0)
    back = np.where(unasked | reset, 0, flows["d_reply_packets"])
    one_way = packets > _ONE_WAY * back
    # TCP: neither a connection, nor one direction of a connection whose other direction takes another way.
    loose = (first & (SYN | ACK) != SYN) & (flows["packets"] + np.where(reset, 0, flows["reply_packets"]) <= _SHORT)
    icmp = (proto == ICMP) | (proto == ICMPV6)
    pings = icmp & ((flows["sport"] == np.where(proto == ICMP, 8, 128)) | (flows["sport"] == TYPE_UNKNOWN))
    wanted = (packets > 0) & ((one_way & ((proto != TCP) | loose)) | pings)
    at = np.flatnonzero(wanted & (flows["last"] > 0) & ~_continue(flows))  # without times there are no rates

    rows, turned, octets = flows.take(at), unasked[at], flows.some("d_bytes", at)
    rows.put("packets", packets[at])
    service, client = flows.some("sport", at), flows.some("dport", at)
    if turned.any():
        octets = np.where(turned, flows.some("d_reply_bytes", at), octets)
        service, client = np.where(turned, client, service), np.where(turned, service, client)
        for ends in (f"{{}}{word}" for word in ("_hi", "_lo", "")):
            one, other = (flows.some(ends.format(side), at) for side in ("src", "dst"))
            rows.put(ends.format("src"), np.where(turned, other, one))
            rows.put(ends.format("dst"), np.where(turned, one, other))
    rows.put("bytes", octets)
    icmp, udp = icmp[at], rows["proto"] == UDP
    quic = ~turned & udp & (rows["dport"] == _QUIC) & (rows["first_len"] >= _QUIC_FIRST)
    quic &= octets <= _QUIC_LATER * rows["packets"]
    rows.put("service", service)
    rows.put("client", udp & (service > 0) & (service < _SERVICES) & (client >= _SERVICES) | quic)
    odd = np.ones(len(at))
    odd[icmp] /= _ICMP_FACTOR
    # WireGuard, OpenVPN, L2TP and IPsec behind a NAT have the same port at both ends.
    tunnels = _TUNNELS[rows["proto"]] | udp & (rows["sport"] == rows["dport"]) & (rows["sport"] > 0)
    streams = udp & ((rows["dport"] >= _SERVICES) | (rows["dport"] == _QUIC)) | tunnels
    streams &= rows["packets"] >= _MEDIA_PACKETS
    small = _CLEAR_TUNNELS[rows["proto"]] & (octets <= _TUNNEL_ACK_BYTES * rows["packets"])
    mean = octets / np.maximum(rows["packets"], 1)
    mixed = tunnels & (np.abs(mean - rows["first_len"]) > _UNLIKE * mean)
    streams &= (mean >= _MEDIA_BYTES) | small | mixed
    sent = np.where(turned, flows.some("reply_packets", at), flows.some("packets", at))
    paced = udp & (sent >= _PACED_PACKETS) & (rows["packets"] <= _PACE * seen.span[at])
    odd[streams & ~paced] /= _MEDIA_FACTOR
    odd[udp & ONE_WAY_PORTS[rows["dport"]] | paced | quic] /= _ONE_WAY_FACTOR
    rows.put("media", streams)
    rows.put("heard", ~one_way[at])
    rows.put("odd", odd)
    rows.put("weight", odd * rows["packets"] / seen.span[at])
    rows.put("mean", odd * rows["packets"] / np.maximum(seen.widths[rows["tick"]], seen.span[at]))
    rows.put("poured", np.minimum(odd, 1) * rows["packets"] * np.minimum(seen.widths[rows["tick"]] / seen.span[at], 1))
    rows.put("answer", (rows["proto"] == TCP) & ((first[at] & RST != 0) | (first[at] & (SYN | ACK) == SYN | ACK)))
    rows.put("error", icmp & ~pings[at] & ~turned)
    grouped = udp & _is_stream_group(rows)
    return rows.take(~grouped) if grouped.any() else rows


def _rate(found: Entities) -> Column:
    """Packets a second to each victim: the mean of the tick, or what began in one second of a long tick, if more."""
    rows, rate = found.rows, found.by.sum(found.rows["mean"])
    if found.seen.widths.max() < 2 * _TICK_S:
        return rate
    seconds = Grouped(mix(rows["dst"], rows["first"].astype(np.uint64)))
    return np.maximum(rate, found.by.max(seconds.sum(rows["weight"])[seconds.of]))


def _continue(flows: Columns) -> Column:
    """A mask of later fragments, which have no ports, of answered datagrams between the same hosts: of NFS, tunnels."""
    found: Column = (flows["proto"] == UDP) & (flows["sport"] | flows["dport"] == 0)
    if found.any():
        talks = (flows["proto"] == UDP) & (flows["d_packets"] > 0) & (flows["d_reply_packets"] > 0) & ~found
        at = np.flatnonzero(found | talks)
        later, packets = found[at], (flows["d_packets"] + flows["d_reply_packets"])[at]
        by = Grouped(mix(flows["tick"][at], flows["src"][at] ^ flows["dst"][at]))
        found[at] &= (by.sum(packets * later) <= _MOST_FRAGMENTS * by.sum(packets * ~later))[by.of]
    return found


def _is_stream_group(rows: Columns) -> Column:
    """A mask of destinations that are multicast groups for streams."""
    group = is_group(rows["dst_hi"], rows["dst_lo"], rows["family"])
    low = rows["dst_lo"] & np.uint64(0xFFFFFFFF)
    v4 = (low >> np.uint64(28) == 0xE) & (low >> np.uint64(8) != _LOCAL_GROUPS)
    v6 = rows["dst_hi"] >> np.uint64(48) & np.uint64(0xF) > 2  # scopes beyond interface and link (RFC 4291)
    streams: Column = group & np.where(rows["family"] == 4, v4, v6)
    return streams


def _is_scan(mine: Columns, loud: bool) -> bool:
    """Whether a source's packets are a TCP scan, one packet a port (no scan of one host is loud), or the answers of
    a scanned host."""
    if np.count_nonzero(mine["answer"]) > len(mine) / 2:
        return True
    ports = mine["dport"][mine["proto"] == TCP]
    return not loud and len(ports) > len(mine) / 2 and len(np.unique(ports)) > len(ports) / 2


def _is_from_one_port(mine: Columns) -> Column:
    """A mask of the rows from the port that sends most, as a service does that was asked."""
    by = Grouped(mine["service"].astype(np.uint64))
    most: Column = (by.of == by.sum(mine["packets"]).argmax()) & (mine["service"] > 0)
    return most


def _earned(mine: Columns, victim: Any, seen: DetectorInput, tick: Any) -> bool:
    """Whether these are mostly ICMP errors about the host's own packets: it scans, or its service is down."""
    errors = int(mine["packets"][mine["error"]].sum())
    return 0.5 * int(mine["packets"].sum()) <= errors <= 2 * _sent(victim, seen, tick)


def _sent(host: Any, seen: DetectorInput, tick: Any, to: Column | None = None) -> int:
    """The packets that a host sent in a tick, to these hosts or to any."""
    flows = seen.flows.take((seen.flows["tick"] == tick) & ((seen.flows["src"] == host) | (seen.flows["dst"] == host)))
    if to is not None:
        flows = flows.take(np.isin(flows["src"], to) | np.isin(flows["dst"], to))
    return int(flows["d_packets"][flows["src"] == host].sum() + flows["d_reply_packets"][flows["dst"] == host].sum())

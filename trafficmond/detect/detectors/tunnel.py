"""Data sent out in queries to a resolver, or in pings.

A name has little room, so a tunnel through DNS needs hundreds of queries that are far longer than usual names. The
reply to a ping has the same data (RFC 792, RFC 4443): other sizes that vary are no echo.
"""

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.dataclass import dataclass
from trafficmond.detect.base import DetectorInput, address
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.resolvers import is_resolver
from trafficmond.detect.windows import Columns, Grouped, decay, members, mix
from trafficmond.flows.batch import Batch, Column
from trafficmond.flows.canonical import TYPE_UNKNOWN
from trafficmond.model import Severity, Threat
from trafficmond.protocols import FIN, ICMP, ICMPV6, TCP, UDP

_DNS, _DOT, _HTTPS, _ECHO, _ECHO_V6 = 53, 853, 443, 8, 128
_HEADERS = {4: 42, 6: 62}  # bytes of a frame before a datagram's payload
_SEGMENT_HEADERS, _SEGMENT = 24, 1448  # more of them with TCP and its time stamps; payload of a full segment
_OTHER, _NOT_DNS, _BY_UDP, _BY_TCP, _IN_TLS, _IN_HTTP, _IN_QUIC = range(-1, 6)
_HOW = ("pings", "questions", "questions over TCP", "questions in TLS", "questions in HTTPS", "questions in QUIC")
_AROUND = 4  # SYN, ACK, FIN, ACK
_GUESSED = 2  # times the segments that a sum needs: so few may be missing from the count
_HELLO = 2  # packets that begin TLS or QUIC
# Their payload: in TLS a hello of 517 bytes (RFC 7685), a key of 1184 (FIPS 203), of QUIC 1200 bytes each (RFC 9000).
_HELLO_BYTES = np.array([0, 0, 0, 1800, 1800, 2400])
# Payload of a question: 12 bytes of header, 5 behind the name, up to 23 of EDNS with a cookie (RFC 6891, 7873); names
# of content networks reach 60. The names that people or programs use have fewer, on average over hundreds.
_LONG = 85
# Lookups of reputations are longer: a hash in hex, an account's key of 26 and a zone make up to 160 bytes.
_REPUTATION = 160
# So many questions in one socket are a tool's, or a forwarder's (CoreDNS, dnsdist), whose names are ordinary.
_ONE_SOCKET, _LONG_ONE_SOCKET = 100, 50
# Fewer questions that have as many bytes in all count too, but not fewer than this share: names carry little each.
_LONGER_SHARE = 0.25
_HOUR_S = 3600.0  # a slow tunnel has as many in that time
# The name of an IPv6 address (RFC 3596, 2.5) makes a question of 90 bytes: mail servers and readers of logs ask such by
# the hundred. With EDNS it has 101, with a cookie of the client 113, and of the server too 129 (RFC 7873).
_ADDRESS_NAMES = members(90, 101, 113, 129)
# In TLS a question of up to 128 bytes takes 128 (RFC 8467), and a record's 24 around it (a packet's 40 in QUIC, RFC
# 9250), and 60 more in HTTP/2; a longer one takes 256.
_LONGEST = np.array([0, _LONG, _LONG, 200, 300, 200])
_PING_BYTES = 64  # ping's largest default payload (Linux and macOS 56 and 64 with its header, Windows 32)
# Bytes: the deviation of batches' means. A host that cuts the replies off at a size (8.8.8.8) replies to equal pings,
# whose mean does not vary at all.
_VARIES, _EQUAL = 8.0, 1.0
_UNLIKE_SHARE = 0.25  # of the pings that are needed: where packets are lost, few batches have as many replies
_PADDED_BYTES = 18  # Ethernet's padding makes shorter replies that long, and the pings of the same host do not have it
_LARGE = 500  # bytes of a ping
_MORE = 1.2  # replies for each ping
_FADING = ("asked", "answered", "sent", "got", "squares", "paired", "unlike", "one_socket")
_HOUR = {name: f"hour_{name}" for name in _FADING}


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, help="Look for data carried in DNS questions and pings.")
    questions: int = setting(200, min=20, max=1 << 20, help="Long questions of one host to one resolver in a window.")
    pings: int = setting(100, min=20, max=1 << 20, help="Pings with data from one host to another in a window.")
    window: float = duration("5m", min="10s", max="1d", help="Both count less with age: a third after this time.")
    capacity: int = setting(4096, min=64, max=1 << 20, help="Pairs of hosts watched at once; 0.2 kB each.")


class Tunnel(GroupedDetector[Settings]):
    name = "tunnel"
    technique = "T1572"
    dedup_key = ("src_ip", "dst_ip")
    idle_timeout_s = 3600.0
    fields = tuple((name, "f8") for name in ("at", "total", *_FADING, *_HOUR.values()))
    evidence_bonus_s = 60.0

    def choose(self, seen: DetectorInput) -> Columns:
        flows = seen.flows
        proto, port, sport = flows["proto"], flows["dport"], flows["sport"]
        tcp, how = proto == TCP, np.full(len(flows), _OTHER, np.int8)
        how[(port == _DNS) & ((proto == UDP) & (sport != _DNS))] = _BY_UDP
        how[(port == _DNS) & tcp] = _BY_TCP
        how[(port == _DOT) & tcp] = _IN_TLS
        how[(port == _DOT) & (proto == UDP)] = _IN_QUIC
        https = np.flatnonzero((port == _HTTPS) & tcp)
        how[https[is_resolver(flows, https)]] = _IN_HTTP
        # Logs without types mix pings with other ICMP, of which only pings have replies.
        icmp = (proto == ICMP) | (proto == ICMPV6)
        echo = sport == np.where(proto == ICMP, _ECHO, _ECHO_V6)
        how[icmp & (echo | (sport == TYPE_UNKNOWN) & (flows["reply_packets"] > 0))] = _NOT_DNS
        at = np.flatnonzero(how != _OTHER)
        unasked = icmp[at] & (flows.some("packets", at) == 0)  # its replies alone are seen
        counts = (flows.some("d_packets", at) > 0) & (~tcp[at] | (flows.some("payload_bytes", at) > 0)) | unasked
        at, unasked = at[counts], unasked[counts]
        rows = flows.take(at)
        headers = np.where(rows["family"] == 4, _HEADERS[4], _HEADERS[6]) + _SEGMENT_HEADERS * (rows["proto"] == TCP)
        rows.put("how", how[at])
        for name, prefix in (("sent", "d_"), ("got", "d_reply_")):
            payload = rows[prefix + "bytes"].astype(float) - headers * rows[prefix + "packets"].astype(float)
            rows.put(name, np.maximum(payload, 0))
        rows.put("sent", np.where(unasked, rows["got"], rows["sent"]))
        rows.put("asked", np.where(unasked, rows["d_reply_packets"], rows["d_packets"]).astype(float))
        rows = _segments(rows)
        mean = np.minimum(rows["payload_bytes"] / np.maximum(rows["packets"], 1), 1000)
        return rows.take((rows["how"] != _BY_UDP) | (mean % 1 > 0) | ~_ADDRESS_NAMES[mean.astype(int)])

    def key(self, rows: Columns) -> Column:
        return mix(rows["src"], rows["dst"], rows["how"])

    def weight(self, rows: Columns, by: Grouped) -> Column:
        return by.sum(rows["sent"]) / _LONG

    def judge(self, found: Entities) -> tuple[Column, Column]:
        rows, known = self.table.rows, found.known
        for name in _HOUR.values():
            rows[name][known] *= np.exp(-np.maximum(found.heard - rows["at"][known], 0) / _HOUR_S)
        idle = rows[_HOUR["asked"]][known] < 1
        rows["total"][known[idle]], rows["since"][known[idle]] = 0, found.heard[idle]
        decay(rows, known, found.heard, self.settings.window, _FADING)
        flows = found.kept
        asked = flows["asked"]
        paired = np.where(flows["d_packets"] == flows["d_reply_packets"], asked, 0)
        amounts = {
            "asked": asked,
            "answered": flows["d_reply_packets"].astype(float),
            "sent": flows["sent"],
            "got": flows["got"],
            "squares": flows["sent"] ** 2 / np.maximum(asked, 1),
            "paired": paired,
            "unlike": np.where(flows["sent"] != flows["got"], paired, 0),
            "one_socket": np.where((flows["packets"] >= _ONE_SOCKET) & (flows["how"] == _BY_UDP), asked, 0),
        }
        found.add(total=asked, **amounts, **{_HOUR[name]: amount for name, amount in amounts.items()})
        how = found.rows["how"][found.by.first]
        over = np.zeros(len(found.slots), bool)
        over[found.watched] = self._severity(rows[known], how[found.watched]) > 0
        return over, found.states("sent")

    def _severity(self, rows: Batch, how: Column) -> Column:
        hour = self._judged({name: rows[_HOUR[name]] for name in _FADING}, how)
        # Monitors measure paths with large pings all day, a few each minute.
        slow = hour > np.where(how == _NOT_DNS, Severity.LOW, 0)
        return np.maximum(self._judged({name: rows[name] for name in _FADING}, how), np.where(slow, Severity.LOW, 0))

    def _judged(self, states: dict[str, Column], how: Column) -> Column:
        settings, asked = self.settings, np.maximum(states["asked"], 1)
        mean = states["sent"] / asked
        one_socket = states["one_socket"] >= 0.5 * asked
        longest = np.where(one_socket, _LONG_ONE_SOCKET, _LONGEST[how])
        many = asked >= np.where(how == _BY_UDP, _LONGER_SHARE, 1) * settings.questions
        many &= (asked >= settings.questions) | (states["sent"] >= settings.questions * _LONG)
        dns = many & (mean >= longest)

        back = states["got"] / np.maximum(states["answered"], 1)
        deviation = np.sqrt(np.maximum(states["squares"] / asked - mean**2, 0))
        size, pings = np.maximum(mean, back), asked >= settings.pings
        unlike = pings & (states["unlike"] > 0.5 * states["paired"]) & (np.rint(size) > _PADDED_BYTES)
        unlike &= states["unlike"] >= _UNLIKE_SHARE * settings.pings
        large = pings & (size > _PING_BYTES) & ((deviation > _VARIES) | (mean >= _LARGE))
        # A host sends one reply to a ping, or the same one again.
        more = pings & (states["answered"] > _MORE * asked) & (np.abs(mean - back) > _VARIES)
        data = more | unlike & (deviation > _EQUAL)
        echo = np.where(data, Severity.MEDIUM, np.where(unlike | large, Severity.LOW, 0))
        sure = (how == _BY_UDP) & (mean >= np.where(one_socket, _LONG, _REPUTATION))
        questions = np.where(sure, Severity.MEDIUM, Severity.LOW)
        return np.where(how == _NOT_DNS, echo, np.where(dns, questions, 0))

    def threat(self, found: Entities, entity: int) -> Threat:
        one, state, how = found.first(entity), found.state(entity), int(found.rows["how"][found.by.first[entity]])
        src, dst = address(one, "src"), address(one, "dst")
        asked = max(1.0, state["asked"])
        mean, back = state["sent"] / asked, state["got"] / max(1.0, state["answered"])
        what = f"{_HOW[how]} of {mean:,.0f} bytes to" + (" the resolver" if how != _NOT_DNS else "")
        severity = self._severity(self.table.rows[found.slots[[entity]]], np.array([how]))
        return self.found(
            Severity(int(severity[0])),
            f"{src} sent {state['total']:,.0f} {what} {dst}, with answers of {back:,.0f} bytes: both may carry data",
            {
                "unit": "pings" if how == _NOT_DNS else "questions",
                "mean_sent_bytes": int(mean),
                "mean_received_bytes": int(back),
                "one_socket": bool(state["one_socket"] >= 0.5 * asked),
                "ports": [] if how == _NOT_DNS else [int(one["dport"])],
            },
            src=src,
            dst=dst,
            times=(state["since"], found.all(entity)["last"].max()),
            count=state["total"],
        )


def _segments(rows: Columns) -> Columns:
    """Counts a connection's segments with payload as queries. If their number is unknown and estimated from the sum, as
    in flow records, all segments count: more than there were queries, which then seem shorter."""
    tcp = rows["proto"] == TCP
    carried, packets = rows["payload_packets"].astype(float), np.maximum(rows["packets"].astype(float), 1)
    counted = carried > _GUESSED * -(-rows["payload_bytes"].astype(float) // _SEGMENT)
    hello = rows["new"] & (rows["how"] >= _IN_TLS)
    # A complete connection also has the packets of its handshake and its end, which are no questions.
    whole = tcp & rows["new"] & (rows["tcp_flags"] & rows["reply_tcp_flags"] & FIN != 0)
    asked = np.where(whole, np.maximum(rows["asked"] - _AROUND, 1), rows["asked"])
    asked = np.where(tcp & counted, rows["asked"] * carried / packets, asked) - _HELLO * hello
    rows.put("asked", np.maximum(asked, 0))
    rows.put("sent", np.maximum(rows["sent"] - _HELLO_BYTES[rows["how"]] * hello, 0))
    return rows

"""Data carried out in questions to a resolver, or in pings.

A name holds little, so a tunnel through DNS asks much and at length: questions far longer than names are, hundreds of
them, to one resolver. A tool with one socket for all of them is told earlier, since resolvers take a new port for each
question (RFC 5452). A ping is answered with what it carried (RFC 792, RFC 4443): where sizes differ between the two
sides, or vary from packet to packet, something else than an echo is carried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.detect.base import Observation, address
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.windows import Columns, Grouped, decay, mix
from trafficmond.flows.batch import Batch, Column
from trafficmond.model import Severity, Threat
from trafficmond.protocols import ICMP, ICMPV6, UDP

_DNS, _ECHO, _ECHO_V6 = 53, 8, 128
_HEADERS = {4: 42, 6: 62}  # bytes of a frame before a datagram's payload
# Payload of a question: 12 bytes of header, 5 behind the name, up to 23 of EDNS with a cookie (RFC 6891, 7873); names
# of content networks reach 60. On average of hundreds so many are no names that people or programs go to.
_LONG = 85
_LONG_ONE_SOCKET, _ONE_SOCKET = 50, 100
_PING_BYTES = 64  # what ping sends at most by default (Linux and macOS 56 and 64 with its header, Windows 32)
_UNEQUAL, _VARIES = 8.0, 8.0  # bytes: between both sides' mean, and deviation of batches' means
_LARGE = 500
_FADING = ("asked", "answered", "sent", "got", "means", "squares", "batches", "one_socket")


@dataclass(frozen=True)
class Settings:
    """[detect.tunnel]"""

    enabled: bool = setting(True, help="Look for data carried in DNS questions and pings.")
    questions: int = setting(200, min=20, max=1 << 20, help="Long questions of one host to one resolver in a window.")
    pings: int = setting(100, min=20, max=1 << 20, help="Pings of one host to another in a window that are no echoes.")
    window: float = duration("5m", min="10s", max="1d", help="How long they are remembered (they fade out).")
    capacity: int = setting(4096, min=64, max=1 << 20, help="Pairs of hosts watched at once; 0.1 kB each.")


class Tunnel(GroupedDetector):
    name = "tunnel"
    technique = "T1572"
    identity = ("src_ip", "dst_ip")
    quiet_s = 3600.0
    settings_class = Settings
    settings: Settings
    fields = tuple((name, "f8") for name in ("at", "total", *_FADING))
    credit_s = 60.0

    def choose(self, seen: Observation) -> Columns:
        flows = seen.flows
        asks = flows["d_packets"] > 0
        dns = (flows["proto"] == UDP) & (flows["dport"] == _DNS) & (flows["sport"] != _DNS)
        pings = (flows["proto"] == ICMP) & (flows["sport"] == _ECHO)
        pings |= (flows["proto"] == ICMPV6) & (flows["sport"] == _ECHO_V6)
        at = np.flatnonzero(asks & (dns | pings))
        rows = flows.take(at)
        headers = np.where(rows["family"] == 4, _HEADERS[4], _HEADERS[6])
        rows.put("ping", pings[at])
        for name, prefix in (("sent", "d_"), ("got", "d_reply_")):
            payload = rows[prefix + "bytes"].astype(float) - headers * rows[prefix + "packets"].astype(float)
            rows.put(name, np.maximum(payload, 0))
        return rows

    def key(self, rows: Columns) -> Column:
        return mix(rows["src"], rows["dst"], rows["ping"])

    def weight(self, rows: Columns, by: Grouped) -> Column:
        return by.sum(rows["sent"]) / _LONG

    def judge(self, found: Entities) -> tuple[Column, Column]:
        rows, known = self.table.rows, found.known
        decay(rows, known, found.heard, self.settings.window, _FADING)
        flows = found.kept
        asked, mean = flows["d_packets"].astype(float), flows["sent"] / np.maximum(flows["d_packets"], 1)
        found.add(
            asked=asked,
            total=asked,
            answered=flows["d_reply_packets"].astype(float),
            sent=flows["sent"],
            got=flows["got"],
            means=asked * mean,
            squares=asked * mean * mean,
            batches=np.ones(len(flows)),
            one_socket=np.where(flows["packets"] >= _ONE_SOCKET, asked, 0),
        )
        pings = found.rows["ping"][found.by.first]
        over = np.zeros(len(found.slots), bool)
        over[found.watched] = self._severity(rows[known], pings[found.watched]) > 0
        return over, found.states("sent")

    def _severity(self, states: Batch, pings: Column) -> Column:
        settings, asked = self.settings, np.maximum(states["asked"], 1)
        mean = states["sent"] / asked
        longest = np.where(states["one_socket"] >= 0.5 * asked, _LONG_ONE_SOCKET, _LONG)
        dns = (asked >= settings.questions) & (mean >= longest)

        back = states["got"] / np.maximum(states["answered"], 1)
        deviation = np.sqrt(np.maximum(states["squares"] / asked - (states["means"] / asked) ** 2, 0))
        other = (states["answered"] > 0) & (np.abs(mean - back) > _UNEQUAL) | (deviation > _VARIES)
        large = (asked >= settings.pings) & (np.maximum(mean, back) > _PING_BYTES)
        echo = np.where(large & other, Severity.MEDIUM, np.where(large & (mean >= _LARGE), Severity.LOW, 0))
        severity: Column = np.where(pings, echo, np.where(dns, Severity.MEDIUM, 0))
        return severity

    def threat(self, found: Entities, entity: int) -> Threat:
        one, state, ping = found.first(entity), found.state(entity), bool(found.rows["ping"][found.by.first[entity]])
        src, dst = address(one, "src"), address(one, "dst")
        asked = max(1.0, state["asked"])
        mean, back = state["sent"] / asked, state["got"] / max(1.0, state["answered"])
        what = f"pings of {mean:.0f} bytes to" if ping else f"questions of {mean:.0f} bytes to the resolver"
        severity = self._severity(self.table.rows[found.slots[[entity]]], np.array([ping]))
        return self.found(
            Severity(int(severity[0])),
            f"{src} sent {state['total']:.0f} {what} {dst}, answered with {back:.0f} each: data may be carried in them",
            {
                "unit": "pings" if ping else "questions",
                "mean_sent_bytes": int(mean),
                "mean_received_bytes": int(back),
                "one_socket": bool(state["one_socket"] >= 0.5 * asked),
                "ports": [] if ping else [_DNS],
            },
            src=src,
            dst=dst,
            first_seen=state["since"],
            last_seen=found.all(entity)["last"].max(),
            count=state["total"],
        )

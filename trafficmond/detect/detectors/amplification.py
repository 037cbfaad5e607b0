"""Many servers answer one victim that did not ask: from one source port, in large packets, or with SYN-ACKs.

The threat names the victim; the reflectors are misused, they are not attackers.
"""

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.dataclass import dataclass
from trafficmond.detect.attempts import HIGH_SERVICES, ONE_WAY_PORTS, is_group
from trafficmond.detect.base import DetectorInput, address, addresses, format_sources
from trafficmond.detect.carpet import FloodDetector
from trafficmond.detect.grouped import Entities
from trafficmond.detect.windows import Columns, Grouped, decay, estimate, mark, members, mix
from trafficmond.flows.batch import Column
from trafficmond.model import Severity, Threat
from trafficmond.protocols import ACK, RST, SYN, TCP, UDP

_DNS, _HTTP, _HTTPS = 53, 80, 443
_CLIENTS = 1024  # the first port of clients
_BY_TCP = np.int64(0x10000)  # instead of a port; outside the range of ports
_SHORT = 3  # the mean number of packets in a reflector's answer, for ports that also carry ordinary answers
_LONG = 100  # ... in the answer to one question: as many as NTP's list of peers has (CVE-2013-5211)
_SOLICITED_SHARE = 0.1
_MANY_FACTOR, _MANY_PACKETS = 10, 30  # factors of hosts and of packets above which small answers count too
_ANSWERS_EACH, _LEAST_BYTES = 4, 60
# A packet to a port that only servers use is a question: DHCP, NTP, SNMP, IKE, syslog, RIP, RADIUS, BACnet.
_ASKED_PORTS = members(67, 123, 161, 162, 500, 514, 520, 547, 1812, 1813, 47808)
# All members of a group answer a question to it. UPnP: each device sends 3 answers, and 1 for each of its services;
# on a large link this makes 1000. The share of solicited answers is a tenth.
_GROUP_SOLICITS = 100
# From a victim of which nothing is seen, less than `_MANY_PACKETS` times the packets within a window (100 a second, at
# 1,500 bytes 1.2 Mbit/s) does little harm, and then has low severity. From port 53 that holds up to 12 Mbit/s,
# thousands of answers a second: only resolvers ask so many hosts.
_RESOLVER_BYTES_S = 1_500_000
_SYN_ACK_FACTOR = 5  # reflectors: a stray SYN-ACK is small and frequent (back-scatter)
# If the victim's packets are seen, and it asked for nothing, large answers from so few hosts outside are a note, as are
# SYN-ACKs that the victim resets. Of one host only, the other direction may take another route. Media, games and peers
# use other ports than these services.
_FEW, _NOTE_RANK = 2, 1e12
_AMPLIFIERS = members(*{*range(1, _CLIENTS), *np.flatnonzero(HIGH_SERVICES)} - {_HTTP, _HTTPS}, size=int(_BY_TCP) + 1)


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, help="Look for floods of answers that nobody asked for.")
    reflectors: int = setting(20, min=3, max=10000, help="Distinct hosts that answer one victim from one source port.")
    packets: int = setting(100, min=10, max=1 << 30, help="Packets from all these hosts within `window`.")
    mean_bytes: int = setting(
        180, min=0, max=65535, help="Least mean size of the answers' packets: amplified answers are large."
    )
    dns_mean_bytes: int = setting(
        400,
        min=0,
        max=65535,
        help="`mean_bytes` for answers from port 53: a resolver seen from one side gets many small ones.",
    )
    window: float = duration("30s", min="1s", max="10m", help="Answers count less with age: a third after this time.")
    capacity: int = setting(4096, min=64, max=1 << 20, help="Victims and ports watched at once; 0.3 kB each.")


class Amplification(FloodDetector[Settings]):
    name = "amplification"
    technique = "T1498.002"
    dedup_key = ("dst_ip",)
    idle_timeout_s = 300.0
    fields = (
        *((name, "f8") for name in ("at", "packets", "bytes", "flows", "solicited", "resets", "total")),
        ("map", "u1", 256),
    )
    evidence_bonus_s = 5.0

    def choose(self, seen: DetectorInput) -> Columns:
        flows = seen.flows
        udp, tcp = flows["proto"] == UDP, flows["proto"] == TCP
        silent = (flows["reply_packets"] == 0) & (flows["d_packets"] > 0)
        answers = udp & silent & (flows["sport"] != flows["dport"]) & (flows["sport"] > 0)
        answers &= ~(_ASKED_PORTS[flows["dport"]] | ONE_WAY_PORTS[flows["sport"]])
        # The receiver of a SYN-ACK counts as the initiator of the flow, although its SYN was not seen.
        syn_acks = tcp & (flows["reply_first_flags"] & (SYN | ACK) == SYN | ACK) & (flows["d_reply_packets"] > 0)
        syn_acks &= (flows["tcp_flags"] & SYN == 0) & (flows["reply_payload_bytes"] == 0)
        asked = udp & (flows["reply_packets"] > 0) & (flows["d_packets"] > 0)
        # In a sample of the packets, a question is seldom seen with its answer, so it also counts by itself.
        alone = np.flatnonzero(udp & silent & ((flows["dport"] < _CLIENTS) | HIGH_SERVICES[flows["dport"]]))
        at = np.flatnonzero(answers | syn_acks | asked)
        asked = np.concatenate([asked[at], np.ones(len(alone), bool)])
        at = np.concatenate([at, alone])
        rows, by_tcp = flows.take(at), tcp[at]
        if not len(at):
            return rows
        asked_all = ~asked & ~by_tcp & is_group(rows["dst_hi"], rows["dst_lo"], rows["family"])
        asked = asked | asked_all
        # A question counts for the host that sent it, at the destination port.
        service = np.where(by_tcp, _BY_TCP, np.where(asked, rows["dport"], rows["sport"])).astype(np.int64)
        mine = asked | by_tcp
        rows.put("asked", asked)
        solicited = np.where(rows["reply_packets"] == 0, rows["d_packets"], rows["d_reply_packets"])
        rows.put("solicited", np.where(asked_all, _GROUP_SOLICITS, 1) * solicited)
        rows.put("asked_all", asked_all)
        rows.put("service", service)
        rows.put("victim", np.where(mine, rows["src"], rows["dst"]))
        rows.put("host", np.where(mine, rows["dst"], rows["src"]))
        rows.put("answers", np.where(asked, 0, np.where(by_tcp, rows["d_reply_packets"], rows["d_packets"])))
        return rows

    def add_amounts(self, rows: Columns) -> float:
        """Large answers from one port count; small ones, long streams and those to questions count against a flood."""
        tcp, asked, answers, service = rows["service"] == _BY_TCP, rows["asked"], rows["answers"], rows["service"]
        for part in ("hi", "lo"):
            rows.put(f"at_{part}", np.where(asked | tcp, rows[f"src_{part}"], rows[f"dst_{part}"]))
        rows.put("by", rows["host"])
        rows.put("kind", service)
        least = np.where(service == _DNS, self.settings.dns_mean_bytes, self.settings.mean_bytes)
        large = tcp | ((rows["d_bytes"] >= least * answers) & (rows["packets"] <= _LONG))
        large &= ((service != _HTTP) & (service != _HTTPS)) | (answers <= _SHORT)
        rows.put("amount", answers * large)
        rows.put("other", np.where(asked, rows["solicited"], answers * ~large))
        return float(_MANY_PACKETS * self.settings.packets)

    def key(self, rows: Columns) -> Column:
        return mix(rows["victim"], rows["service"])

    def weight(self, rows: Columns, by: Grouped) -> Column:
        return by.sum(rows["answers"] + rows["asked_all"])

    def judge(self, found: Entities) -> tuple[Column, Column]:
        rows, known = self.table.rows, found.known
        decay(rows, known, found.heard, self.settings.window, ("packets", "bytes", "flows", "solicited", "resets"))
        quiet = known[rows["packets"][known] < 1]
        rows["map"][quiet] = 0
        rows["total"][quiet] = 0
        flows, unasked = found.kept, ~found.kept["asked"]
        found.add(
            packets=flows["answers"],
            total=flows["answers"],
            bytes=flows["d_bytes"] * unasked,
            flows=flows["new"] & unasked,
            solicited=flows["solicited"] * ~unasked,
            resets=flows["answers"] * (flows["tcp_flags"] & RST != 0),
        )
        mark(rows["map"], found.slot[unasked], flows["host"][unasked])
        return self._over(found, found.rows["service"][found.by.first])

    def _over(self, found: Entities, service: Column) -> tuple[Column, Column]:
        """A mask of victims and ports that get reflected answers, and their rank: those of few hosts are the last."""
        settings, slots = self.settings, found.slots
        packets, by_tcp = np.maximum(found.states("packets"), 1), service == _BY_TCP
        over = found.watched & (packets >= settings.packets)
        mean = found.states("bytes") / packets
        # So many hosts with few answers each are evidence in themselves: no client has hundreds of resolvers.
        loud = (packets >= _MANY_PACKETS * settings.packets) & (mean >= _LEAST_BYTES)
        large = mean >= np.where(service == _DNS, settings.dns_mean_bytes, settings.mean_bytes)
        over &= by_tcp | large | loud
        flows = np.maximum(found.states("flows"), 1)
        over &= ((service != _HTTP) & (service != _HTTPS)) | (packets <= _SHORT * flows)
        over &= by_tcp | _AMPLIFIERS[service] | (packets <= _LONG * flows)  # else media or a tunnel, seen from one side
        over &= found.states("solicited") <= _SOLICITED_SHARE * packets
        enough = np.where(by_tcp, _SYN_ACK_FACTOR, 1) * settings.reflectors
        at = np.flatnonzero(over)
        hosts = estimate(self.table.rows["map"][slots[at]])
        many = (hosts >= _MANY_FACTOR * enough[at]) & (packets <= _ANSWERS_EACH * flows)[at]
        few = (_AMPLIFIERS[service] & self._are_seen(found)) | by_tcp & (found.states("resets") >= 0.5 * packets)
        least = np.where(few, _FEW, enough)
        over[at] = (hosts >= least[at]) & (by_tcp | large)[at] | loud[at] & many
        packets[at[hosts < enough[at]]] /= _NOTE_RANK
        return over, packets

    @staticmethod
    def _are_seen(found: Entities) -> Column:
        """A mask of victims that were seen in an exchange within the last hour."""
        seen: Column = found.seen.senders.know(found.rows["victim"][found.by.first], found.now)
        return seen

    def threat(self, found: Entities, entity: int) -> Threat | None:
        mine = found.rows.rows((found.by.of == entity) & ~found.rows["asked"])
        if not len(mine):
            return None
        state, port = found.state(entity), int(found.rows["service"][found.by.first[entity]])
        hosts = int(estimate(state["map"]))
        victim, reflector = ("src", "dst") if port == _BY_TCP else ("dst", "src")
        dst = address(mine[0], victim)
        source = "SYN-ACKs" if port == _BY_TCP else f"answers from port {port}"
        sure = self._are_seen(found)[entity]
        much = state["packets"] >= _MANY_PACKETS * self.settings.packets
        sure |= much and (port != _DNS or state["bytes"] >= _RESOLVER_BYTES_S * self.settings.window)
        # In a sample, what is missing may be a question to a group, or questions to each of our own devices.
        hosts_of = (mine[f"{reflector}_hi"], mine[f"{reflector}_lo"], mine["family"])
        sure &= np.mean(found.seen.ours.holds(*hosts_of)) <= 0.5
        few = hosts < (_SYN_ACK_FACTOR if port == _BY_TCP else 1) * self.settings.reflectors
        if few and not sure:
            return None
        return self.found(
            Severity.HIGH if sure and not few else Severity.LOW,
            f"{format_sources(hosts, state['map'], 'hosts')} send {dst} {source} that it did not ask for",
            {
                "unit": "packets",
                "reflectors": hosts,
                "mean_bytes": int(state["bytes"] / max(1.0, state["packets"])),
                "ports": [] if port == _BY_TCP else [port],
                "sample": addresses(mine, reflector),
            },
            dst=dst,
            times=(mine["first"].min(), found.now[entity]),
            count=state["total"],
        )

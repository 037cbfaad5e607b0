"""One host tries the same service (or pings) on many hosts, hardly any of which answer.

It compares the number of distinct hosts whose first attempt from this source at this port failed with the number of
those that answered (threshold random walk: Jung et al., IEEE S&P 2004). A source that returns to the same hosts half a
minute later has a list of them: it monitors these hosts, or looks for peers.
"""

from collections.abc import Mapping

import numpy as np

from trafficmond.config.declare import duration, setting
from trafficmond.dataclass import dataclass
from trafficmond.detect.attempts import ATTEMPT, Attempts, Kind, Outcome, are_served, joined, judge, proven, with_resets
from trafficmond.detect.base import PATIENCE_S, SAMPLES, Detection, DetectorInput, address, addresses, approx
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.windows import NOWHERE, BoundedTable, Columns, Grouped, estimate, in_turns, mark, members, mix
from trafficmond.flows.batch import Batch, Column
from trafficmond.model import Severity, Threat
from trafficmond.protocols import ACK, ICMP, ICMPV6, SYN, TCP, UDP

_KINDS = members(Kind.SYN, Kind.STEALTH, Kind.DATAGRAM, Kind.ICMP, size=256)
_FAILED = members(Outcome.SILENT, Outcome.REFUSED, Outcome.HALF_OPEN, size=256)
_MOST_ATTEMPTS = 4  # a scanner tries a host a few times, a monitor or a peer again and again
_DATAGRAM_SHARE = 0.9  # unanswered datagrams are common; questions and gossip vary in length, probes do not
_DATAGRAM_SPREAD = 16  # bytes
# Behind a firewall, or with broken IPv6, the connections of a browser fail too: this factor applies to the web.
_WEB_PORTS, _WEB_FACTOR = members(80, 443), 4
# Questions for each failed host (caches and several addresses of a name save some), or web servers that were reached:
# a browser whose IPv6 or QUIC is blocked reaches the same ones over IPv4 and TCP (RFC 8305).
_MAIL, _DNS, _NAMED_SHARE = 25, members(53, 853), 0.5
_DELIVERY = 7680  # Windows asks hosts on its list for updates that they have (Delivery Optimization); most are off
_PEER_FACTOR = 3  # same port on both sides: peer-to-peer, NTP and IKE do that, and lose peers all the time
_LIVELY_FACTOR, _LIVELY_SHARE = 4, 0.4  # if many hosts answer: factor of failed hosts, and their share
_MAP = 512
_TICK_S, _LATER = 16.0, 2  # a host that is tried this many ticks later counts as returned to
_BACK_SHARE = 0.5
# A client with a list of hosts tries them again after one or two minutes, so the judgement waits for that.
_PATIENCE_S, _PATIENT_HOSTS, _PATIENT_PORTS = 90.0, 100, 1024
# A monitor some of whose hosts are off pings as a sweep does, until it has come back to them: Nagios and Smokeping ask
# each five minutes, spread over all of these.
_ROUNDS_S = PATIENCE_S
_WAITING = 1024  # sources whose judgement waits; if there are more, the earliest is judged at once
_SOCKETS, _SOCKET_PORTS, _SOCKET_ANSWERS = 2048, 16, 8
_MOST_DATAGRAMS = 11  # of one probe (nmap's --max-retries is 10); more within a second are a conversation
_MANY = 100  # hosts: high severity; more than most monitors watch
# In a sequential test (Jung et al.) in which 0.05 of the hosts answer a scanner, and 0.3 answer a client with a list of
# peers, most of them gone, 15 failures are enough, and each answer outweighs six of them.
_ANSWER_FAILURES = 6
# bound: own hosts that received an answer, by a hash of the address | two hosts with one hash count as one
_HEARD = 1 << 14
_WAITS = np.dtype([("key", "u8"), ("when", "f8"), ("dial", ATTEMPT)])


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, help="Look for sweeps over many hosts.")
    hosts: int = setting(15, min=3, max=1000, help="Distinct hosts that failed to answer one source at one port.")
    ping_hosts: int = setting(15, min=3, max=1000, help="Distinct hosts that one source pinged.")
    failed_share: float = setting(
        0.75, min=0.0, max=1.0, help="At least this share of the hosts tried must have failed to answer."
    )
    ping_failed_share: float = setting(
        0.3, min=0.0, max=1.0, help="`failed_share` for pings. It is lower, because a host that is up answers pings."
    )
    slow_hosts: int = setting(
        8, min=3, max=1000, help="This many failed hosts make a threat of low severity, if no host answers."
    )
    window: float = duration("2h", min="10s", max="7d", help="How long a source's attempts at a port are added up.")
    capacity: int = setting(4096, min=64, max=1 << 20, help="Sources and ports watched at once; 0.8 kB each.")


class HostSweep(GroupedDetector[Settings]):
    name = "host_sweep"
    technique = "T1046"
    dedup_key = ("src_ip",)
    idle_timeout_s = 7200.0
    bannable = True
    fields = (
        *((name, "f4") for name in ("dials", "failed", "answered", "shortest", "longest", "peer", "back")),
        ("map", "u1", _MAP),  # for each host 0, or the tick of the last attempt
        ("spoke", "u1", 256),  # of the hosts that greeted a source that said nothing
    )
    evidence_bonus_s = 30.0

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._sockets = BoundedTable([("answered", "f4"), ("map", "u1", 64)], _SOCKETS, self.evidence_bonus_s)
        self._unasked = BoundedTable([("hosts", "u1", _MAP)], _SOCKETS, self.evidence_bonus_s)
        self._named = BoundedTable([("questions", "f4")], _SOCKETS, self.evidence_bonus_s)
        self._heard = np.zeros(_HEARD, bool)
        self._waiting: dict[int, tuple[float, Batch]] = {}  # by key: when to judge, and the latest attempts

    @property
    def window_s(self) -> float:
        return self.settings.window

    def choose(self, seen: DetectorInput) -> Columns:
        answered = seen.attempts.take(seen.attempts["reply_packets"] > 0)
        self._heard[answered["src"][seen.ours.side(answered, "src")] % _HEARD] = True
        # An acknowledgement without a connection, from a host of ours, is left over from one (a laptop that wakes up).
        attempts = with_resets(seen.attempts, seen.flows, seen.ours)
        stray = (attempts["kind"] == Kind.STRAY) & ~seen.ours.side(attempts, "src")
        stray &= attempts["reply_tcp_flags"] & SYN == 0  # reset SYN-ACKs are answers to forged SYNs
        attempts = _with_returns(attempts.take(_KINDS[attempts["kind"]] | stray), seen.flows)
        attempts = attempts.take((attempts["kind"] != Kind.DATAGRAM) | (attempts["packets"] <= _MOST_DATAGRAMS))
        self._note_unasked(seen)
        self._note_named(seen)
        return attempts.take(~self._peers(attempts, seen)) if len(attempts) else attempts

    def _note_unasked(self, seen: DetectorInput) -> None:
        """Records hosts that get answers to questions that were not seen."""
        flows, proto = seen.flows, seen.flows["proto"]
        tcp, udp, alone = proto == TCP, proto == UDP, flows["new"] & (flows["packets"] == 0)
        echoes = _are_pings(flows)
        syn_acks = tcp & (flows["reply_first_flags"] & (SYN | ACK) == SYN | ACK)
        begun = tcp & (flows["first_flags"] & SYN == 0)  # an opening that was not seen, or none
        # Sent by the host that answers: its datagram (between equal ports, as of NTP and IKE, it may be a question as
        # well), or what it sends in a connection.
        turned = udp & flows["new"] & (flows["reply_packets"] == 0) & (flows["sport"] == flows["dport"])
        turned |= are_served(flows) & (
            udp & flows["new"] & (flows["reply_packets"] == 0) | begun & (flows["payload_bytes"] > 0)
        )
        at = np.flatnonzero(turned | alone & (syn_acks | echoes) | begun & (flows["reply_payload_bytes"] > 0))
        if not len(at):
            return
        flows, turned = flows.take(at), turned[at]
        asker, host = (np.where(turned, flows[one], flows[other]) for one, other in (("dst", "src"), ("src", "dst")))
        service = np.where(turned, flows["sport"], np.where(flows["proto"] == TCP, flows["dport"], 0))
        by = Grouped(mix(asker, flows["proto"], service))
        now = by.max(seen.ends[flows["tick"]])
        slot = self._unasked.admit(by.keys, by.counts, now, self.settings.window)[by.of]
        mark(self._unasked.rows["hosts"], slot, host)

    def _note_named(self, seen: DetectorInput) -> None:
        """Counts each source's questions for names, and its web servers; not of a stranger at our servers."""
        asked = seen.flows.take(_DNS[seen.flows["dport"]] & (seen.flows["d_packets"] > 0))
        dials = seen.attempts.take((seen.attempts["kind"] == Kind.SYN) & _WEB_PORTS[seen.attempts["dport"]])
        dials = dials.take(dials["outcome"] == Outcome.ANSWERED)
        asked, dials = (
            each.take(seen.ours.side(each, "src") | ~seen.ours.side(each, "dst")) for each in (asked, dials)
        )
        if not len(asked) + len(dials):
            return
        src, tick = (np.concatenate([asked[name], dials[name]]) for name in ("src", "tick"))
        by, number = Grouped(src), np.concatenate([asked["d_packets"].astype(float), np.ones(len(dials))])
        slot = self._named.admit(by.keys, by.sum(number), by.max(seen.ends[tick]), self.settings.window)
        self._named.add("questions", slot[by.of], number)

    def _asked(self, rows: Columns, now: float) -> Column:
        """How often each row's source asked for names or reached the web. For IPv6 all sources: one host has several
        addresses, and it is unknown which."""
        slots, known = self._named.find(rows["src"]), self._named.rows
        counts = np.where(np.abs(now - known["since"]) <= self.settings.window, known["questions"], 0)
        return np.where(rows["family"] == 6, counts.sum(), np.where(slots == NOWHERE, 0, counts[slots]))

    def _unseen(self, keys: Column) -> Column:
        """The number of hosts from which each entity got answers to questions that were not seen."""
        if not len(self._unasked):
            return np.zeros(len(keys), np.int64)
        slots = self._unasked.find(keys)
        return np.where(slots == NOWHERE, 0, estimate(self._unasked.rows["hosts"][slots]))

    def _peers(self, attempts: Columns, seen: DetectorInput) -> Column:
        """A mask of attempts from a socket that exchanges packets with many ports."""
        found = np.zeros(len(attempts), bool)
        at = np.flatnonzero(attempts["kind"] == Kind.DATAGRAM)
        if not len(at):
            return found
        every = attempts.take(at)
        sockets = mix(every["src"], every["sport"])
        called = self._sockets.find(mix(every["dst"], every["dport"]))
        mark(self._sockets.rows["map"], called, mix(every["sport"]))
        self._sockets.add("answered", called, np.ones(len(called)))
        for turn in in_turns(sockets, every["tick"]):
            found[at[turn]] = self._note_sockets(every.take(turn), Grouped(sockets[turn]), seen)
        return found

    def _note_sockets(self, mine: Columns, by: Grouped, seen: DetectorInput) -> Column:
        """Records what the sockets tried to reach; returns a mask of attempts from a socket as in `_peers`."""
        now = seen.ends[mine["tick"][by.first]]
        slots = self._sockets.admit(by.keys, by.counts, now, self.settings.window)
        slot = slots[by.of]
        mark(self._sockets.rows["map"], slot, mix(mine["dport"]))
        self._sockets.add("answered", slot, mine["outcome"] == Outcome.ANSWERED)
        sockets = self._sockets.rows
        peer = (sockets["answered"][slots] >= _SOCKET_ANSWERS) & (slots != NOWHERE)
        peer[peer] = estimate(sockets["map"][slots[peer]]) >= _SOCKET_PORTS
        met: Column = peer[by.of]
        return met

    def tables(self) -> Mapping[str, BoundedTable]:
        return {**super().tables(), "sockets": self._sockets, "unasked": self._unasked, "named": self._named}

    def learned(self) -> Mapping[str, Column]:
        waiting = [(key, when, attempt) for key, (when, attempts) in self._waiting.items() for attempt in attempts]
        return {**super().learned(), "waiting": np.array(waiting, _WAITS), "heard": np.packbits(self._heard)}

    def recall(self, learned: Mapping[str, Column], now: float) -> None:
        super().recall(learned, now)
        waiting, heard = learned["waiting"], learned["heard"]
        if heard.shape != (_HEARD // 8,) or heard.dtype != np.uint8:
            raise ValueError("the table of hosts with replies has another size")
        self._heard |= np.unpackbits(heard).astype(bool)
        for key in np.unique(waiting["key"]):
            mine = waiting[waiting["key"] == key]
            self._waiting[int(key)] = (float(mine["when"][0]), mine["dial"].copy())

    def feed(self, seen: DetectorInput) -> list[Detection]:
        rows, detections = self.choose(seen), []
        if self._waiting:
            for tick in range(len(seen.ends)):
                detections += self.examine(rows.take(rows["tick"] == tick), seen) + self._overdue(tick, seen)
            return detections
        detections = self.examine(rows, seen)
        for tick in range(len(seen.ends)) if self._waiting else ():
            detections += self._overdue(tick, seen)
        return detections

    def due(self, now: float) -> bool:
        return any(when <= now for when, _ in self._waiting.values())

    def _overdue(self, tick: int, seen: DetectorInput) -> list[Detection]:
        """The detections for sources whose time to return to their hosts is over at this tick."""
        beyond = max(len(self._waiting) - _WAITING, 0)
        keys = [
            key for at, (key, (when, _)) in enumerate(self._waiting.items()) if when <= seen.ends[tick] or at < beyond
        ]
        if not keys:
            return []
        rows = Columns(np.concatenate([self._waiting.pop(key)[1] for key in keys]))
        rows.put("tick", np.full(len(rows), tick))
        by = Grouped(self.key(rows))
        found = Entities(rows, by, self.table, self.table.find(by.keys), seen)
        over = found.watched & (self._severity(found, np.arange(len(by))) > 0)
        return [Detection(tick, self.threat(found, int(entity))) for entity in np.flatnonzero(over)]

    def key(self, rows: Columns) -> Column:
        return mix(rows["src"], rows["proto"], np.where(rows["kind"] == Kind.ICMP, 0, rows["dport"]))

    def weight(self, rows: Columns, by: Grouped) -> Column:
        return by.sum(_FAILED[rows["outcome"]])  # a source is watched from its first failure on

    def judge(self, found: Entities) -> tuple[Column, Column]:
        attempts, rows = found.kept, self.table.rows
        tick = (attempts["at"] // _TICK_S % 255 + 1).astype(np.uint8)
        before = mark(rows["map"], found.slot, attempts["dst"], tick)
        fresh = before == 0
        found.add(
            back=~fresh & ((tick.astype(np.int64) - before) % 255 >= _LATER),
            dials=np.ones(len(attempts), bool),
            failed=fresh & _FAILED[attempts["outcome"]],
            answered=fresh & (attempts["outcome"] == Outcome.ANSWERED),
            peer=(attempts["sport"] == attempts["dport"]) & (attempts["kind"] == Kind.DATAGRAM),
        )
        # Crawlers, mail servers and administrators visit many hosts too, but they have something to say.
        spoke = proven(attempts) & (attempts["payload_bytes"] == 0)
        mark(rows["spoke"], found.slot[spoke], attempts["dst"][spoke])
        slots, lengths = found.known, found.rows["first_len"]
        least, most = found.by.min(lengths)[found.watched], found.by.max(lengths)[found.watched]
        shortest = rows["shortest"][slots]
        rows["shortest"][slots] = np.where(shortest == 0, least, np.minimum(shortest, least))
        rows["longest"][slots] = np.maximum(rows["longest"][slots], most)

        fewest = min(self.settings.hosts, self.settings.ping_hosts, self.settings.slow_hosts)
        some = np.flatnonzero(found.watched & (found.states("failed") + found.states("answered") >= fewest))
        over = np.zeros(len(found.slots), bool)
        over[some] = self._severity(found, some) > 0
        # A connection to a host that answered is not a probe: a sweep continues with failures or pings.
        failing = found.by.sum(_FAILED[found.rows["outcome"]] | (found.rows["kind"] == Kind.ICMP)) > 0
        return over & failing & ~self._waits(found, np.flatnonzero(over)), found.states("dials")

    def _waits(self, found: Entities, which: Column) -> Column:
        """A mask of entities over the threshold that may still turn out to have a list; their attempts are recorded."""
        waits = np.zeros(len(found.slots), bool)
        ours = found.seen.ours.side(found.rows.take(found.by.first[which]), "src")
        for entity, own in zip(which.tolist(), ours.tolist(), strict=True):
            state, one = found.state(entity), found.first(entity)
            ping = one["kind"] == Kind.ICMP
            until = state["since"] + (_ROUNDS_S if ping else _PATIENCE_S)
            if ping and not (own and state["failed"] + state["answered"] >= _MANY):
                continue
            if not ping and (one["dport"] < _PATIENT_PORTS or state["failed"] >= _PATIENT_HOSTS):
                continue
            if found.now[entity] < until:
                waits[entity] = not ping  # which are a note meanwhile
                self._waiting[int(found.by.keys[entity])] = (float(until), found.all(entity)[: 8 * SAMPLES])
        return waits

    def _severity(self, found: Entities, which: Column) -> Column:
        """The severity of each of these entities, as a number; 0: none."""
        settings, first = self.settings, found.by.first[which]
        rows, kind, port = self.table.rows[found.slots[which]], found.rows["kind"][first], found.rows["dport"][first]
        tried = np.maximum(rows["failed"] + rows["answered"], 1)
        failed = np.maximum(rows["failed"] - self._unseen(found.by.keys[which]), 0)
        ping, datagram = kind == Kind.ICMP, kind == Kind.DATAGRAM
        share = np.where(ping, settings.ping_failed_share, settings.failed_share)
        share = np.where(datagram, np.maximum(share, _DATAGRAM_SHARE), share)
        hosts = np.where(ping, tried, failed)
        needed = np.where(ping, settings.ping_hosts, settings.hosts)
        peers = datagram & (rows["peer"] > 0.5 * rows["dials"])
        needed = np.where(peers, _PEER_FACTOR * needed, needed)
        sources = found.rows.take(first)
        ours, within = (found.seen.ours.side(sources, side) for side in ("src", "dst"))
        dials = ours & ~within & (kind == Kind.SYN) & (port >= _PATIENT_PORTS)
        needed = np.where(dials, needed + _ANSWER_FAILURES * rows["answered"], needed)
        web = ~ping & _WEB_PORTS[port] & (ours | ~within)
        needed = np.where(web, _WEB_FACTOR * needed, needed)
        # A map that is more than half full shows neither the number of hosts nor which ones were tried again.
        full = np.count_nonzero(rows["map"], axis=1) > _MAP // 2
        searching = full | (rows["dials"] <= _MOST_ATTEMPTS * tried) & (rows["back"] <= _BACK_SHARE * tried)
        searching &= ~datagram | (rows["longest"] - rows["shortest"] <= _DATAGRAM_SPREAD)
        sure = searching & (hosts >= needed) & (failed >= share * tried)
        slow = searching & ~web & (kind == Kind.SYN) & (failed >= settings.slow_hosts) & (rows["answered"] == 0)
        # Within our own networks half of a range may exist; a program that knows its hosts does not miss so many.
        lively = searching & ~web & ~ping & (failed >= _LIVELY_FACTOR * settings.hosts)
        lively &= (failed >= _LIVELY_SHARE * tried) & within
        slow |= lively
        # From a stranger these are a sweep: a firewall is there so that nothing answers.
        unheard = ours & (ping | datagram) & (rows["answered"] == 0)
        # Between equal ports all of them may be answers of a time server or a gateway for IKE. A host that asked for
        # the names of web servers has a list: a browser at a captive portal, or without a network, or a mail server.
        named = (ours | (sources["family"] == 6)) & ~within & (web | (kind == Kind.SYN) & (port == _MAIL))
        named &= self._asked(sources, found.now.max()) >= _NAMED_SHARE * failed
        blind = ~self._heard[found.rows["src"][first] % _HEARD]
        few = (hosts < _MANY) & (unheard | ours & (ping | (port == _DELIVERY)))
        few |= ours & ping & (found.now[which] < rows["since"] + _ROUNDS_S)
        some = np.where(few | unheard & (peers | blind) | named, Severity.LOW, Severity.MEDIUM)
        many = (hosts >= _MANY) & (some > Severity.LOW)
        return np.where(sure, np.where(many, Severity.HIGH, some), np.where(slow, Severity.LOW, 0))

    def threat(self, found: Entities, entity: int) -> Threat:
        mine, state = found.all(entity), found.state(entity)
        ping = mine["kind"][0] == Kind.ICMP
        hosts = int(estimate(state["map"]))
        src = address(mine[0], "src")
        service = "ping" if ping else f"port {mine['dport'][0]}"
        return self.found(
            Severity(int(self._severity(found, np.array([entity]))[0])),
            f"{src} tried {service} on {approx(hosts)} hosts",
            {
                "unit": "dials",
                "hosts": hosts,
                "failed": int(state["failed"]),
                "answered": int(state["answered"]),
                "proven": bool(estimate(state["spoke"]) >= self.settings.hosts),
                "services": [service],
                "targets": addresses(mine, "dst"),
            },
            src=src,
            times=(min(state["since"], mine["at"].min()), mine["at"].max()),
            count=state["dials"],
            technique="T1018" if ping else "",
        )


def _are_pings(flows: Columns) -> Column:
    proto, sport = flows["proto"], flows["sport"]
    pings: Column = (proto == ICMP) & (sport == 8) | (proto == ICMPV6) & (sport == 128)
    return pings


def _with_returns(attempts: Columns, flows: Columns) -> Columns:
    """The attempts, and as such also pings to hosts that were pinged long before: they belong to the same flow."""
    late = ~flows["new"] & (flows["d_packets"] > 0) & (flows["last"] - flows["first"] >= _LATER * _TICK_S)
    again = flows.take(late & _are_pings(flows))
    if not len(again):
        return attempts
    returns = Attempts.of_flows(again, np.full(len(again), Kind.ICMP))
    returns["at"], returns["outcome"] = again["last"], judge(returns)
    return joined(attempts, returns, again["tick"])

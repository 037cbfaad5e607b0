"""One host connects to one service again and again, each time for a short exchange: guessing.

It counts short connections whose end was seen, to services that ask for a password. Such a service has a known port, or
its server speaks first (HTTP and TLS wait). A datagram counts as a guess if it was refused. Many sources at one service
are one threat; `detect.spray` finds guesses at many hosts, `detect.forms` those at web sites.
"""

from collections.abc import Mapping

import numpy as np

from trafficmond import abi
from trafficmond.config.declare import duration, setting
from trafficmond.dataclass import dataclass
from trafficmond.detect import clockwork, sessions
from trafficmond.detect.attempts import opens
from trafficmond.detect.base import Detection, DetectorInput, address
from trafficmond.detect.distributed import SOURCES, DistributedDetector, Service, by_service
from trafficmond.detect.forms import PORTS as FORM_PORTS
from trafficmond.detect.forms import Forms
from trafficmond.detect.grouped import Entities
from trafficmond.detect.spray import Sprays
from trafficmond.detect.windows import BoundedTable, Columns, Grouped, decay, members, mix
from trafficmond.flows.batch import FLOW, Batch, Column, empty
from trafficmond.model import Severity, Threat
from trafficmond.protocols import ACK, FIN, RST, TCP, UDP

_LOGIN_PORTS = members(
    *(21, 22, 23, 990, 992, 2222, 2323),  # FTP, SSH, telnet, in TLS and where they are moved to
    *(110, 143, 993, 995, 465, 587),  # mailboxes and mail submission
    *(139, 445, 3389, 5985, 5986),  # Windows: SMB, RDP, WinRM
    *(512, 513, 514, 873, 1080, 1723, 5060, 5061),  # r-services, rsync, SOCKS, PPTP, SIP
    *(5900, 5901, 5902, 5903),  # VNC
)
_BUSY_PORTS = members(25, 88, 135, 389, 554, 636, 1433, 1521, 1883, 3306, 5432, 6379, 8883, 9042, 9200, 11211, 27017)
# ... and so many times more of them; of RPC fewer at once, because a client asks the endpoint mapper for each interface
# once, and remembers the port (MS-RPCE).
_BUSY_FACTOR, _RPC, _RPC_FACTOR = 3, 135, 2
# Devices behind one address connect again together, and are refused; in TLS, the handshake hides what is said.
_MQTT, _TLS = members(1883, 8883), members(636, 8883)
# There, one of our own hosts is taken for a program, and its connections are a note unless there are 30 a second: a
# database refuses within milliseconds, so four guessers at once (hydra's limit for MySQL) make more than a hundred.
_FULL_SPEED_S = 30
# A client that sends less does not log in. OpenSSH's list of algorithms alone has 1,500 bytes; the shortest exchange
# that a server accepts has about 300 (RFC 4253, 7.1). A login over RDP has a TLS handshake and two messages of NTLM, or
# the settings of the old kind (MS-RDPBCGR). Checks read only the greeting, or the certificate.
_NO_TALK, _TALK_BYTES, _RDP, _RDP_BYTES = members(22, 2222, 3389), 300, 3389, 700
# A refusal is delayed: by Dovecot for 2 s (auth_failure_delay), by PAM for 2 s plus or minus a quarter (pam_unix).
_HELD_BACK_S, _AT_ONCE_S = 2.0, 1.5
_SPOKE_FIRST_SHARE = 0.2  # SSH speaks from both sides at once; the server wins some of the races
_SHORT_S, _SMALL_BYTES = 120.0, 65536
_GONE = 0.5  # exchanges left of earlier ones: a threat does not begin with them
_SURE = 99  # exchanges: more of them are of high severity, whoever makes them
_SPRAY = 10  # refusals: of low severity below the threshold
_SUMS = ("slow", "tickets", "mute", "total", "greeted", "let_in", "talks", "sent", "sent2", "got", "got2", "lasted")
_FADING = (*_SUMS, *clockwork.FADING)
_ALIKE, _ALIKE_BYTES = 0.25, 2000  # variation coefficient and mean of the exchanges' sizes
_REFUSED_ALIKE = 0.15  # of a database, which refuses each name in the same words; short queries of programs vary more
_TRY_BYTES = 6000  # each way: OpenSSH's greeting, its keys and six refusals stay below
_STEADY, _STEADY_S = 25, 600.0  # alike exchanges in this time; four guessers at once, which sshd allows, make as many
_TALKS_FACTOR = 4  # no administrator runs 60 slow commands in two hours, each in a connection of its own
_OWN_FACTOR = 10  # a program of ours that fetches by SSH each minute makes as many alike sessions
_NOTED = 8  # refusals of a stranger: two people who mistyped a password are asked three times each (ssh_config(5))
# Services that strangers have no reason to log in to, unlike mailboxes and anonymous FTP.
_PRIVATE_PORTS = members(22, 23, 2222, 2323, 139, 445, 3389, 5985, 5986, 512, 513, 514, 5900, 5901, 5902, 5903)
_MAILBOXES = members(110, 143, 465, 587, 993, 995)
_FTP = 21
_OPEN_TO_MANY = _MAILBOXES | members(_FTP)  # there, only delayed refusals count, with low severity
# Programs, mirrors and telephones connect there all day.
_VISITED = members(21, 25, 990, 110, 143, 465, 587, 993, 995, 873, 1080, 5060, 5061)
_MANY, _MANY_TRIES, _SOME = 10, 40, 5  # strangers, tries of all of them together, and strangers that are a note
# By WinRM, each poll is a connection on which the client is refused first (RFC 4559), without a delay.
_MANAGED, _SMB = members(5985, 5986), members(139, 445)
_LET_IN_SHARE = 0.1
_DAY_S = 86400.0
# Logins by datagram: a question and an answer each. Kerberos refuses in few bytes; a ticket takes more, and so does a
# question that contains the ticket of a login.
_KERBEROS, _REFUSAL_BYTES, _LOGIN_BYTES = 88, 400, 600
# RADIUS refuses in 20 bytes, with a Message-Authenticator 38, with a Reply-Message some more (RFC 2865, RFC 3579), and
# drops what has the wrong secret; an SNMP agent drops what has the wrong community (RFC 3584). A dead device is silent
# too, so silence needs twice as many tries, has low severity, and at most a tenth of the questions may be answered.
_SNMP, _RADIUS, _REJECT_BYTES = 161, 1812, 60
_UNANSWERED_FACTOR, _ANSWERED_SHARE = 2, 0.1
_BY_DATAGRAM, _DROPS = members(88, 161, 1812, 5060), members(_SNMP, _RADIUS)
_SIP, _REGISTER_BYTES = 5060, 200  # a keep-alive has 2 or 4 bytes (RFC 5626), a REGISTER all its headers
# A telephone behind a NAT registers every minute or half minute, with two questions (RFC 3261, 22.1: the first is
# refused): 50 to 100 of them behind one address make 200 a minute. So do 200 mailboxes that are polled every minute. A
# guesser makes as many in seconds, unless its refusals are delayed.
_OFFICE = 10


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, help="Look for password guessing.")
    connections: int = setting(20, min=3, max=10000, help="Short connections of one host to one service in a window.")
    window: float = duration(
        "60s", min="10s", max="1h", help="Connections count less with age: a third after this time."
    )
    slow_connections: int = setting(
        15,
        min=3,
        max=10000,
        help="Such connections in `slow_window`, if alike in size. Own hosts need ten times as many as others.",
    )
    slow_window: float = duration("2h", min="1m", max="1d", help="How long connections of a slow guesser are added up.")
    capacity: int = setting(8192, min=64, max=1 << 20, help="Pairs of host and service watched at once; 0.2 kB each.")


class BruteForce(DistributedDetector[Settings]):
    name = "brute_force"
    technique = "T1110"
    dedup_key = ("src_ip", "dst_ip")
    idle_timeout_s = 1800.0
    bannable = True
    fields = tuple((name, "f8") for name in ("at", "quick", "steady", *clockwork.FIELDS, *_FADING))
    evidence_bonus_s = 60.0

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, _DAY_S)
        self._sprays, self._forms = Sprays(settings), Forms(settings)
        self._logins = Columns(empty(FLOW))  # of the present input

    def tables(self) -> Mapping[str, BoundedTable]:
        return {**super().tables(), "sprays": self._sprays.table, "forms": self._forms.table}

    def choose(self, seen: DetectorInput) -> Columns:
        flows = seen.flows
        done = flows["ended"] & (flows["proto"] == TCP)
        asked = (flows["proto"] == UDP) & _BY_DATAGRAM[flows["dport"]]
        flows = flows.take(done | asked)
        done = (flows["proto"] == TCP) & opens(flows)
        # A flow that only went quiet is not over, and does not show how it began.
        done &= (flows["tcp_flags"] | flows["reply_tcp_flags"]) & (FIN | RST) != 0
        # Of one direction only, the client's acknowledgement shows that it was answered.
        unseen = (flows["reply_packets"] == 0) & (flows["tcp_flags"] & ACK != 0)
        unseen &= _LOGIN_PORTS[flows["dport"]] | _BUSY_PORTS[flows["dport"]]
        done &= (flows["payload_bytes"] > 0) & ((flows["reply_payload_bytes"] > 0) | unseen)
        least = np.where(flows["dport"] == _RDP, _RDP_BYTES, _TALK_BYTES)
        done &= (flows["payload_bytes"] >= least) | ~_NO_TALK[flows["dport"]]
        short = flows["last"] - flows["first"] <= _SHORT_S
        short &= flows["payload_bytes"] + flows["reply_payload_bytes"] <= _SMALL_BYTES
        visited = _PRIVATE_PORTS[flows["dport"]] | _OPEN_TO_MANY[flows["dport"]]
        self._logins = _logins(flows.take(done & (short | visited)))
        asked = (flows["proto"] == UDP) & (flows["d_packets"] > 0)
        mute = _DROPS[flows["dport"]] & (flows["reply_packets"] == 0)
        asked &= mute | (flows["d_reply_packets"] > 0)
        asked &= (flows["dport"] != _SIP) | (_each(flows, "") >= _REGISTER_BYTES)
        rows = flows.take(done & short | asked)
        datagrams = rows["proto"] == UDP
        for name, prefix in (("sent", ""), ("got", "reply_")):
            rows.put(name, np.where(datagrams, _each(rows, prefix), rows[prefix + "payload_bytes"].astype(float)))
        mute, answer = rows["reply_packets"] == 0, rows["got"]
        ticket = (rows["dport"] == _KERBEROS) & (answer > _REFUSAL_BYTES)  # also over TCP: most are too long for UDP
        ticket |= datagrams & (rows["dport"] == _RADIUS) & (answer > _REJECT_BYTES)
        ticket |= datagrams & (rows["dport"] == _SNMP) & ~mute
        tries = np.where(datagrams, np.minimum(rows["d_packets"], rows["d_reply_packets"]), 1)
        tries = np.where(datagrams & mute, rows["d_packets"], tries)
        # Of a record's datagrams, as many as come within a window.
        lasts = np.where(datagrams & rows["new"], rows["last"] - rows["first"], 0)
        tries = tries * self.settings.window / np.maximum(lasts, self.settings.window)
        rows.put("tries", np.where(ticket, 0, tries))
        rows.put("ticket", ticket * tries)
        rows.put("mute", np.where(mute, tries, 0))
        return rows

    def key(self, rows: Columns) -> Column:
        # A client of Kerberos that is refused by datagram gets its ticket over TCP.
        proto = np.where(rows["dport"] == _KERBEROS, 0, rows["proto"])
        return mix(rows["src"], rows["dst"], rows["dport"], proto)

    def weight(self, rows: Columns, by: Grouped) -> Column:
        ports = rows["dport"][by.first]
        asks = _LOGIN_PORTS[ports] | _BUSY_PORTS[ports] | (by.sum(_greeted(rows)) > 0)
        asks |= rows["proto"][by.first] == UDP
        return np.where(asks, by.sum(rows["tries"]), 0)

    def judge(self, found: Entities) -> tuple[Column, Column]:
        settings, rows, known = self.settings, self.table.rows, found.known
        decay(rows, known, found.heard, settings.slow_window, _FADING, quick=settings.window, steady=_STEADY_S)
        gone = rows["total"][known] + rows["let_in"][known] < _GONE
        rows["since"][known[gone]] = np.maximum(rows["since"][known[gone]], found.heard[gone] - settings.window)
        flows = found.kept
        tries, sent, got = flows["tries"], flows["sent"], flows["got"]
        # Kerberos first refuses each login, also one that then succeeds: only after that does the client send a proof.
        paid = flows["ticket"] * ((flows["dport"] == _KERBEROS) & (sent <= _LOGIN_BYTES))
        refused = tries * ~sessions.let_in(flows)  # logins from the same address hide no guesser
        found.add(quick=tries - paid, steady=refused, slow=refused, total=refused, greeted=refused * _greeted(flows))
        rows["quick"][known] = np.maximum(rows["quick"][known], 0)
        found.add(tickets=flows["ticket"], mute=flows["mute"], let_in=tries - refused)
        found.add(sent=refused * sent, sent2=refused * sent * sent, got=refused * got, got2=refused * got * got)
        found.add(lasted=refused * (flows["last"] - flows["first"]), talks=refused * sessions.talkative(flows))
        clockwork.note(self.table, found.slot, flows["first"])
        over = np.zeros(len(found.slots), bool)
        first = found.by.first[found.watched]
        over[found.watched] = self._severity(rows[known], found.rows.take(first), found.seen) > 0
        return over, found.states("slow")

    def _severity(self, states: Batch, rows: Columns, seen: DetectorInput) -> Column:
        """The severity of each of these states with one row of its entity, as a number; 0: none."""
        settings, inside = self.settings, seen.ours.side(rows, "src")
        ports, datagrams = rows["dport"], rows["proto"] == UDP
        total, alike = np.maximum(states["total"], 1), _alike(states)
        most = np.where(_TLS[ports], _TRY_BYTES, _ALIKE_BYTES) * total
        small = (states["sent"] <= most) & (states["got"] <= most)
        refusals = (states["sent"] <= _TRY_BYTES * total) & (states["got"] <= _TRY_BYTES * total)
        tries = alike & refusals
        greets = states["greeted"] >= _SPOKE_FIRST_SHARE * total
        busy = _BUSY_PORTS[ports] & ~datagrams  # for datagrams only refusals are counted
        login = _LOGIN_PORTS[ports] | greets | datagrams
        factor = np.where(busy, _BUSY_FACTOR, 1)
        quick = states["quick"] >= np.where(ports == _RPC, _RPC_FACTOR, factor) * self.settings.connections
        # A client that logs in gets a ticket: the first refusal only asks for a proof (RFC 4120, PREAUTH_REQUIRED).
        quick |= datagrams & (ports == _KERBEROS) & (states["quick"] >= _SPRAY) & (states["tickets"] == 0)
        slow = np.ceil(states["slow"]) >= factor * np.where(inside, _OWN_FACTOR, 1) * self.settings.slow_connections
        slow |= states["steady"] >= factor * _STEADY
        slow &= ~datagrams  # telephones register each minute, without an end
        guessing: Column = (quick | slow & tries) & np.where(busy, alike & small, login)
        # The same refusal each time, from outside or very often: there is no doubt.
        # Users who log in from the same address mistype too: beside them, as many refusals as without them are needed.
        sure = ~inside & tries & ((states["let_in"] < 1) | (total >= settings.connections))
        sure |= alike & (states["total"] > _SURE)
        # Several refusals have as many messages as a login that runs a slow command, but follow each other.
        talks = (states["talks"] > 0.5 * total) & ~quick & (states["steady"] < settings.slow_connections)
        talks &= np.ceil(states["slow"]) < _TALKS_FACTOR * settings.slow_connections
        sure &= ~talks
        clock, lasted = clockwork.is_clock(states) & alike & ~datagrams, states["lasted"] / total
        office = (ports == _SIP) & datagrams | _MAILBOXES[ports] & (lasted < _HELD_BACK_S)
        few = (datagrams | office) & (states["quick"] < np.where(office, _OFFICE, 1) * settings.connections)
        severity = np.where(few, Severity.LOW, np.where(sure, Severity.HIGH, Severity.MEDIUM))

        full_speed = states["quick"] >= _FULL_SPEED_S * settings.window
        # Sessions of automation, not the same refusal again.
        let_in = states["let_in"] > total
        severity[(inside & ~tries | ~alike & ~refusals | let_in) & ~datagrams] = Severity.LOW
        # A gateway of ours asks RADIUS for its users, one of whom may guess; an acceptance may be that short too.
        severity[inside & datagrams & (ports == _RADIUS)] = Severity.LOW
        severity[busy & inside] = np.where(full_speed, Severity.MEDIUM, Severity.LOW)[busy & inside]
        # Programs poll any port that greets and gets less than a login by SSH takes: news, chat, Munin.
        said_little = ~_LOGIN_PORTS[ports] & ~busy & (states["sent"] < _TALK_BYTES * total)
        polls = (_VISITED[ports] | said_little) & ~quick
        # A program of ours that logs in each minute sends as little; at SSH and FTP the number of messages shows it.
        severity[inside & ~quick & ~sessions.PORTS[ports] & ~datagrams] = Severity.LOW
        # A client that waits for its timer, not for a delayed reply, checks whether the service is up, or fetches.
        looks = clock & (lasted < np.where(talks, np.inf, _AT_ONCE_S)) & (lasted < 0.5 * states["gap"])
        # So does a client of a database that waits for its users most of the time. A guesser waits for the server only.
        watched_s = np.minimum(settings.window, states["at"] - states["since"])
        looks |= busy & ~inside & (states["quick"] * lasted < 0.5 * watched_s)
        varied = busy & ~_alike(states, _REFUSED_ALIKE)
        severity[polls | looks | varied | _MANAGED[ports] & ~quick | _MQTT[ports] | _TLS[ports]] = Severity.LOW
        guessing &= ~(let_in & (inside & ~_SMB[ports] | _MQTT[ports]))
        guessing &= ~polls | (lasted >= np.where(ports == _FTP, _AT_ONCE_S, _HELD_BACK_S))
        # A client that a chat server outside greets and turns away sends less than an SSH login.
        guessing &= ~(inside & said_little) | datagrams | seen.ours.side(rows, "dst")
        # A check of ours ends at once; at SSH, one that takes longer was refused, or ran a slow command.
        check = clock & inside & (busy | seen.ours.side(rows, "dst")) & (ports != _RDP)  # there it says too little
        severity[check] = Severity.LOW
        guessing &= ~check | sessions.PORTS[ports] & (lasted >= _AT_ONCE_S)
        mute = states["mute"] > 0.5 * total  # guesses that mostly got no reply
        severity[mute] = Severity.LOW
        guessing &= states["tickets"] <= np.where(ports == _KERBEROS, np.inf, _ANSWERED_SHARE * total)
        guessing &= ~(mute & datagrams) | (states["quick"] >= _UNANSWERED_FACTOR * settings.connections)
        noted = _PRIVATE_PORTS[ports] & ~inside & tries & ~clock & (states["let_in"] == 0) & ~datagrams
        noted &= np.ceil(states["slow"]) >= _NOTED
        return np.where(guessing, severity, np.where(noted, Severity.LOW, 0))

    def examine(self, rows: Columns, seen: DetectorInput) -> list[Detection]:
        by_many = self._distributed(seen)
        # Many at once are one threat; some are a note, which hides only notes. The few that try most are named as well.
        hides = {(tick, one.dst_ip, *one.evidence["ports"]): one for tick, one in by_many}
        alone = [
            Detection(tick, one)
            for tick, one in super().examine(rows, seen)
            if one.evidence["quick"] or not _hidden(one, hides.get((tick, one.dst_ip, *one.evidence["ports"])))
        ]
        return alone + by_many + self._sprayed(seen) + self._at_forms(rows, seen)

    def _at_forms(self, rows: Columns, seen: DetectorInput) -> list[Detection]:
        """Guessers at web services; our own hosts at services outside are left out."""
        rows = rows.take(FORM_PORTS[rows["dport"]] & (rows["proto"] == TCP))
        return self._forms.examine(rows.take(seen.ours.side(rows, "dst") | ~seen.ours.side(rows, "src")), seen)

    def _sprayed(self, seen: DetectorInput) -> list[Detection]:
        """Sources that try a little at many hosts, without databases that our own hosts use: programs use several."""
        logins = self._logins
        return self._sprays.examine(logins.take(~(_BUSY_PORTS[logins["dport"]] & seen.ours.side(logins, "src"))), seen)

    def _distributed(self, seen: DetectorInput) -> list[Detection]:
        """The services at which many strangers try a little, of those tried in this batch, a tick after the other."""
        logins = self._logins.take(~seen.ours.side(self._logins, "src"))
        if not (len(self._lists) or logins["refused"].any()):
            return []
        return [
            Detection(tick, threat)
            for tick in np.unique(logins["tick"]).tolist()
            for threat in self._distributed_in(logins.take(logins["tick"] == tick))
        ]

    def _distributed_in(self, logins: Columns) -> list[Threat]:
        """The same for one tick."""
        others, tries = logins.take(~logins["refused"]), logins.take(logins["refused"])
        by = Grouped(mix(others["dst"], others["dport"]))
        most = np.argsort(by.counts, kind="stable")[-SOURCES:]
        for one, count in zip(others.rows(by.first[most]), by.counts[most].tolist(), strict=True):
            self._lists.other((address(one, "dst"), int(one["dport"])), int(count), float(one["last"]))
        by = Grouped(mix(tries["src"], tries["dst"], tries["dport"]))
        order = np.argsort(tries["last"][by.first], kind="stable")
        strangers, counts, threats = tries.take(by.first[order]), by.counts[order], []
        for counted, listed in by_service(mix(strangers["dst"], strangers["dport"])):
            rows = strangers.rows(listed)
            dst, port = address(rows[0], "dst"), int(rows[0]["dport"])
            for one, count in zip(rows, counts[listed].tolist(), strict=True):
                known = self._lists.add((dst, port), address(one, "src"), int(count), float(one["last"]))
            known.tries += counts[counted].sum()
            if _are_many(known):
                sure = not _OPEN_TO_MANY[port] and bool((rows["reply_packets"] > 0).any())
                threats.append(self._distributed_threat(dst, port, known, sure=sure))
        return threats

    def _distributed_threat(self, dst: str, port: int, known: Service, *, sure: bool) -> Threat:
        return self.found(
            Severity.MEDIUM if sure and len(known.sources) >= _MANY else Severity.LOW,
            f"{len(known.sources):,} hosts made {known.count:,} short connections to port {port} of {dst}",
            {"unit": "connections", "ports": [port], "hosts": len(known.sources), "sources": known.ever()},
            dst=dst,
            times=(known.began, next(reversed(known.sources.values()))[1]),
            count=known.count,
        )

    def threat(self, found: Entities, entity: int) -> Threat:
        one, state = found.first(entity), found.state(entity)
        src, dst = address(one, "src"), address(one, "dst")
        count, total = int(np.ceil(state["total"] + state["let_in"])), max(1.0, state["total"])
        datagrams = one["proto"] == UDP
        what = "small requests" if datagrams else "short connections"
        its = found.rows.take(found.by.first[[entity]])
        return self.found(
            Severity(int(self._severity(self.table.rows[found.slots[[entity]]], its, found.seen)[0])),
            f"{src} made {count:,} {what} to port {one['dport']} of {dst}",
            {
                "unit": "questions" if datagrams else "connections",
                "ports": [int(one["dport"])],
                "quick": bool(state["quick"] >= self.settings.connections),
                # Both sides spoke over TCP each time; of Kerberos, the refused datagrams may be forged.
                "proven": bool(not datagrams and state["mute"] == 0 and one["dport"] != _KERBEROS),
                "server_speaks_first_share": round(float(state["greeted"] / total), 2),
                "mean_sent_bytes": int(state["sent"] / total),
                "mean_received_bytes": int(state["got"] / total),
            },
            src=src,
            dst=dst,
            times=(state["since"], found.all(entity)["last"].max()),
            count=count,
        )


def _logins(done: Columns) -> Columns:
    """The finished exchanges over TCP at services that few have a reason to visit, with a column `refused`: short and
    small ones. At a mailbox or by FTP other visits are short too, so there only delayed ones count as refused."""
    ports, lasts = done["dport"], done["last"] - done["first"]
    refused = (lasts <= _SHORT_S) & (done["payload_bytes"] <= _TRY_BYTES) & (done["reply_payload_bytes"] <= _TRY_BYTES)
    held_back = lasts >= np.where(_MAILBOXES[ports], _HELD_BACK_S, _AT_ONCE_S)
    done.put("refused", refused & (~_OPEN_TO_MANY[ports] | held_back) & ~sessions.let_in(done))
    return done.take(_PRIVATE_PORTS[ports] | _OPEN_TO_MANY[ports] | _greeted(done) & ~_VISITED[ports])


def _hidden(one: Threat, many: Threat | None) -> bool:
    """Whether the threat of many guessers is enough: for weaker ones, and for those of whom many try as often."""
    if many is None:
        return False
    tries = {each["src_ip"]: each["count"] for each in many.evidence["sources"]}
    worst = sum(count >= tries.get(one.src_ip, 0) for count in tries.values()) <= _SOME
    return one.severity <= many.severity or (many.evidence["hosts"] >= _MANY and not worst)


def _are_many(known: Service) -> bool:
    many = len(known.sources) >= _SOME and sum(count for count, _ in known.sources.values()) >= _MANY_TRIES
    return many and known.others <= _LET_IN_SHARE * (known.tries + known.others)


def _alike(states: Batch, most: float = _ALIKE) -> Column:
    """A mask of states whose exchanges vary little in size, both ways."""
    total, alike = np.maximum(states["total"], 1), np.ones(len(states), bool)
    for one, square in (("sent", "sent2"), ("got", "got2")):
        mean = states[one] / total
        alike &= np.sqrt(np.maximum(states[square] / total - mean * mean, 0)) <= most * mean
    return alike


def _each(flows: Columns, prefix: str) -> Column:
    """Payload bytes of each packet of a side, on average."""
    mean: Column = flows[prefix + "payload_bytes"] / np.maximum(flows[prefix + "packets"], 1)
    return mean


def _greeted(flows: Columns) -> Column:
    greeted: Column = flows["reply_bits"] & abi.BIT_SPOKE_FIRST != 0
    return greeted

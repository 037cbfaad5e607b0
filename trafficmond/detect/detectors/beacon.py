"""One of our hosts calls another at regular intervals, as implants do.

A call is a connection attempt, answered or not; a burst of attempts, or of tries from one port, is one beat. Calls
are regular if the gaps between beats vary little and requests are alike in size (RITA). A rhythm alone: low severity.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from trafficmond import networks
from trafficmond.config.declare import duration, setting
from trafficmond.dataclass import dataclass
from trafficmond.detect.attempts import Kind, Outcome
from trafficmond.detect.base import DetectorInput, address
from trafficmond.detect.grouped import Entities, GroupedDetector
from trafficmond.detect.ours import Prefixes
from trafficmond.detect.resolvers import is_resolver
from trafficmond.detect.windows import NOWHERE, BoundedTable, Columns, Grouped, estimate, mark, members, mix
from trafficmond.flows.batch import Batch, Column
from trafficmond.model import Severity, Threat

_RING = 32  # beats kept for each
_BURST_S = 1.0
# Tries from one port so soon after each other are one attempt: clients retry after a reset (Windows: three times).
_RETRY_S = 5.0
_NEVER = (67, 68, 123, 137, 138, 161, 162, 427, 514, 546, 547, 853, 1900, 3702, 5353, 5355, 5351)
# A client asks the resolvers it was given, up to three (resolv.conf(5), MAXNS); a host with more is a resolver.
_DNS, _ASKED_SERVERS = 53, 3
# bound: own hosts that send DNS questions to servers outside | the host that did so longest ago is forgotten
_ASKERS = 1024
_WIDE, _WIDEST = 4 / 3, 4.0  # times the variation, with all beats remembered and no gap so much longer than another
# A timer with a random share of its pause never waits longer than the whole: twice the mean, if the share is all of it,
# and a tenth more, by which the mean of 31 such gaps errs. What people and queues cause has longer pauses in between.
# So gaps as uneven as those of such a timer (1 / sqrt(3)) are a rhythm if there are many without an exception.
_LOOSE, _BOUND, _LOOSE_FACTOR = 0.58, 2.2, 3
_ALIKE = 0.25  # median deviation of the requests' sizes, by their median
# The more even the gaps, the fewer beats are needed: 12 of a timer that is early or late by a tenth (0.1 / sqrt(3)) and
# ten of an exact one are more unlikely by chance than 20 that vary by a quarter.
_EXACT, _EXACT_BEATS, _STRICT, _STRICT_BEATS = 0.01, 10, 0.06, 12
_LOST, _LOST_SHARE = 3, 0.25
_LASTED_S = 1800.0
_POLLED = members(
    *(80, 443, 8080),  # the web: updates, connectivity checks, telemetry
    *(110, 143, 993, 995, 25, 465, 587),  # mailboxes: a poll each few minutes is any client's default
    *(22, 9418),  # git
    _DNS,
    *(1883, 8883, 5222, 5223, 5228, 3478, 5060, 5061),  # push channels, and what keeps a way through NAT open
    *(10050, 10051, 5665, 5666, 6556, 4949),  # checks, each 1 to 5 min: Zabbix, Icinga, NRPE, Checkmk, Munin
    *(8140, 5308, 1514, 1515, 8089),  # agents: Puppet each 30 min, CFEngine 5, Wazuh and Splunk 1
    *(9090, 9100, 2003, 8086, 3493),  # figures: Prometheus each 1 min, collectd and Telegraf 10 s, UPS (NUT) 5 s
    *(389, 636, 1433, 3306, 5432, 6379, 27017),  # directories (SSSD: 5 min) and databases: proxies' checks, exporters
    *(21, 873),  # files fetched by cron: FTP, rsync
)
_COMMON = 3  # so many of our hosts with the same rhythm have a program in common
_WATCHED = 8  # hosts that one calls at the same port: implants have a home or a few, a monitor many
_ANSWERS = (Outcome.ANSWERED, Outcome.SILENT, Outcome.REFUSED)


def _ignored(text: str) -> str:
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return str(int(text))
    return str(networks.parse(text))


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, help="Look for beacons.")
    beats: int = setting(20, min=5, max=_RING, help="Attempts before their regularity is checked.")
    variation: float = setting(
        0.25, min=0.0, max=1.0, help="Largest variation of the gaps (standard deviation, divided by the mean minus 1s)."
    )
    shortest: float = duration("1500ms", min="1s", max="1h", help="With a shorter mean gap, it is a conversation.")
    longest: float = duration("4h", min="1m", max="1d", help="Silence after which the count starts again.")
    ignore: tuple[str, ...] = setting(
        (),
        check=_ignored,
        example='["203.0.113.0/24", "8443"]',
        help="Prefixes and ports of beacons that you know; they are not reported.",
    )
    capacity: int = setting(8192, min=64, max=1 << 20, help="Pairs of host and service watched at once; 0.5 kB each.")


class Beacon(GroupedDetector[Settings]):
    name = "beacon"
    technique = "T1071"
    dedup_key = ("src_ip", "dst_ip")
    suppressed_by = ("port_scan", "host_sweep", "brute_force")
    idle_timeout_s = 21600.0
    fields = (
        ("port", "u2"),
        ("service", "u8"),  # hash of the destination, protocol and port
        ("program", "u8"),  # ... of the source, protocol and port
        ("beats", "i8"),
        ("began", "f8"),
        ("last", "f8"),
        ("times", "f8", _RING),
        ("sizes", "f4", _RING),
        ("failed", "?", _RING),
        ("loose", "i8"),  # beats when last not `_LOOSE`
    )
    evidence_bonus_s = 300.0

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        ports = [int(each) for each in settings.ignore if each.isdigit()]
        # Of those to be reported: gap, variation, our hosts with the same service, hosts that it calls at the port.
        self._rhythms: dict[int, list[Any]] = {}
        self._least = min(settings.beats, _EXACT_BEATS)
        self._never = members(*_NEVER, *ports)
        self._askers = BoundedTable([("map", "u1", 64)], _ASKERS, self.evidence_bonus_s)
        self._known = Prefixes(networks.parse(each) for each in settings.ignore if not each.isdigit())

    def choose(self, seen: DetectorInput) -> Columns:
        attempts = seen.attempts
        wanted = (attempts["kind"] == Kind.SYN) | (attempts["kind"] == Kind.DATAGRAM)
        wanted &= ~self._never[attempts["dport"]] & (attempts["sport"] != attempts["dport"])
        wanted &= np.isin(attempts["outcome"], _ANSWERS)
        attempts = attempts.take(wanted)
        attempts = attempts.take(seen.ours.side(attempts, "src") & ~self._known.side(attempts, "dst"))
        kept = attempts["dport"] != _DNS
        if not kept.all():
            kept[~kept] = self._to_foreign_servers(attempts.take(~kept), seen)
        return attempts.take(kept)

    def _to_foreign_servers(self, questions: Columns, seen: DetectorInput) -> Column:
        """A mask of DNS queries to a foreign server that is not a public resolver, from a host that is no resolver
        either. With several ticks, later ones count for all."""
        foreign = ~seen.ours.side(questions, "dst")
        by = Grouped(questions["src"])
        now = by.max(seen.ends[questions["tick"]])
        slots = self._askers.admit(by.keys, by.sum(foreign), now, self.settings.longest * _RING)
        slot = slots[by.of]
        mark(self._askers.rows["map"], np.where(foreign, slot, NOWHERE), questions["dst"])
        few = (estimate(self._askers.rows["map"][slots]) <= _ASKED_SERVERS) & (slots != NOWHERE)
        kept: Column = foreign & few[by.of] & ~is_resolver(questions, np.arange(len(questions)))
        return kept

    def tables(self) -> Mapping[str, BoundedTable]:
        return {**super().tables(), "askers": self._askers}

    def key(self, rows: Columns) -> Column:
        return mix(rows["src"], rows["dst"], rows["proto"], rows["dport"])

    def judge(self, found: Entities) -> tuple[Column, Column]:
        in_time = np.argsort(found.kept["at"])
        self._count(found.kept.take(in_time), found.slot[in_time])

        settings, beats = self.settings, found.states("beats")
        ripe = np.flatnonzero((beats >= self._least) & found.watched)
        over = np.zeros(len(beats), bool)
        self._rhythms = {}
        if len(ripe):
            states = self.table.rows[found.slots[ripe]]
            gaps, variation, widest, loose = _gaps(states)
            most, wide = max(settings.variation, 2 * _STRICT), _WIDE * settings.variation
            least = self._least, min(settings.beats, _STRICT_BEATS), settings.beats, max(settings.beats, _RING)
            even = beats[ripe] >= np.interp(variation, (_EXACT, _STRICT, most, max(wide, most)), least)
            even &= (variation <= settings.variation) | (variation <= wide) & (widest <= _WIDEST)
            loose &= (states["beats"] > _RING) & (np.mean(states["failed"], axis=1) <= 0.5)
            since = np.where(loose, states["loose"], states["beats"])
            self.table.rows["loose"][found.slots[ripe]] = since
            even |= states["beats"] - since >= _LOOSE_FACTOR * settings.beats - _RING
            even &= gaps >= settings.shortest
            even[even] = _alike(states[even])
            over[ripe] = even
            callers, called = (self._alike_by(field, states[field][even]) for field in ("service", "program"))
            rhythms = zip(ripe[even].tolist(), gaps[even], variation[even], callers, called, strict=True)
            self._rhythms = {entity: each for entity, *each in rhythms}
        return over, beats

    def _alike_by(self, field: str, values: Column) -> Column:
        """The number of pairs that call now and then and have each of these values in a field."""
        if not len(values):
            return values
        values, which = np.unique(values, return_inverse=True)
        at = np.searchsorted(values, every := self.table.rows[field])
        at[at == len(values)] = 0
        pairs: Column = np.bincount(at[(values[at] == every) & (self.table.rows["beats"] > 1)], minlength=len(values))
        return pairs[which]

    def _count(self, attempts: Columns, slot: Column) -> None:
        """Record the beats, in order of time, one per service and round."""
        rows = self.table.rows
        at, port, calls = attempts["at"], attempts["sport"], attempts["kind"] == Kind.SYN
        which = np.arange(len(at))
        while len(which):
            # Attempts within a burst of the last beat fall away, and so do tries and datagrams from the port of the
            # last one: a session kept alive, not a call. Of the rest, each service's earliest is its next beat.
            since = np.abs(at[which] - rows["last"][slot[which]])
            same = port[which] == rows["port"][slot[which]]
            apart = (since >= _BURST_S) & (~same | calls[which] & (since >= _RETRY_S))
            which = which[apart]
            one, earliest = np.unique(slot[which], return_index=True)
            beat = which[earliest]
            stale = np.abs(at[beat] - rows["last"][one]) > self.settings.longest
            rows["beats"][one[stale]] = rows["loose"][one[stale]] = 0
            rows["began"][one[stale]] = at[beat[stale]]
            place = rows["beats"][one] % _RING
            rows["times"][one, place] = at[beat]
            rows["sizes"][one, place] = attempts["payload_bytes"][beat]
            rows["failed"][one, place] = attempts["outcome"][beat] != Outcome.ANSWERED
            rows["beats"][one] += 1
            rows["last"][one] = at[beat]
            rows["port"][one] = port[beat]
            for field, side in (("service", "dst"), ("program", "src")):
                rows[field][one] = mix(attempts[side][beat], attempts["proto"][beat], attempts["dport"][beat])

    def threat(self, found: Entities, entity: int) -> Threat:
        one, state = found.first(entity), found.state(entity)
        gap, variation, callers, called = self._rhythms[entity]
        src, dst = address(one, "src"), address(one, "dst")
        inside = bool(found.seen.ours.side(found.rows, "dst")[found.by.first[entity]])
        beats, port = int(state["beats"]), int(one["dport"])
        failed = float(np.mean(state["failed"][: min(beats, _RING)]))
        odd = (
            variation <= self.settings.variation
            and called < _WATCHED
            and not (inside or _POLLED[port] or failed > 0.5 or callers >= _COMMON or beats < self.settings.beats)
        )
        whom = f"port {port} of {dst}" + (", which does not answer," if failed > 0.5 else "")
        return self.found(
            Severity.MEDIUM if odd and state["last"] - state["began"] >= _LASTED_S else Severity.LOW,
            f"{src} connects to {whom} every {gap:.1f} s",
            {
                "unit": "beats",
                "ports": [port],
                "mean_gap_s": round(float(gap), 2),
                "variation": round(float(variation), 3),
                "failed_share": round(failed, 2),
                "callers": int(callers),
                **({"targets": [dst]} if inside else {}),
            },
            src=src,
            dst=None if inside else dst,
            times=(state["began"], state["last"]),
            count=beats,
        )


def _gaps(states: Batch) -> tuple[Column, Column, Column, Column]:
    """(mean, variation coefficient, longest by shortest, whether loose) of each row's gaps between beats."""
    count = np.minimum(states["beats"], _RING)
    beyond = np.arange(_RING) >= count[:, None]
    times = np.sort(np.where(beyond, np.inf, states["times"]), axis=1)
    with np.errstate(invalid="ignore"):
        gaps = np.diff(times, axis=1)
    valid = ~beyond[:, 1:]
    mean, variation, longest = _spread(gaps, valid)
    loose = (variation <= _LOOSE) & (longest <= _BOUND * mean)
    # Where packets are lost, or a call fails, a gap is two or three; but not one in four of them.
    median = _median(np.where(valid, gaps, np.inf), valid)
    times = np.clip(np.floor(gaps / np.maximum(median, 1e-9)[:, None] + 0.25), 1, _LOST)
    times[np.count_nonzero(valid & (times > 1), axis=1) > _LOST_SHARE * (count - 1)] = 1
    gaps = gaps / times
    mean, variation, longest = _spread(gaps, valid)
    return mean, variation, longest / np.maximum(np.where(valid, gaps, np.inf).min(axis=1), 1e-9), loose


def _spread(gaps: Column, valid: Column) -> tuple[Column, Column, Column]:
    """(mean, variation coefficient, longest) of each row's valid gaps."""
    gaps, number = np.where(valid, gaps, 0.0), np.maximum(np.count_nonzero(valid, axis=1), 1)
    mean = gaps.sum(axis=1) / number
    deviation = np.sqrt((np.where(valid, gaps - mean[:, None], 0.0) ** 2).sum(axis=1) / number)
    variation = deviation / np.maximum(mean - _BURST_S, 1e-9)  # no gap is shorter: only the rest can vary
    return mean, variation, gaps.max(axis=1)


def _alike(states: Batch) -> Column:
    """A mask of rows with requests of similar size, by the median: a stager's first few decide nothing (as in RITA)."""
    beyond = np.arange(_RING) >= np.minimum(states["beats"], _RING)[:, None]
    sizes = np.where(beyond, np.inf, states["sizes"])
    median = _median(sizes, ~beyond)
    away = np.abs(np.where(beyond, 0, sizes) - median[:, None])
    return _median(np.where(beyond, np.inf, away), ~beyond) <= _ALIKE * median


def _median(values: Column, counted: Column) -> Column:
    """The median of each row's counted values, at least one; the others are infinite."""
    rows, count = np.arange(len(values)), np.count_nonzero(counted, axis=1)
    values = np.sort(values, axis=1)
    median: Column = (values[rows, (count - 1) // 2] + values[rows, count // 2]) / 2
    return median

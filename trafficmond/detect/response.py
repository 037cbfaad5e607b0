"""Decides which threats lead to which bans. Pure: the caller carries decisions out, logs and reverts them.

Only proven sources count: both sides sent data over TCP, so the address was not forged. The sources of a flood, of an
unanswered scan or of reflectors can be fabricated by anyone. Bans get longer with each return of a source. Bans of many
neighbours become one ban of their network.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping

import numpy as np

from trafficmond import networks
from trafficmond.config.settings import Response as Settings
from trafficmond.dataclass import dataclass
from trafficmond.detect.carpet import network_of
from trafficmond.detect.engine import CLOSED, CONTINUED, REPORT_FACTOR, ThreatUpdate
from trafficmond.detect.opened import ADDRESSES, PROVEN, worst_of
from trafficmond.detect.registry import DETECTORS
from trafficmond.flows.batch import Column
from trafficmond.model import Severity, Threat
from trafficmond.networks import Network

# bound: sources whose automatic bans are remembered | the source banned longest ago is forgotten
_REMEMBERED = 4096  # sources and networks whose bans are remembered
_REPEAT_FACTOR = 4  # bans are forgotten after so many times the last one's duration without a threat
_LEARNED = "response.bans"
_STORED = np.dtype([("prefix", "S49"), ("count", "i8"), ("until", "f8"), ("ttl_s", "f8")])


@dataclass(frozen=True, slots=True)
class BanDecision:
    """A ban to carry out, or with `shadow` only to report."""

    prefix: str  # "203.0.113.5/32"
    ttl_s: float
    reason: str
    threat_id: str
    count: int  # number of bans of this prefix, including this one
    shadow: bool


@dataclass(slots=True)
class _Record:
    count: int  # 0: it was lifted
    until: float
    ttl_s: float
    did: tuple[Severity, int] | None = None  # what one of several addresses did when it came back after that


class Response:
    """Decides on bans; remembers the last `_REMEMBERED` of them.

    `protected` returns whether a prefix overlaps the guard or the allowlist.
    """

    def __init__(self, settings: Settings, protected: Callable[[str], bool]) -> None:
        self._settings = settings
        self._protected = protected
        self._records: OrderedDict[Network, _Record] = OrderedDict()
        self._before: dict[Network, _Record | None] = {}  # the records that the last decision replaced
        self.protected_spared = 0
        self.forgeable_spared = 0

    def configure(self, settings: Settings) -> None:
        """Replaces the settings. Earlier bans still count, unless they were in shadow only, and lifted ones are known.
        A threat that is open already leads to a ban with its next evidence."""
        if "shadow" in {settings.ban, self._settings.ban} and settings.ban != self._settings.ban:
            self._records = OrderedDict((prefix, one) for prefix, one in self._records.items() if not one.count)
        self._settings = settings

    def learned(self) -> dict[str, Column]:
        """The bans it remembers, for the next start."""
        shadow = self._settings.ban == "shadow"
        kept = ((prefix, one) for prefix, one in self._records.items() if not (shadow and one.count))
        bans = [(str(prefix), one.count, one.until, one.ttl_s) for prefix, one in kept]
        return {_LEARNED: np.array(bans, _STORED)}

    def recall(self, learned: Mapping[str, Column], now: float) -> list[str]:
        """Restores the bans of an earlier start; returns what does not fit. What happened since goes before."""
        stored = learned.get(_LEARNED, np.empty(0, _STORED))
        if stored.dtype != _STORED:
            return [_LEARNED]
        shadow = self._settings.ban == "shadow"
        since, self._records = self._records, OrderedDict()
        for prefix, count, until, ttl_s in stored.tolist():
            if not (shadow and count):
                # If the clock was set back meanwhile, a ban lasts no longer than its duration.
                self._record(networks.parse(prefix.decode()), _Record(count, min(until, now + ttl_s), ttl_s))
        for known, record in since.items():
            self._record(known, record)
        return []

    def shift(self, seconds: float) -> None:
        """Moves the ends of bans after the wall clock was stepped, as those in force move."""
        for record in self._records.values():
            record.until += seconds

    def decide(self, update: ThreatUpdate, now: float) -> list[BanDecision]:
        """The bans that a change of a threat leads to at `now` (epoch s): none, one, or one of a network."""
        threat, settings, again = update.threat, self._settings, update.state == CONTINUED
        if update.state == CLOSED or self._unfit(threat) or threat.src_ip is None:
            return []
        if not threat.evidence.get(PROVEN):
            self.forgeable_spared += not again
            return []
        records = self._of(threat.src_ip)
        if any(now < record.until for record in records):
            return []
        if records and not records[0].count and not _is_worse(records[0], update):
            return []  # its ban was lifted
        source, network = networks.known(threat.src_ip), networks.known(network_of(threat.src_ip))
        if self._protected(str(source)):
            self.protected_spared += not again
            return []
        self._before.clear()
        decision = self._ban(source, f"{threat.detector}: {threat.summary}", threat.id, now)
        banned = (known for known, record in self._records.items() if now < record.until)
        neighbours = sum(networks.within(known, network) for known in banned)
        if 0 < settings.neighbours <= neighbours and not self._protected(str(network)):
            return [self._ban(network, f"{neighbours} banned neighbours; the latest: {threat.summary}", threat.id, now)]
        return [decision]

    def failed(self) -> None:
        """Forgets the last decision, which could not be carried out: the next evidence leads to the same."""
        for prefix, record in self._before.items():
            del self._records[prefix]
            if record:
                self._record(prefix, record)

    def why_not(self, threat: Threat) -> str:
        """The reason why a threat does not lead to a ban of its source; empty: it does."""
        reason = self._unfit(threat)
        if reason or threat.src_ip is None:
            return reason
        if not threat.evidence.get(PROVEN):
            return "source not proven yet: its address may be forged"
        if self._protected(str(networks.parse(threat.src_ip))):
            return "guarded: the guard or the allowlist protects its source"
        if (records := self._of(threat.src_ip)) and not records[0].count:
            return "its ban was lifted: it is banned again if the threat gets worse"
        return "response in shadow: it would be banned" if self._settings.ban == "shadow" else ""

    def _unfit(self, threat: Threat) -> str:
        """The reason why threats of that kind lead to no ban; empty: none."""
        settings = self._settings
        if settings.ban == "off":
            return "response off"
        detector = DETECTORS.get(threat.detector)
        if detector is None or not detector.bannable or threat.src_ip is None:
            return f"no ban follows from {threat.detector}: its source may be forged, or is not an attacker"
        if worst_of(threat)[0] < Severity[settings.min_severity.upper()]:
            return f"below min_severity {settings.min_severity}"
        return ""

    def lifted(self, prefix: str) -> None:
        """Ends the bans within `prefix` that someone lifted; they no longer count, and its threat must get worse before
        it is banned again."""
        outer = networks.parse(prefix)
        whole = outer.prefixlen < outer.max_prefixlen
        for known in {outer, *(known for known in self._records if whole and networks.within(known, outer))}:
            self._record(known, _Record(0, 0.0, 0.0))

    def _of(self, source: str) -> list[_Record]:
        """The records of a source and of its network. The first says whether a ban was lifted: those of sources are
        lifted with that of their network, so one that counts is of a later ban."""
        prefixes = networks.known(source), networks.known(network_of(source))
        return [record for prefix in prefixes if (record := self._records.get(prefix))]

    def _ban(self, prefix: Network, reason: str, threat_id: str, now: float) -> BanDecision:
        settings, record = self._settings, self._records.pop(prefix, None)
        self._before[prefix] = record
        if record is not None and now - record.until > _REPEAT_FACTOR * record.ttl_s:
            record = None
        count = record.count + 1 if record else 1
        ttl_s = min(settings.ban_time * 2.0 ** min(count - 1, 32), settings.max_ban_time)
        self._record(prefix, _Record(count, now + ttl_s, ttl_s))
        return BanDecision(str(prefix), ttl_s, reason, threat_id, count, settings.ban == "shadow")

    def _record(self, prefix: Network, record: _Record) -> None:
        self._records.pop(prefix, None)
        self._records[prefix] = record
        if len(self._records) > _REMEMBERED:
            self._records.popitem(last=False)


def _is_worse(lifted: _Record, update: ThreatUpdate) -> bool:
    """Whether a source does more than when its ban was lifted."""
    threat, again = update.threat, update.state == CONTINUED
    if ADDRESSES not in threat.evidence:
        return not again
    if not again:
        return False  # another address may have; what this one does comes as CONTINUED
    severity, count = worst_of(threat)[0], threat.count
    lifted.did = lifted.did or (severity, count)
    return severity > lifted.did[0] or count >= REPORT_FACTOR * lifted.did[1]

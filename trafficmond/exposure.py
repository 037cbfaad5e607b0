"""Checks which services of this host can be reached under the rules in force."""

from collections.abc import Callable, Collection

from trafficmond import networks, reach, services
from trafficmond.dataclass import dataclass, field
from trafficmond.datapath.datapath import Datapath
from trafficmond.datapath.listeners import listeners
from trafficmond.datapath.sessions import SSH_PORT
from trafficmond.policy.admission import Admissions, passes
from trafficmond.protocols import TCP
from trafficmond.rulebook import Rulebook
from trafficmond.ruleset import InForce
from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet


@dataclass(eq=False)
class Exposure:
    """Logs services that nobody can reach any more, and keeps a warning for as long as that holds."""

    _datapath: Datapath
    _rulebook: Rulebook
    _sinks: SinkSet
    _warnings: dict[str, str]
    _logins: Callable[[], Collection[str]]  # addresses that somebody is logged in from
    _judged: InForce | None = None  # the rules that were checked last
    _admitted: Admissions | None = None
    _shut: bool = False  # nobody can connect, and that was logged
    only_from: list[str] = field(default_factory=list)  # services that only some prefixes reach, as sentences

    def cuts_off(self, before: InForce, after: InForce) -> str:
        """The logged-in addresses and the services that `after` would cut off, as text; "" for none."""
        was, now = (Admissions(each.policy, each.columns, each.table, each.loaded_at) for each in (before, after))
        found = [
            shown
            for shown in map(networks.shown, sorted(self._logins()))
            if _lets_in(before, shown) and not _lets_in(after, shown)
        ]
        if now.any_closed:
            waiting = listeners()
            closed = reach.closed(was, waiting) if was.any_closed else []
            if new := [each for each in reach.closed(now, waiting) if each not in closed]:
                found.append(reach.services(new))
        return ", ".join(found)

    def applied(self) -> list[str]:
        """What can be reached under rules that somebody has just put in force, whether or not it was so before."""
        self.check()
        if self._admitted is None:
            return []
        return [self._warnings.get("doors", reach.ALL_OPEN), *self.only_from]

    def check(self) -> list[str]:
        """Checks the rules in force; returns the warning if it is new."""
        rules = self._rulebook.in_force
        if rules is not self._judged:
            self._judged, self._admitted = rules, None
            if rules and rules.generation:  # else the rules are those of the last run, which are unknown
                self._admitted = Admissions(rules.policy, rules.columns, rules.table, rules.loaded_at)
        self._warnings.pop("doors", None)
        self.only_from = []
        admitted, names = self._admitted, sorted(each.name for each in self._datapath.attached.values())
        if admitted is None or not admitted.any_closed or not names:
            self._shut = False
            return []
        waiting = listeners()
        self.only_from = reach.only_from(admitted, waiting)
        text = reach.nobody(admitted, waiting, ", ".join(names), reach.spared_by(self._rulebook.guard))
        was_shut, self._shut = self._shut, bool(text) or (self._shut and not admitted.anybody)
        if text:
            self._warnings["doors"] = text
        if not text or was_shut:
            return []
        self._sinks.note(messages.NOBODY_GETS_IN, text)
        return [text]


def _lets_in(rules: InForce, address: str) -> bool:
    return passes(networks.parse(address)[0], rules.table.words, services.place(TCP, SSH_PORT))

"""Who can reach what waits on this host, by the rules in force; looked at again whenever it is asked."""

from __future__ import annotations

from collections.abc import Callable, Collection

from trafficmond import networks, reach, services
from trafficmond.datapath.datapath import Datapath
from trafficmond.datapath.listeners import listeners
from trafficmond.datapath.ssh import PORT
from trafficmond.policy.admission import Admissions, passes
from trafficmond.rulebook import InForce, Rulebook
from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet

_TCP = 6


class Exposure:
    """Says what nobody can reach, when that begins, and keeps it in `warnings` for as long as it holds."""

    def __init__(
        self,
        datapath: Datapath,
        rulebook: Rulebook,
        sinks: SinkSet,
        warnings: dict[str, str],
        logins: Callable[[], Collection[str]],
    ) -> None:
        """`logins`: addresses that somebody is logged in from."""
        self._logins = logins
        self._datapath = datapath
        self._rulebook = rulebook
        self._sinks = sinks
        self._warnings = warnings
        self._judged: InForce | None = None  # the rules that what follows was found in
        self._admitted: Admissions | None = None
        self._shut = False  # nobody gets in, and that was said
        self.only_from: list[str] = []  # what can be reached from some places alone

    def shuts(self, before: InForce, after: InForce) -> str:
        """Whom or what other rules would shut out that gets in now, in words; "" for nobody and nothing."""
        was, now = (Admissions(each.policy, each.columns, each.table, each.loaded_at) for each in (before, after))
        found = [
            shown
            for shown in map(networks.shown, sorted(self._logins()))
            if _lets_in(before, shown) and not _lets_in(after, shown)
        ]
        if now.any_shut:
            waiting = listeners()
            closed = reach.closed(was, waiting) if was.any_shut else []
            if new := [each for each in reach.closed(now, waiting) if each not in closed]:
                found.append(reach.services(new))
        return ", ".join(found)

    def check(self) -> list[str]:
        """What nobody can reach by the rules in force; returns what was said now."""
        rules = self._rulebook.in_force
        if rules is not self._judged:
            self._judged, self._admitted = rules, None
            if rules and rules.generation:  # else they are those of the last run, which are unknown
                self._admitted = Admissions(rules.policy, rules.columns, rules.table, rules.loaded_at)
        self._warnings.pop("doors", None)
        self.only_from = []
        admitted, names = self._admitted, sorted(each.name for each in self._datapath.attached.values())
        if admitted is None or not admitted.any_shut or not names:
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
    """Whether somebody who is logged in from there gets through."""
    return passes(networks.parse(address)[0], rules.table.words, services.place(_TCP, PORT))

"""Who can reach what waits on this host, by the rules in force; looked at again whenever it is asked."""

from __future__ import annotations

from trafficmond import reach
from trafficmond.datapath.datapath import Datapath
from trafficmond.datapath.listeners import listeners
from trafficmond.policy.admission import Admissions
from trafficmond.rulebook import InForce, Rulebook
from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet


class Doors:
    """Says what nobody can reach, when that begins, and keeps it in `warnings` for as long as it holds."""

    def __init__(self, datapath: Datapath, rulebook: Rulebook, sinks: SinkSet, warnings: dict[str, str]) -> None:
        self._datapath = datapath
        self._rulebook = rulebook
        self._sinks = sinks
        self._warnings = warnings
        self._judged: InForce | None = None  # the rules that what follows was found in
        self._admitted: Admissions | None = None
        self._shut = False  # nobody gets in, and that was said
        self.only_from: list[str] = []  # what can be reached from some places alone

    def look(self) -> list[str]:
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
        try:
            waiting = listeners()
        except OSError:  # a kernel without sock_diag
            return []
        self.only_from = reach.only_from(admitted, waiting)
        text = reach.nobody(admitted, waiting, ", ".join(names), reach.spared_by(self._rulebook.guard))
        was_shut, self._shut = self._shut, bool(text) or (self._shut and not admitted.anybody)
        if text:
            self._warnings["doors"] = text
        if not text or was_shut:
            return []
        self._sinks.note(messages.NOBODY_GETS_IN, text)
        return [text]

"""What the settings mean on this host as it is now: which interfaces are watched, which addresses are guarded."""

from __future__ import annotations

from collections.abc import Collection

from trafficmond.config.settings import Settings
from trafficmond.datapath import datapath, interfaces
from trafficmond.datapath.datapath import Datapath
from trafficmond.datapath.lifelines import lifelines
from trafficmond.errors import DatapathError
from trafficmond.rulebook import Guard
from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet

_MESSAGES = {
    datapath.ATTACHED: messages.ATTACHED,
    datapath.DETACHED: messages.DETACHED,
    datapath.FAILED: messages.ATTACH_FAILED,
    datapath.FOREIGN: messages.FOREIGN_PROGRAM,
}


class Network:
    """Looks at the host again whenever it is asked; what it cannot see is in `warnings` until it can."""

    def __init__(self, sinks: SinkSet, warnings: dict[str, str]) -> None:
        self._sinks = sinks
        self._warnings = warnings

    def attach(self, path: Datapath, settings: Settings) -> None:
        """Attaches to what the settings mean and is there, lets go of what is not; says what changed."""
        try:
            found = interfaces.list_interfaces()
            wanted = interfaces.chosen(found, settings.interfaces, interfaces.default_route_interfaces)
        except DatapathError as error:
            self._warnings["interfaces"] = str(error)
            return
        self._warnings.pop("interfaces", None)
        for change in path.attach(wanted):
            fields = {"interface": change.interface, "mode": change.mode}
            self._sinks.note(_MESSAGES[change.kind], change.text, fields)

    def require(self, path: Datapath, settings: Settings, named: Collection[str]) -> None:
        """At the start: an interface `named` on the command line is there, and something can be watched, or there is
        no point. Raises DatapathError."""
        present = {interface.name for interface in interfaces.list_interfaces()}
        for name in filter(interfaces.is_plain_name, settings.interfaces):
            if name not in present:
                what = f"there is no interface {name}"
                if name in named:
                    raise DatapathError(what, hint=f"use one of {', '.join(sorted(present))}")
                self._sinks.note(messages.ATTACH_FAILED, f"{what}; it is watched when it appears", {"interface": name})
        if path.refused and not path.attached:
            raise DatapathError("; ".join(change.text for change in path.refused.values()))

    def guard(self, settings: Settings, known: Guard) -> Guard:
        """This host's lifelines; `known` where they cannot be looked up."""
        if not settings.policy.guard:
            return []
        try:
            found = lifelines()
        except DatapathError as error:
            self._warnings["guard"] = f"the guard does not know this host's addresses: {error}"
            return list(known)
        self._warnings.pop("guard", None)
        return found


def missing(path: Datapath, settings: Settings) -> list[str]:
    """Interfaces that the settings name and that are not there."""
    watched = {each.name for each in path.attached.values()} | {each.interface for each in path.refused.values()}
    return [name for name in settings.interfaces if interfaces.is_plain_name(name) and name not in watched]

"""Applies the settings to the current state of this host: watched interfaces, their names, and the guard."""

import contextlib
from collections.abc import Collection

from trafficmond import networks
from trafficmond.config.checks import DEFAULT_ROUTE
from trafficmond.config.settings import Settings
from trafficmond.dataclass import dataclass
from trafficmond.datapath import attachments, interfaces
from trafficmond.datapath.datapath import Datapath
from trafficmond.datapath.lifelines import local_destinations, own_addresses
from trafficmond.datapath.waiting import waiting
from trafficmond.errors import DatapathError
from trafficmond.exposure import Exposure
from trafficmond.flows.names import Names
from trafficmond.pipeline import Pipeline
from trafficmond.protected import Protected
from trafficmond.protocols import TCP
from trafficmond.rulebook import Rulebook
from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet
from trafficmond.tasks import Tasks

_MESSAGES = {
    attachments.ATTACHED: messages.ATTACHED,
    attachments.DETACHED: messages.DETACHED,
    attachments.FAILED: messages.ATTACH_FAILED,
    attachments.FOREIGN: messages.FOREIGN_PROGRAM,
}
_LOST_PINS = (
    "the pinned programs in {} have been removed: filtering continues, but it ends when this daemon ends, and "
    "trafficmond --detach cannot stop it; restart trafficmond to pin them again"
)
_SHOWN = 3  # refused interfaces that are reported one by one


@dataclass(eq=False)
class Host:
    """Updates the data path, the guard and the names when the host's interfaces and addresses change."""

    _settings: Settings
    _datapath: Datapath
    _protected: Protected
    _exposure: Exposure
    _rulebook: Rulebook
    _pipeline: Pipeline
    _sinks: SinkSet
    _tasks: Tasks
    _warnings: dict[str, str]
    _idle: bool = False  # nothing is watched, and that was logged

    def configure(self, settings: Settings) -> None:
        self._settings = settings

    def attach(self) -> list[str]:
        """Attaches to the interfaces that the settings select and logs changes. Returns texts on those detached."""
        gone = self._attach()
        self.refresh_names()
        with contextlib.suppress(DatapathError):  # the addresses stay as they were
            ours = (*own_addresses(), *self._settings.networks)
            self._pipeline.engine.ours.set(networks.known(text) for text in ours)
            self._pipeline.units.live_at(networks.known(text) for text in local_destinations())
        with contextlib.suppress(OSError):  # the kernel cannot list them
            listening = waiting()
            self._pipeline.table.set_listening(listening["port"][listening["proto"] == TCP])
        self._exposure.check()
        return gone

    def _attach(self) -> list[str]:
        datapath, settings = self._datapath, self._settings
        try:
            selection = interfaces.Selection.now(settings.interfaces)
            changes = datapath.attach(interfaces.list_interfaces(), selection)
        except DatapathError as error:
            self._warnings["interfaces"] = str(error)
            return []
        self._warnings.pop("interfaces", None)
        for change in changes:
            fields = {"interface": change.interface, "mode": change.mode}
            self._sinks.note(_MESSAGES[change.kind], change.text, fields)
        self.check_pins()
        if not datapath.attached and not self._idle:
            self._sinks.note(messages.NOTHING_WATCHED, _nothing(settings, datapath.refused.values()))
        self._idle = not datapath.attached
        return [change.text for change in changes if change.kind == attachments.DETACHED]

    def check_pins(self) -> None:
        """Logs, once, that the pins have been removed."""
        if self._datapath.attachments.check_pins() and "pins" not in self._warnings:
            path = self._settings.pin_dir
            self._warnings["pins"] = _LOST_PINS.format(path)
            self._sinks.note(messages.PINS_LOST, self._warnings["pins"], {"path": path})

    def require(self, named: Collection[str]) -> None:
        """Raises DatapathError if an interface `named` on the command line is missing, or none can be watched."""
        present = {interface.name for interface in interfaces.list_interfaces()}
        for name in filter(interfaces.is_plain_name, self._settings.interfaces):
            if name not in present:
                what = f"there is no interface {name}"
                if name in named:
                    raise DatapathError(what, hint=f"use one of {', '.join(sorted(present))}")
                self._sinks.note(messages.ATTACH_FAILED, f"{what}; it is watched when it appears", {"interface": name})
        if self._datapath.refused and not self._datapath.attached:
            raise DatapathError("; ".join(change.text for change in self._datapath.refused.values()))

    def changed(self) -> None:
        self.attach()
        if self._protected.guard(self._settings) != self._rulebook.guard:
            self._tasks.spawn(self.renew_guard())

    async def renew_guard(self) -> None:
        """Puts the current lifelines in force with the current rules, without reading files."""
        try:
            await self._rulebook.refresh()
        except Exception:  # noqa: BLE001  (what is in force stays)
            self._pipeline.report_failure("the guard could not be updated with this host's new addresses")
        self.refresh_names()

    def refresh_names(self) -> None:
        """Updates the names of interfaces and rules. Removed interfaces keep theirs for flows that are still open."""
        known = dict(self._pipeline.names.interfaces)
        known.update({each.ifindex: each.name for each in self._datapath.attached.values()})
        self._pipeline.names = Names(known, self._rulebook.names(), pairs=self._rulebook.pairs())

    def unwatched(self) -> list[str]:
        """Sentences on interfaces that should be watched but are not. Status shows them first."""
        self.check_pins()
        self._exposure.check()
        found = [] if self._datapath.attached else [_nothing(self._settings, self._datapath.refused.values())]
        found += [f"{each.name}: {attachments.AWAY}" for each in self._datapath.attached.values() if each.away]
        refused = list(self._datapath.refused.values())
        if len(refused) > _SHOWN:
            names = [each.interface for each in refused]
            found.append(
                f"{len(names)} interfaces are not watched, nothing is filtered or counted on them: "
                f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more; {refused[0].text}"
            )
        else:
            found += [f"{each.interface} is not watched: {each.text}" for each in refused]
        return found + [f"{name} does not exist; it is watched when it appears" for name in self.missing()]

    def missing(self) -> list[str]:
        """The interfaces that the settings name and that do not exist."""
        watched = {each.name for each in self._datapath.attached.values()}
        watched |= {each.interface for each in self._datapath.refused.values()}
        return [name for name in self._settings.interfaces if interfaces.is_plain_name(name) and name not in watched]


def _nothing(settings: Settings, refused: Collection[attachments.AttachmentChange]) -> str:
    wanted = ", ".join(settings.interfaces)
    why = "there is no default route" if wanted == DEFAULT_ROUTE else f"no interface matches {wanted}"
    why = next((each.text for each in refused), why)
    return f"no interface is watched, nothing is filtered or counted: {why}; see `interfaces` in the settings"

"""What the settings mean on this host as it is now: which interfaces are watched, which addresses are guarded."""

from __future__ import annotations

import time
from collections.abc import Collection

from trafficmond import networks, reach
from trafficmond.config.settings import DEFAULT_ROUTE, Settings
from trafficmond.datapath import attachments, interfaces, sessions, sockets, ssh
from trafficmond.datapath.datapath import Datapath
from trafficmond.datapath.lifelines import lifelines
from trafficmond.datapath.listeners import listeners
from trafficmond.errors import DatapathError
from trafficmond.policy.admission import Admission, admission
from trafficmond.rulebook import Guard, InForce, Rulebook
from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet

_MESSAGES = {
    attachments.ATTACHED: messages.ATTACHED,
    attachments.DETACHED: messages.DETACHED,
    attachments.FAILED: messages.ATTACH_FAILED,
    attachments.FOREIGN: messages.FOREIGN_PROGRAM,
}
_NO_SESSIONS = (
    "the guard does not know who is logged in, since logind is not running: rules in files do not spare open sessions; "
    "put the addresses that you log in from on policy.allowlist"
)
_LOST_PINS = (
    "what was pinned in {} has been removed: filtering goes on, but it ends when this daemon does, and "
    "trafficmond --detach cannot reach it; restart trafficmond to pin it again"
)
_TOLD_ONE_BY_ONE = 3  # of the interfaces that are refused


class Network:
    """Looks at the host again whenever it is asked; what it cannot see is in `warnings` until it can."""

    def __init__(self, sinks: SinkSet, warnings: dict[str, str]) -> None:
        self._sinks = sinks
        self._warnings = warnings
        self._lifelines: Guard = ()  # as they were when they could last be looked up
        self._idle = False  # nothing is watched, and that was said
        self._guarded: set[str] = set()  # addresses with sessions, as the guard was told last
        self._ssh = ssh.Logins()
        self._judged: InForce | None = None  # the rules that what follows was found in
        self._admitted: Admission | None = None
        self._shut = False  # nobody gets in, and that was said
        self.only_from: list[str] = []  # what can be reached from some places alone

    def attach(self, path: Datapath, settings: Settings) -> list[str]:
        """Attaches to what the settings mean and is there; says what changed. Returns what is watched no longer."""
        try:
            selection = interfaces.Selection.now(settings.interfaces)
            changes = path.attach(interfaces.list_interfaces(), selection)
        except DatapathError as error:
            self._warnings["interfaces"] = str(error)
            return []
        self._warnings.pop("interfaces", None)
        for change in changes:
            fields = {"interface": change.interface, "mode": change.mode}
            self._sinks.note(_MESSAGES[change.kind], change.text, fields)
        self.look_at_pins(path, settings)
        if not path.attached and not self._idle:
            self._sinks.note(messages.NOTHING_WATCHED, _nothing(settings))
        self._idle = not path.attached
        return [change.text for change in changes if change.kind == attachments.DETACHED]

    def look_at_pins(self, path: Datapath, settings: Settings) -> None:
        """Says, once, that they have been removed."""
        if path.lost_pins and "pins" not in self._warnings:
            self._warnings["pins"] = _LOST_PINS.format(settings.pin_dir)
            self._sinks.note(messages.PINS_LOST, self._warnings["pins"], {"path": settings.pin_dir})

    def look_at_doors(self, path: Datapath, rulebook: Rulebook) -> list[str]:
        """What nobody can reach by the rules in force: a warning for as long as it holds, and said when it begins.
        Returns what was said now."""
        rules = rulebook.in_force
        if rules is not self._judged:
            self._judged, self._admitted = rules, None
            if rules and rules.generation:  # else they are those of the last run, which are unknown
                self._admitted = admission(rules.policy, rules.table.words, rules.loaded_at)
        self._warnings.pop("doors", None)
        self.only_from = []
        admitted, names = self._admitted, sorted(each.name for each in path.attached.values())
        if admitted is None or not names:
            self._shut = False
            return []
        try:
            waiting = listeners()
        except OSError:  # a kernel without sock_diag
            return []
        self.only_from = reach.only_from(admitted, waiting)
        text = reach.nobody(admitted, waiting, ", ".join(names), reach.spared_by(rulebook.guard))
        was_shut, self._shut = self._shut, bool(text) or (self._shut and not any(admitted.let_in.values()))
        if text:
            self._warnings["doors"] = text
        if not text or was_shut:
            return []
        self._sinks.note(messages.NOBODY_GETS_IN, text)
        return [text]

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

    def guard(self, settings: Settings) -> Guard:
        """This host's lifelines, and the hosts that somebody is logged in from."""
        for subject in ("guard", "sessions"):
            self._warnings.pop(subject, None)
        self._guarded.clear()
        if not settings.policy.guard:
            return []
        try:
            self._lifelines = lifelines()
        except DatapathError as error:
            self._warnings["guard"] = f"the guard does not know this host's addresses: {error}"
        opened = sessions.open_sessions()
        if opened is None:
            self._warnings["sessions"] = _NO_SESSIONS
        found = dict(self._lifelines)
        peers = sessions.logged_in(opened or ())
        self._guarded.update(peers)
        for address, services in peers.items():
            found.setdefault(str(networks.parse(address)), f"open session ({services})")
        return sorted(found.items())

    def sessions_ended(self) -> bool:
        """Whether the guard protects an address that nobody is logged in from any more."""
        logins = self.logins()
        return bool(self._guarded - logins)

    def logins(self) -> set[str]:
        """Addresses that somebody is logged in from: as logind tells, else as SSH's connections look. To be asked
        every few seconds, for the age of these."""
        opened = sessions.open_sessions()
        if opened is None:
            return self._ssh.look(time.monotonic())
        return set(sessions.logged_in(opened))


def ssh_peers() -> set[str]:
    """Addresses with a connection to SSH's port, logged in or not."""
    return {peer.address for peer in sockets.established(ssh.PORT)}


def unwatched(path: Datapath, settings: Settings) -> list[str]:
    """What ought to be watched and is not, in sentences: nothing is worse for a filter, so this is said first."""
    found = [] if path.attached else [_nothing(settings)]
    refused = list(path.refused.values())
    if len(refused) > _TOLD_ONE_BY_ONE:
        names = [each.interface for each in refused]
        found.append(
            f"{len(names)} interfaces are not watched, nothing is filtered or counted on them: "
            f"{', '.join(names[:_TOLD_ONE_BY_ONE])} and {len(names) - _TOLD_ONE_BY_ONE} more; {refused[0].text}"
        )
    else:
        found += [f"{each.interface} is not watched: {each.text}" for each in refused]
    return found + [f"{name} does not exist; it is watched when it appears" for name in missing(path, settings)]


def _nothing(settings: Settings) -> str:
    wanted = ", ".join(settings.interfaces)
    why = "there is no default route" if wanted == DEFAULT_ROUTE else f"no interface here is meant by {wanted}"
    return f"no interface is watched, nothing is filtered or counted: {why}; see `interfaces` in the settings"


def missing(path: Datapath, settings: Settings) -> list[str]:
    """Interfaces that the settings name and that are not there."""
    watched = {each.name for each in path.attached.values()} | {each.interface for each in path.refused.values()}
    return [name for name in settings.interfaces if interfaces.is_plain_name(name) and name not in watched]

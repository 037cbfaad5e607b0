"""Settings and rules read again while the daemon runs: put in force whole or not at all, said, and recorded."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trafficmond import adoption
from trafficmond.config.load import load_settings
from trafficmond.config.settings import Settings
from trafficmond.control.view import Caller
from trafficmond.detect.registry import settings_classes
from trafficmond.errors import ConfigError, Mistake, TrafficmonError
from trafficmond.policy.counts import Counts, count
from trafficmond.rulebook import InForce
from trafficmond.sinks import messages
from trafficmond.store.records import Change

if TYPE_CHECKING:
    from trafficmond.daemon import Daemon

_LOG_CHANGE_S = 5.0  # for what the old logs and exports still hold
_TOLD_MISTAKES = 20  # one by one, of a broken set of files


class Reloader:
    """Reads the files for the daemon it belongs to, whose parts take them over."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def soon(self, why: str) -> None:
        """Reads the files when there is time; what comes of it is said."""
        self._daemon.spawn(self._reload_and_tell(why))

    async def _reload_and_tell(self, why: str) -> None:
        daemon = self._daemon
        await daemon.begun.wait()
        try:
            await self.reload(why)
        except TrafficmonError:
            return  # said and kept for status by reload()
        except Exception:  # noqa: BLE001  (what is in force stays)
            daemon.pipeline.report_failure(f"reading the files again failed ({why})")
            daemon.notifier.ready(daemon.status_line())

    async def reload(self, why: str, caller: Caller | None = None) -> list[str]:
        """Reads settings and rules again and puts them in force, whole or not at all; what changed, in words.

        It is recorded as the change of `caller`, or else of the reason.

        Raises ConfigError, or DatapathError: then nothing changed, and the last good set stays in force.
        """
        daemon = self._daemon
        daemon.notifier.reloading()
        before, old = daemon.rulebook.in_force, daemon.settings
        try:
            settings = load_settings(old.source, daemon.flags, detectors=settings_classes())
            in_force = await self._put_in_force(settings)
        except TrafficmonError as error:
            self._refuse(why, error)
            raise
        daemon.warnings.pop("reload", None)
        changed = self._adopt(settings)
        now, then = count(in_force.policy), count(before.policy) if before else Counts()
        fields = {"generation": in_force.generation}
        daemon.sinks.note(messages.RELOADED, f"{now} in force (before: {then}); {why}", fields)
        daemon.notifier.ready(daemon.status_line())
        differences = list(adoption.differences(old, settings))
        was = _in_words(then, [(name, value) for name, value, _ in differences])
        became = _in_words(now, [(name, value) for name, _, value in differences])
        who = (caller.uid, caller.user, caller.pid) if caller else (os.getuid(), why, os.getpid())
        await daemon.audit(Change(time.time(), *who, "reload", str(settings.source or "defaults"), was, became))
        return [f"{then} -> {now}", *changed] if now != then else changed

    async def _put_in_force(self, settings: Settings) -> InForce:
        """The rules as files and settings have them. Raises TrafficmonError; then all is as before."""
        datapath, rulebook = self._daemon.datapath, self._daemon.rulebook
        before = datapath.options
        # First, so that sessions which are open are known before a new default of drop meets them.
        datapath.configure(adoption.options_while_running(self._daemon.settings, settings))
        try:
            return await rulebook.load(settings)
        except TrafficmonError:
            datapath.configure(before)
            raise

    def _refuse(self, why: str, error: TrafficmonError) -> None:
        daemon, mistakes = self._daemon, [Mistake("the kernel", str(error))]
        if isinstance(error, ConfigError):
            daemon.rulebook.error, mistakes = error, error.mistakes
        else:
            daemon.warnings["reload"] = f"the files as they are now are not in force: {error}"
        for mistake in mistakes[:_TOLD_MISTAKES]:
            daemon.sinks.note(messages.CONFIG_REJECTED, f"refused ({why}): {mistake}", {"where": mistake.where})
        daemon.notifier.ready(f"{daemon.status_line()}; changes refused: {error}")

    def _adopt(self, settings: Settings) -> list[str]:
        """Takes over what can change while running; says what needs a restart."""
        daemon = self._daemon
        old, daemon.settings = daemon.settings, settings
        daemon.warnings.pop("restart", None)
        if later := adoption.at_restart(old, settings):
            daemon.warnings["restart"] = f"changed, but takes effect at the next restart: {', '.join(later)}"
        if settings.response != old.response:
            daemon.responder.configure(settings.response)
        daemon.pipeline.configure(settings)
        daemon.store.configure(adoption.limits(settings))
        if settings.logs != old.logs:
            daemon.sinks.reconfigure(settings.logs, time.monotonic() + _LOG_CHANGE_S)
        if settings.exports != old.exports:
            daemon.exports.configure(settings.exports, time.monotonic() + _LOG_CHANGE_S)
        if settings.metrics != old.metrics:
            daemon.spawn(daemon.serve_metrics())
        daemon.watch_files()
        daemon.refresh_names()
        daemon.look_at_interfaces()
        return list(daemon.warnings.values())


def _in_words(rules: Counts, settings: Sequence[tuple[str, Any]]) -> str:
    return "; ".join([str(rules), *(f"{name} = {value}" for name, value in settings)])

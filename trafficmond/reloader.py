"""Reads settings and rules again while the daemon runs, puts them in force completely or not at all, and records it."""

import asyncio
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trafficmond import part_options
from trafficmond.config.load import holds_settings
from trafficmond.config.settings import CONFIG_FILE, Settings
from trafficmond.control.peers import Caller
from trafficmond.dataclass import replace
from trafficmond.errors import ConfigError, Mistake, TrafficmonError
from trafficmond.files import is_folder
from trafficmond.parts import Parts, log_sources
from trafficmond.policy.collect import is_rules_file
from trafficmond.policy.entries import counted
from trafficmond.policy.load import RuleCounts
from trafficmond.rulebook import Loaded
from trafficmond.sinks import messages
from trafficmond.standing import Begin
from trafficmond.status import metrics_text
from trafficmond.store.records import AuditEntry

_LOG_CHANGE_S = 5.0  # the time for old logs and exports to write their queues
_REST = 2.0  # pause after readings, in units of their duration: files that always change cost a third of the time
_LEAST_S = 0.1  # the least duration that a reading counts for
_AT_ONCE_S = 0.25  # this much reading needs no pause, so files that are saved twice are read twice at once
_SHOWN_MISTAKES = 20  # mistakes that are logged one by one


class Reloader:
    """Reads the files again and updates the parts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._wanted = ""  # why the files are to be read again; empty: they are not
        self._busy = False  # a reading, or the pause after it, is under way
        self._owed = 0.0  # seconds of reading without a pause so far, at the end of the last one
        self._since = time.monotonic()  # the end of the last reading
        self._turn = asyncio.Lock()  # one reload at a time
        refused = parts.rulebook.error
        self._refused = refused.mistakes if refused else []  # the mistakes of the last reload, all logged
        parts.probation.over = self.schedule

    def schedule(self, why: str) -> None:
        """Schedules a reading of the files, at most one more during a reading, and after several with a pause."""
        self._wanted = why
        if not self._busy:
            self._begin()

    def _begin(self) -> None:
        self._busy = bool(self._wanted)
        if self._busy:
            self._parts.tasks.spawn(self._once())

    async def _once(self) -> None:
        why, self._wanted = self._wanted, ""
        began = time.monotonic()
        await self._reload_and_report(why)
        asyncio.get_running_loop().call_later(self._rest(began, time.monotonic()), self._begin)

    def _rest(self, began: float, now: float) -> float:
        """The pause in seconds after a reading from `began` to `now` (monotonic)."""
        rested = (began - self._since) / _REST
        self._owed, self._since = max(self._owed - rested, 0.0) + max(now - began, _LEAST_S), now
        return max(self._owed - _AT_ONCE_S, 0.0) * _REST

    async def _reload_and_report(self, why: str) -> None:
        parts = self._parts
        try:
            await self.reload(why)
        except TrafficmonError:
            return  # logged, and kept for status, by reload()
        except Exception:  # noqa: BLE001  (what is in force stays)
            parts.pipeline.report_failure(f"reading the files again failed ({why})")
            parts.manager.ready(parts.status_line())

    async def reload(self, why: str, caller: Caller | None = None) -> list[str]:
        """Reads settings and rules again and puts them in force, completely or not at all; returns the changes. A
        difference is recorded as a change by `caller`, or by the reason `why`. Raises ConfigError, DatapathError."""
        async with self._turn:
            return await self._reload(why, caller)

    async def try_out(self, why: str, caller: Caller, folder: str, within_s: float) -> list[str]:
        """Puts the settings and rules in the files, with those in `folder` if given, on probation; returns notes. Other
        settings take effect when it is confirmed. Raises ConfigError, DatapathError: then nothing changed."""
        async with self._turn:
            parts = self._parts
            path = Path(folder) if folder and holds_settings(Path(folder)) else parts.settings.source
            settings = parts.rulebook.settings_of(path)
            before, last = parts.rulebook.in_force, parts.rulebook.standing.trial
            tried = await parts.rulebook.try_files(settings, folder, Begin(caller.user, why, within_s))
            if tried is None:
                return ["nothing is on probation: the files decide what is in force"]
            parts.warnings.pop("files", None)
            was, now = before.policy.counts if before else RuleCounts(), tried.policy.counts
            default = (
                "" if before and before.policy.default is tried.policy.default else f", default {tried.policy.default}"
            )
            notes = [
                *([f"this change replaces the one on probation, which was not confirmed: {last.what}"] if last else []),
                *_empty(folder),
                f"{was} -> {now}{default}",
                *tried.policy.warnings,
                *parts.probation_notes()[1:],  # the reply itself says how long is left
            ]
            who, subject = (caller.uid, caller.user, caller.pid), folder or "the files"
            after = f"{now}{default}, on probation for {within_s:g} s"
            await parts.audit(AuditEntry(time.time(), *who, "apply", subject, str(was), after, caller.login))
            return notes

    async def _reload(self, why: str, caller: Caller | None) -> list[str]:
        parts, old = self._parts, self._parts.settings
        parts.manager.reloading()
        try:
            settings = parts.rulebook.settings_of(old.source)
            held = await self._held(settings)
            begin = Begin(caller.user if caller else "", why)
            loaded = None if held else await self._put_in_force(settings, begin)
        except TrafficmonError as error:
            self._refuse(why, error)
            raise
        if loaded is None:  # the files are held, or something else is on probation
            parts.manager.ready(parts.status_line())
            return [held] if held else []
        who = (caller.uid, caller.user, caller.pid) if caller else (os.getuid(), why, os.getpid())
        source, login = str(settings.source or "defaults"), caller.login if caller else None
        change = AuditEntry(time.time(), *who, "reload", source, login=login)
        if parts.rulebook.standing.base:
            return await self._begun(change, loaded)
        parts.warnings.pop("reload", None)
        was_refused, self._refused = bool(self._refused), []
        if loaded.in_force is not loaded.before or settings != old:
            return await self._changed(change, loaded, settings, why)
        if was_refused:
            text = f"the files are valid again: {loaded.in_force.policy.counts} in force; {why}"
            parts.sinks.note(messages.RELOADED, text)
        parts.manager.ready(parts.status_line())
        return []

    async def _begun(self, change: AuditEntry, loaded: Loaded) -> list[str]:
        parts, (before, in_force) = self._parts, loaded
        parts.manager.ready(parts.status_line())
        words = [str(in_force.policy.counts), *parts.probation_notes()[:1]]
        was = str(before.policy.counts) if before else None
        await parts.audit(replace(change, before=was, after=", ".join(words)))
        return parts.probation_notes()

    async def _changed(self, change: AuditEntry, loaded: Loaded, settings: Settings, why: str) -> list[str]:
        """Updates the parts after a reload that changed something, logs and records it; returns the changes."""
        parts, old, (before, in_force) = self._parts, self._parts.settings, loaded
        # Before anything else can change the rules: later changes are not an effect of these files.
        await parts.follow_rules(change)
        changed = self._adopt(settings)
        now, then = in_force.policy.counts, before.policy.counts if before else RuleCounts()
        different = await asyncio.to_thread(counted, before.policy, in_force.policy) if before else ""
        differences = list(part_options.differences(old, settings))
        details = f"before: {then}; {different}" if different else f"before: {then}"
        parts.sinks.note(messages.RELOADED, f"{now} in force ({details}); {why}", {"generation": in_force.generation})
        log_sources(parts, before)
        parts.manager.ready(parts.status_line())
        if not different and not differences and before and before.policy.prefixes.same(in_force.policy.prefixes):
            return changed  # the same rules, on other lines
        was = _in_words(then, [(name, value) for name, value, _ in differences])
        became = _in_words(now, [(name, value) for name, _, value in differences], different)
        await parts.record(replace(change, before=was, after=became))
        sums = f"{then} -> {now}" if now != then else str(now)
        return [f"{sums} ({different})" if different else sums, *changed] if now != then or different else changed

    async def _held(self, settings: Settings) -> str:
        """Why the files are not read now, which is logged once; "" if they are."""
        parts = self._parts
        held, news = await parts.rulebook.refusal(settings)
        if held and news and parts.warnings.get("files") != held:
            parts.sinks.note(messages.FILES_WAIT, held)
        parts.warnings.pop("files", None)
        if held:
            parts.warnings["files"] = held
        return held

    async def _put_in_force(self, settings: Settings, begin: Begin) -> Loaded | None:
        """Puts the rules of files and settings in force. Raises TrafficmonError; then nothing has changed."""
        datapath, rulebook = self._parts.datapath, self._parts.rulebook
        before = datapath.options
        # First, so that open connections are known before a new default of drop applies to them.
        datapath.configure(part_options.switched(before, settings))
        try:
            loaded = await rulebook.load(settings, begin)
        except TrafficmonError:
            datapath.configure(before)
            raise
        if rulebook.standing.base:  # the confirmed rules keep their options
            datapath.configure(before)
        self._parts.store.use(rulebook.geoip)
        return loaded

    def _refuse(self, why: str, error: TrafficmonError) -> None:
        parts, mistakes = self._parts, [Mistake("the kernel", str(error))]
        if isinstance(error, ConfigError):
            parts.rulebook.error, mistakes = error, error.mistakes
        else:
            parts.warnings["reload"] = f"the files as they are now are not in force: {error}"
        reported, self._refused = self._refused, mistakes
        for mistake in mistakes[:_SHOWN_MISTAKES] if mistakes != reported else ():
            parts.sinks.note(messages.CONFIG_REJECTED, f"refused ({why}): {mistake}", {"where": mistake.where})
        parts.manager.ready(f"{parts.status_line()}; changes refused: {error}")

    def _adopt(self, settings: Settings) -> list[str]:
        """Updates the parts with settings that can change at run time; returns texts on what needs a restart."""
        parts = self._parts
        old, parts.settings = parts.settings, settings
        parts.warnings.pop("restart", None)
        if later := part_options.at_restart(old, settings):
            parts.warnings["restart"] = f"changed, but takes effect at the next restart: {', '.join(later)}"
        if settings.response != old.response:
            parts.responder.configure(settings.response)
        parts.pipeline.configure(settings)
        parts.store.configure(part_options.limits(settings))
        if settings.logs != old.logs:
            parts.sinks.reconfigure(settings.logs, time.monotonic() + _LOG_CHANGE_S)
        if settings.exports != old.exports:
            parts.exports.configure(settings.exports, time.monotonic() + _LOG_CHANGE_S)
        if settings.metrics != old.metrics:
            parts.tasks.spawn(self.serve_metrics())
        self.watch_files()
        parts.host.configure(settings)
        return [*parts.host.attach(), *parts.warnings.values()]

    def watch_files(self) -> None:
        settings = self._parts.settings
        lists = (each.file(settings.feeds_dir) for each in settings.lists)
        files = [settings.source or CONFIG_FILE, *lists, *settings.geo.databases]
        self._parts.watcher.watch(files, [settings.cidr_dir])

    async def serve_metrics(self) -> None:
        """Serves metrics at the address in the settings. If that fails, status says why."""
        parts, address = self._parts, self._parts.settings.metrics.listen
        trouble = await parts.metrics.listen(address, partial(metrics_text, parts))
        parts.warnings.pop("metrics", None)
        if trouble:
            parts.warnings["metrics"] = trouble
            parts.sinks.note(messages.METRICS_FAILED, trouble, {"address": address})


def _empty(folder: str) -> list[str]:
    """A warning if a folder has no rules files, which is seldom intended."""
    path = Path(folder)
    if not folder or not is_folder(path) or any(is_rules_file(each.name) for each in path.iterdir()):
        return []
    return [f"warning: {folder} has no rules file (*.toml, *.json): the files of cidr.d are not in force"]


def _in_words(rules: RuleCounts, settings: Sequence[tuple[str, Any]], different: str = "") -> str:
    sums = f"{rules} ({different})" if different else str(rules)
    return "; ".join([sums, *(f"{name} = {part_options.in_words(value)}" for name, value in settings)])

"""The daemon: what it is made of, what happens at a tick, and how it begins and ends. One thread, one loop.

Packets become verdicts and ledger entries in the kernel (datapath); each tick drains the ledger into the pipeline,
which makes flows, rows, events and threats of it; files, interfaces, clients and signals change what is judged.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from trafficmond import __version__
from trafficmond.banlist import BanList
from trafficmond.config.flags import Flags
from trafficmond.config.load import load_settings
from trafficmond.config.settings import CONFIG_FILE, Settings
from trafficmond.config.watch import Watcher
from trafficmond.control.hub import Hub
from trafficmond.control.listen import open_socket
from trafficmond.control.server import Server
from trafficmond.datapath import datapath, interfaces
from trafficmond.datapath.datapath import Datapath
from trafficmond.datapath.lifelines import lifelines, ssh_peers
from trafficmond.detect.engine import ThreatUpdate
from trafficmond.detect.registry import settings_classes
from trafficmond.detect.response import Response
from trafficmond.errors import ConfigError, DatapathError, TrafficmonError
from trafficmond.export.exports import ExportSet
from trafficmond.flows.names import Names
from trafficmond.metrics.http import MetricsServer
from trafficmond.model import Reason
from trafficmond.notify import Notifier
from trafficmond.pipeline import Pipeline
from trafficmond.policy.explain import overlapping
from trafficmond.rulebook import Guard, Rulebook
from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet
from trafficmond.store.records import Ban, Change
from trafficmond.store.store import Store
from trafficmond.store.writer import Limits

DATABASE_NAME = "flows.db"
_HOUSEKEEPING_S = 5.0  # ended bans and rules, the clock's drift, the status line
_REST = 0.3  # of a drain's time, after it
_STOP_S = 10.0  # for the last rows and records to reach the disk
_LOG_CHANGE_S = 5.0  # for what the old logs and exports still hold
_NEED_RESTART = ("loader", "xdp_mode", "egress", "pin_dir", "control_socket", "state_dir", "detect")
_CHANGE_MESSAGES = {
    datapath.ATTACHED: messages.ATTACHED,
    datapath.DETACHED: messages.DETACHED,
    datapath.FAILED: messages.ATTACH_FAILED,
    datapath.FOREIGN: messages.FOREIGN_PROGRAM,
}


class Daemon:
    """Everything at work. `run` is its life; the control methods see it through `answers.Answers`."""

    def __init__(self, settings: Settings, flags: Flags) -> None:
        self.settings = settings
        self.flags = flags
        self.started_at = time.time()
        self.warnings: dict[str, str] = {}  # subject -> sentence, for status
        self.hub = Hub()
        self._notifier = Notifier()
        self._stop = asyncio.Event()
        self._ticking = asyncio.Lock()  # a drain is taken in whole before the next begins
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """From the first descriptor to the last row. Raises TrafficmonError if it cannot start."""
        from trafficmond.answers import Answers

        settings = self.settings
        listener = open_socket(settings.control_socket)
        answers = Answers(self)
        self.server = Server(answers, self.hub)
        self.metrics = MetricsServer(answers.metrics)
        try:
            self.store = Store.open(_state_file(settings), _limits(settings))
            self.sinks = SinkSet(settings.logs, verbose=settings.verbose)
            self.sinks.start()
            self.exports = ExportSet(settings.exports, settings.state_dir)
            try:
                await self._start()
                await self.server.start(listener)
                await self._serve_metrics()
                self._announce()
                await self._live()
            finally:
                self._notifier.stopping()
                self.metrics.close()
                await self.server.stop()
                self._finish()
        finally:
            listener.close()

    # ---- beginning and end ----

    async def _start(self) -> None:
        settings, now = self.settings, time.time()
        # Looked up while the kernel verifies the programs: netlink's library takes as long to load as they do.
        guard = asyncio.get_running_loop().run_in_executor(None, self._guard)
        self.datapath = Datapath(_options(settings))
        try:
            self.rulebook = Rulebook(settings, self.datapath.install, self.datapath.clock.to_jiffies)
            self.bans = BanList(self.datapath.bans, self._bans_changed)
            self.response = Response(settings.response, self._is_protected)
            self.pipeline = Pipeline(settings, self.store, self.sinks, self.exports, self.hub, self._respond, now)
            await self._load_rules(await guard)
            stored = await asyncio.wrap_future(self.store.load_bans())
            self.bans.restore(stored, now)
            self.look_at_interfaces()
            self._check_interfaces()
        except BaseException:
            self.datapath.close(detach=not self.datapath.loaded.reused)
            del self.datapath
            raise

    async def _load_rules(self, guard: Guard) -> None:
        """The first set of rules. Broken files stop a fresh start, but not one that finds good rules in the kernel."""
        try:
            await self.rulebook.load(guard=guard)
        except ConfigError as error:
            if not self.datapath.loaded.reused:
                raise
            self.sinks.note(messages.CONFIG_REJECTED, f"the rules of the last run stay in force: {error}")
            await self.rulebook.start_empty()
        self._refresh_names()

    def _check_interfaces(self) -> None:
        """An interface named on the command line is there, and something can be watched, or there is no point."""
        present = {interface.name for interface in interfaces.list_interfaces()}
        for name in filter(interfaces.is_plain_name, self.settings.interfaces):
            if name not in present:
                what = f"there is no interface {name}"
                if name in self.flags.interfaces:
                    raise DatapathError(what, hint=f"use one of {', '.join(sorted(present))}")
                self.sinks.note(messages.ATTACH_FAILED, f"{what}; it is watched when it appears", {"interface": name})
        if self.datapath.refused and not self.datapath.attached:
            raise DatapathError("; ".join(change.text for change in self.datapath.refused.values()))

    def _announce(self) -> None:
        names = ", ".join(sorted(each.name for each in self.datapath.attached.values())) or "no interface yet"
        text = f"trafficmon {__version__} watches {names} ({self.datapath.loaded.loader})"
        self.sinks.note(messages.STARTED, text, {"version": __version__, "loader": self.datapath.loaded.loader})
        self._notifier.ready(text)

    def _finish(self) -> None:
        """The last ledger read goes into the store; then everything is let go, in the order of the data."""
        if hasattr(self, "datapath"):
            now = time.time()
            self.pipeline.tick(self.datapath.drain(), now)
            self.pipeline.store_due(now, everything=True)
            self.datapath.close(detach=self.settings.on_stop == "detach")
            self.sinks.note(messages.STOPPED, "trafficmon has stopped")
        deadline = time.monotonic() + _STOP_S
        self.exports.finish(deadline)
        self.sinks.close(deadline)
        self.store.close(_STOP_S)
        self.exports.join(deadline)

    # ---- while it runs ----

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon, "SIGHUP")
        loop.add_signal_handler(signal.SIGUSR1, self.sinks.reopen)
        network = interfaces.Watch(self._network_changed)
        self._watcher = Watcher(loop, lambda: self._reload_soon("files changed"))
        self._watch_files()
        self._watcher.start()
        try:
            await asyncio.gather(self._tick_forever(), self._keep_house(), self._feed_watchdog(), self._stop.wait())
        except _Stopped:
            pass
        finally:
            network.close()
            await loop.run_in_executor(None, self._watcher.stop)
            for task in self._tasks:
                task.cancel()

    async def _tick_forever(self) -> None:
        """Drains the ledger each interval, measured from the beginning of one drain to that of the next.

        When a flood makes drains last longer than that, there is a rest after each for those who ask and change.
        """
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not await self._stopped_within(due - loop.time()):
            began = loop.time()
            await self.tick()
            ended = loop.time()
            due = max(due + self.settings.flows.interval, ended + (ended - began) * _REST)
        raise _Stopped

    async def tick(self) -> None:
        """One drain, all the way. A failure is said and the next drain goes on."""
        async with self._ticking:
            try:
                for _ in self.pipeline.steps(self.datapath.drain(), time.time()):
                    await asyncio.sleep(0)
            except Exception:  # noqa: BLE001  (nothing a packet contains may stop the daemon)
                self.pipeline.report_failure("a drain of the ledger failed; the next goes on")

    async def _keep_house(self) -> None:
        while not await self._stopped_within(_HOUSEKEEPING_S):
            now = time.time()
            self.datapath.clock.calibrate()
            for ban in self.bans.expire(now):
                self.sinks.note(messages.UNBANNED, f"the ban of {ban.cidr} has ended", {"prefix": ban.cidr})
            in_force = self.rulebook.in_force
            expiry = in_force.policy.next_expiry(in_force.loaded_at) if in_force else None
            if expiry is not None and expiry <= now and not self.rulebook.error:
                self._reload_soon("a rule has ended")
            self._notifier.status(self._status_line())

    async def _feed_watchdog(self) -> None:
        interval = self._notifier.watchdog_s
        while interval and not await self._stopped_within(interval / 2):
            self._notifier.alive()

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stop.wait(), max(seconds, 0.0))
        except TimeoutError:
            return False
        return True

    def _status_line(self) -> str:
        names = ", ".join(sorted(each.name for each in self.datapath.attached.values())) or "nothing"
        in_force = self.rulebook.in_force
        rules = len(in_force.policy.rules) if in_force else 0
        seen = self.datapath.accounting().seen.packets
        return f"watching {names}; {rules} rules; {seen:,} packets seen, {len(self.pipeline.table):,} flows"

    # ---- changes from outside ----

    def _reload_soon(self, why: str) -> None:
        self._spawn(self._reload_and_tell(why))

    async def _reload_and_tell(self, why: str) -> None:
        try:
            await self.reload(why)
        except ConfigError:
            return  # said and kept for status by reload()

    async def reload(self, why: str) -> list[str]:
        """Reads settings and rules again and puts them in force, whole or not at all; what changed, in words.

        Raises ConfigError: then nothing changed, and the last good set stays in force.
        """
        self._notifier.reloading()
        try:
            settings = load_settings(self.settings.source, self.flags, detectors=settings_classes())
            before = self.rulebook.in_force
            in_force = await self.rulebook.load(settings, self._guard())
        except ConfigError as error:
            self.rulebook.error = error
            for mistake in error.mistakes[:20]:
                self.sinks.note(messages.CONFIG_REJECTED, f"refused ({why}): {mistake}", {"where": mistake.where})
            self._notifier.ready(f"{self._status_line()}; changes refused: {error}")
            raise
        changed = self._adopt(settings)
        old = f"{len(before.policy.prefixes):,} prefixes before" if before else "none before"
        text = f"{len(in_force.policy.rules):,} rules with {len(in_force.policy.prefixes):,} prefixes in force ({old})"
        self.sinks.note(messages.RELOADED, f"{text}; {why}", {"generation": in_force.generation})
        self._notifier.ready(self._status_line())
        return [text, *changed]

    def _adopt(self, settings: Settings) -> list[str]:
        """Takes over what can change while running; says what needs a restart."""
        old, self.settings = self.settings, settings
        later = [name for name in _NEED_RESTART if getattr(settings, name) != getattr(old, name)]
        if settings.flows.capacity != old.flows.capacity:
            later.append("flows.capacity")
        self.warnings.pop("restart", None)
        if later:
            self.warnings["restart"] = f"changed, but takes effect at the next restart: {', '.join(later)}"
        if settings.response != old.response:
            self.response = Response(settings.response, self._is_protected)
        self.datapath.configure(replace(_options(settings), **_kept_options(old)))
        self.pipeline.configure(settings)
        self.store.configure(_limits(settings))
        if settings.logs != old.logs:
            self.sinks.reconfigure(settings.logs, time.monotonic() + _LOG_CHANGE_S)
        if settings.exports != old.exports:
            self.exports.configure(settings.exports, time.monotonic() + _LOG_CHANGE_S)
        if settings.metrics != old.metrics:
            self._spawn(self._serve_metrics())
        self._watch_files()
        self._refresh_names()
        self.look_at_interfaces()
        return list(self.warnings.values())

    async def _serve_metrics(self) -> None:
        """Metrics at the settings' address; where that cannot be, the rest goes on and status says why."""
        trouble = await self.metrics.listen(self.settings.metrics.listen)
        self.warnings.pop("metrics", None)
        if trouble:
            self.warnings["metrics"] = trouble

    def _watch_files(self) -> None:
        settings = self.settings
        files = [settings.source or CONFIG_FILE, *(each.path for each in settings.lists)]
        self._watcher.watch(files, [settings.cidr_dir])

    def _network_changed(self) -> None:
        self.look_at_interfaces()
        if self._guard() != self.rulebook.guard:
            self._reload_soon("addresses or routes changed")

    def look_at_interfaces(self) -> None:
        """Attaches to what the settings mean and is there, lets go of what is not."""
        try:
            found = interfaces.list_interfaces()
            wanted = interfaces.chosen(found, self.settings.interfaces, interfaces.default_route_interfaces)
        except DatapathError as error:
            self.warnings["interfaces"] = str(error)
            return
        self.warnings.pop("interfaces", None)
        for change in self.datapath.attach(wanted):
            fields = {"interface": change.interface, "mode": change.mode}
            self.sinks.note(_CHANGE_MESSAGES[change.kind], change.text, fields)
        self._refresh_names()

    def missing_interfaces(self) -> list[str]:
        """Interfaces that the settings name and that are not there."""
        watched = {each.name for each in self.datapath.attached.values()}
        watched |= {change.interface for change in self.datapath.refused.values()}
        return [name for name in self.settings.interfaces if interfaces.is_plain_name(name) and name not in watched]

    def _guard(self) -> Guard:
        if not self.settings.policy.guard:
            return []
        try:
            found = lifelines()
        except DatapathError as error:
            self.warnings["guard"] = f"the guard does not know this host's addresses: {error}"
            return list(self.rulebook.guard) if hasattr(self, "rulebook") else []
        self.warnings.pop("guard", None)
        return found

    def _refresh_names(self) -> None:
        """Interfaces that went away keep their names for the flows still to be reported."""
        known = dict(self.pipeline.names.interfaces)
        known.update({each.ifindex: each.name for each in self.datapath.attached.values()})
        self.pipeline.names = Names(known, self.rulebook.names())

    def rules_changed(self) -> None:
        """After a rule was added or removed by a client."""
        self._refresh_names()

    def ssh_peers(self) -> set[str]:
        """Where SSH sessions to this host are open from."""
        return ssh_peers()

    def _respond(self, update: ThreatUpdate) -> None:
        """Carries out what the response decides about a threat, or says what it would have done."""
        now = time.time()
        for decision in self.response.decide(update, now):
            fields = {"prefix": decision.prefix, "threat_id": decision.threat_id, "by": update.threat.detector}
            text = f"{decision.prefix} for {decision.ttl_s:.0f} s: {decision.reason}"
            if decision.shadow:
                self.sinks.note(messages.WOULD_BAN, f"would have banned {text}", fields)
                continue
            ban = Ban(
                decision.prefix,
                update.threat.detector,
                decision.reason,
                now,
                now + decision.ttl_s,
                decision.threat_id,
                decision.count,
            )
            try:
                self.bans.add(ban)
            except DatapathError as error:
                self.sinks.note(messages.ERROR_INTERNAL, str(error), fields)
                continue
            self.sinks.note(messages.BANNED, f"banned {text}", fields)
            change = Change(now, os.getuid(), update.threat.detector, os.getpid(), "ban", decision.prefix, None, text)
            self.store.audit(change)

    def _is_protected(self, prefix: str) -> bool:
        """Whether a prefix shares an address with the guard or the allowlist."""
        in_force = self.rulebook.in_force
        if in_force is None:
            return True
        policy = in_force.policy
        reasons = {policy.rules[int(policy.owner[row])].reason for row in overlapping(policy, prefix)}
        return bool(reasons & {Reason.GUARD, Reason.ALLOWLIST})

    def _bans_changed(self) -> None:
        self.datapath.configure(self.datapath.options)
        self.store.save_bans(self.bans.all())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Stopped(Exception):
    """Ends `gather` when the daemon is asked to stop."""


def _state_file(settings: Settings) -> Path:
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot make {settings.state_dir}: {error.strerror}"
        raise TrafficmonError(what, hint="run as root, or set state_dir to a folder of yours") from error
    return settings.state_dir / DATABASE_NAME


def _limits(settings: Settings) -> Limits:
    return Limits(settings.store.max_age, settings.store.max_size)


def _options(settings: Settings) -> datapath.Options:
    return datapath.Options(
        loader=settings.loader,
        xdp_mode=settings.xdp_mode,
        egress=settings.egress,
        pin_dir=settings.pin_dir,
        capacity=settings.flows.capacity,
        established=settings.policy.established and settings.policy.default == "drop",
        drop_malformed=settings.policy.drop_malformed,
    )


def _kept_options(old: Settings) -> dict[str, Any]:
    """What a running data path cannot change."""
    kept = _options(old)
    return {name: getattr(kept, name) for name in ("loader", "xdp_mode", "egress", "pin_dir", "capacity")}


def run(settings: Settings, flags: Flags) -> None:
    """Runs the daemon until it is told to stop. Raises TrafficmonError if it cannot start."""
    os.umask(0o027)
    asyncio.run(Daemon(settings, flags).run())

"""The daemon: what it is made of, what happens at a tick, and how it begins and ends. One thread, one loop.

Packets become verdicts and ledger entries in the kernel (datapath); each tick drains the ledger into the pipeline,
which makes flows, rows, events and threats of it; files, interfaces, clients and signals change what is judged.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from trafficmond import __version__, adoption, network
from trafficmond.banlist import BanList, Key
from trafficmond.config.flags import Flags
from trafficmond.config.settings import CONFIG_FILE, Settings
from trafficmond.config.watch import Watcher
from trafficmond.control.hub import Hub
from trafficmond.control.listen import open_socket
from trafficmond.control.server import Server
from trafficmond.datapath import interfaces
from trafficmond.datapath.datapath import Datapath
from trafficmond.detect.engine import MOST_OPEN
from trafficmond.errors import ConfigError, StoreError
from trafficmond.export.exports import ExportSet
from trafficmond.flows.names import Names
from trafficmond.metrics.http import MetricsServer
from trafficmond.model import Threat
from trafficmond.networks import shown
from trafficmond.notify import Notifier
from trafficmond.pipeline import Pipeline
from trafficmond.policy.counts import Counts, count
from trafficmond.policy.load import is_rules_file
from trafficmond.reloader import Reloader
from trafficmond.responder import Responder
from trafficmond.rulebook import Rulebook
from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet
from trafficmond.store.records import Ban, Change
from trafficmond.store.store import Store

_HOUSEKEEPING_S = 5.0  # ended bans and rules, the clock's drift, the status line
_REST = 0.3  # of a drain's time, after it
_STOP_S = 10.0  # for the last rows and records to reach the disk
_CHANGE_S = 5.0  # for changes that clients have asked for
_RESUME_S = 2.0  # for bans and threats of the last run to be read
_AUDIT_S = 2.0  # for their record to reach the disk
_STUCK_S = 2.0  # at a stop, for a store that cannot write

T = TypeVar("T")


class Daemon:
    """Everything at work. `run` is its life; the control methods see it through `answers.Answers`."""

    def __init__(self, settings: Settings, flags: Flags) -> None:
        self.settings = settings
        self.flags = flags
        self.started_at = time.time()
        self.warnings: dict[str, str] = {}  # subject -> sentence, for status
        self.hub = Hub()
        self.reloader = Reloader(self)
        self.notifier = Notifier()
        self.begun = asyncio.Event()
        self._stop = asyncio.Event()
        self._ticking = asyncio.Lock()  # a drain is taken in whole before the next begins
        self._next_tick: asyncio.Task[None] | None = None  # asked for, and not begun
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """From the first descriptor to the last row. Raises TrafficmonError if it cannot start."""
        from trafficmond.answers import Answers

        settings = self.settings
        self._heed_signals()
        listener = open_socket(settings.control_socket)
        answers = Answers(self)
        self.server = Server(answers, self.hub)
        self.metrics = MetricsServer(answers.metrics)
        try:
            self.store = Store.open_when_possible(adoption.database(settings), adoption.limits(settings))
            self.sinks = SinkSet(settings.logs, verbose=settings.verbose)
            self.sinks.start()
            self.network = network.Network(self.sinks, self.warnings)
            self.exports = ExportSet(settings.exports, settings.state_dir)
            try:
                await self._start()
                await self._resume_threats()
                if not self._stop.is_set():
                    self.pipeline.tell_of_store()
                    await self.server.start(listener)
                    await self.serve_metrics()
                    self._announce()
                    await self._live()
            finally:
                self.notifier.stopping()
                self.metrics.close()
                await self.server.stop()
                answers.close()
                await self._finish()
        finally:
            listener.close()

    # ---- beginning and end ----

    def _heed_signals(self) -> None:
        """From the beginning, so that a stop in the middle of the start leaves nothing behind."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reloader.soon, "SIGHUP")
        loop.add_signal_handler(signal.SIGUSR1, self._reopen_logs)

    def _reopen_logs(self) -> None:
        if hasattr(self, "sinks"):  # else they will be opened anew in any case
            self.sinks.reopen()

    async def _start(self) -> None:
        settings, now = self.settings, time.time()
        # While the kernel verifies the programs: netlink's library, needed for the guard, takes as long to load.
        looked = asyncio.get_running_loop().run_in_executor(None, self.network.guard, settings)
        self.datapath = Datapath(adoption.options(settings))
        try:
            clock, guard = self.datapath.clock, self.network.guard
            self.rulebook = Rulebook(settings, self.datapath.install, clock.to_jiffies, guard)
            self.bans = BanList(self.datapath.bans, self._bans_changed)
            parts = (self.rulebook, self.bans, self.sinks, self.store)
            self.responder = Responder(settings.response, *parts, self.network.logins)
            told = (self.responder.respond, self.datapath.inners)
            self.pipeline = Pipeline(settings, self.store, self.sinks, self.exports, self.hub, *told, now)
            await looked
            await self._load_rules()
            self.look_at_interfaces()
            self.network.require(self.datapath, settings, self.flags.interfaces)
            await self._restore_bans()
        except BaseException:
            self.datapath.close(detach=not self.datapath.loaded.reused)
            del self.datapath
            raise

    async def _load_rules(self) -> None:
        """The first set of rules. Broken files stop a fresh start, but not one that finds good rules in the kernel."""
        try:
            await self.rulebook.load()
        except ConfigError as error:
            if not self.datapath.loaded.reused:
                raise
            self.sinks.note(messages.CONFIG_REJECTED, f"the rules of the last run stay in force: {error}")
            await self.rulebook.start_empty()
        self.reloader.tell_of_sources(None)
        self.refresh_names()

    async def _restore_bans(self) -> None:
        """Those that were in force when the last daemon stopped. Rules and attachments wait for no disk: where the
        store cannot be read yet, they come later, and those that the kernel still has act all the while."""

        async def restore() -> None:
            try:
                stored = await asyncio.wrap_future(self.store.load_bans())
            except StoreError:  # the daemon ends before it could be read
                return
            made = {(ban.cidr, ban.owner) for ban in self.bans.all()}  # meanwhile, and so later than what is stored
            self.bans.restore([ban for ban in stored if (ban.cidr, ban.owner) not in made], time.time())
            self.store.save_bans(self.bans.all())
            await self.rulebook.force_bans(self.bans.forced())
            if self.warnings.pop("bans", None):
                self.sinks.note(messages.STORE_RESUMED, f"the stored bans are in force: {len(self.bans)}")

        done, _ = await asyncio.wait([self.spawn(restore())], timeout=_RESUME_S)
        if done:
            done.pop().result()
        else:
            self.warnings["bans"] = (
                f"the bans stored in {self.store.path} are not in force yet, since it cannot be read; they are read as "
                "soon as it can be"
            )
            self.sinks.note(messages.STORE_FAILED, self.warnings["bans"], {"path": self.store.path})

    async def _resume_threats(self) -> None:
        """Those that were open when the last daemon stopped. A slow store is not waited for: they come later."""

        def resume(done: asyncio.Future[list[Threat]]) -> None:
            if not done.cancelled() and not done.exception():  # the store has said and counted it
                self.pipeline.resume_threats(done.result(), time.time())

        stored = asyncio.wrap_future(self.store.open_threats(MOST_OPEN))
        stored.add_done_callback(resume)
        await asyncio.wait([stored], timeout=_RESUME_S)

    def _announce(self) -> None:
        names = ", ".join(sorted(each.name for each in self.datapath.attached.values())) or "no interface yet"
        text = f"trafficmon {__version__} watches {names} ({self.datapath.loaded.loader})"
        self.sinks.note(messages.STARTED, text, {"version": __version__, "loader": self.datapath.loaded.loader})
        self.notifier.ready(text)

    async def _finish(self) -> None:
        """The last ledger read goes into the store; then everything is let go, in the order of the data."""
        try:
            if hasattr(self, "datapath"):
                try:
                    await self.tick()
                    self.pipeline.store_due(time.time(), everything=True)
                    self.pipeline.store_threats()
                finally:
                    self.datapath.close(detach=self.settings.on_stop == "detach")
                self.sinks.note(messages.STOPPED, "trafficmon has stopped")
        finally:
            deadline = time.monotonic() + _STOP_S
            self.exports.finish(deadline)
            self.sinks.close(deadline)
            self.store.close(_STOP_S if self.store.status().state == "ok" else _STUCK_S)
            self.exports.join(deadline)

    # ---- while it runs ----

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        changes = interfaces.Watch(self._network_changed)
        self._watcher = Watcher(loop, lambda: self.reloader.soon("files changed"), is_rules_file)
        self.watch_files()
        self._watcher.start()
        self.begun.set()
        try:
            await asyncio.gather(self._tick_forever(), self._keep_house(), self._feed_watchdog(), self._stop.wait())
        except _Stopped:
            pass
        finally:
            changes.close()
            await loop.run_in_executor(None, self._watcher.stop)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=_CHANGE_S)
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
        """One drain, whatever becomes of who asked for it; everyone who asks before it begins has the same one.
        A failure is said and the next drain goes on."""
        if self._next_tick is None:
            self._next_tick = self.spawn(self._drain())
        await asyncio.shield(self._next_tick)

    async def _drain(self) -> None:
        async with self._ticking:
            self._next_tick = None
            try:
                for _ in self.pipeline.steps(self.datapath.drain(), time.time()):
                    await asyncio.sleep(0)
            except Exception:  # noqa: BLE001  (nothing a packet contains may stop the daemon)
                self.pipeline.report_failure("a drain of the ledger failed; the next goes on")

    async def _keep_house(self) -> None:
        while not await self._stopped_within(_HOUSEKEEPING_S):
            try:
                self._tidy(time.time())
                await self._let_rules_end(time.time())
                await self.rulebook.tidy()
                await self.rulebook.force_bans(self.bans.forced())  # those that have ended give back what they took
                if self.network.sessions_ended():
                    await self._renew_guard()
            except Exception:  # noqa: BLE001  (a host without room for a moment is no reason to stop filtering)
                self.pipeline.report_failure("housekeeping failed; it is tried again")

    def _tidy(self, now: float) -> None:
        self.follow_clock()
        for ban in self.bans.expire(now):
            self.sinks.note(messages.UNBANNED, f"the ban of {shown(ban.cidr)} has ended", {"prefix": ban.cidr})
        self.pipeline.store_threats()
        self.pipeline.tell_of_store()
        self.pipeline.tell_of_exports()
        if self.datapath.refused:  # what stands in the way may go without a word: the MTU of a veth's other end, say
            self.look_at_interfaces()
        self.network.look_at_pins(self.datapath, self.settings)
        self.look_at_doors()
        self.notifier.status(self.status_line())

    async def _let_rules_end(self, now: float) -> None:
        before = self.rulebook.in_force
        if before and await self.rulebook.let_end(now):
            in_force = self.rulebook.in_force
            assert in_force is not None
            text = f"{count(in_force.policy)} in force (before: {count(before.policy)}); a rule has ended"
            self.sinks.note(messages.RELOADED, text, {"generation": in_force.generation})
            self.refresh_names()

    async def _feed_watchdog(self) -> None:
        interval = self.notifier.watchdog_s
        while interval and not await self._stopped_within(interval / 2):
            self.notifier.alive()

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stop.wait(), max(seconds, 0.0))
        except TimeoutError:
            return False
        return True

    def status_line(self) -> str:
        """What systemctl status shows."""
        names = ", ".join(sorted(each.name for each in self.datapath.attached.values())) or "nothing"
        in_force = self.rulebook.in_force
        rules = count(in_force.policy) if in_force else Counts()
        seen = self.datapath.accounting().seen.packets
        return f"watching {names}; {rules}; {seen:,} packets seen, {len(self.pipeline.table):,} flows"

    # ---- changes from outside ----

    async def audit(self, change: Change) -> bool:
        """Records a change; when this returns it is on the disk, or the disk refuses: then the journal has it, and it
        is stored when that is possible again. Returns whether it is stored."""
        done = asyncio.wrap_future(self.store.audit(change))
        done.add_done_callback(asyncio.Future.exception)  # the store says and counts what it cannot do
        await asyncio.wait([done], timeout=_AUDIT_S)
        if done.done() and done.exception() is None:
            return True
        what = f"{change.user} (uid {change.uid}, process {change.pid}): {change.change} {change.subject}"
        fields = {"user": change.user, "uid": change.uid, "change": change.change, "subject": change.subject}
        text = f"{what}, from {change.before or 'nothing'} to {change.after or 'nothing'}; not stored in flows.db yet"
        self.sinks.note(messages.NOT_AUDITED, text, fields)
        return False

    async def serve_metrics(self) -> None:
        """Metrics at the settings' address; where that cannot be, the rest goes on and status says why."""
        trouble = await self.metrics.listen(self.settings.metrics.listen)
        self.warnings.pop("metrics", None)
        if trouble:
            self.warnings["metrics"] = trouble
            self.sinks.note(messages.METRICS_FAILED, trouble, {"address": self.settings.metrics.listen})

    @property
    def files_note(self) -> str:
        """What is wrong with noticing changes of files; empty: nothing."""
        return self._watcher.note if hasattr(self, "_watcher") else ""

    def watch_files(self) -> None:
        """Has a change of the files that the settings name noticed."""
        settings = self.settings
        files = [settings.source or CONFIG_FILE, *(each.path for each in settings.lists)]
        self._watcher.watch(files, [settings.cidr_dir])

    def _network_changed(self) -> None:
        self.look_at_interfaces()
        if self.network.guard(self.settings) != self.rulebook.guard:
            self.spawn(self._renew_guard())

    async def _renew_guard(self) -> None:
        """Other lifelines with the rules as they are, whatever has become of the files."""
        try:
            await self.rulebook.refresh()
        except Exception:  # noqa: BLE001  (what is in force stays)
            self.pipeline.report_failure("the guard could not be given this host's new addresses")
        self.refresh_names()

    def look_at_interfaces(self) -> list[str]:
        """Attaches to what the settings mean and is there; what is watched no longer, in sentences."""
        gone = self.network.attach(self.datapath, self.settings)
        self.refresh_names()
        self.look_at_doors()
        return gone

    def look_at_doors(self) -> list[str]:
        """What nobody can reach from now on, in sentences."""
        return self.network.look_at_doors(self.datapath, self.rulebook)

    def unwatched(self) -> list[str]:
        """What ought to be watched and is not, in sentences; with what else concerns the filter looked at anew."""
        self.network.look_at_pins(self.datapath, self.settings)
        self.look_at_doors()
        return network.unwatched(self.datapath, self.settings)

    def missing_interfaces(self) -> list[str]:
        """Interfaces that the settings name and that are not there."""
        return network.missing(self.datapath, self.settings)

    def logins(self) -> set[str]:
        """Addresses that somebody is logged in from."""
        return self.network.logins()

    def ssh_peers(self) -> set[str]:
        """Addresses with a connection to SSH's port, logged in or not."""
        return network.ssh_peers()

    def refresh_names(self) -> None:
        """Interfaces that went away keep their names for the flows still to be reported."""
        known = dict(self.pipeline.names.interfaces)
        known.update({each.ifindex: each.name for each in self.datapath.attached.values()})
        self.pipeline.names = Names(known, self.rulebook.names())

    def _bans_changed(self, put: Sequence[Ban], gone: Sequence[Key]) -> None:
        self.datapath.configure(self.datapath.options)
        if put or gone:
            self.store.change_bans(put, gone)

    def follow_clock(self) -> None:
        """What lasts for a time lasts as long, however the wall clock was stepped. To be called before such a time is
        begun, told or ended."""
        jump = self.datapath.clock.calibrate()
        if jump:
            self.bans.shift(jump)

    async def to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Does `work` even if whoever waits for it goes away: a client that hangs up is no half a change."""
        return await asyncio.shield(self.spawn(work))

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Does `work` on the loop; a stop waits for it a while."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Stopped(Exception):
    """Ends `gather` when the daemon is asked to stop."""


def run(settings: Settings, flags: Flags) -> None:
    """Runs the daemon until it is told to stop. Raises TrafficmonError if it cannot start."""
    os.umask(0o027)
    asyncio.run(Daemon(settings, flags).run())

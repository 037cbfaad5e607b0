"""The daemon's main loops: reading the ledger, housekeeping, and the shutdown. One thread, one event loop."""

import asyncio
import signal
import time
from contextlib import AsyncExitStack, suppress

from trafficmond import __version__
from trafficmond.control.call import Service
from trafficmond.control.listen import Listener
from trafficmond.control.server import Server
from trafficmond.datapath import interfaces
from trafficmond.handlers import make_handlers
from trafficmond.parts import Parts
from trafficmond.reloader import Reloader
from trafficmond.signals import Signals
from trafficmond.sinks import messages

_HOUSEKEEPING_S = 5.0  # between two rounds: expired bans and rules, the clock, the status line
_REST = 0.3  # share of a reading's duration that is left free after it
_CHANGE_S = 5.0  # at a stop, the time for changes that clients have requested


class Daemon:
    """Runs the loops with the parts until a signal stops it."""

    def __init__(self, parts: Parts, signals: Signals) -> None:
        self._parts = parts
        self._signals = signals
        self._reloader = Reloader(parts)
        service = Service.of(__version__, make_handlers(parts, self._reloader), parts.tasks.shielded)
        self._server = Server(service, parts.clients)

    async def run(self, listener: Listener) -> None:
        """Serves clients and runs the loops until the stop. At the stop, clients are disconnected first."""
        parts = self._parts
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._server.stop)
            stack.callback(parts.metrics.close)
            stack.callback(parts.manager.stopping)
            parts.pipeline.report_store_health()
            await self._server.start(listener)
            await self._reloader.serve_metrics()
            self._announce()
            stack.push_async_callback(parts.tasks.close, _CHANGE_S)
            self._watch_for_changes(stack)
            with suppress(_Stopped):
                await asyncio.gather(
                    self._tick_forever(), self._housekeeping(), self._feed_watchdog(), self._signals.stop.wait()
                )

    def _announce(self) -> None:
        path = self._parts.datapath
        names = ", ".join(sorted(each.name for each in path.attached.values())) or "no interface yet"
        text = f"trafficmon {__version__} watches {names} ({path.loaded.loader})"
        self._parts.sinks.note(messages.STARTED, text, {"version": __version__, "loader": path.loaded.loader})
        self._parts.manager.ready(text)

    def _watch_for_changes(self, stack: AsyncExitStack) -> None:
        parts, reloader, loop = self._parts, self._reloader, asyncio.get_running_loop()
        stack.push_async_callback(loop.run_in_executor, None, parts.watcher.stop)
        stack.callback(interfaces.Watch(parts.host.changed).close)
        reloader.watch_files()
        parts.watcher.start(loop, lambda: reloader.schedule("files changed"))
        loop.add_signal_handler(signal.SIGUSR1, parts.sinks.reopen)
        loop.add_signal_handler(signal.SIGHUP, reloader.schedule, "SIGHUP")
        if self._signals.reload.is_set():
            reloader.schedule("SIGHUP")

    async def _tick_forever(self) -> None:
        """Reads the ledger at each interval, measured from the beginning of one reading to that of the next. If
        readings last longer than that in a flood, clients are served for a while after each of them."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not await self._signals.stopped_within(due - loop.time()):
            began = loop.time()
            await self._parts.pipeline.read_ledger()
            self._read_names()
            ended = loop.time()
            due = max(due + self._parts.settings.flows.interval, ended + (ended - began) * _REST)
        raise _Stopped

    def _read_names(self) -> None:
        try:
            self._parts.dns.take()
        except Exception:  # noqa: BLE001  (nothing a packet contains may stop the daemon)
            self._parts.pipeline.report_failure("DNS answers could not be read; will retry at the next interval")

    async def _housekeeping(self) -> None:
        parts = self._parts
        while not await self._signals.stopped_within(_HOUSEKEEPING_S):
            try:
                await parts.follow_clock()
                await parts.rulebook.expire_probation()
                self._check_parts()
                await self._expire_rules(time.time())
                await parts.quotas.check(parts.settings.quotas, time.time())
                await parts.rulebook.keep_again()
                await parts.rulebook.release_memory()
                await parts.rulebook.force_bans(parts.bans.forced())  # guard and allowlist apply after a forced ban
                await parts.follow_rules()
                await parts.learned.keep()
                if parts.protected.sessions_ended():
                    await parts.host.renew_guard()
            except Exception:  # noqa: BLE001  (a host without room for a moment is no reason to stop filtering)
                parts.pipeline.report_failure("housekeeping failed; will retry")

    def _check_parts(self) -> None:
        parts = self._parts
        parts.pipeline.store_threats()
        lost = parts.pipeline.report_store_health() or (parts.store.lost_bans and parts.store.status().state == "ok")
        if lost and parts.bans.restored:
            parts.store.save_bans(parts.bans.all())  # for after a reboot: in the kernel they are
        parts.pipeline.report_export_health()
        # The obstacle may disappear without an event, such as the MTU of a veth's peer; a privileged step has ended.
        if parts.datapath.refused or parts.datapath.attachments.update_due():
            parts.host.attach()
        parts.host.check_pins()
        parts.exposure.check()
        parts.manager.status(parts.status_line())

    async def _expire_rules(self, now: float) -> None:
        parts = self._parts
        before = parts.rulebook.in_force
        if before and await parts.rulebook.expire_rules(now):
            in_force = parts.rulebook.in_force
            assert in_force is not None
            text = f"{in_force.policy.counts} in force (before: {before.policy.counts}); a rule has ended"
            parts.sinks.note(messages.RELOADED, text, {"generation": in_force.generation})
            parts.host.refresh_names()

    async def _feed_watchdog(self) -> None:
        interval = self._parts.manager.watchdog_s
        while interval and not await self._signals.stopped_within(interval / 2):
            self._parts.manager.alive()


class _Stopped(Exception):
    """Ends `gather` when the daemon is to stop."""

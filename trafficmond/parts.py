"""The parts of the daemon: built once, in the order of their dependencies, and closed in the order of the data flow."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from trafficmond import part_options
from trafficmond.banlist import BanList
from trafficmond.changes import REFUSED
from trafficmond.config.flags import Flags
from trafficmond.config.load import load_settings
from trafficmond.config.settings import Settings
from trafficmond.config.watch import Watcher
from trafficmond.control.broadcast import Broadcast
from trafficmond.control.clients import Clients
from trafficmond.dataclass import InitVar, dataclass, field
from trafficmond.datapath.cgroups import Cgroups
from trafficmond.datapath.datapath import Datapath
from trafficmond.datapath.loading import Options
from trafficmond.detect.detectors.new_destination import Lookups, NewDestination
from trafficmond.detect.engine import MOST_OPEN, REMEMBERED_S
from trafficmond.detect.registry import settings_classes
from trafficmond.dnsnames import DnsNames
from trafficmond.errors import ConfigError, DatapathError
from trafficmond.export.exports import ExportSet
from trafficmond.exposure import Exposure
from trafficmond.figures import many
from trafficmond.history import History
from trafficmond.host import Host
from trafficmond.learned import LEARNED_NAME, Learned
from trafficmond.metrics.http import MetricsServer
from trafficmond.model import Threat
from trafficmond.networks import shown
from trafficmond.pipeline import Pipeline
from trafficmond.policy.collect import is_rules_file
from trafficmond.policy.load import RuleCounts
from trafficmond.policy.trial import Kept, last_in_force
from trafficmond.probation import Probation
from trafficmond.protected import Protected
from trafficmond.questions import Questions
from trafficmond.quotas import Quotas
from trafficmond.responder import Responder
from trafficmond.rulebook import Rulebook
from trafficmond.ruleset import InForce
from trafficmond.sdnotify import ServiceManager
from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet
from trafficmond.store.records import AuditEntry, Ban, Key
from trafficmond.store.store import Store
from trafficmond.tasks import Tasks
from trafficmond.units import Units

_AUDIT_S = 2.0  # for a change's record to reach the disk
_REST_S = 5.0  # at a stop, the time for queues to accept the rest of the flow table
_STOP_S = 10.0  # at a stop, the time for the last rows and records to reach the disk
_STUCK_S = 2.0  # at a stop, the time for a store that cannot write
HISTORY_NAME = "rules-history.jsonl"  # in state_dir
_AGAIN_S = 0.5  # before bans that could not be read are tried again
_RESUME_S = 2.0  # at the start, the time for reading bans and threats of the last run
_SHOWN_SOURCES = 20  # broken lists and files that are logged one by one


@dataclass(slots=True)
class Parts:
    """All parts of the running daemon, created and connected. Only `settings` changes: the reloader replaces it."""

    settings: Settings
    flags: Flags
    store: Store
    sinks: SinkSet
    exports: ExportSet
    datapath: Datapath
    protected: Protected
    warnings: dict[str, str]  # subject -> sentence, for status
    units: InitVar[Units]
    started_at: float
    rulebook: Rulebook = field(init=False)
    bans: BanList = field(init=False)
    responder: Responder = field(init=False)
    pipeline: Pipeline = field(init=False)
    learned: Learned = field(init=False)
    exposure: Exposure = field(init=False)
    host: Host = field(init=False)
    history: History = field(init=False)
    probation: Probation = field(init=False)
    quotas: Quotas = field(init=False)
    tasks: Tasks = field(default_factory=Tasks)
    questions: Questions = field(default_factory=Questions)
    broadcast: Broadcast = field(default_factory=Broadcast)
    manager: ServiceManager = field(default_factory=ServiceManager)
    clients: Clients = field(default_factory=Clients)
    metrics: MetricsServer = field(default_factory=MetricsServer)
    watcher: Watcher = field(default_factory=partial(Watcher, is_rules_file))
    dns: DnsNames = field(default_factory=DnsNames)

    def __post_init__(self, units: Units) -> None:
        settings, datapath, protected, warnings = self.settings, self.datapath, self.protected, self.warnings
        store, sinks, tasks = self.store, self.sinks, self.tasks
        self.rulebook = rulebook = Rulebook(settings, datapath, protected.guard)
        self.bans = BanList(datapath.bans, partial(_bans_changed, datapath, store))
        self.responder = Responder(settings.response, rulebook, self.bans, sinks, store, protected.logins)
        datapath.clock.followers += [self.bans.shift, rulebook.shift, self.responder.response.shift, self._shift]
        outputs, receivers = (store, sinks, self.exports), (self.broadcast, self.responder.respond)
        ledger = (datapath.read_ledger, datapath.inners)
        self.pipeline = Pipeline(settings, *outputs, *receivers, *ledger, tasks, units, self.started_at)
        engine = self.pipeline.engine
        engine.inform(NewDestination.name, Lookups(units.owner, lambda: rulebook.geoip))
        keepers = (engine, self.responder.response)
        self.learned = Learned(settings.state_dir / LEARNED_NAME, keepers, sinks, warnings)
        self.exposure = exposure = Exposure(datapath, rulebook, sinks, warnings, protected.logins)
        rulebook.cuts_off = exposure.cuts_off
        rulebook.settings_of = partial(load_settings, flags=self.flags, detectors=settings_classes())
        self.host = Host(settings, datapath, protected, exposure, rulebook, self.pipeline, sinks, tasks, warnings)
        self.history = History(settings.state_dir / HISTORY_NAME)
        self.probation = Probation(rulebook, self.host, exposure, sinks, tasks, self.audit)
        self.quotas = Quotas(store.path, self.questions, self.pipeline)

    def _shift(self, seconds: float) -> None:
        """Moves the start after the wall clock was stepped, so that it stays as long ago as it is."""
        self.started_at += seconds

    async def follow_clock(self) -> None:
        """Adjusts the ends of rules and bans to a stepped wall clock, so that they last as long as intended, and
        removes bans that have ended, as the kernel does.

        To be called before such an end is set, shown or checked.
        """
        self.datapath.clock.calibrate()
        await self.rulebook.apply_clock_step()
        for ban in self.bans.expire(time.time()):
            self.sinks.note(messages.UNBANNED, f"the ban of {shown(ban.cidr)} has ended", {"prefix": ban.cidr})

    async def audit(self, change: AuditEntry) -> bool:
        """Adds a change to the rules' history and to the audit; returns whether it is stored."""
        await self.follow_rules(change)
        return await self.record(change)

    async def record(self, change: AuditEntry) -> bool:
        """Records a change in flows.db. Returns whether it is on the disk. If the disk refuses it, it is written to the
        journal now, and to flows.db when that is possible again."""
        done = asyncio.wrap_future(self.store.audit(change))
        done.add_done_callback(asyncio.Future.exception)  # the store reports and counts what it cannot do
        await asyncio.wait([done], timeout=_AUDIT_S)
        if done.done() and done.exception() is None:
            return True
        who = f"{change.user} (uid {change.uid}, process {change.pid}, login {change.login or 'unknown'})"
        fields = {"user": change.user, "uid": change.uid, "change": change.change, "subject": change.subject}
        what = f"{change.change} {change.subject}, from {change.before or 'nothing'} to {change.after or 'nothing'}"
        self.sinks.note(messages.NOT_AUDITED, f"{who}: {what}; not stored in flows.db yet", fields)
        return False

    async def follow_rules(self, change: AuditEntry | None = None) -> None:
        """Adds the difference of the rules since the last call to their history, as an effect of `change`, and keeps
        them for a start whose files have mistakes."""
        if not self.rulebook.keeping.locked():
            self.tasks.spawn(self.rulebook.keep_in_force())
        if (in_force := self.rulebook.in_force) and in_force.generation:
            trial = self.rulebook.standing.trial
            tried = (Path(trial.folder), Path(trial.place)) if trial and trial.place else None
            await self.history.follow(in_force.policy, change, tried)

    def probation_notes(self) -> list[str]:
        """The notes on a probation for the author of a change; empty if there is none."""
        standing = self.rulebook.standing
        if not (trial := standing.trial):
            return []
        left = f"on probation for {trial.until - time.time():.0f} s: keep it with trafficctl confirm"
        return [left, *([standing.error] if standing.error else [])]

    def status_line(self) -> str:
        """The line that systemctl status shows."""
        names = ", ".join(sorted(each.name for each in self.datapath.attached.values())) or "nothing"
        in_force = self.rulebook.in_force
        rules = in_force.policy.counts if in_force else RuleCounts()
        seen = self.datapath.accounting().seen.packets
        return f"watching {names}; {rules}; {many(seen, 'packet')} seen, {many(len(self.pipeline.table), 'flow')}"


@asynccontextmanager
async def assemble(
    on_disk: Settings,
    flags: Flags,
    begun: tuple[Settings, Kept, str],
    loading: asyncio.Future[Datapath],
    wrong: ConfigError | None = None,
) -> AsyncIterator[Parts]:
    """Runs all parts for the time of the block; leaving the block is the shutdown.

    `begun` is the result of `recalled` for the settings; `wrong`: their file has these mistakes, so those in force last
    are used. Raises TrafficmonError if the daemon cannot start; then what `loading` loads is released.
    """
    now = time.time()
    settings, kept, warning = begun
    async with AsyncExitStack() as stack, AsyncExitStack() as unstarted:
        unstarted.push_async_callback(_abandon, loading)
        store = Store.open(part_options.database(settings), part_options.limits(settings))
        sinks = SinkSet(settings.logs, verbose=settings.verbose)
        sinks.start()
        exports = ExportSet(settings.exports, settings.state_dir)
        stack.callback(_close_outputs, store, sinks, exports)
        warnings: dict[str, str] = {}
        protected = Protected(warnings)
        # Looked up while the kernel verifies the programs.
        looked = asyncio.get_running_loop().run_in_executor(None, protected.guard, settings)
        units = _units(part_options.options(settings), warnings)
        stack.callback(units.close)
        datapath = await loading
        if not datapath.loaded.owners:
            units.close()
            units = Units()
        parts = Parts(settings, flags, store, sinks, exports, datapath, protected, warnings, units, now)
        unstarted.callback(parts.manager.stopping)
        parts.dns.source, units.processes.source = datapath.names_seen, datapath.processes_seen
        warnings |= {setting: why for setting, why in datapath.unseen.items() if why}
        await looked
        parts.rulebook.standing.recall(kept, warning)
        await _load_rules(parts, on_disk, wrong)
        parts.host.attach()
        parts.host.require(flags.interfaces)
        await _restore_bans(parts)
        await parts.follow_rules()
        unstarted.pop_all()
        stack.push_async_callback(_stop_watching, parts)
        stack.callback(parts.questions.close)
        await _resume_threats(parts, parts.tasks.spawn(parts.learned.recall()))
        yield parts


async def _abandon(loading: asyncio.Future[Datapath]) -> None:
    """Releases the data path of a start that failed."""
    await asyncio.wait([loading])
    if not loading.exception():
        loading.result().abandon()


def _units(options: Options, warnings: dict[str, str]) -> Units:
    """The units of this host, if the data path knows the owners of packets and there is a cgroup2 hierarchy."""
    if not options.owners:
        return Units()
    cgroups = Cgroups()
    try:
        cgroups.start()
    except DatapathError as error:
        cgroups.close()
        warnings["units"] = f"flows have no units: {error}"
        return Units()
    units = Units(cgroups)
    units.answers = options.egress
    return units


def log_sources(parts: Parts, before: InForce | None) -> None:
    """Logs which lists and files have become unusable since `before`."""
    in_force = parts.rulebook.in_force
    known = before.policy.notes if before else ()
    new = [note for note in in_force.policy.notes if note not in known] if in_force else []
    for note in new[:_SHOWN_SOURCES]:
        parts.sinks.note(messages.SOURCE_BROKEN, str(note), {"where": note.where})


def _bans_changed(datapath: Datapath, store: Store, put: Sequence[Ban], gone: Sequence[Key]) -> None:
    datapath.configure(datapath.options)
    if put or gone:
        store.change_bans(put, gone)


async def _load_rules(parts: Parts, on_disk: Settings, wrong: ConfigError | None) -> None:
    """Loads the confirmed rules, and those still on probation. If files have mistakes, the rules that were in force
    last are; if these are unknown, those that the kernel still has. Raises ConfigError if there are none."""
    try:
        if wrong:
            raise wrong
        if parts.settings is on_disk:
            await parts.rulebook.load()
        else:  # the files on disk are refused
            await parts.rulebook.load_confirmed(parts.settings)
            parts.warnings["files"] = REFUSED
        known = True
    except ConfigError as error:
        known = await _load_last(parts, on_disk, error)
        parts.rulebook.error = error
    if known:
        await parts.probation.take_up(on_disk)
    log_sources(parts, None)
    parts.store.use(parts.rulebook.geoip)
    parts.host.refresh_names()


async def _load_last(parts: Parts, on_disk: Settings, error: ConfigError) -> bool:
    """Puts the rules that were in force last in force in place of files with mistakes. Returns whether they are known;
    otherwise the kernel keeps what it has. Raises `error` if that is nothing."""
    known, stays = True, "the rules and settings that were in force last are used"
    try:
        last = await asyncio.to_thread(last_in_force, on_disk)
        parts.datapath.configure(part_options.switched(parts.datapath.options, last))
        await parts.rulebook.load_confirmed(last)
    except (ValueError, ConfigError) as unknown:
        if not parts.datapath.loaded.reused:
            what = "an earlier start's rules filter on" if parts.datapath.inherited else "nothing is filtered"
            hint = f"correct the files: {what}, since the rules in force before are unknown ({unknown})"
            raise ConfigError(error.mistakes, hint=hint) from None
        await parts.rulebook.start_empty()
        known, stays = False, "the rules of the last run, which the kernel still has, are used"
    parts.warnings["reload"] = f"the files had mistakes at the start, so {stays}"
    for mistake in error.mistakes[:_SHOWN_SOURCES]:
        parts.sinks.note(
            messages.CONFIG_REJECTED, f"the files have mistakes, so {stays}: {mistake}", {"where": mistake.where}
        )
    return known


async def _restore_bans(parts: Parts) -> None:
    """Restores the bans that were in force when the last daemon stopped. A store that cannot be read does not delay the
    start: the bans are restored later, and those in the kernel stay."""

    async def restore() -> None:
        while (stored := await asyncio.to_thread(parts.store.read_bans)) is None:
            await asyncio.sleep(_AGAIN_S)
        parts.bans.restore(stored, time.time())
        parts.store.lost_bans = True  # it is to get them all
        if parts.store.missing_bans:
            text = f"bans of the last run are missing: {parts.store.missing_bans}; see trafficctl bans, and ban again"
            parts.warnings["missing bans"] = text
            parts.sinks.note(messages.STORE_FAILED, text, {"path": parts.store.path})
        await parts.rulebook.force_bans(parts.bans.forced())
        if parts.warnings.pop("bans", None):
            parts.sinks.note(messages.STORE_RESUMED, f"bans from flows.db are in force: {len(parts.bans)}")

    done, _ = await asyncio.wait([parts.tasks.spawn(restore())], timeout=_RESUME_S)
    if done:
        done.pop().result()
    else:
        text = f"{parts.store.path} cannot be read yet: of its bans, only those that the kernel still has are in force"
        parts.warnings["bans"] = text
        parts.sinks.note(messages.STORE_FAILED, text, {"path": parts.store.path})


async def _resume_threats(parts: Parts, recalled: asyncio.Future[None]) -> None:
    """Resumes threats that were open at the last stop or ended recently, when it is known whose bans were lifted; a
    slow store does not delay the start."""

    def then(found: asyncio.Future[tuple[list[Threat], list[Threat]]]) -> None:
        if not found.cancelled() and not found.exception():  # the store logs and counts a failure
            ended, opened = found.result()
            parts.pipeline.engine.remember(ended, time.time())  # first, since it decides which of the others have ended
            parts.pipeline.resume_threats(opened, time.time())

    stored = asyncio.wrap_future(parts.store.last_threats(time.time() - REMEMBERED_S, MOST_OPEN))
    await asyncio.wait([recalled], timeout=_RESUME_S)
    stored.add_done_callback(then)
    await asyncio.wait([stored], timeout=_RESUME_S)


async def _stop_watching(parts: Parts) -> None:
    """Stores the last reading of the ledger, then closes the data path."""
    try:
        await parts.pipeline.read_ledger()
        await parts.pipeline.store_rest(time.time(), _REST_S)
        parts.pipeline.store_threats()
        await parts.learned.keep(now=True)
        await parts.rulebook.keep_again()
        await parts.rulebook.keep_in_force()
        if parts.store.lost_bans and parts.bans.restored and parts.store.status().state == "ok":
            parts.store.save_bans(parts.bans.all())
    finally:
        parts.datapath.close(detach=parts.settings.on_stop == "detach")
    parts.sinks.note(messages.STOPPED, "trafficmon has stopped")


def _close_outputs(store: Store, sinks: SinkSet, exports: ExportSet) -> None:
    deadline = time.monotonic() + _STOP_S
    exports.finish(deadline)
    sinks.close(deadline)
    store.close(_STOP_S if store.status().state == "ok" else _STUCK_S)
    exports.join(deadline)

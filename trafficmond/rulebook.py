"""The rules in force: reads files and run-time rules, compiles them and has them installed, or says why not.

A change is made whole or not at all. Reading and compiling happen in a worker thread, so that a million prefixes do
not hold up the loop; installing happens on the loop, one change at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trafficmond import heap
from trafficmond.config.settings import Settings
from trafficmond.errors import ConfigError, DatapathError, Mistake
from trafficmond.geo.atlas import Atlas
from trafficmond.geo.reading import Databases
from trafficmond.model import Action, Direction
from trafficmond.networks import Network
from trafficmond.policy.byhand import ByHand
from trafficmond.policy.ids import RuleIds, common_beginning
from trafficmond.policy.lastgood import LastGood
from trafficmond.policy.leaves import RuleColumns
from trafficmond.policy.load import Cache, Files, Policy, make_policy, read_files, with_saved
from trafficmond.policy.patch import Source, patched
from trafficmond.policy.rules import Rules, read_tables
from trafficmond.policy.saved import read_saved, save
from trafficmond.policy.sources import SAVED_NAME, forced_by, lists_of, own_of
from trafficmond.policy.table import VerdictTable, compile_columns, compile_table
from trafficmond.policy.tables import CIDR, DIRECTION, PORTS, Table, begun_by, has_ended, left, moved, same, without

_MANY_PREFIXES = 50_000  # building with so many leaves memory worth giving back
BY_HAND_NAME = "rules-by-hand.jsonl"  # in state_dir, as the next one
LAST_GOOD_NAME = "last-good"
GEO_NAME = "geo"

Guard = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class InForce:
    """What the kernel judges by."""

    policy: Policy
    table: VerdictTable
    generation: int
    loaded_at: float
    rule_ids: npt.NDArray[np.uint32]
    columns: RuleColumns

    def any_ended(self, now: float) -> bool:
        """Whether a rule has ended since they were made and by `now` (epoch s): a new table saves the kernel a step."""
        expires = self.columns.expires
        return bool(((expires > self.loaded_at) & (expires <= now)).any())


@dataclass(slots=True)
class _Inputs:
    """Everything that a set of rules is made of besides the files."""

    settings: Settings
    files: Files = field(default_factory=Files)  # as they were when they were last found right
    runtime: list[Table] = field(default_factory=list)
    guard: Guard = ()
    forced_bans: frozenset[Network] = frozenset()  # what bans took from guard and allowlist


@dataclass(frozen=True, slots=True)
class Done:
    """A change of the rules by hand: what was there before, and what whoever asked should know."""

    before: list[Table]
    notes: list[str]
    saved: int = 0  # so many of `before`, the last ones, were in the daemon's own file


class Rulebook:
    """Owns the policy. Use from the loop's thread only."""

    def __init__(
        self,
        settings: Settings,
        install: Callable[[npt.NDArray[np.uint32]], npt.NDArray[np.uint32]],
        to_jiffies: Callable[[float], int],
        guard: Callable[[Settings], Guard],
        calibrate: Callable[[], object] = lambda: None,
    ) -> None:
        """`install` has the kernel judge by a table, and returns the words that it reads. `guard` looks up this host's
        lifelines, at each change: what may be dropped then is another matter now. `calibrate` looks at the clocks
        before what ends is looked at, and `shift`s what lasts for a time."""
        self._inputs = _Inputs(settings)
        self._install = install
        self._to_jiffies = to_jiffies
        self._guard = guard
        self._calibrate = calibrate
        self._jump = 0.0  # of the wall clock, that rules by hand are still to follow
        self._cache = Cache()
        self._last_good = LastGood(settings.state_dir / LAST_GOOD_NAME)
        self._databases = Databases(settings.state_dir / GEO_NAME)
        self._by_hand = ByHand(settings.state_dir / BY_HAND_NAME)
        self._recalled = False
        self._spent_memory = False
        self._read: tuple[list[Table], Rules] = [], Rules.joined([])  # of the last tables of run-time rules
        self._ids = RuleIds()
        self._lock = asyncio.Lock()
        self.in_force: InForce | None = None
        self.error: ConfigError | None = None  # why the files on disk are not in force
        self.trouble = ""  # with what is kept of rules by hand

    @property
    def saved_path(self) -> Path:
        """Where `add-cidr --save` keeps rules."""
        return self._inputs.settings.state_dir / SAVED_NAME

    @property
    def guard(self) -> Guard:
        """The lifelines that the rules in force were made with."""
        return self._inputs.guard

    @property
    def atlas(self) -> Atlas:
        """Where addresses are."""
        return self._databases.atlas

    def names(self) -> Mapping[int, str]:
        """Rule id -> name, for everything in force or lately so."""
        return self._ids.names()

    async def load(self, settings: Settings | None = None) -> InForce:
        """Reads everything again and puts it in force, unless it is what is in force. Raises ConfigError: then nothing
        changed, and `error` is set.

        Run-time rules can be changed all the same: they go with the files as they were when they were last right.
        """
        async with self._lock:
            await self._recall()
            inputs = self._inputs
            if settings is not None:
                inputs = replace(inputs, settings=settings)
            try:
                inputs = replace(inputs, files=await asyncio.to_thread(self._read_files, inputs.settings))
                in_force = self._unchanged(inputs) or await self._change(inputs)
            except ConfigError as error:
                self.error = error
                raise
            self.error = None
            return in_force

    def _unchanged(self, inputs: _Inputs) -> InForce | None:
        """What is in force, if the files and what else rules are made of are still the same."""
        now, files, in_force = self._inputs, inputs.files, self.in_force
        if not in_force or not in_force.generation or in_force.any_ended(time.time()):
            return None
        same_files = files.same_rules(now.files) and own_of(inputs.settings) == own_of(now.settings)
        if not same_files or self._guard(inputs.settings) != now.guard:
            return None
        if files.notes != now.files.notes:
            notes = (*files.notes, *in_force.policy.notes[len(now.files.notes) :])  # its own, and those of the files
            self.in_force = replace(in_force, policy=replace(in_force.policy, notes=notes))
        self._inputs = inputs
        return self.in_force

    async def refresh(self) -> None:
        """Makes the rules in force anew with the lifelines as they are now; not those of a last run, which are unknown.
        Raises ConfigError, DatapathError."""
        async with self._lock:
            if self.in_force and self.in_force.generation:
                await self._change(self._inputs)

    def shift(self, seconds: float) -> None:
        """The wall clock was stepped by so much: rules by hand last as long as before, from the next change on."""
        self._jump += seconds

    async def settle(self) -> None:
        """Makes the rules anew if the wall clock was stepped, so that they say what the kernel does. Never raises."""
        if self._jump:
            async with self._lock:
                if self._jump and self.in_force and self.in_force.generation:
                    with contextlib.suppress(ConfigError, DatapathError):  # it will be tried again
                        await self._change(self._inputs)

    async def let_end(self, now: float) -> bool:
        """Takes out what has ended by `now` (epoch s): rules by hand, with what they were forced on, and saved ones.
        Returns whether there was anything. Raises ConfigError, DatapathError."""
        async with self._lock:
            in_force = self.in_force
            if not in_force or not in_force.any_ended(now):
                return False
            inputs = self._inputs
            if any(rule.expires and rule.expires <= now for part in inputs.files.saved for rule in part.rules):
                inputs = replace(inputs, files=await self._without_ended(inputs.files, now))
            await self._change(inputs)
            await self._keep()
            return True

    async def _without_ended(self, files: Files, now: float) -> Files:
        """Takes saved rules that have ended out of the daemon's own file. Where that cannot be written they stay there,
        ended all the same."""
        return await self._rewritten(files, lambda tables: [table for table in tables if not has_ended(table, now)])

    async def _rewritten(self, files: Files, change: Callable[[list[Table]], list[Table]]) -> Files:
        """`files` with the daemon's own file changed; as they are, if that cannot be read or written."""
        try:
            tables = await self._saved()
            changed = change(tables)
            if changed == tables:
                return files
            await asyncio.to_thread(save, self.saved_path, changed)
        except (OSError, ConfigError):
            return files
        there: Files = await asyncio.to_thread(with_saved, files, self.saved_path, self._cache)
        return there

    async def start_empty(self) -> None:
        """Begins without a policy of its own, for a daemon whose files are broken: what is in the kernel stays."""
        await self._recall()
        policy = make_policy(Files(), default=Action.parse(self._inputs.settings.policy.default))
        ids = self._ids.assign(policy.rules, time.time())
        table = compile_table(policy, ids, time.time(), self._to_jiffies)
        self.in_force = InForce(policy, table, 0, time.time(), ids, RuleColumns.of(policy.rules, ids))

    async def _recall(self) -> None:
        """The rules by hand of the last run that have not ended."""
        if not self._recalled:
            now = time.time()
            self._inputs.runtime, self.trouble = await asyncio.to_thread(self._by_hand.read, now)
            await self._rewritten(Files(), lambda tables: [begun_by(table, now) for table in tables])
            self._recalled = True

    async def force_bans(self, networks: Collection[Network]) -> None:
        """These prefixes, and no others, are taken from the guard and the allowlist for bans on them."""
        async with self._lock:
            inputs = replace(self._inputs, forced_bans=frozenset(networks))
            if self.in_force is None:
                self._inputs = inputs  # the first rules will be made with it
            elif inputs.forced_bans != self._inputs.forced_bans:
                await self._change(inputs)

    async def add(self, table: Table, *, keep: bool) -> Done:
        """Puts a rule in force in place of the run-time rule on that prefix, direction and ports; `keep`: over restarts
        too.

        One with `force` takes its prefix from guard and allowlist for as long as it lasts. Raises ConfigError, OSError:
        then nothing changed.
        """
        async with self._lock:
            await self._recall()
            place = {PORTS: [], **table}
            before = [each for each in self._inputs.runtime if same(each, place)]
            inputs = replace(self._inputs, runtime=without(self._inputs.runtime, place))
            if not keep:
                await self._change(replace(inputs, runtime=[*inputs.runtime, table]))
                return Done(before, await self._keep())
            saved = await self._saved()
            await self._save_and_change(inputs, [*without(saved, place), table])
            before = [*(each for each in saved if same(each, place)), *before]
            return Done(before, await self._keep())

    async def remove(
        self, cidr: str, direction: Direction | None, ports: list[str] | None = None, *, saved: bool
    ) -> Done:
        """Takes the run-time rules on exactly this prefix out of force, and the saved ones too if `saved`; with
        `ports`, those for just these services alone.

        `before` is what was removed, [] if there was nothing. Raises ConfigError or OSError: then nothing changed.
        """
        wanted: Table = {CIDR: cidr} if direction is None else {CIDR: cidr, DIRECTION: str(direction)}
        wanted |= {} if ports is None else {PORTS: ports}
        async with self._lock:
            await self._recall()
            runtime, kept = self._inputs.runtime, await self._saved() if saved else []
            removed = [table for table in [*runtime, *kept] if same(table, wanted)]
            if not removed:
                return Done([], [])
            inputs = replace(self._inputs, runtime=without(runtime, wanted))
            if any(same(table, wanted) for table in kept):
                await self._save_and_change(inputs, without(kept, wanted))
            else:
                await self._change(inputs)
            return Done(removed, await self._keep(), sum(same(table, wanted) for table in kept))

    async def _keep(self) -> list[str]:
        """Has the rules by hand that have an end outlive this daemon; in words, if that cannot be."""
        try:
            await asyncio.to_thread(self._by_hand.keep, self._inputs.runtime)
        except OSError as error:
            why = f"{self._inputs.settings.state_dir / BY_HAND_NAME}: {error.strerror or error}"
            self.trouble = f"rules by hand would not outlive a restart ({why})"
            return [f"in force, but only until the next restart ({why})"]
        self.trouble = ""
        return []

    async def is_saved(self, cidr: str) -> bool:
        """Whether the daemon's own file has a rule on exactly this prefix."""
        return any(same(table, {CIDR: cidr}) for table in await self._saved())

    async def _saved(self) -> list[Table]:
        tables: list[Table] = await asyncio.to_thread(read_saved, self.saved_path)
        return tables

    async def _save_and_change(self, inputs: _Inputs, saved: list[Table]) -> InForce:
        """As `_change`, with these rules in the daemon's own file; both or neither."""
        before = await self._saved()
        await asyncio.to_thread(save, self.saved_path, saved)
        try:
            files = await asyncio.to_thread(with_saved, inputs.files, self.saved_path, self._cache)
            return await self._change(replace(inputs, files=files))
        except BaseException:  # refused by the rules, by the kernel, or given up with the daemon
            await asyncio.to_thread(save, self.saved_path, before)
            raise

    async def _change(self, inputs: _Inputs) -> InForce:
        self._calibrate()
        now, jump = time.time(), self._jump
        if jump:
            files = replace(inputs.files, saved=tuple(part.moved(jump) for part in inputs.files.saved))
            inputs = replace(inputs, files=files, runtime=[moved(table, jump) for table in inputs.runtime])
        runtime = [table for table in inputs.runtime if not has_ended(table, now)]
        inputs = replace(inputs, runtime=runtime, guard=self._guard(inputs.settings))
        generation = self.in_force.generation + 1 if self.in_force else 1
        new: InForce = await asyncio.to_thread(self._build, inputs, generation, now, whole=bool(jump))
        if new.table.edit:
            new.table.edit.apply(new.table.words)
        else:
            new = replace(new, table=replace(new.table, words=self._install(new.table.words), live=True))
        self._inputs, self.in_force = inputs, new
        if jump:
            self._jump -= jump
            inputs.files = await self._rewritten(inputs.files, lambda tables: [moved(table, jump) for table in tables])
            await self._keep()
        self._spent_memory |= len(new.policy.prefixes) > _MANY_PREFIXES
        return new

    async def tidy(self) -> None:
        """Gives back to the system what the builds since the last time have freed; nobody waits for that."""
        if self._spent_memory:
            self._spent_memory = False
            await asyncio.to_thread(heap.give_back)

    def _read_files(self, settings: Settings) -> Files:
        lists = lists_of(settings)
        known = self._cache, self._last_good, self._databases.refresh(settings.geo.databases)
        files = read_files(settings.cidr_dir, lists, self.saved_path, *known)
        if files.mistakes:
            raise ConfigError(
                sorted(files.mistakes, key=Mistake.place),
                hint="nothing was changed; trafficctl check names every mistake",
            )
        return files

    def _build(self, inputs: _Inputs, generation: int, now: float, *, whole: bool) -> InForce:
        forced = (*forced_by(inputs.runtime, inputs.files, now), *inputs.forced_bans)
        guard = [(part, label) for cidr, label in inputs.guard for part in left(cidr, forced)]
        allowlist = [part for cidr in inputs.settings.policy.allowlist for part in left(cidr, forced)]
        of_settings = own_of(inputs.settings) | {"allowlist": allowlist}
        policy = make_policy(inputs.files, runtime=self._runtime_rules(inputs.runtime), guard=guard, **of_settings)
        try:
            ids = self._ids.assign(policy.rules, now)
            columns = self._columns_of(policy, ids)
            table = self._compile(Source(policy, columns), generation, now, whole=whole)
        except MemoryError:
            what = f"have {len(policy.prefixes):,} prefixes, more than this machine's memory can compile"
            raise ConfigError([Mistake("all rules together", what)]) from None
        return InForce(policy, table, generation, now, ids, columns)

    def _runtime_rules(self, tables: Sequence[Table]) -> Rules:
        """Run-time rules as they are read: those of tables that all stood before are as they were."""
        before, rules = self._read
        same = next((at for at, pair in enumerate(zip(before, tables, strict=False)) if pair[0] is not pair[1]), None)
        same = min(len(before), len(tables)) if same is None else same
        rules = Rules.joined([rules.first(same), read_tables(tables[same:], "runtime", own=True)])
        if not rules.mistakes:  # else there are fewer rules than tables
            self._read = list(tables), rules
        return rules

    def _columns_of(self, policy: Policy, ids: npt.NDArray[np.uint32]) -> RuleColumns:
        """Of the rules that those in force begin with too, they are those."""
        if self.in_force is None:
            return RuleColumns.of(policy.rules, ids)
        before = self.in_force.policy
        same = common_beginning(before.rules, policy.rules, policy.begins_as(before))
        if not np.array_equal(self.in_force.rule_ids[:same], ids[:same]):
            same = 0
        return self.in_force.columns.followed_by(same, RuleColumns.of(policy.rules[same:], ids[same:]))

    def _compile(self, source: Source, generation: int, now: float, *, whole: bool) -> VerdictTable:
        """Only what is different, if that is little and all else has still the ends of then."""
        before, policy = self.in_force, source.policy
        if before and before.generation and not whole:
            args = before.table, Source(before.policy, before.columns), source, now, self._to_jiffies, generation
            table = patched(*args)
            if table is not None:
                return table
        rows = policy.prefixes, policy.owner, source.columns, policy.default
        return compile_columns(*rows, now, self._to_jiffies, generation)

"""The rules in force: reads files and run-time rules, compiles and installs them, or raises the reason why not.

A change is atomic. Reading and compiling happen in a worker thread, installing on the loop, one change at a time.
"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

from trafficmond import heap, services
from trafficmond.changes import Changes
from trafficmond.config.settings import Settings
from trafficmond.dataclass import dataclass, replace
from trafficmond.errors import ConfigError, DatapathError
from trafficmond.geo.geoip import GeoIp
from trafficmond.model import Action, Direction
from trafficmond.networks import Network
from trafficmond.policy.explain import exactly
from trafficmond.policy.leaves import RuleColumns
from trafficmond.policy.load import Files, make_policy
from trafficmond.policy.table import compile_table
from trafficmond.policy.tables import CIDR, DIRECTION, PORTS, Table, adds_nothing, has_ended, same, without
from trafficmond.ruleset import Guard, InForce, Inputs
from trafficmond.sources import Tables
from trafficmond.standing import Alter, Begin, Side
from trafficmond.verdict import Pair


@dataclass(frozen=True, slots=True)
class Done:
    """A change of the rules made by hand: the rules before it, and notes for the client."""

    before: list[Table]
    notes: list[str]
    on_probation: bool = False
    saved: int = 0  # how many of `before`, the last ones, were in the daemon's own file
    already: bool = False  # the rule was in force already: nothing changed


class Loaded(NamedTuple):
    """The rules in force before and after loading the files; the same object if nothing changed."""

    before: InForce | None
    in_force: InForce


class Rulebook(Changes):
    """Owns the policy. Use from the loop's thread only."""

    @property
    def guard(self) -> Guard:
        """The lifelines that the rules in force were compiled with."""
        return self._inputs.guard

    @property
    def geoip(self) -> GeoIp:
        return self._sources.databases.geoip

    def pairs(self) -> Mapping[int, Pair]:
        """The pairs of a shadow rule and the deciding rule, by their number in verdict words."""
        return self.standing.maker.pairs.known

    def names(self) -> Mapping[int, str]:
        """Rule id -> name, for all rules in force now or recently."""
        return self.standing.maker.ids.names()

    async def load(self, settings: Settings | None = None, begin: Begin | None = None) -> Loaded | None:
        """Reads everything again and puts it in force if new. Raises ConfigError: nothing changed, `error` is set.

        Run-time rules may change while files are read and compiled: such changes apply to the old files at once, and
        are added to the new ones when these take effect. If the settings say so, a change that cuts somebody off is
        put on probation, described by `begin`. During a probation nothing is read, and None returned.
        """
        async with self._reading:
            async with self._lock:
                if await self._is_held():
                    return None
            settings = settings or self._inputs.settings
            try:
                if begin and settings.policy.probation and (tried := await self._load_on_probation(settings, begin)):
                    return tried
                return await self._load(Inputs(settings, await self._sources.read(settings)))
            except ConfigError as error:
                self.error = error
                raise

    async def _load(self, read: Inputs) -> Loaded | None:
        alter = self._taking(read)
        async with self._lock:
            before = self.in_force
            if in_force := await self._unchanged(alter):
                return Loaded(before, in_force)
        async with self.standing.drafted(alter, staged=True) as draft, self._lock:
            if await self._is_held():
                return None
            before = self.in_force
            in_force = await self._change(alter, draft)
            self.error = None
            await self.standing.forget_refused()
            return Loaded(before, in_force)

    async def _load_on_probation(self, settings: Settings, begin: Begin) -> Loaded | None:
        """Puts the files on probation, if they shut somebody out."""
        alter = self._taking(await asyncio.to_thread(self._sources.tried, self._inputs, settings, ""))
        async with self.standing.drafted(alter) as draft, self._lock:
            if await self._is_held() or not (within := await self._caution(alter, settings, draft)):
                return None
            before = self.in_force
            in_force = await self._try_out(alter, replace(begin, within_s=within), draft, files=True)
            self.error = None
            return Loaded(before, in_force)

    async def _is_held(self) -> bool:
        self.standing.expire_probation()
        await self._recall()
        return bool(self.standing.base and self.in_force)

    async def _unchanged(self, alter: Alter) -> InForce | None:
        """The rules in force, if the files and all other inputs are still the same."""
        inputs = await asyncio.to_thread(alter, self._inputs)
        now, files, in_force = self._inputs, inputs.files, self.in_force
        if self.standing.base or not in_force or not in_force.generation or in_force.any_ended(time.time()):
            return None
        if not self._same(inputs) or self.standing.guard(inputs.settings) != now.guard:
            return None
        if files.notes != now.files.notes:
            notes = (*files.notes, *in_force.policy.notes[len(now.files.notes) :])  # its own, and those of the files
            in_force = replace(in_force, policy=replace(in_force.policy, notes=notes))
        self.standing.put(Side(inputs, in_force))
        self.error = None
        await self.standing.forget_refused()
        return in_force

    async def refresh(self) -> None:
        """Recompiles the rules in force with the current lifelines. Rules of the last run are unknown and stay as they
        are. Raises ConfigError, DatapathError."""
        async with self._lock:
            if self.in_force and self.in_force.generation:
                await self._change(lambda inputs: inputs)

    def shift(self, seconds: float) -> None:
        """Moves the ends of rules made by hand after the wall clock was stepped; in force with the next change."""
        self.standing.jump += seconds

    async def apply_clock_step(self) -> None:
        """Recompiles the rules if the wall clock was stepped, so that they agree with the kernel. Never raises."""
        if self.standing.jump:
            async with self._lock:
                if self.standing.jump and self.in_force and self.in_force.generation:
                    with contextlib.suppress(ConfigError, DatapathError):  # it will be tried again
                        await self._change(lambda inputs: inputs)

    async def expire_rules(self, now: float) -> bool:
        """Removes rules made by hand and saved rules that have ended by `now` (epoch s), and their exceptions from the
        guard. Returns whether there were any. Raises ConfigError, DatapathError."""
        async with self._lock:
            in_force = self.in_force
            if not in_force or not in_force.any_ended(now) or self.standing.base:  # the kernel ends them anyway
                return False
            inputs = self._inputs

            def lasting(tables: list[Table]) -> list[Table]:
                return [table for table in tables if not has_ended(table, now)]

            if any(rule.expires and rule.expires <= now for part in inputs.files.saved for rule in part.rules):
                inputs = replace(inputs, files=await self._sources.rewritten(inputs.files, lasting))
            await self._change(lambda _: inputs)
            await self._keep()
            return True

    async def start_empty(self) -> None:
        """Starts without a policy, for a daemon whose files are broken: the kernel keeps its rules."""
        await self._recall()
        policy = make_policy(Files(), default=Action.parse(self._inputs.settings.policy.default))
        numbered = self.standing.maker.ids.number(policy.rules, time.time())
        table = compile_table(policy, numbered.numbers, time.time(), self._clock.to_jiffies)
        columns = RuleColumns.of(policy.rules, numbered.numbers)
        self.standing.put(Side(self._inputs, InForce(policy, table, 0, time.time(), numbered, columns)))

    async def force_bans(self, networks: Collection[Network]) -> None:
        """Excludes exactly these prefixes from the guard and the allowlist, for forced bans."""
        async with self._lock:
            forced = frozenset(networks)
            if self.in_force is None:
                self._take(replace(self._inputs, forced_bans=forced))  # used when the first rules are compiled
            elif forced != self._inputs.forced_bans:
                await self._change(lambda inputs: replace(inputs, forced_bans=forced))

    async def add(self, table: Table, *, keep: bool, begin: Begin | None = None) -> Done:
        """Puts a rule in force in place of the run-time one on its prefix, direction, ports. `keep`: over restarts too.

        While a rule with `force` lasts, guard and allowlist do not protect its prefix. With `begin` it may be on
        probation. A rule that is in force already changes nothing. Raises ConfigError, OSError: then nothing changed.
        """
        place = {PORTS: [], **table}

        def others(tables: list[Table]) -> list[Table]:
            return without(tables, place)

        def with_it(tables: list[Table]) -> list[Table]:
            return [*without(tables, place), table]

        async with self._lock:
            await self._recall()
            runtime, saved = self._inputs.runtime, await self._sources.saved() if keep else []
            before = [each for each in [*saved, *runtime] if same(each, place)]
            if await self._is_so(table, saved, before, keep=keep):
                return Done(before, [], already=True)
            how = (others, with_it) if keep else (with_it, None)
            return Done(before, *await self._by_hand_change(begin, *how))

    async def _is_so(self, table: Table, saved: list[Table], before: list[Table], *, keep: bool) -> bool:
        """Whether a rule is in force as requested, and kept if requested; False on probation."""
        in_force, ports = self.in_force, table.get(PORTS, [])
        if self.standing.base or not in_force or not in_force.generation:
            return False
        rules = (in_force.policy.rules[index] for index in exactly(in_force.policy, table[CIDR]))
        on = {
            rule.path for rule in rules if str(rule.action) == table["action"] and services.text(rule.services) == ports
        }
        kept = str(self.saved_path) in on  # the file's present rules need not be in force
        if keep:
            return kept and adds_nothing(table, saved) and len(before) == 1
        saved = await self._sources.saved() if kept else []
        return bool(on) and adds_nothing(table, [*saved, *self._inputs.runtime])

    async def remove(
        self,
        cidr: str,
        direction: Direction | None,
        ports: list[str] | None = None,
        *,
        saved: bool,
        begin: Begin | None = None,
    ) -> Done:
        """Removes the run-time rules on exactly this prefix; `saved`: saved ones too; `ports`: only for these services.
        `before` has the removed rules, [] if there were none. Raises ConfigError or OSError: then nothing changed."""
        wanted: Table = {CIDR: cidr} if direction is None else {CIDR: cidr, DIRECTION: str(direction)}
        wanted |= {} if ports is None else {PORTS: ports}

        def others(tables: list[Table]) -> list[Table]:
            return without(tables, wanted)

        async with self._lock:
            await self._recall()
            runtime, kept = self._inputs.runtime, await self._sources.saved() if saved else []
            removed = [table for table in [*runtime, *kept] if same(table, wanted)]
            if not removed:
                return Done([], [])
            of_saved = sum(same(table, wanted) for table in kept)
            return Done(removed, *await self._by_hand_change(begin, others, others if of_saved else None), of_saved)

    async def _by_hand_change(
        self, begin: Begin | None, runtime: Tables, saved: Tables | None
    ) -> tuple[list[str], bool]:
        """Changes run-time rules, and those in the daemon's own file. Returns notes for the client, and whether the
        change is on probation. Raises the same errors as `add`."""
        on_disk = await self._sources.saved() if saved else []

        def alter(inputs: Inputs) -> Inputs:
            inputs = replace(inputs, runtime=runtime(list(inputs.runtime)))
            if saved is None:
                return inputs
            return self._sources.with_saved(inputs, saved(list(on_disk if inputs.saved is None else inputs.saved)))

        within = begin and (begin.within_s or await self._caution(alter, self._inputs.settings))
        if begin and within:
            await self._try_out(alter, replace(begin, within_s=within), None)
            return [], True
        if saved is None:
            await self._change(alter)
        else:
            await self._save_and_change(alter, on_disk, saved(list(on_disk)))
        return await self._keep(), False

    async def is_saved(self, cidr: str, ports: list[str] | None = None) -> bool:
        """Whether the daemon's own file has a rule on exactly this prefix, with `ports` for exactly these services."""
        wanted: Table = {CIDR: cidr} | ({} if ports is None else {PORTS: ports})
        return any(same(table, wanted) for table in await self._sources.saved())

    async def _save_and_change(self, alter: Alter, before: list[Table], saved: list[Table]) -> None:
        """Does the same as `_change` and writes these rules to the daemon's own file; both or neither."""
        there = await self._sources.save(saved)
        try:

            def change(inputs: Inputs) -> Inputs:
                if inputs.saved is not None:  # on probation, with other saved rules
                    return alter(inputs)
                return replace(alter(inputs), files=self._sources.with_own(inputs.files, there), saved=None)

            await self._change(change)
        except BaseException:  # invalid rules, a refusal of the kernel, or the daemon stops
            await self._sources.save(before)
            raise

    async def release_memory(self) -> None:
        """Returns memory freed by compiling to the system, in the background."""
        if self._spent_memory:
            self._spent_memory = False
            await asyncio.to_thread(heap.give_back)

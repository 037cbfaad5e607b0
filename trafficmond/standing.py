"""The confirmed rules and those on probation, and how they come into the kernel and leave it.

The kernel uses rules on probation until a deadline, and then the confirmed ones, unless somebody confirms the new
rules. A change in between changes both.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from trafficmond.config.settings import Settings
from trafficmond.dataclass import dataclass, replace
from trafficmond.datapath.datapath import Datapath
from trafficmond.errors import DatapathError, TrafficmonError
from trafficmond.part_options import switched
from trafficmond.policy import trial
from trafficmond.policy.trial import Kept, Trial
from trafficmond.ruleset import Guard, InForce, Inputs, Maker

TRIAL_NAME = "probation.json"  # in state_dir
BEGUN, CONFIRMED, ROLLED_BACK, RAN_OUT, RESET = "begun", "confirmed", "rolled back", "ran out", "reset"
_SAME_S = 5.0  # tolerance between the kernel's end of a probation and the stored one
_UNKNOWN = "a change that an earlier daemon made"
_LONGEST_TEXT = 300  # characters
_LOOK = "see trafficctl status"

Alter = Callable[[Inputs], Inputs]


@dataclass(frozen=True, slots=True)
class Begin:
    """The author of a change, its description, and the duration of its probation; 0: only if necessary."""

    user: str
    what: str
    within_s: float = 0.0


class Side(NamedTuple):
    inputs: Inputs
    in_force: InForce | None


class Made(NamedTuple):
    inputs: Inputs
    in_force: InForce


def recalled(settings: Settings) -> tuple[Settings, Kept, str]:
    """The settings to start with, the last daemon's record of a probation, and the error of reading it, in words. If
    the present files are refused, the settings have the confirmed rules."""
    path = settings.state_dir / TRIAL_NAME
    try:
        kept = trial.read(path)
        refused = kept.refused and trial.fingerprint(settings) == kept.refused
        return trial.last_in_force(settings) if refused else settings, kept, ""
    except (OSError, ValueError) as error:
        why = f"{getattr(error, 'strerror', '') or error}"
        warning = f"cannot read the rules that were confirmed last ({path}: {why}); the files are in force as they are"
        return settings, Kept(), warning


def _together(before: str, what: str) -> str:
    """The description of a probation after another change: all changes, or the first and the latest of many."""
    if not before or what in before.split(", "):
        return before or what
    joined = f"{before}, {what}"
    return joined if len(joined) <= _LONGEST_TEXT else f"{before.partition(', ')[0]}, ..., {what}"


class Standing:
    """Owns both. One change at a time; the caller holds the lock."""

    def __init__(self, settings: Settings, datapath: Datapath, guard: Callable[[Settings], Guard]) -> None:
        self.now = Side(Inputs(settings), None)  # the rules that the kernel uses
        self.base: Side | None = None  # during a probation: the confirmed rules
        self.kept = Kept()
        self.error = ""  # error of storing or reading a probation
        self.notify: Callable[[Trial, str], object] = lambda _trial, _turn: None  # at a begin or end
        self.disk = ""  # the fingerprint of the files when the probation began
        self.jump = 0.0  # step of the wall clock not yet applied to rules made by hand
        self.maker = Maker(datapath.clock.to_jiffies)
        self._drafting = False
        self._written = Kept()
        self._path = settings.state_dir / TRIAL_NAME
        self._datapath = datapath
        self.guard = guard

    @property
    def confirmed(self) -> Side:
        """The confirmed rules, in force when there is no probation."""
        return self.base or self.now

    @property
    def trial(self) -> Trial | None:
        """The present probation, whoever began it."""
        until = self._datapath.on_trial_until
        if until is None or until <= time.time():
            return None
        return replace(self.kept.trial or Trial("", _UNKNOWN, 0.0, until), until=until)

    def put(self, now: Side, base: Side | None = None) -> None:
        """Records the rules in force: the kernel uses `now`."""
        self.now, self.base = now, base
        if sets := [side.in_force for side in (base, now) if side and side.in_force]:
            self.maker.use(sets, time.time(), drafting=self._drafting)

    async def made(self, side: Side, alter: Alter, draft: Made | None = None) -> Made:
        """Compiles an altered side, from a draft if there is one. Raises ConfigError."""
        jump, now = self.jump, time.time()
        inputs = await asyncio.to_thread(alter, side.inputs)
        inputs = inputs.at(now, jump, self.guard(inputs.settings))
        generation = self._next_generation()
        if draft and draft.inputs == inputs and draft.in_force.generation == generation and not jump:
            return draft
        before, make = draft.in_force if draft else side.in_force, self.maker.make
        return Made(inputs, await asyncio.to_thread(make, inputs, before, generation, now, whole=bool(jump)))

    def _next_generation(self) -> int:
        return self.now.in_force.generation + 1 if self.now.in_force else 1

    async def preview(self, alter: Alter, draft: Made | None) -> InForce:
        """Compiles altered rules without changing those in force. Raises ConfigError."""
        in_force = self.now.in_force
        return (await self.made(Side(self.now.inputs, in_force and in_force.apart()), alter, draft)).in_force

    @asynccontextmanager
    async def drafted(self, alter: Alter, *, staged: bool = False) -> AsyncIterator[Made | None]:
        """A draft of the rules altered by `alter`, compiled while others may change the rules in force. Within the
        block, `change` (if `staged`) or `try_out` completes it with later changes and puts it in force; None: a draft
        is not possible, or would save no time. Raises ConfigError, DatapathError."""
        before, jump, now = self.now, self.jump, time.time()
        if before.in_force is None or jump:
            yield None
            return
        self._drafting = True
        try:
            inputs = await asyncio.to_thread(alter, before.inputs)
            inputs = inputs.at(now, jump, self.guard(inputs.settings))
            made, args = None, (inputs, before.in_force)
            if not await asyncio.to_thread(self.maker.is_near, *args, now):
                # Compiled as a whole, since the table in force may be changed in place meanwhile.
                made = await asyncio.to_thread(self.maker.make, *args, self._next_generation(), now, whole=True)
            if made and staged:
                words = await asyncio.to_thread(self._datapath.tables.stage, made.table.words)
                made = replace(made, table=replace(made.table, words=words, live=True))
            yield Made(inputs, made) if made else None
        finally:
            self._drafting = False
            self._datapath.tables.unstage()
            self.put(self.now, self.base)

    async def change(self, alter: Alter, draft: Made | None = None) -> InForce:
        """Recompiles the rules with inputs changed by `alter`; during a probation, both the confirmed rules and those
        on probation, which are then stored. Raises ConfigError, DatapathError: then nothing changed."""
        self.expire_probation()
        base = await self.made(self.base, alter) if self.base else None
        inputs, new = await self.made(self.now, alter, draft)
        if base is None:
            new = self._installed(new)
            self.put(Side(inputs, new))
            return new
        self._put_on_trial(new, inputs.settings)
        try:
            confirmed = Side(base.inputs, self._installed(base.in_force))
        except DatapathError:
            if self.now.in_force:
                self._put_on_trial(self.now.in_force, self.now.inputs.settings)
            raise
        self.put(Side(inputs, new), confirmed)
        known = self.kept.trial
        if known and (known.runtime, known.saved) != (inputs.runtime, inputs.saved):
            await self.keep(replace(self.kept, trial=replace(known, runtime=inputs.runtime, saved=inputs.saved)))
        return new

    def _put_on_trial(self, tried: InForce, settings: Settings, until: float | None = None) -> None:
        self._datapath.try_out(tried.table.words, switched(self._datapath.options, settings), until)

    def _installed(self, new: InForce) -> InForce:
        table, before = new.table, self.confirmed.in_force
        if table.edit:
            table.edit.apply(table.words)
            if before and before.table.words is table.words:  # otherwise they are staged
                return new
        return replace(new, table=replace(table, words=self._datapath.tables.put(table.words), live=True))

    async def try_out(
        self, alter: Alter, begin: Begin, draft: Made | None, *, files: bool, folder: str, place: str
    ) -> InForce:
        """Puts the rules altered by `alter` on probation. `files`: with those that settings name, or those of `folder`,
        whose place is `place` once confirmed. Raises ConfigError, DatapathError: then nothing changed."""
        self.expire_probation()
        ours, in_force = self.now
        if in_force is None or not in_force.generation:
            what = (
                "nothing can be on probation: the files have mistakes, and the rules in force are those of the last run"
            )
            raise TrafficmonError(what, hint="correct the files first: trafficctl check")
        inputs, made = await self.made(Side(ours, in_force.apart()), alter, draft)
        before, last = self.kept, self.kept.trial or Trial("", "", 0.0, 0.0)
        tried = await asyncio.to_thread(trial.fingerprint, inputs.settings, inputs.instead) if files else last.tried
        now = time.time()
        folder, place = (folder, place) if files else (last.folder, last.place)
        what = begin.what if files or not self.base else _together(last.what, begin.what)
        until = now + begin.within_s
        hand, ends = (inputs.runtime, inputs.saved), self._datapath.clock.to_jiffies(until)
        planned = Trial(begin.user, what, now, until, tried, folder, *hand, place, ends)
        refused = tried if files and not folder else before.refused
        await self.keep(Kept(planned, refused))
        try:
            self._put_on_trial(made, inputs.settings, planned.until)
        except DatapathError:
            await self.keep(before)
            raise
        if self.base is None:
            self.disk = await asyncio.to_thread(trial.fingerprint, ours.settings)
        self.put(Side(inputs, made), self.confirmed)
        self.notify(planned, BEGUN)
        return made

    async def resume(self, alter: Alter) -> None:
        """Continues an earlier daemon's probation of rules altered by `alter`. Raises ConfigError, DatapathError."""
        confirmed = self.now
        inputs, made = await self.made(Side(confirmed.inputs, confirmed.in_force and confirmed.in_force.apart()), alter)
        self._put_on_trial(made, inputs.settings)
        self.put(Side(inputs, made), confirmed)
        self.disk = await asyncio.to_thread(trial.fingerprint, confirmed.inputs.settings)

    def known_trial(self) -> Trial:
        """The probation that can be confirmed. Raises TrafficmonError if there is none."""
        self.expire_probation()
        known = self.trial
        if known is None:
            raise TrafficmonError("nothing is on probation", hint=_LOOK)
        if self.base is None:
            what = "it is unknown what is on probation: an earlier daemon started it, and it cannot be read"
            raise TrafficmonError(what, hint="take it back with trafficctl rollback, and make the change again")
        return known

    async def confirm(self) -> Inputs:
        """Confirms the rules on probation. Raises DatapathError: then the probation continues."""
        known, (inputs, in_force) = self.known_trial(), self.now
        assert in_force is not None
        self._datapath.confirm(in_force.table.words, switched(self._datapath.options, inputs.settings))
        self.put(Side(replace(inputs, saved=None), in_force))
        await self.keep(Kept())
        self.notify(known, CONFIRMED)
        return inputs

    async def roll_back(self) -> Trial:
        """Puts the confirmed rules in force again. Raises TrafficmonError if nothing is on probation."""
        self.expire_probation()
        known = self.trial
        if known is None:
            raise TrafficmonError("nothing is on probation", hint=_LOOK)
        self._take_back(known, ROLLED_BACK)
        await self.keep(self.kept)
        return known

    def expire_probation(self) -> bool:
        """Whether a probation has ended by itself since the last call; then the confirmed rules are in force."""
        if self._datapath.on_trial_until is None:
            return False
        self._datapath.clock.calibrate()
        until = self._datapath.on_trial_until
        if until is None or until > time.time():
            return False
        self._take_back(self.kept.trial or Trial("", _UNKNOWN, 0.0, until), RAN_OUT)
        return True

    def _take_back(self, known: Trial, turn: str) -> None:
        self._datapath.roll_back()
        now = self.now
        if self.base and self.base.in_force and self.now.in_force:
            now = Side(self.base.inputs, replace(self.base.in_force, generation=self._next_generation()))
        self.put(now)
        self.kept = replace(self.kept, trial=None)
        if not self.kept.refused:
            self.kept = Kept()
        self.notify(known, turn)

    def recall(self, kept: Kept, error: str) -> None:
        """Restores the last daemon's probation, if the kernel still has it."""
        self.kept, self._written, self.error = kept, kept, error
        until = self._datapath.on_trial_until
        if kept.trial and (until is None or not self._is_that(kept.trial, until)):
            self.kept = replace(kept, trial=None)
        if kept.trial and until is None:
            self.notify(kept.trial, RESET)

    def _is_that(self, known: Trial, until: float) -> bool:
        """Whether the kernel's probation, which ends at `until`, is this one. The wall clock may have been stepped."""
        if not known.ends:
            return abs(until - known.until) <= _SAME_S
        first, last = map(self._datapath.clock.to_jiffies, (until - _SAME_S, until + _SAME_S))
        return first <= known.ends <= last

    async def forget_refused(self) -> None:
        """Clears the refusal of files, once other files are in force."""
        if self.kept.refused:
            await self.keep(Kept(self.kept.trial))

    async def store_end(self) -> None:
        """Stores the end of a probation, in the background."""
        if self._written != self.kept:
            await self.keep(self.kept)

    async def keep(self, kept: Kept) -> None:
        """Stores a probation for the next daemon; on failure `error` has the error."""
        self.kept, self.error = kept, ""
        try:
            await asyncio.to_thread(trial.keep, self._path, kept)
            self._written = kept
        except OSError as error:
            self.error = (
                f"a restart would not know what is on probation or refused: {self._path} cannot be written "
                f"({error.strerror or error})"
            )

"""Changes of the rules, one at a time and atomic: in force, or on probation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trafficmond.config.load import load_settings
from trafficmond.config.settings import Settings
from trafficmond.errors import ConfigError
from trafficmond.policy.byhand import ByHand
from trafficmond.policy.load import Files
from trafficmond.policy.sources import own_of
from trafficmond.policy.tables import begun_by, moved
from trafficmond.ruleset import Guard, InForce, Inputs
from trafficmond.sources import Sources
from trafficmond.standing import Alter, Begin, Made, Standing

if TYPE_CHECKING:
    from trafficmond.datapath.datapath import Datapath

_MANY_PREFIXES = 50_000  # compiling so many frees memory worth returning to the system
BY_HAND_NAME = "rules-by-hand.jsonl"  # in state_dir


class Changes:
    """The common part of all changes of rules. Putting one in force takes the lock; reading and compiling files does
    not."""

    def __init__(self, settings: Settings, datapath: Datapath, guard: Callable[[Settings], Guard]) -> None:
        """`guard` looks up this host's lifelines, at each change, since they may be different by then. The clock of the
        data path is calibrated before ends are checked, which may `shift` rules that last for a duration."""
        self.standing = Standing(settings, datapath, guard)
        self._clock = datapath.clock
        self._sources = Sources(settings.state_dir)
        self._by_hand = ByHand(settings.state_dir / BY_HAND_NAME)
        self._recalled = False
        self._spent_memory = False
        self._lock = asyncio.Lock()
        self._reading = asyncio.Lock()  # held while files are read, which may take long; taken before the other
        self.shuts: Callable[[InForce, InForce], str] = lambda _before, _after: ""  # who a change shuts out, in words
        self.settings_of: Callable[[Path | None], Settings] = load_settings  # reads a file; None: the usual
        self.error: ConfigError | None = None  # why the files on disk are not in force
        self.trouble = ""  # with the stored rules by hand
        self.unkept = ""  # why the rules in force are not kept for a start whose files have mistakes
        self.keeping = asyncio.Lock()  # held while the disk is waited for
        self._kept: Inputs | None = None  # those that are

    @property
    def in_force(self) -> InForce | None:
        """The rules that the kernel uses."""
        return self.standing.now.in_force

    @property
    def _inputs(self) -> Inputs:
        return self.standing.now.inputs

    def _take(self, inputs: Inputs) -> None:
        """Sets the inputs of later rules, without compiling any."""
        self.standing.put(self.standing.now._replace(inputs=inputs), self.standing.base)

    async def _recall(self) -> None:
        """Restores the rules by hand of the last run that have not ended."""
        if not self._recalled:
            now = time.time()
            runtime, self.trouble = await asyncio.to_thread(self._by_hand.read, now)
            self._take(replace(self._inputs, runtime=runtime))
            await self._sources.rewritten(Files(), lambda tables: [begun_by(table, now) for table in tables])
            self._recalled = True

    async def keep_in_force(self) -> None:
        """Keeps the confirmed rules for a start whose files have mistakes, unless they are kept already."""
        async with self.keeping:
            (inputs, in_force), kept = self.standing.confirmed, self._kept
            if not in_force or not in_force.generation or inputs.files.copies is None:
                return
            if kept and kept.files.copies is inputs.files.copies and kept.settings is inputs.settings:
                return
            try:
                await self._sources.keep(inputs, self.settings_of)
            except OSError as error:
                self.unkept = (
                    "if files have mistakes at the next start, the rules in force would not be known: "
                    f"{error.filename or inputs.settings.state_dir}: {error.strerror or error}"
                )
            else:
                self._kept, self.unkept = inputs, ""

    async def _keep(self) -> list[str]:
        """Stores the rules by hand that have an end for the next start. Returns the error in words, if there is one."""
        try:
            await asyncio.to_thread(self._by_hand.keep, self.standing.confirmed.inputs.runtime)
        except OSError as error:
            why = f"{self._inputs.settings.state_dir / BY_HAND_NAME}: {error.strerror or error}"
            self.trouble = f"rules by hand would not outlive a restart ({why})"
            return [f"in force, but only until the next restart ({why})"]
        self.trouble = ""
        return []

    async def _change(self, alter: Alter, draft: Made | None = None) -> InForce:
        self._clock.calibrate()
        jump = self.standing.jump
        new = await self.standing.change(alter, draft)
        if jump:
            self.standing.jump -= jump
            if not self.standing.base:
                files = await self._sources.rewritten(
                    self._inputs.files, lambda tables: [moved(table, jump) for table in tables]
                )
                self._take(replace(self._inputs, files=files))
            await self._keep()
        self._spent_memory |= len(new.policy.prefixes) > _MANY_PREFIXES
        return new

    async def _try_out(
        self, alter: Alter, begin: Begin, draft: Made | None, *, files: bool = False, folder: str = "", place: str = ""
    ) -> InForce:
        self._clock.calibrate()
        if self.standing.jump:
            await self._change(lambda inputs: inputs)
        await self.keep_in_force()
        made = await self.standing.try_out(alter, begin, draft, files=files, folder=folder, place=place)
        self.standing.error = self.standing.error or self.unkept
        return made

    async def _caution(self, alter: Alter, settings: Settings, draft: Made | None = None) -> float:
        """The duration of the probation of a change that shuts somebody out; 0: none needed."""
        in_force = self.in_force
        if not settings.policy.probation or in_force is None or not in_force.generation:
            return 0.0
        return settings.policy.probation if self.shuts(in_force, await self.standing.would(alter, draft)) else 0.0

    def _same(self, inputs: Inputs) -> bool:
        now = self._inputs
        return inputs.files.same_rules(now.files) and own_of(inputs.settings) == own_of(now.settings)

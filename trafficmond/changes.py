"""Changes of the rules, one at a time and atomic: in force, or on probation."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from trafficmond.config.load import holds_settings, load_settings
from trafficmond.config.settings import Settings
from trafficmond.dataclass import replace
from trafficmond.datapath.datapath import Datapath
from trafficmond.errors import ConfigError, Mistake, TrafficmonError
from trafficmond.files import is_file
from trafficmond.policy.byhand import ByHand
from trafficmond.policy.load import Files
from trafficmond.policy.sources import own_of
from trafficmond.policy.tables import begun_by, moved
from trafficmond.policy.trial import Trial, fingerprint, in_folder, place_of
from trafficmond.ruleset import Guard, InForce, Inputs
from trafficmond.sources import Sources
from trafficmond.standing import Alter, Begin, Made, Standing

_MANY_PREFIXES = 50_000  # compiling so many frees memory worth returning to the system
BY_HAND_NAME = "rules-by-hand.jsonl"  # in state_dir
REFUSED = (
    "nobody confirmed these files while they were on probation: the rules confirmed before are in force; "
    "change the files, or try them again with trafficctl apply"
)


class Changes:
    """The common part of all changes of rules. Putting one in force takes the lock; reading files does not."""

    def __init__(self, settings: Settings, datapath: Datapath, guard: Callable[[Settings], Guard]) -> None:
        """`guard` looks up this host's lifelines, at each change, since they may be different by then. The clock of the
        data path is calibrated before ends are checked, which may `shift` rules that last for a duration."""
        self.standing = Standing(settings, datapath, guard)
        self._clock = datapath.clock
        self._sources = Sources(settings.state_dir)
        self._by_hand = ByHand(settings.state_dir / BY_HAND_NAME)
        self._recalled = self._unstored = False
        self._spent_memory = False
        self._lock = asyncio.Lock()
        self._reading = asyncio.Lock()  # held while files are read, which may take long; taken before the other
        self.cuts_off: Callable[[InForce, InForce], str] = lambda _before, _after: ""  # who a change cuts off, as text
        self.settings_of: Callable[[Path | None], Settings] = load_settings  # reads a file; None: the usual
        self.error: ConfigError | None = None  # why the files on disk are not in force
        self.trouble = ""  # with the stored rules made by hand
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
        """Stores the rules made by hand that have an end, for the next start. Returns the error in words, if any."""
        try:
            await asyncio.to_thread(self._by_hand.keep, self.standing.confirmed.inputs.runtime)
        except OSError as error:
            self._unstored = True
            why = f"{self._inputs.settings.state_dir / BY_HAND_NAME}: {error.strerror or error}"
            self.trouble = f"a restart would lose the rules made by hand ({why})"
            return [f"in force, but only until the next restart ({why})"]
        self._unstored, self.trouble = False, ""
        return []

    async def keep_again(self) -> None:
        """Stores the rules made by hand if that failed: the disk may work by now."""
        if self._unstored:
            async with self._lock:
                await self._keep()

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
        """The duration of the probation of a change that cuts somebody off; 0: none needed."""
        in_force = self.in_force
        if not settings.policy.probation or in_force is None or not in_force.generation:
            return 0.0
        return settings.policy.probation if self.cuts_off(in_force, await self.standing.preview(alter, draft)) else 0.0

    def _same(self, inputs: Inputs) -> bool:
        now = self._inputs
        return inputs.files.same_rules(now.files) and own_of(inputs.settings) == own_of(now.settings)

    @property
    def saved_path(self) -> Path:
        """The file in which `add-cidr --save` keeps rules."""
        return self._sources.own

    def _taking(self, read: Inputs) -> Alter:
        """An alteration that uses the files and settings as read, and the daemon's own file as it is then."""

        def alter(inputs: Inputs) -> Inputs:
            files = self._sources.up_to_date(read.files)
            return replace(inputs, settings=read.settings, files=files, instead=read.instead)

        return alter

    async def refusal(self, settings: Settings) -> tuple[str, bool]:
        """Why the present files of `settings` are refused, in words ("": they are not), and whether that is new."""
        on_trial, refused = self.standing.trial, self.standing.kept.refused
        if not on_trial and not refused:
            return "", False
        now = await asyncio.to_thread(fingerprint, settings)
        if on_trial and now in (refused, on_trial.tried):
            return "the files are on probation as they are: trafficctl confirm keeps them", False
        if on_trial and now != self.standing.disk:
            return "the files have changed; they are read when the probation is over", True
        return (REFUSED, False) if now == refused else ("", False)

    async def load_confirmed(self, settings: Settings) -> None:
        """Starts with the rules that were in force last (`last_in_force`) instead of the files. Raises ConfigError."""
        async with self._reading, self._lock:
            await self._recall()
            files = await asyncio.to_thread(self._sources.last_good, settings)
            await self._change(lambda inputs: replace(inputs, settings=settings, files=files))

    async def try_files(self, settings: Settings, folder: str, begin: Begin) -> InForce | None:
        """Puts the files that `settings` name on probation. `folder`, if given, replaces `cidr_dir`; a rules file
        replaces the one of its name; a settings file replaces the confirmed settings. Returns None if these rules are
        in force already. Raises ConfigError, DatapathError: then nothing changed."""
        async with self._reading:
            async with self._lock:
                await self._recall()
            alter = self._taking(await asyncio.to_thread(self._sources.tried, self._inputs, settings, folder))
            async with self.standing.drafted(alter) as draft, self._lock:
                same = not folder or settings.source == Path(folder)  # rules files keep their place
                if same and not self.standing.base and self._same(await asyncio.to_thread(alter, self._inputs)):
                    return None
                confirmed = self.standing.confirmed.inputs.settings
                place = str(place_of(folder, settings, confirmed)) if folder else ""
                in_force = await self._try_out(alter, begin, draft, files=True, folder=folder, place=place)
                self.error = None
                return in_force

    async def resume(self, settings: Settings) -> None:
        """Continues a probation that an earlier daemon began, with the files that `settings` name, or those of a
        settings file on probation. Raises ConfigError, DatapathError if the rules on probation cannot be determined; in
        the kernel the probation continues."""
        async with self._reading, self._lock:
            known = self.standing.kept.trial
            if known is None or self.standing.trial is None:
                return
            last: Trial = known

            def alter(inputs: Inputs) -> Inputs:
                if last.tried:
                    path = Path(last.folder)
                    named = self.settings_of(path) if last.folder and holds_settings(path) else settings
                    inputs = self._sources.tried(inputs, named, last.folder)
                    if fingerprint(inputs.settings, inputs.instead) != last.tried:
                        where = last.folder or str(settings.cidr_dir)
                        raise ConfigError([Mistake(where, "no longer has what is on probation")])
                inputs = replace(inputs, runtime=last.runtime, saved=last.saved)
                return inputs if last.saved is None else self._sources.with_saved(inputs, list(last.saved))

            await self.standing.resume(alter)

    async def confirm(self) -> list[str]:
        """Confirms the rules on probation. Returns errors of storing them, in words. Raises TrafficmonError if there is
        no probation, or its rules are unknown, DatapathError: then it continues."""
        async with self._lock:
            known = self.standing.known_trial()
            if known.folder and not await asyncio.to_thread(self._installed, known):
                what = f"{known.place} is not the same as {known.folder}, which was applied and is on probation"
                hint = "run sudo trafficctl confirm, which copies it there; if it has changed since, apply it again"
                raise TrafficmonError(what, hint=hint)
            inputs = await self.standing.confirm()
            notes = await self._keep()
            if inputs.saved is not None:
                try:
                    await self._sources.save(list(inputs.saved))
                except OSError as error:
                    notes.append(f"in force, but {self.saved_path} cannot be written: {error.strerror or error}")
            return notes

    def _installed(self, known: Trial) -> bool:
        """Whether the folder or file on probation has been moved to its place."""
        if self._inputs.settings.source == Path(known.folder):
            place = Path(known.place)
            return is_file(place) and fingerprint(self.settings_of(place)) == known.tried
        there = in_folder(self._inputs.settings, self.standing.confirmed.inputs.settings.cidr_dir)
        return fingerprint(there) == known.tried

    async def roll_back(self) -> Trial:
        """Puts the confirmed rules in force again. Raises TrafficmonError if nothing is on probation."""
        async with self._lock:
            return await self.standing.roll_back()

    async def expire_probation(self) -> bool:
        """Whether a probation has ended by itself since the last call."""
        async with self._lock:
            lapsed = self.standing.expire_probation()
            await self.standing.store_end()
            return lapsed

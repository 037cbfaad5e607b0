"""Files of rules on probation, until they are confirmed or rolled back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from trafficmond.changes import Changes
from trafficmond.config.load import holds_settings
from trafficmond.config.settings import Settings
from trafficmond.errors import ConfigError, Mistake, TrafficmonError
from trafficmond.files import is_file
from trafficmond.policy.trial import Trial, fingerprint, in_folder, place_of
from trafficmond.ruleset import InForce, Inputs
from trafficmond.standing import Alter, Begin

REFUSED = (
    "nobody confirmed these files while they were on probation: the rules confirmed before are in force; "
    "change the files, or try them again with trafficctl apply"
)


class Tryouts(Changes):
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

    async def holds(self, settings: Settings) -> tuple[str, bool]:
        """The reason why the present files of `settings` are refused, in words ("": they are not), and whether it is
        new."""
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
                return inputs if last.saved is None else self._sources.holding(inputs, list(last.saved))

            await self.standing.resume(alter)

    async def confirm(self) -> list[str]:
        """Confirms the rules on probation. Returns errors of storing them, in words. Raises TrafficmonError if there is
        no probation, or its rules are unknown, DatapathError: then it continues."""
        async with self._lock:
            known = self.standing.known_trial()
            if known.folder and not await asyncio.to_thread(self._installed, known):
                what = f"{known.place} does not hold what is on probation, which is {known.folder}"
                raise TrafficmonError(what, hint="trafficctl confirm puts it there; use sudo if it may not")
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
            await self.standing.settle()
            return lapsed

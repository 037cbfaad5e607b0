"""Rule files: the administrator's, which are only read, and the daemon's own. The latter has the rules that
`trafficctl add-cidr --save` keeps, and is written atomically."""

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trafficmond.config.settings import Settings
from trafficmond.dataclass import replace
from trafficmond.errors import ConfigError, Mistake
from trafficmond.files import is_folder, mode, read
from trafficmond.files import replace as replace_file
from trafficmond.geo.reading import Databases
from trafficmond.policy.collect import Cache, is_rules_file
from trafficmond.policy.lastgood import LAST_GOOD_NAME, KeptSet, LastGood
from trafficmond.policy.load import Files, read_files, read_last_good, read_own_file
from trafficmond.policy.readers import read_own
from trafficmond.policy.rulefile import read_rule_tables
from trafficmond.policy.rules import Rules
from trafficmond.policy.sources import SAVED_NAME, lists_of
from trafficmond.policy.tables import Table
from trafficmond.policy.trial import in_folder, rule_settings
from trafficmond.ruleset import Inputs

_HEADING = """\
# Written by trafficmond: the rules of "trafficctl add-cidr --save". Use trafficctl to change them;
# comments and order are not kept. Rules of your own belong in another file of cidr.d.
"""


def read_saved(path: Path) -> list[dict[str, Any]]:
    """The tables in `path`, for `save` to write back changed; none if there is no file. Raises OSError, or ConfigError
    if the file has mistakes, so that saving does not lose its content."""
    try:
        data = read(path)
    except FileNotFoundError:
        return []
    mistakes = read_own(data, str(path)).mistakes
    if mistakes:
        raise ConfigError(list(mistakes), hint=f"correct {path}, or move it away")
    return read_rule_tables(data.decode()).tables


def save(path: Path, tables: Sequence[Mapping[str, Any]]) -> None:
    """Replaces the content of `path` by the rules `tables`, atomically. Raises OSError; the file is then unchanged."""
    replace_file(path, _content(tables), durable=True)


def as_saved(path: Path, tables: Sequence[Mapping[str, Any]]) -> Rules:
    """The rules that `path` will hold once `tables` are saved in it."""
    return read_own(_content(tables), str(path))


def _content(tables: Sequence[Mapping[str, Any]]) -> bytes:
    import toml

    encoder = toml.TomlEncoder()
    encoder.dump_funcs[str] = _quoted
    text: str = _HEADING + "\n" + toml.dumps({"rule": [dict(table) for table in tables]}, encoder)
    return text.encode()


def _quoted(text: str) -> str:
    """A basic string: JSON's is nearly one, for text without lone surrogates. The package's breaks backslashes."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


GEO_NAME = "geo"  # in state_dir
_SECRET = 0o600  # settings may have tokens

Tables = Callable[[list[Table]], list[Table]]


class Sources:
    """Reads the files, through a cache."""

    def __init__(self, state_dir: Path) -> None:
        self.own = state_dir / SAVED_NAME
        self._folder = state_dir / LAST_GOOD_NAME
        self._cache = Cache()
        self._last_good = LastGood(self._folder)
        self.databases = Databases(state_dir / GEO_NAME)

    async def read(self, settings: Settings) -> Files:
        """Reads all files. Raises ConfigError with every mistake."""
        return _right(await asyncio.to_thread(self._read, settings))

    def _read(self, settings: Settings) -> Files:
        cache = Cache(dict(self._cache.files))  # the daemon's own file may be read meanwhile
        known = cache, self._last_good, self.databases.refresh(settings.geo.databases)
        files = read_files(settings.cidr_dir, lists_of(settings), self.own, *known)
        self._cache = cache
        return files

    def up_to_date(self, files: Files) -> Files:
        """`files` with the present rules of the daemon's own file. Raises ConfigError."""
        there = _right(read_own_file(self.own, self._cache, self._last_good))
        if list(map(id, there.saved)) == list(map(id, files.saved)):
            return files
        return self.with_own(files, there)

    def last_good(self, settings: Settings) -> Files:
        """The files that were in force last, as a whole: later content of any is forgotten. Waits for the disk."""
        self._cache, self._last_good = Cache(), LastGood(self._folder)
        known = self._cache, self._last_good, self.databases.refresh(settings.geo.databases)
        return read_last_good(settings.cidr_dir, lists_of(settings), self.own, *known)

    async def keep(self, inputs: Inputs, settings_of: Callable[[Path | None], Settings]) -> None:
        """Keeps the confirmed rules and the settings file for a start whose files have mistakes. Raises OSError."""

        def commit() -> None:
            copies = {**(inputs.files.copies or {}), **self._last_good.kept_of(inputs.settings.source)}
            if (source := inputs.settings.source) and (text := _text_of(source, inputs.settings, settings_of)):
                copies[str(source)] = self._last_good.add(text, mode=_SECRET)
            self._last_good.commit(KeptSet(rule_settings(inputs.settings), copies))

        try:
            await asyncio.to_thread(commit)
        except FileNotFoundError:  # a copy could not be made; the next reading makes it
            self._cache = Cache()
            raise

    def tried(self, inputs: Inputs, settings: Settings, folder: str) -> Inputs:
        """`inputs` with the files that `settings` name, for a probation. `folder` replaces `cidr_dir`; if it is a rules
        file, the one of its name there; if it is the file of `settings`, nothing. The stored last good contents do not
        change. Raises ConfigError with every mistake that no last good content replaces."""
        last_good = None if folder else self._last_good.aside()
        if folder and settings.source == Path(folder):
            folder = ""
        instead = Path(folder) if is_rules_file(Path(folder).name) and not is_folder(Path(folder)) else None
        if folder and not instead and mode(Path(folder)) and not is_folder(Path(folder)):
            what = "is neither a folder nor a file of rules or settings (*.toml, *.json)"
            raise ConfigError([Mistake(folder, what)], hint="name the folder of the list instead")
        of = in_folder(settings, Path(folder)) if folder and not instead else settings
        if folder and not os.access(folder, os.R_OK if instead else os.R_OK | os.X_OK):
            what = "cannot be read by the daemon, which does not see /home or your /tmp"
            raise ConfigError(
                [Mistake(folder, what)], hint=f"put it beside {settings.cidr_dir}, where the daemon can read it"
            )
        known = Cache(dict(self._cache.files)), last_good, self.databases.refresh(settings.geo.databases)
        files = _right(read_files(of.cidr_dir, lists_of(of), self.own, *known, instead))
        return replace(inputs, settings=of, files=files, instead=instead)

    def with_saved(self, inputs: Inputs, saved: list[Table]) -> Inputs:
        """`inputs` with other rules for the daemon's own file, which is not written. Raises ConfigError."""
        there = as_saved(self.own, saved)
        files = _right(replace(inputs.files, saved=(there,), mistakes=there.mistakes, copies=None))
        return replace(inputs, saved=saved, files=files)

    async def saved(self) -> list[Table]:
        """The rules in the daemon's own file. Raises OSError, ConfigError."""
        return await asyncio.to_thread(read_saved, self.own)

    async def save(self, tables: list[Table]) -> Files:
        """Writes these rules to the daemon's own file; returns the files as read then. Raises OSError."""
        await asyncio.to_thread(save, self.own, tables)
        return await asyncio.to_thread(read_own_file, self.own, self._cache, self._last_good)

    async def rewritten(self, files: Files, change: Tables) -> Files:
        """`files` with the daemon's own file changed; unchanged if that cannot be read or written."""
        try:
            tables = await self.saved()
            changed = change(tables)
            if changed == tables:
                return files
            there = await self.save(changed)
        except (OSError, ConfigError):
            return files
        return self.with_own(files, there)

    def with_own(self, files: Files, there: Files) -> Files:
        """`files` with the rules of the daemon's own file, which was read separately."""
        before = [note for part in files.saved for note in part.notes]
        notes = [note for note in files.notes if note not in before]
        copies, own = files.copies, str(self.own)
        if copies is not None:
            now = there.copies if there.saved and there.copies else {}
            copies = {path: name for path, name in copies.items() if path != own}
            copies |= {path: name for path, name in now.items() if path == own}
        return Files(files.parts, there.saved, (*files.mistakes, *there.mistakes), (*notes, *there.notes), copies)


def _text_of(path: Path, settings: Settings, settings_of: Callable[[Path | None], Settings]) -> bytes:
    """The content of the settings file, if `settings` are what it says now; else empty."""
    try:
        text = read(path)
        return text if settings_of(path) == settings and read(path) == text else b""
    except (OSError, ConfigError):
        return b""


def _right(files: Files) -> Files:
    if files.mistakes:
        mistakes = sorted(files.mistakes, key=Mistake.place)
        raise ConfigError(mistakes, hint="nothing was changed; trafficctl check names every mistake")
    return files

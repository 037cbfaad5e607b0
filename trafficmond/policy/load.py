"""Files and settings -> one validated `Policy`: reads everything, then returns all of it or raises every mistake."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trafficmond.errors import ConfigError, Mistake
from trafficmond.model import Action, Reason
from trafficmond.policy import prefixes
from trafficmond.policy.prefixes import Prefixes
from trafficmond.policy.rules import ListSource, Rule, Rules, fixed, read_json, read_list, read_tables, read_toml

SAVED_NAME = "00-trafficctl.toml"  # in cidr_dir; what `trafficctl add-cidr --save` keeps

_LIST_ENDINGS = frozenset((".netset", ".ipset", ".txt", ".cidr"))
_MAX_FILE_BYTES = 256 << 20
_MAX_PREFIXES = 8_000_000
_HINT = "nothing was changed; correct the files and run trafficctl check"


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """Everything that decides about addresses, weakest rule first: of two rules on one prefix the later one wins.

    `prefixes` are those of all rules in the order of the rules; `owner` is each one's index into `rules`. Those of rule
    `i` are rows `starts[i]` to `starts[i + 1]`.
    """

    rules: tuple[Rule, ...]
    prefixes: Prefixes
    owner: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    default: Action
    notes: tuple[Mistake, ...] = ()

    def prefixes_of(self, index: int) -> Prefixes:
        """The prefixes of `rules[index]`."""
        return self.prefixes.take(slice(int(self.starts[index]), int(self.starts[index + 1])))

    def next_expiry(self, now: float) -> float | None:
        """When the next rule ends (epoch seconds); from then on a new compilation saves the kernel a step."""
        return min(
            (rule.expires for rule in self.rules if rule.expires is not None and rule.expires > now), default=None
        )


@dataclass(slots=True)
class Cache:
    """What each file held when it was last read, by path; a file that has not changed since is not read again."""

    files: dict[Path, tuple[tuple[object, ...], Rules]] = field(default_factory=dict)


def load_policy(
    cidr_dir: Path | None,
    lists: Sequence[ListSource] = (),
    *,
    default: Action = Action.MONITOR,
    allowlist: Sequence[str] = (),
    guard: Sequence[tuple[str, str]] = (),
    runtime: Sequence[Mapping[str, Any]] = (),
    cache: Cache | None = None,
) -> Policy:
    """The policy of `cidr_dir` (all its rules files), `lists`, the settings' `allowlist`, the `guard` (pairs of prefix
    and label) and the rules added at `runtime` (tables as in a rules file). Raises ConfigError with every mistake.

    On one prefix a rule beats a list, and of two rules, or two lists, the later one wins: files count in the order of
    their names, then the daemon's own file, then `runtime`; lists count in the order of the settings. A plain list in
    `cidr_dir` that no `[[list]]` names has no action, so it is not read, and a note says so.
    """
    reader = _Reader(cache if cache is not None else Cache())
    for source in lists:
        reader.read(source.path, partial(read_list, source), source)
    saved: Path | None = None
    for path in reader.scan(cidr_dir, {source.path.resolve() for source in lists}) if cidr_dir is not None else ():
        if path.name == SAVED_NAME:
            saved = path
        else:
            reader.read(path, read_toml if path.suffix == ".toml" else read_json)
    if saved is not None:
        reader.read(saved, read_toml)
    reader.add(read_tables(runtime, "runtime"))
    if allowlist:
        reader.add(fixed(Reason.ALLOWLIST, allowlist, "allowlist", "policy.allowlist"))
    for cidr, what in guard:
        reader.add(fixed(Reason.GUARD, [cidr], what, "guard"))
    reader.forget_unread()
    return _assemble(reader, default)


class _Reader:
    """Collects the rules of files in order, through the cache."""

    def __init__(self, cache: Cache) -> None:
        self.parts: list[Rules] = []
        self.mistakes: list[Mistake] = []
        self.notes: list[Mistake] = []
        self._cache = cache
        self._read: set[Path] = set()

    def add(self, part: Rules) -> None:
        self.parts.append(part)
        self.mistakes += part.mistakes
        self.notes += part.notes

    def read(self, path: Path, read: Callable[[bytes, str], Rules], meaning: object = None) -> None:
        """Adds what `path` holds; `meaning` is what else the result depends on."""
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev, meaning)
            known = self._cache.files.get(path)
            if known is None or known[0] != stamp:
                if found.st_size > _MAX_FILE_BYTES:
                    self.mistakes.append(Mistake(str(path), f"is larger than {_MAX_FILE_BYTES >> 20} MiB; split it"))
                    return
                known = self._cache.files[path] = (stamp, read(path.read_bytes(), str(path)))
        except OSError as error:
            self.mistakes.append(Mistake(str(path), f"cannot be read: {os.strerror(error.errno or 0)}"))
            return
        self._read.add(path)
        self.add(known[1])

    def scan(self, directory: Path, named: set[Path]) -> list[Path]:
        """The rules files of `directory` in order of their names; plain lists are left to their [[list]] entries."""
        try:
            names = sorted(entry.name for entry in os.scandir(directory) if not entry.is_dir())
        except FileNotFoundError:
            self.notes.append(Mistake(str(directory), "does not exist; no rules are read from it"))
            return []
        except OSError as error:
            self.mistakes.append(Mistake(str(directory), f"cannot be read: {os.strerror(error.errno or 0)}"))
            return []
        paths = []
        for name in names:
            path = directory / name
            if is_ignored(name) or path.resolve() in named:
                continue
            if path.suffix in (".toml", ".json"):
                paths.append(path)
            elif path.suffix in _LIST_ENDINGS:
                what = f'is not read: no [[list]] gives it an action; add one with path = "{path}" to the settings'
                self.notes.append(Mistake(str(path), what))
            else:
                self.notes.append(
                    Mistake(str(path), "is not read: rules end in .toml or .json, lists in .netset or .txt")
                )
        return paths

    def forget_unread(self) -> None:
        for path in self._cache.files.keys() - self._read:
            del self._cache.files[path]


def is_ignored(name: str) -> bool:
    """Whether a file of this name is no business of the rules: hidden, or what editors leave while they save."""
    return name.startswith((".", "#")) or name.endswith(("~", "#", ".swp", ".swx", ".tmp", ".part", ".new"))


def _assemble(reader: _Reader, default: Action) -> Policy:
    rules = tuple(rule for part in reader.parts for rule in part.rules)
    rows = prefixes.concat([part.prefixes for part in reader.parts])
    mistakes = reader.mistakes
    if len(rows) > _MAX_PREFIXES:
        mistakes.append(Mistake("all rules together", f"have {len(rows):,} prefixes; at most {_MAX_PREFIXES:,} fit"))
    if mistakes:
        raise ConfigError(mistakes, hint=_HINT)
    counts = np.concatenate([part.counts for part in reader.parts])
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    owner = np.repeat(np.arange(len(rules), dtype=np.int32), counts)
    return Policy(rules, rows, owner, starts, default, tuple(reader.notes))

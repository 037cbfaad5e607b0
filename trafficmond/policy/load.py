"""Files and settings -> one validated `Policy`: reads everything, then returns all of it or raises every mistake."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np

from trafficmond import figures, npt
from trafficmond.dataclass import dataclass
from trafficmond.errors import Advice, ConfigError, Mistake
from trafficmond.model import Action, Reason
from trafficmond.policy import prefixes
from trafficmond.policy.classes import Classes, TooManyClasses
from trafficmond.policy.collect import Cache, Collector
from trafficmond.policy.geography import Geography
from trafficmond.policy.lastgood import LastGood
from trafficmond.policy.prefixes import Prefixes
from trafficmond.policy.readers import always_allowed, permitted, read_list, read_own
from trafficmond.policy.rules import ListSource, Rule, Rules, read_tables

# bound: prefixes of all files | the files are refused; the rules in force stay
_MAX_PREFIXES = 4_000_000  # about half a gigabyte of table at worst (scattered IPv6 hosts)
_SHOWN_NOTES = 20
_ALIKE_SHOWN = 10  # rules that could be one
_HINT = "nothing was changed; trafficctl check names every mistake"


@dataclass(frozen=True, slots=True)
class RuleCounts:
    """The numbers of rules and lists in files, settings and from clients, and of their prefixes.

    The guard is not among them: it is the daemon's own, and changes with the host's addresses.
    """

    rules: int = 0
    lists: int = 0
    prefixes: int = 0

    def __str__(self) -> str:
        return figures.ruling(self.rules, self.lists, self.prefixes)


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """All rules and the default, weakest rule first: of two rules on one prefix the later one wins.

    `prefixes` are those of all rules in the order of the rules; `owner` is each one's index into `rules`. Those of rule
    `i` are rows `starts[i]` to `starts[i + 1]`.
    """

    rules: tuple[Rule, ...]
    prefixes: Prefixes
    owner: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    default: Action
    notes: tuple[Advice, ...] = ()
    parts: tuple[Rules, ...] = ()  # the parts that it was made of
    default_shadow: Action | None = None  # the default for incoming packets if it were in force

    @property
    def warnings(self) -> list[str]:
        """The notes in words: the first ones of many."""
        return [str(note) for note in self.notes[:_SHOWN_NOTES]]

    def begins_as(self, other: Self) -> int:
        """A lower bound of the common beginning of both, in rules: those of files that were not read again."""
        count = 0
        for mine, others in zip(self.parts, other.parts, strict=False):
            if mine is not others:
                break
            count += len(mine.rules)
        return count

    @property
    def counts(self) -> RuleCounts:
        counted = [at for at, rule in enumerate(self.rules) if rule.reason is not Reason.GUARD]
        lists = sum(self.rules[at].reason is Reason.LIST for at in counted)
        return RuleCounts(len(counted) - lists, lists, int(np.diff(self.starts)[counted].sum()))

    @property
    def default_text(self) -> str:
        """The default for people: "drop", "drop in shadow"."""
        return str(self.default) if self.default_shadow is None else f"{self.default_shadow} in shadow"

    def prefixes_of(self, index: int) -> Prefixes:
        return self.prefixes.take(slice(int(self.starts[index]), int(self.starts[index + 1])))


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """The content of lists and rules files, weakest first, with mistakes and notes.

    `saved` has the daemon's own file, which comes after the rules in the settings.
    """

    parts: tuple[Rules, ...] = ()
    saved: tuple[Rules, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    notes: tuple[Advice, ...] = ()
    copies: Mapping[str, str] | None = None  # the copy of each file by its path (LastGood); None: not kept

    def same_rules(self, other: Self) -> bool:
        """Whether both have the same rules; quick, since most are the same objects."""
        mine, others = (*self.parts, *self.saved), (*other.parts, *other.saved)
        same = (len(self.parts), len(mine)) == (len(other.parts), len(others))
        return same and all(one.same(another) for one, another in zip(mine, others, strict=True))


def read_files(
    cidr_dir: Path | None,
    lists: Sequence[ListSource] = (),
    saved: Path | None = None,
    cache: Cache | None = None,
    last_good: LastGood | None = None,
    geography: Geography | None = None,
    instead: Path | None = None,
) -> Files:
    """Reads `lists`, all rules files in `cidr_dir`, and `saved`, the daemon's own.

    A plain list in `cidr_dir` that no `[[list]]` names has no action: it is not read, and a note says so. With
    `last_good`, an invalid list, and any unreadable file, is replaced by its last good content, with a note; otherwise
    it is a mistake. A rules file `instead` replaces the one of its name.
    """
    collector = Collector(cache if cache is not None else Cache(), last_good, geography)
    for source in lists:
        collector.read_list(source)
    elsewhere = {os.path.realpath(path) for path in (*(source.path for source in lists), *((saved,) if saved else ()))}
    if cidr_dir is not None:
        collector.read_folder(cidr_dir, elsewhere, instead)
    parts = tuple(collector.parts)
    if saved is not None and os.path.lexists(saved):
        collector.read(saved, read_own)
    collector.forget_unread()
    notes = (*collector.notes, *(() if geography is None else geography.notes))
    copies = last_good.copies() if last_good else None
    return Files(parts, tuple(collector.parts[len(parts) :]), tuple(collector.mistakes), notes, copies)


def read_last_good(
    cidr_dir: Path,
    lists: Sequence[ListSource],
    saved: Path,
    cache: Cache,
    last_good: LastGood,
    geography: Geography | None = None,
) -> Files:
    """The result of `read_files` that was in force last, whatever the present files are."""
    collector = Collector(cache, last_good, geography)
    for source in lists:
        collector.take_last_good(source.path, partial(read_list, source), source)
    for path in last_good.within(cidr_dir):
        collector.take_rules_last_good(path)
    parts = tuple(collector.parts)
    collector.take_last_good(saved, read_own, None)
    return Files(parts, tuple(collector.parts[len(parts) :]), copies=last_good.copies())


def read_own_file(saved: Path, cache: Cache, last_good: LastGood) -> Files:
    """The present rules of the daemon's own file, or those last read, if it is unreadable."""
    collector = Collector(cache, last_good)
    if os.path.lexists(saved):
        collector.read(saved, read_own)
    return Files((), tuple(collector.parts), tuple(collector.mistakes), tuple(collector.notes), last_good.copies())


def make_policy(
    files: Files,
    *,
    default: Action = Action.MONITOR,
    default_shadow: bool = False,
    permitted_cidrs: Sequence[str] = (),
    runtime: Sequence[Mapping[str, Any]] | Rules = (),
    allowlist: Sequence[str] = (),
    guard: Sequence[tuple[str, str]] = (),
) -> Policy:
    """The policy of the lists and rules files, the original's `permitted_cidrs`, the daemon's own file, the tables
    added at `runtime`, the settings' `allowlist` and the `guard` (pairs of prefix and label). With `default_shadow` the
    default is to monitor, and `default` is only reported.

    On one prefix a rule beats a list; of two rules, or two lists, the later one wins: in the order just given,
    lists in the order of the settings, files in that of their names. Raises ConfigError with every mistake found.
    """
    collector = Collector(Cache())
    collector.parts += files.parts
    collector.mistakes += files.mistakes
    collector.notes += files.notes
    if permitted_cidrs:
        collector.add(permitted(permitted_cidrs, "settings"))
    collector.parts += files.saved
    collector.add(runtime if isinstance(runtime, Rules) else read_tables(runtime, "runtime", own=True))
    if allowlist:
        collector.add(always_allowed(Reason.ALLOWLIST, allowlist, "allowlist", "policy.allowlist"))
    for cidr, label in guard:
        collector.add(always_allowed(Reason.GUARD, [cidr], label, "guard"))
    if default_shadow:
        return _assembled(collector, Action.MONITOR, default)
    return _assembled(collector, default)


def _assembled(collector: Collector, default: Action, shadow: Action | None = None) -> Policy:
    rows = prefixes.concat([part.prefixes for part in collector.parts])
    if len(rows) > _MAX_PREFIXES:
        what = f"have {len(rows):,} prefixes; at most {_MAX_PREFIXES:,} fit"
        collector.mistakes.append(Mistake("all rules together", what))
    collector.mistakes += _too_many_services(collector.parts)
    if collector.mistakes:
        raise ConfigError(collector.mistakes, hint=_HINT)
    rules = tuple(chain.from_iterable(part.rules for part in collector.parts))
    counts = np.concatenate([part.counts for part in collector.parts])
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    owner = np.repeat(np.arange(len(rules), dtype=np.int32), counts)
    return Policy(rules, rows, owner, starts, default, tuple(collector.notes), tuple(collector.parts), shadow)


def _too_many_services(parts: Sequence[Rules]) -> list[Mistake]:
    """The mistake of naming services in too many ways for the kernel; it lists rules that could be one."""
    naming = list(chain.from_iterable(part.naming for part in parts))
    try:
        Classes.of(rule.judged for rule in naming)
    except TooManyClasses:
        what = "name more than 255 different sets of services; give similar rules the same ports"
        if alike := max(_alike(parts), key=len, default=[]):
            named = ", ".join(rule.source if rule.line else rule.name for rule in alike[:_ALIKE_SHOWN])
            rest = f" and {len(alike) - _ALIKE_SHOWN:,} more" if len(alike) > _ALIKE_SHOWN else ""
            what = f"{what}. One rule with all their ports could replace {named}{rest}, which differ in nothing else"
        return [Mistake("all rules together", what)]
    return []


def _alike(parts: Sequence[Rules]) -> list[list[Rule]]:
    """Groups of rules that differ in nothing but their services."""
    groups: dict[tuple[object, ...], list[Rule]] = {}
    for part in parts:
        starts = np.cumsum(part.counts) - part.counts
        for rule, first, count in zip(part.rules, starts.tolist(), part.counts.tolist(), strict=True):
            if rule.services:
                rows = part.prefixes.take(slice(first, first + count))
                same = rule.action, rule.direction, rule.expires, rule.rate_per_s, rule.burst, rule.reason
                key = (*same, *(column.tobytes() for column in (rows.family, rows.plen, rows.hi, rows.lo)))
                groups.setdefault(key, []).append(rule)
    return [group for group in groups.values() if len(group) > 1]

"""A set of rules: its inputs, how it is compiled, and the result."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from trafficmond import npt
from trafficmond.config.settings import Settings
from trafficmond.dataclass import dataclass, field, replace
from trafficmond.errors import ConfigError, Mistake
from trafficmond.networks import Network
from trafficmond.policy.ids import Numbered, Pairs, RuleIds, common_beginning
from trafficmond.policy.leaves import RuleColumns
from trafficmond.policy.load import Files, Policy, make_policy
from trafficmond.policy.patch import Source, near, patched
from trafficmond.policy.rules import Rules, read_tables
from trafficmond.policy.sources import forced_by, own_of
from trafficmond.policy.table import VerdictTable, compile_columns
from trafficmond.policy.tables import Table, has_ended, left, moved

Guard = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class InForce:
    policy: Policy
    table: VerdictTable
    generation: int
    loaded_at: float
    numbered: Numbered  # the policy's rules
    columns: RuleColumns

    @property
    def source(self) -> Source:
        return Source(self.policy, self.columns)

    def any_ended(self, now: float) -> bool:
        """Whether a rule has ended between compilation and `now` (epoch s): a new table saves the kernel a step."""
        expires = self.columns.expires
        return bool(((expires > self.loaded_at) & (expires <= now)).any())

    def apart(self) -> Self:
        """The same rules, but never changed in place: later tables are separate ones."""
        return replace(self, table=replace(self.table, live=False))


@dataclass(frozen=True, slots=True)
class Inputs:
    settings: Settings
    files: Files = field(default_factory=Files)  # as last found valid
    runtime: Sequence[Table] = ()
    instead: Path | None = None  # a rules file that replaces the one of its name in cidr_dir
    guard: Guard = ()
    forced_bans: frozenset[Network] = frozenset()  # prefixes of forced bans, excluded from guard and allowlist
    saved: Sequence[Table] | None = None  # on probation: new rules of the daemon's own file; None: unchanged

    def at(self, now: float, jump: float, guard: Guard) -> Self:
        """The same at `now` (epoch s), after the wall clock was stepped by `jump`, with the lifelines `guard`."""
        files, runtime = self.files, self.runtime
        if jump:
            files = replace(files, saved=tuple(part.moved(jump) for part in files.saved))
            runtime = [moved(table, jump) for table in runtime]
        runtime = [table for table in runtime if not has_ended(table, now)]
        return replace(self, files=files, runtime=runtime, guard=guard)


class Maker:
    """Compiles inputs into rules, and caches reusable parts.

    Sets can be compiled in parallel threads; `use` sets which are in force.
    """

    def __init__(self, to_jiffies: Callable[[float], int]) -> None:
        self.ids = RuleIds()
        self.pairs = Pairs()
        self.watching: dict[int, float] = {}  # rules in shadow by id, 0: the default; since when (epoch s)
        self._to_jiffies = to_jiffies
        self._read: tuple[list[Table], Rules] = [], Rules.joined([])  # of the last tables of run-time rules

    def make(self, inputs: Inputs, before: InForce | None, generation: int, now: float, *, whole: bool) -> InForce:
        """Compiles `inputs`; changes `before` instead if that is quicker and not `whole`. Raises ConfigError."""
        policy = self._policy(inputs, now)
        try:
            numbered, columns = self._numbered(policy, before, now)
            table = self._compile(Source(policy, columns), before, generation, now, whole=whole)
        except MemoryError:
            what = f"have {len(policy.prefixes):,} prefixes, more than this machine's memory can compile"
            raise ConfigError([Mistake("all rules together", what)]) from None
        return InForce(policy, table, generation, now, numbered, columns)

    def is_near(self, inputs: Inputs, before: InForce, now: float) -> bool:
        """Whether `make` can quickly compile `inputs` by changing `before`. Raises ConfigError."""
        if not before.generation:
            return False
        policy = self._policy(inputs, now)
        return near(before.table, before.source, Source(policy, self._numbered(policy, before, now)[1]))

    def use(self, sets: Sequence[InForce], now: float, *, drafting: bool) -> None:
        """Sets the rules in force, of which the kernel uses the last; `drafting`: others are being compiled."""
        self.ids.use([each.numbered for each in sets], now, forget=not drafting)
        if not drafting:
            self.pairs.forget(now, lambda: set().union(*(each.table.pairs() for each in sets)))
        judges = sets[-1]
        there = {*judges.numbered.numbers[judges.columns.shadow].tolist()}
        there |= {0} if judges.policy.default_shadow is not None else set()
        self.watching = {number: self.watching.get(number, now) for number in there}

    def _policy(self, inputs: Inputs, now: float) -> Policy:
        forced = (*forced_by(inputs.runtime, inputs.files, now), *inputs.forced_bans)
        guard = [(part, label) for cidr, label in inputs.guard for part in left(cidr, forced)]
        allowlist = [part for cidr in inputs.settings.policy.allowlist for part in left(cidr, forced)]
        of_settings = own_of(inputs.settings) | {"allowlist": allowlist}
        return make_policy(inputs.files, runtime=self._runtime_rules(inputs.runtime), guard=guard, **of_settings)

    def _numbered(self, policy: Policy, before: InForce | None, now: float) -> tuple[Numbered, RuleColumns]:
        known = policy.begins_as(before.policy) if before else 0
        numbered = self.ids.number(policy.rules, now, before.numbered if before else None, known)
        return numbered, _columns_of(policy, numbered.numbers, before)

    def _runtime_rules(self, tables: Sequence[Table]) -> Rules:
        """Parses run-time rules; reuses the last result if its tables all come first."""
        before, rules = self._read
        same = next((at for at, pair in enumerate(zip(before, tables, strict=False)) if pair[0] is not pair[1]), None)
        same = min(len(before), len(tables)) if same is None else same
        rules = Rules.joined([rules.first(same), read_tables(tables[same:], "runtime", own=True)])
        if not rules.mistakes:  # with mistakes there are fewer rules than tables
            self._read = list(tables), rules
        return rules

    def _compile(
        self, source: Source, before: InForce | None, generation: int, now: float, *, whole: bool
    ) -> VerdictTable:
        """Compiles only the difference, if that is small and all other rules have the same ends."""
        policy = source.policy
        if before and before.generation and not whole:
            args = before.table, before.source, source, now, self._to_jiffies, generation
            table = patched(*args, self.pairs)
            if table is not None:
                return table
        rows = policy.prefixes, policy.owner, source.columns, policy.default
        return compile_columns(*rows, now, self._to_jiffies, generation, policy.default_shadow, self.pairs)


def _columns_of(policy: Policy, ids: npt.NDArray[np.uint32], in_force: InForce | None) -> RuleColumns:
    """The columns of all rules; reuses those of the common beginning with the rules in force."""
    if in_force is None:
        return RuleColumns.of(policy.rules, ids)
    before = in_force.policy
    same = common_beginning(before.rules, policy.rules, policy.begins_as(before))
    if not np.array_equal(in_force.numbered.numbers[:same], ids[:same]):
        same = 0
    return in_force.columns.followed_by(same, RuleColumns.of(policy.rules[same:], ids[same:]))

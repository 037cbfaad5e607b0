"""A policy -> the words of the kernel's verdict table.

Precedence is resolved here: guard over allowlist over rules and lists; within a class the longer prefix, on one prefix
the rule that stands later in the policy. Bans are the kernel's own, between allowlist and rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trafficmond.model import Action, Direction, Reason
from trafficmond.policy.flatten import I64, U32, Layered, flatten
from trafficmond.policy.layout import (
    HDR_GENERATION,
    HDR_MAGIC,
    HDR_RECORD_COUNT,
    HDR_RECORDS,
    HDR_ROOT,
    LEAF_INDEX,
    LEAF_RECORD,
    MAGIC,
    RECORD,
)
from trafficmond.policy.load import Policy
from trafficmond.policy.trie import Builder

RANK = np.zeros(len(Reason), np.int64)  # class of precedence by Reason: rules and lists share one
RANK[[Reason.ALLOWLIST, Reason.GUARD]] = 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class VerdictTable:
    """`words` is what the kernel reads: whole pages, layout of bpf/abi.h."""

    words: U32
    generation: int
    prefixes: int  # compiled into it
    records: int


def compile_table(
    policy: Policy,
    ids: npt.NDArray[np.uint32],
    now: float,
    to_jiffies: Callable[[float], int],
    generation: int = 0,
) -> VerdictTable:
    """The table of `policy`, whose rules have the numbers `ids`; rules that ended by `now` (epoch s) are left out.

    `to_jiffies` turns epoch seconds into the kernel's jiffies64. The default applies to what comes in; what goes out
    gets it too if it passes, and is allowed otherwise: a default of drop never silences the host itself.
    """
    columns = _RuleColumns.of(policy, ids)
    leaves = _Leaves(columns, to_jiffies)
    builder = Builder()
    roots: dict[tuple[object, ...], int] = {}
    header = np.zeros(8, np.uint32)
    alive = columns.expires > now
    rows = _sorted_rows(policy, columns, np.flatnonzero(alive[policy.owner]))
    for place, (direction, family) in enumerate(
        (direction, family) for direction in (Direction.INGRESS, Direction.EGRESS) for family in (4, 6)
    ):
        default = default_action(policy.default, direction)
        chosen = rows.select(family, direction, columns)
        # An empty trie serves both families; one that all rules share serves both directions.
        key = (default, chosen.tobytes()) if len(chosen) else (default,)
        if key not in roots:
            layered = rows.layered(chosen, columns)
            roots[key] = builder.add_trie(flatten(layered, int(default) << 28, leaves))
        header[HDR_ROOT + place] = roots[key]
    records = leaves.records()
    header[HDR_RECORDS] = builder.add(records.view(np.uint32)) if len(records) else 0
    header[[HDR_MAGIC, HDR_GENERATION, HDR_RECORD_COUNT]] = MAGIC, generation & 0xFFFFFFFF, len(records)
    words = builder.words()
    words[: len(header)] = header
    return VerdictTable(words, generation, len(rows.index), len(records))


def default_action(default: Action, direction: Direction) -> Action:
    """What an address that no rule names gets, by direction."""
    return Action.ALLOW if direction is Direction.EGRESS and default is Action.DROP else default


@dataclass(frozen=True, slots=True, eq=False)
class _RuleColumns:
    """The rules of a policy by column."""

    rank: I64
    direction: npt.NDArray[np.uint8]
    expires: npt.NDArray[np.float64]  # inf: never
    verdict: U32
    rate: U32
    burst: U32

    @classmethod
    def of(cls, policy: Policy, ids: npt.NDArray[np.uint32]) -> _RuleColumns:
        rules = policy.rules
        reason = np.array([rule.reason for rule in rules], np.uint32)
        action = np.array([rule.action for rule in rules], np.uint32)
        return cls(
            RANK[reason],
            np.array([rule.direction for rule in rules], np.uint8),
            np.array([np.inf if rule.expires is None else rule.expires for rule in rules], np.float64),
            ids | reason << np.uint32(24) | action << np.uint32(28),
            np.array([rule.rate_per_s for rule in rules], np.uint32),
            np.array([rule.burst for rule in rules], np.uint32),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The living prefixes by (family, class, address, length, order in the policy)."""

    policy: Policy
    index: I64  # into policy.prefixes

    def select(self, family: int, direction: Direction, columns: _RuleColumns) -> I64:
        """Those that count for a family and direction, as rows of policy.prefixes."""
        of_rule = columns.direction[self.policy.owner[self.index]]
        wanted = (self.policy.prefixes.family[self.index] == family) & (
            (of_rule == direction) | (of_rule == Direction.BOTH)
        )
        chosen: I64 = self.index[wanted]
        return chosen

    def layered(self, chosen: I64, columns: _RuleColumns) -> Layered:
        """Painting order: by class, then length, then as the policy has it; of equal prefixes only those that an expiry
        can uncover."""
        rows, rule = self.policy.prefixes, self.policy.owner[chosen].astype(np.int64)
        hi, lo, plen = rows.hi[chosen], rows.lo[chosen], rows.plen[chosen].astype(np.int64)
        rank, ends = columns.rank[rule], np.isfinite(columns.expires[rule])
        equal = (hi[1:] == hi[:-1]) & (lo[1:] == lo[:-1]) & (plen[1:] == plen[:-1]) & (rank[1:] == rank[:-1])
        depth = np.zeros(len(chosen), np.int64)
        if equal.any():
            keep, depth = _uncoverable(equal, ends)
            hi, lo, plen, rank, rule, ends = hi[keep], lo[keep], plen[keep], rank[keep], rule[keep], ends[keep]
        layer = (rank << 8 | plen) << 24 | depth
        return Layered(hi, lo, plen, rank, layer, rule, ends)


def _sorted_rows(policy: Policy, columns: _RuleColumns, index: I64) -> _Rows:
    rows = policy.prefixes
    plen, rank = rows.plen[index], columns.rank[policy.owner[index]]
    order = np.lexsort((plen, rows.lo[index], rows.hi[index], rank, rows.family[index]))
    return _Rows(policy, index[order])


def _uncoverable(equal: npt.NDArray[np.bool_], ends: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], I64]:
    """Of runs of equal prefixes (`equal[i]`: row i + 1 equals row i), weakest first: which rows count, and each one's
    place above the lowest that counts. A row counts unless a stronger one never ends."""
    count = len(ends)
    last = np.append(~equal, True)
    run = np.cumsum(np.append(True, ~equal)) - 1
    lasting = np.where(~ends, np.arange(count), -1)
    strongest_lasting = np.full(int(run[-1]) + 1, -1)
    np.maximum.at(strongest_lasting, run, lasting)
    first = np.append(0, np.flatnonzero(last)[:-1] + 1)
    lowest = np.maximum(strongest_lasting, first)[run]
    keep = np.arange(count) >= lowest
    return keep, (np.arange(count) - lowest)[keep]


class _Leaves:
    """Leaves of rules, and the records they need."""

    def __init__(self, columns: _RuleColumns, to_jiffies: Callable[[float], int]) -> None:
        self._columns = columns
        self._to_jiffies = to_jiffies
        self._count = 0
        self._parts: list[npt.NDArray[np.void]] = []
        self._expires: list[npt.NDArray[np.float64]] = []
        limited = np.flatnonzero((columns.verdict >> np.uint32(28)) == Action.LIMIT)
        self._leaf = columns.verdict.copy()
        lasting = limited[np.isinf(columns.expires[limited])]
        self._leaf[lasting] = self._add(lasting, np.zeros(len(lasting), np.uint32))

    def fixed(self, rule: I64) -> U32:
        return self._leaf[rule]

    def ending(self, rule: I64, below: U32) -> U32:
        pairs, inverse = np.unique(rule.astype(np.uint64) << np.uint64(32) | below, return_inverse=True)
        rules = (pairs >> np.uint64(32)).astype(np.int64)
        return self._add(rules, (pairs & np.uint64(0xFFFFFFFF)).astype(np.uint32))[inverse]

    def records(self) -> npt.NDArray[np.void]:
        return np.concatenate(self._parts) if self._parts else np.zeros(0, RECORD)

    def _add(self, rule: I64, parent: U32) -> U32:
        part = np.zeros(len(rule), RECORD)
        expires = self._columns.expires[rule]
        part["verdict"] = self._columns.verdict[rule]
        part["parent"] = self._outliving(parent, expires)
        part["rate_per_s"] = self._columns.rate[rule]
        part["burst_packets"] = self._columns.burst[rule]
        moments, inverse = np.unique(expires, return_inverse=True)
        jiffies = [0 if np.isinf(moment) else max(self._to_jiffies(moment), 1) for moment in moments.tolist()]
        part["expires"] = np.array(jiffies, np.uint64)[inverse]
        first = self._count
        self._count += len(part)
        self._parts.append(part)
        self._expires.append(expires)
        return LEAF_RECORD | np.arange(first, self._count, dtype=np.uint32)

    def _outliving(self, parent: U32, expires: npt.NDArray[np.float64]) -> U32:
        """`parent`, or what lies below it if it ends no later than the record: the kernel need not visit the dead."""
        if not self._parts:
            return parent
        known, ends = self.records(), np.concatenate(self._expires)
        parent = parent.copy()
        while True:
            index = (parent & LEAF_INDEX) * (parent & LEAF_RECORD != 0)
            dead = (parent & LEAF_RECORD != 0) & (ends[index] <= expires)
            if not dead.any():
                return parent
            parent[dead] = known["parent"][index[dead]]

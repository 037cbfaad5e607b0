"""Leaves of the verdict table: a verdict word, a record (the rule expires or limits), or a row: a leaf for each class.

A record belongs to a rule and to the leaf below it, its parent, which applies once the rule has ended. In a row,
services that a rule does not name have the leaf below.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Self

import numpy as np

from trafficmond import abi, npt
from trafficmond.dataclass import dataclass, fields
from trafficmond.model import Action, Reason
from trafficmond.npt import I64, U32
from trafficmond.policy.classes import Classes
from trafficmond.policy.geography import By
from trafficmond.policy.ids import Pairs
from trafficmond.policy.layout import LEAF_INDEX, LEAF_RECORD, PARENTS_MAX, ROW, UNIT, UNIT_WORDS
from trafficmond.policy.rules import Rule
from trafficmond.verdict import Pair

RANK = np.full(len(Reason), By.CIDR, np.int64)  # class of precedence by Reason: rules and lists share one
RANK[[Reason.ALLOWLIST, Reason.GUARD]] = By.CIDR + 1, By.CIDR + 2


def rank(rule: Rule) -> int:
    """A rule's class of precedence: a higher one comes before every lower one."""
    return int(rule.by if rule.by is not By.CIDR else RANK[rule.reason])


@dataclass(frozen=True, slots=True, eq=False)
class RuleColumns:
    """The columns of rules that the table needs."""

    rank: I64  # class of precedence
    direction: npt.NDArray[np.uint8]
    expires: npt.NDArray[np.float64]  # epoch seconds; inf: never
    verdict: U32  # word
    rate_per_s: U32
    burst: U32
    shadow: npt.NDArray[np.bool_]  # reports its action and does not take it
    services: npt.NDArray[np.object_]  # the Places that it applies to, with their fragments

    def take(self, rules: I64) -> Self:
        return type(self)(*(getattr(self, each.name)[rules] for each in fields(self)))

    def followed_by(self, at: int, rest: Self) -> Self:
        """The first `at` rows of these, and then `rest`."""
        pairs = ((getattr(self, each.name), getattr(rest, each.name)) for each in fields(self))
        return type(self)(*(np.concatenate([one[:at], other]) for one, other in pairs))

    @classmethod
    def of(cls, rules: Sequence[Rule], ids: npt.NDArray[np.uint32]) -> Self:
        """The columns of `rules` with the numbers `ids`."""
        reason = np.array([rule.reason for rule in rules], np.uint32)
        action = np.array([rule.action for rule in rules], np.uint32)
        return cls(
            np.array([rank(rule) for rule in rules], np.int64),
            np.array([rule.direction for rule in rules], np.uint8),
            np.array([np.inf if rule.expires is None else rule.expires for rule in rules], np.float64),
            ids | reason << np.uint32(abi.REASON_SHIFT) | action << np.uint32(abi.ACTION_SHIFT),
            np.array([rule.rate_per_s for rule in rules], np.uint32),
            np.array([rule.burst for rule in rules], np.uint32),
            np.array([rule.shadow for rule in rules], np.bool_),
            np.fromiter((rule.judged for rule in rules), np.object_, len(rules)),
        )

    @property
    def through(self) -> npt.NDArray[np.bool_]:
        """A mask of rules that let the leaf below show: those that end, are for some services only, or in shadow."""
        return np.isfinite(self.expires) | self.some_services | self.shadow

    @property
    def stackable(self) -> npt.NDArray[np.bool_]:
        """A mask of rules that can be painted together with others on their prefix: those for some services."""
        return self.some_services & ~self.shadow

    @property
    def some_services(self) -> npt.NDArray[np.bool_]:
        return self.services.astype(np.bool_)


class RuleLeaves:
    """The leaves of a policy's rules; new `records` are appended to those of `before`."""

    def __init__(
        self,
        columns: RuleColumns,
        classes: Classes,
        to_jiffies: Callable[[float], int],
        before: npt.NDArray[np.void] | None = None,
        pairs: Pairs | None = None,
        now: float = 0.0,
    ) -> None:
        """`pairs` numbers the rules below those in shadow."""
        self.crowded = False  # whether a rule was left out, since too many that end are above it
        self._pairs, self._now = pairs or Pairs(), now
        self._columns = columns
        self._classes = classes
        self._some_services = columns.some_services
        self._rows = np.zeros((0, classes.count), np.uint32)
        self._row_of: dict[bytes, int] = {}
        self._unit_of: dict[int, int] = {}  # of rows in the table
        self._stacks: list[list[int]] = []
        self._stack_of: dict[bytes, int] = {}
        self._to_jiffies = to_jiffies
        self.records = np.zeros(0, abi.RECORD) if before is None else before
        # Of each record; new records never fall back to earlier ones, whose values do not matter.
        self._expires = np.zeros(len(self.records))  # as the rules have it
        self._depth = np.zeros(len(self.records), np.int64)  # records that a packet may have to visit from here
        self._leaf = columns.verdict.copy()
        limits = (columns.verdict >> np.uint32(abi.ACTION_SHIFT) == Action.LIMIT) & np.isinf(columns.expires)
        limited = np.flatnonzero(limits & ~columns.shadow)
        self._leaf[limited] = self._add(limited, np.zeros(len(limited), np.uint32))

    def fixed(self, rule: I64) -> U32:
        """The leaf of each rule that hides the entries below."""
        return self._leaf[rule]

    def stack(self, rules: I64) -> int:
        """A number that stands for several `stackable` rules on one prefix, the weakest first, as if they were one."""
        key = rules.tobytes()
        number = self._stack_of.get(key)
        if number is None:
            number = self._stack_of[key] = len(self._leaf) + len(self._stacks)
            self._stacks.append(rules.tolist())
        return number

    def over(self, rule: I64, below: U32) -> U32:
        """The leaf of each other rule, over `below`, the leaf that it falls back to."""
        rules, under, inverse = _pairs(rule, below)
        leaf = np.empty(len(rules), np.uint32)
        stacked = rules >= len(self._leaf)
        rowed = stacked | _is_row(under)
        rowed[~stacked] |= self._some_services[rules[~stacked]]
        leaf[~rowed] = self._add(rules[~rowed], under[~rowed])
        leaf[rowed] = self._add_rows(rules[rowed], under[rowed])
        return leaf[inverse]

    def place(self, entry: U32, add: Callable[[U32], int]) -> U32:
        """`entry` with each row's place in the table; `add` appends missing rows."""
        at = np.flatnonzero(_is_row(entry))
        if not len(at):
            return entry
        rows, inverse = np.unique(entry[at] & UNIT, return_inverse=True)
        new = [row for row in rows.tolist() if row not in self._unit_of]
        if new:
            units = -(-self._classes.count // UNIT_WORDS)
            content = np.zeros((len(new), units * UNIT_WORDS), np.uint32)
            content[:, : self._classes.count] = self._rows[new]
            first = add(content.ravel())
            self._unit_of.update((row, first + place * units) for place, row in enumerate(new))
        unit = np.array([self._unit_of[row] for row in rows.tolist()], np.uint32)
        placed = entry.copy()
        placed[at] = ROW | unit[inverse]
        return placed

    def _add_rows(self, rule: I64, below: U32) -> U32:
        """The row of each rule over `below`; the leaf itself if all classes have the same."""
        if not len(rule):
            return np.zeros(0, np.uint32)
        cells = np.repeat(below[:, None], self._classes.count, axis=1)
        at = np.flatnonzero(_is_row(below))
        cells[at] = self._rows[below[at] & UNIT]
        base = len(self._leaf)
        painted = [self._stacks[number - base] if number >= base else [number] for number in rule.tolist()]
        rule = np.array([each for rules in painted for each in rules], np.int64)
        row = np.repeat(np.arange(len(painted)), [len(rules) for rules in painted])
        members = np.stack([self._classes.members(places) for places in self._columns.services[rule]])
        owner, column = np.nonzero(members)
        for part in _in_turn(row[owner] * self._classes.count + column, self._columns.expires[rule[owner]]):
            rules = rule[owner[part]]
            there = row[owner[part]], column[part]
            lasts = np.isinf(self._columns.expires[rules]) & ~self._columns.shadow[rules]
            leaf = self._leaf[rules]
            pairs, under, inverse = _pairs(rules[~lasts], cells[there][~lasts])
            leaf[~lasts] = self._add(pairs, under)[inverse]
            cells[there] = leaf
        return self._numbered(cells)

    def _numbered(self, cells: U32) -> U32:
        leaf = cells[:, 0].copy()
        several = np.flatnonzero((cells != leaf[:, None]).any(axis=1))
        new = []
        for at, row in zip(several.tolist(), cells[several], strict=True):
            key = row.tobytes()
            number = self._row_of.get(key)
            if number is None:
                number = self._row_of[key] = len(self._row_of)
                new.append(row)
            leaf[at] = ROW | np.uint32(number)
        if new:
            self._rows = np.concatenate([self._rows, np.stack(new)])
        return leaf

    def shadow_of(self, would: int, below: int) -> int:
        """The leaf of a rule in shadow that would give the word `would`, over the leaf `below`; `below` if too many."""
        judges = tuple(self._judges(below))
        number = self._pairs.number(Pair(would, judges), self._now) if len(judges) < PARENTS_MAX else None
        if number is None:
            return below
        part = np.zeros(1, abi.RECORD)
        part["verdict"], part["parent"], part["shadow"] = number, below, abi.SHADOWED | would
        self._append(part, np.array([np.inf]), np.array([len(judges) + 1]))
        return int(LEAF_RECORD) | len(self.records) - 1

    def _judges(self, leaf: int) -> Iterator[int]:
        """The rules that may decide below a leaf, the strongest first; 0 for one in shadow, which does not."""
        while leaf & int(LEAF_RECORD):
            record = self.records[leaf & int(LEAF_INDEX)]
            yield 0 if record["shadow"] else int(record["verdict"]) & abi.RULE_MASK
            leaf = int(record["parent"])
        yield leaf & abi.RULE_MASK

    def _add(self, rule: I64, parent: U32) -> U32:
        leaf = np.empty(len(rule), np.uint32)
        shadow = self._columns.shadow[rule]
        leaf[~shadow] = self._add_judging(rule[~shadow], parent[~shadow])
        for at in np.flatnonzero(shadow).tolist():
            leaf[at] = self._add_shadow(int(rule[at]), int(parent[at]))
        return leaf

    def _add_shadow(self, rule: int, below: int) -> int:
        columns, before = self._columns, len(self.records)
        while below & int(LEAF_RECORD) and self.records["shadow"][below & int(LEAF_INDEX)]:
            below = int(self.records["parent"][below & int(LEAF_INDEX)])  # the strongest in shadow is reported
        leaf = self.shadow_of(int(columns.verdict[rule]), below)
        if len(self.records) > before:
            record, expires = self.records[-1:], float(columns.expires[rule])
            record["expires"] = 0 if np.isinf(expires) else max(self._to_jiffies(expires), 1)
            record["rate_per_s"], record["burst_packets"] = columns.rate_per_s[rule], columns.burst[rule]
            self._expires[-1] = expires
        return leaf

    def _add_judging(self, rule: I64, parent: U32) -> U32:
        if not len(rule):
            return np.zeros(0, np.uint32)
        expires = self._columns.expires[rule]
        parent = self._outliving(parent, expires)
        moments, inverse = np.unique(expires, return_inverse=True)
        jiffies = [0 if np.isinf(moment) else max(self._to_jiffies(moment), 1) for moment in moments.tolist()]
        part = np.zeros(len(rule), abi.RECORD)
        part["expires"] = np.array(jiffies, np.uint64)[inverse]
        part["verdict"] = self._columns.verdict[rule]
        part["parent"] = parent
        part["rate_per_s"] = self._columns.rate_per_s[rule]
        part["burst_packets"] = self._columns.burst[rule]
        first = len(self.records)
        recorded = parent & LEAF_RECORD != 0
        depth = np.ones(len(rule), np.int64)
        depth[recorded] += self._depth[parent[recorded] & LEAF_INDEX]
        self._append(part, expires, depth)
        return LEAF_RECORD | np.arange(first, len(self.records), dtype=np.uint32)

    def _append(self, part: npt.NDArray[np.void], expires: npt.NDArray[np.float64], depth: I64) -> None:
        if len(self.records) + len(part) > LEAF_INDEX:
            raise OverflowError("more expiring prefixes than a verdict table can hold")
        self.records = np.concatenate([self.records, part])
        self._expires = np.concatenate([self._expires, expires])
        self._depth = np.concatenate([self._depth, depth])

    def _outliving(self, parent: U32, expires: npt.NDArray[np.float64]) -> U32:
        """`parent`, or the leaf below it if it ends no later than the record: the kernel skips ended records. It visits
        PARENTS_MAX records at most: one that would make the chain longer is left out too."""
        parent = parent.copy()
        while True:
            recorded = np.flatnonzero(parent & LEAF_RECORD)
            index = parent[recorded] & LEAF_INDEX
            ended = self._expires[index] <= expires[recorded]
            skip = ended | (self._depth[index] >= PARENTS_MAX - 1)
            if not skip.any():
                return parent
            self.crowded |= bool((skip & ~ended).any())
            parent[recorded[skip]] = self.records["parent"][index[skip]]


def _in_turn(cell: I64, expires: npt.NDArray[np.float64]) -> list[I64]:
    """The rows painted into cells, weakest first, in parts with each cell at most once; earlier parts are painted
    first. Rows that end no later than a stronger one of their cell are left out."""
    order = np.argsort(cell, kind="stable")[::-1]  # the strongest of each cell first
    group = np.cumsum(np.append(False, np.diff(cell[order]) != 0))
    moments, moment = np.unique(expires[order], return_inverse=True)
    until = group * len(moments) + moment
    outlasts = np.append(True, until[1:] > np.maximum.accumulate(until)[:-1])
    order, group = order[outlasts][::-1], group[outlasts][::-1]  # the weakest first
    begins = np.append(True, np.diff(group) != 0)
    turn = np.arange(len(group)) - np.maximum.accumulate(np.where(begins, np.arange(len(group)), 0))
    by_turn = np.argsort(turn, kind="stable")
    return np.split(order[by_turn], np.flatnonzero(np.diff(turn[by_turn])) + 1)


def _is_row(entry: U32) -> npt.NDArray[np.bool_]:
    return np.asarray(entry & ROW == ROW)


def _pairs(rule: I64, below: U32) -> tuple[I64, U32, npt.NDArray[np.intp]]:
    pairs, inverse = np.unique(rule.astype(np.uint64) << np.uint64(32) | below, return_inverse=True)
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.uint32), inverse

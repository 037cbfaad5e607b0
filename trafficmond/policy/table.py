"""Compiles a policy into the words of the kernel's verdict table.

Precedence is resolved here: first the guard, then the allowlist, then rules and lists; among these the longest prefix.
For the same prefix, a rule that names services comes before one that does not, else a later rule of the policy first.
For services that a rule does not name, the next rule decides. Bans are in a map of their own, before rules and lists.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from trafficmond import abi, npt
from trafficmond.dataclass import dataclass
from trafficmond.model import Action, Direction
from trafficmond.npt import I64, U32
from trafficmond.policy import compiled
from trafficmond.policy.classes import Classes
from trafficmond.policy.difference import top_bits
from trafficmond.policy.flatten import Boundaries, Flat, Layered, flatten
from trafficmond.policy.ids import Pairs
from trafficmond.policy.layout import PARENTS_MAX, UNIT_WORDS
from trafficmond.policy.leaves import RuleColumns, RuleLeaves
from trafficmond.policy.load import Policy
from trafficmond.policy.prefixes import Prefixes
from trafficmond.policy.trie import Builder

_ROOM = 64  # records
_HEADER_WORDS = abi.HDR_CLASS_COUNT + 1
Chosen = slice | npt.NDArray[np.signedinteger[Any]]
_AT_ONCE = 1 << 15  # rows that are compiled at once
_WAYS = (Direction.INGRESS, Direction.EGRESS)
_ORDER = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """A change of a table that the kernel is reading. New words are written where the kernel does not read yet. The one
    word written last activates them, so that every packet sees the old table or the new one."""

    pieces: Sequence[tuple[int, U32]]  # first word, content
    last: tuple[int, int] | None  # its place and new value

    def apply(self, words: U32) -> None:
        """Makes the change. It cannot fail."""
        with _ORDER:
            for at, content in self.pieces:
                words[at : at + len(content)] = content
        with _ORDER:  # a lock orders the writes: the pieces are visible before the last word
            if self.last:
                words[self.last[0]] = self.last[1]


CROWDED = (
    f"more than {PARENTS_MAX - 1} expiring rules cover the same addresses: while no daemon runs, some of them are "
    "skipped when others have expired"
)


@dataclass(frozen=True, slots=True, eq=False)
class VerdictTable:
    """`words`: whole pages in the layout of bpf/abi.h. `live`: they are the kernel's memory, in force or staged."""

    words: U32
    generation: int
    prefixes: int  # compiled into it
    records: int
    room: int  # number of records that fit
    palette: U32
    units: int  # in use
    whole: int  # units when it was last compiled as a whole
    classes: Classes
    live: bool = False
    crowded: bool = False  # more rules that end are stacked than the kernel checks
    edit: Edit | None = None  # turns the previous table's words into this table's

    @property
    def recorded(self) -> npt.NDArray[np.void]:
        """Its records (abi.RECORD)."""
        at = int(self.words[abi.HDR_RECORDS]) * UNIT_WORDS
        return self.words[at : at + self.records * abi.RECORD.itemsize // 4].view(abi.RECORD)

    def pairs(self) -> set[int]:
        """The numbers of the pairs (`policy.ids`) in it."""
        records = self.recorded
        return set(records["verdict"][records["shadow"] != 0].tolist())


def compile_table(
    policy: Policy,
    ids: npt.NDArray[np.uint32],
    now: float,
    to_jiffies: Callable[[float], int],
    generation: int = 0,
    pairs: Pairs | None = None,
) -> VerdictTable:
    """The table of `policy`, whose rules have the numbers `ids`; rules that ended by `now` (epoch s) are left out.

    `to_jiffies` turns epoch seconds into the kernel's jiffies64. The default applies to incoming packets. It applies to
    outgoing ones too if it passes packets; else they are allowed: a default of drop does not silence the host.
    """
    columns = RuleColumns.of(policy.rules, ids)
    rows = policy.prefixes, policy.owner, columns, policy.default
    return compile_columns(*rows, now, to_jiffies, generation, policy.default_shadow, pairs)


def compile_columns(
    prefixes: Prefixes,
    owner: npt.NDArray[np.int32],
    columns: RuleColumns,
    default: Action,
    now: float,
    to_jiffies: Callable[[float], int],
    generation: int = 0,
    default_shadow: Action | None = None,
    pairs: Pairs | None = None,
) -> VerdictTable:
    """Does the same as `compile_table`, for prefixes and the rule (row of `columns`) of each."""
    rows = Rows.of(prefixes, owner, columns, now)
    classes = Classes.of(columns.services.tolist())
    pairs = pairs or Pairs()
    leaves = RuleLeaves(columns, classes, to_jiffies, None, pairs, now)
    defaults = {way: _default_leaf(default, default_shadow, way, leaves) for way in _WAYS}
    palette = _palette(rows, leaves, defaults.values())
    builder = Builder(palette)
    roots: dict[tuple[int, tuple[int, int] | bytes], int] = {}
    header = np.zeros(_HEADER_WORDS, np.uint32)
    for direction, leaf in defaults.items():
        for family in (4, 6):
            chosen = rows.select(family, direction)
            # An empty trie serves both families; one whose rules say "both" serves both directions.
            key = (leaf, (chosen.start, chosen.stop) if isinstance(chosen, slice) else chosen.tobytes())
            if key not in roots:
                roots[key] = builder.add_trie(_flat(rows, chosen, leaf, leaves, builder))
            header[abi.HDR_ROOT + 2 * direction + (family == 6)] = roots[key]
    records = with_room(leaves.records)
    header[abi.HDR_RECORDS] = builder.add(records.view(np.uint32))
    if classes.count > 1:
        header[abi.HDR_CLASSES] = builder.add(classes.of_place.view(np.uint32))
        header[abi.HDR_CLASS_COUNT] = classes.count
    header[abi.HDR_MAGIC] = abi.TABLE_MAGIC
    header[abi.HDR_GENERATION] = generation & 0xFFFFFFFF
    header[abi.HDR_RECORD_COUNT] = len(leaves.records)
    words = builder.words()
    words[: len(header)] = header
    counted = len(rows.owner), len(leaves.records), len(records)
    units, crowded = builder.units, leaves.crowded
    return VerdictTable(words, generation, *counted, palette, units, units, classes, crowded=crowded)


def _flat(
    rows: Rows, chosen: Chosen, default: int, leaves: RuleLeaves, builder: Builder
) -> Iterator[tuple[slice, Flat]]:
    """The boundaries of some rows over a default, by consecutive slots of a root."""
    for slots, part in rows.parts(chosen):
        yield slots, with_rows(flatten(rows.layered(part, leaves), default, leaves), leaves, builder)


def with_rows(flat: Flat, leaves: RuleLeaves, builder: Builder) -> Flat:
    """`flat` with its rows of leaves added to the table."""
    upper, lower = (Boundaries(plane.at, leaves.place(plane.entry, builder.add)) for plane in (flat.upper, flat.lower))
    return Flat(upper, lower, flat.starts)


def with_room(records: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """`records`, followed by space for later ones."""
    return np.concatenate([records, np.zeros(_ROOM + len(records) // 4, abi.RECORD)])


def _default_leaf(default: Action, shadow: Action | None, direction: Direction, leaves: RuleLeaves) -> int:
    """The leaf of addresses that no rule names; for ingress with the default in shadow."""
    leaf = int(default_action(default, direction)) << abi.ACTION_SHIFT
    if shadow is None or direction is Direction.EGRESS:
        return leaf
    return leaves.shadow_of(int(shadow) << abi.ACTION_SHIFT, leaf)


def _palette(rows: Rows, leaves: RuleLeaves, defaults: Iterable[int]) -> U32:
    """The most frequent leaves: both defaults, and those of the rules with the most prefixes; ascending."""
    prefixes = np.bincount(rows.owner, minlength=len(rows.columns.rank))
    prefixes[rows.columns.through] = 0
    most = np.argsort(prefixes)[-(abi.PALETTE_MAX - 2) :]
    palette: U32 = np.unique(
        np.concatenate([np.array(list(defaults), np.uint32), leaves.fixed(most[prefixes[most] > 0])])
    )
    return palette


def default_action(default: Action, direction: Direction) -> Action:
    """The action for an address that no rule names, by direction."""
    return Action.ALLOW if direction is Direction.EGRESS and default is Action.DROP else default


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The prefixes in force and their rules, by family, address, length and class; of equal ones those for some
    services come last, otherwise they are in the order of the policy.
    """

    prefixes: Prefixes
    owner: npt.NDArray[np.int32]
    columns: RuleColumns

    @classmethod
    def of(cls, prefixes: Prefixes, owner: npt.NDArray[np.int32], columns: RuleColumns, now: float) -> Rows:
        """The rows whose rule has not ended by `now`."""
        lasts = columns.expires > now
        if not lasts.all():
            index = np.flatnonzero(lasts[owner])
            prefixes, owner = prefixes.take(index), owner[index]
        tail = (columns.rank << 1 | columns.some_services).astype(np.uint8)[owner]
        prefixes, order = compiled.in_order(prefixes, tail)
        return cls(prefixes, owner[order], columns)

    def select(self, family: int, direction: Direction) -> Chosen:
        begin, end = np.searchsorted(self.prefixes.family, (family, family + 1)).tolist()
        counts = (self.columns.direction == direction) | (self.columns.direction == Direction.BOTH)
        if counts.all():
            return slice(begin, end) if begin < end else slice(0, 0)
        chosen = begin + np.flatnonzero(counts[self.owner[begin:end]])
        if not len(chosen):
            return slice(0, 0)
        return slice(begin, end) if len(chosen) == end - begin else chosen

    def parts(self, chosen: Chosen) -> Iterator[tuple[slice, Chosen]]:
        """Consecutive slots of a root, in whole units, and the chosen rows that reach into them; parts are small enough
        to compile in little memory."""
        slot = top_bits(self.prefixes)[chosen]
        if len(slot) <= _AT_ONCE:
            yield slice(0, 1 << abi.ROOT_BITS), chosen
            return
        index = np.arange(len(self.owner), dtype=np.int32)[chosen]
        cuts = np.unique(np.append(slot[_AT_ONCE::_AT_ONCE] // UNIT_WORDS * UNIT_WORDS, np.uint16(0)))
        begins = [*np.searchsorted(slot, cuts).tolist(), len(slot)]
        firsts = [*cuts.tolist(), 1 << abi.ROOT_BITS]
        length = self.prefixes.plen[chosen]
        wide = np.flatnonzero(length < abi.ROOT_BITS)
        past = slot[wide].astype(np.int64) + (1 << abi.ROOT_BITS - length[wide].astype(np.int64))
        for number, (first, begin) in enumerate(zip(firsts[:-1], begins, strict=False)):
            reaching = wide[(wide < begin) & (past > first)]
            part = index[np.append(reaching, np.arange(begin, begins[number + 1]))]
            yield slice(first, firsts[number + 1]), part

    def layered(self, chosen: Chosen, leaves: RuleLeaves) -> Layered:
        """The rows in painting order: by class, then length, then place in the policy. Of equal prefixes, only those
        that an expiry or a service not named by others can uncover; those for services count as one."""
        rule = self.owner[chosen].astype(np.int64)
        prefixes = self.prefixes.take(chosen)
        hi, lo, plen = prefixes.hi, prefixes.lo, prefixes.plen.astype(np.int64)
        rank, through = self.columns.rank[rule], self.columns.through[rule]
        equal = (hi[1:] == hi[:-1]) & (lo[1:] == lo[:-1]) & (plen[1:] == plen[:-1]) & (rank[1:] == rank[:-1])
        depth = np.zeros(0, np.int64)
        if equal.any():
            one, rule = _stacked(equal, rule, self.columns.stackable[rule], leaves)
            hi, lo, plen, rank = hi[one], lo[one], plen[one], rank[one]
            through = through[one]
            keep, depth = _uncoverable(equal[one[:-1]], through)
            hi, lo, plen, rank = hi[keep], lo[keep], plen[keep], rank[keep]
            rule, through = rule[keep], through[keep]
        layer = rank << 8 | plen
        layer = layer << 24 | depth if depth.any() else layer.astype(np.uint16)  # which sorts fast
        return Layered(hi, lo, plen, rank, layer, rule, through)


def _stacked(
    equal: npt.NDArray[np.bool_], rule: I64, stackable: npt.NDArray[np.bool_], leaves: RuleLeaves
) -> tuple[I64, I64]:
    """Merges rows of equal prefixes that can be painted together. Returns the remaining rows (the last of each group),
    and their rules, or the numbers that stand for several."""
    joined = equal & stackable[1:] & stackable[:-1]
    last = np.flatnonzero(np.append(~joined, True))
    if len(last) == len(rule):
        return last, rule
    first = np.append(0, last[:-1] + 1)
    rule = rule.copy()
    for row in np.flatnonzero(last > first).tolist():
        rule[last[row]] = leaves.stack(rule[first[row] : last[row] + 1])
    return last, rule[last]


def _uncoverable(equal: npt.NDArray[np.bool_], through: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], I64]:
    """A mask of rows that count, and each one's place above the lowest that counts, in runs of equal prefixes
    (`equal[i]`: row i + 1 equals row i), weakest first. A row counts unless a stronger one hides it permanently."""
    row = np.arange(len(through))
    begins = np.append(True, ~equal)
    first = np.flatnonzero(begins)
    strongest_hiding = np.maximum.reduceat(np.where(through, -1, row), first)
    lowest = np.maximum(strongest_hiding, first)[np.cumsum(begins) - 1]
    keep = row >= lowest
    return keep, (row - lowest)[keep]

"""A verdict table with a few rules added or removed, at the cost of only these rules.

The slots of the roots with changed prefixes are recompiled and appended to the table; what was below them stays there,
unused. If that is much, or many slots are touched, the whole table must be compiled.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from trafficmond import abi, npt
from trafficmond.dataclass import dataclass
from trafficmond.model import Direction
from trafficmond.npt import I64, U32, Bool
from trafficmond.policy.classes import Classes
from trafficmond.policy.difference import ends_alike, only_in_one, top_bits
from trafficmond.policy.flatten import flatten
from trafficmond.policy.ids import Pairs, common_beginning
from trafficmond.policy.layout import UNIT_WORDS
from trafficmond.policy.leaves import RuleColumns, RuleLeaves
from trafficmond.policy.load import Policy
from trafficmond.policy.prefixes import Prefixes, concat, mask
from trafficmond.policy.table import Edit, Rows, VerdictTable, default_action, with_room, with_rows
from trafficmond.policy.trie import Builder

_SLOTS = 1 << abi.ROOT_BITS
_AT_ONCE = 1 << 16  # prefixes
_MOST_SLOTS = 1024  # touched, beyond which it is not worthwhile
_RECORD_WORDS = abi.RECORD.itemsize // 4
_MOST_RULES = 64  # with changed prefixes, between the unchanged ones
_MOST_ROWS = 1 << 16  # prefixes of these that only one side has


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    policy: Policy
    columns: RuleColumns  # of its rules


@dataclass(frozen=True, slots=True, eq=False)
class _Reach:
    touched: Bool  # slots of a root
    roots: Mapping[int, tuple[int, Direction]]  # the unit of each changed root, with its family and direction
    classes: Classes


def near(table: VerdictTable, before: Source, after: Source) -> bool:
    """Whether the table of `after` can be made from that of `before`; a quick estimate."""
    return _reach(table, before, after) is not None


def patched(
    table: VerdictTable,
    before: Source,
    after: Source,
    now: float,
    to_jiffies: Callable[[float], int],
    generation: int,
    pairs: Pairs | None = None,
) -> VerdictTable | None:
    """The table of `after`, made from that of `before`; None: compile it. Other parameters as for `compile_table`."""
    reach = _reach(table, before, after)
    if reach is None:
        return None
    wanted = np.flatnonzero(reach.touched)
    chosen, owner, columns = _within(after, reach.touched)
    rows_in_force = Rows.of(chosen, owner, columns, now)
    leaves = RuleLeaves(columns, reach.classes, to_jiffies, table.recorded.copy(), pairs, now)
    builder = Builder(table.palette, table.units)
    last_words: list[tuple[int, int]] = []
    for root, (family, direction) in reach.roots.items():
        layered = rows_in_force.layered(rows_in_force.select(family, direction), leaves)
        default = int(default_action(after.policy.default, direction)) << abi.ACTION_SHIFT
        entries = builder.add_slots(with_rows(flatten(layered, default, leaves), leaves, builder), wanted)
        places = root * UNIT_WORDS + wanted
        others = np.flatnonzero(table.words[places] != entries)
        last_words += zip(places[others].tolist(), entries[others].tolist(), strict=True)
    pieces, room = _with_records(table, leaves, builder)
    for at, word in (abi.HDR_GENERATION, generation & 0xFFFFFFFF), (abi.HDR_RECORD_COUNT, len(leaves.records)):
        pieces.append((at, np.array([word], np.uint32)))
    if builder.units > _most_units(table.whole):
        return None
    in_place = table.live and len(last_words) <= 1 and room == table.room
    if in_place and builder.units * UNIT_WORDS <= len(table.words):
        words, edit = table.words, Edit(pieces, last_words[0] if last_words else None)
    else:
        words, edit = _copied(table, pieces, last_words, builder.units), None
    return VerdictTable(
        words,
        generation,
        prefixes=int(np.diff(after.policy.starts)[after.columns.expires > now].sum()),
        records=len(leaves.records),
        room=room,
        palette=table.palette,
        units=builder.units,
        whole=table.whole,
        crowded=table.crowded or leaves.crowded,
        classes=reach.classes,
        live=edit is not None,
        edit=edit,
    )


def _reach(table: VerdictTable, before: Source, after: Source) -> _Reach | None:
    """The reach of a change; None: too large, or too different."""
    if after.policy.default_shadow is not None or before.policy.default_shadow is not None:
        return None
    if before.policy.default is not after.policy.default:
        return None
    changed = _changed(before, after)
    if changed is None:
        return None
    rows, directions = changed
    first, last = _slots_of(rows)
    if int((last - first + 1).sum()) > _MOST_SLOTS:
        return None
    roots = _roots(table, rows, directions)
    if roots is None:
        return None
    touched = np.zeros(_SLOTS, np.bool_)
    for one, other in zip(first.tolist(), last.tolist(), strict=True):
        touched[one : other + 1] = True
    classes = Classes.of(after.columns.services[after.columns.some_services].tolist())
    return _Reach(touched, roots, classes) if classes.same(table.classes) else None


def _with_records(table: VerdictTable, leaves: RuleLeaves, builder: Builder) -> tuple[list[tuple[int, U32]], int]:
    """The pieces that the builder and new records add, and the room for records."""
    if len(leaves.records) <= table.room:
        at = int(table.words[abi.HDR_RECORDS]) * UNIT_WORDS + table.records * _RECORD_WORDS
        return [builder.added(), (at, leaves.records[table.records :].view(np.uint32))], table.room
    roomy = with_room(leaves.records)
    unit = builder.add(roomy.view(np.uint32))
    return [builder.added(), (abi.HDR_RECORDS, np.array([unit], np.uint32))], len(roomy)


def _copied(table: VerdictTable, pieces: Sequence[tuple[int, U32]], last: Sequence[tuple[int, int]], units: int) -> U32:
    words = np.zeros(-(-units // abi.PAGE_UNITS) * abi.PAGE_WORDS, np.uint32)
    before = table.units * UNIT_WORDS
    words[:before] = table.words[:before]
    for at, content in pieces:
        words[at : at + len(content)] = content
    for at, word in last:
        words[at] = word
    return words


def _changed(before: Source, after: Source) -> tuple[Prefixes, I64] | None:
    """The prefixes that only one has, and their rules' directions; None: too many, or rules differ in more."""
    old, new = before.policy, after.policy
    head = common_beginning(old.rules, new.rules, new.begins_as(old))
    tail = common_beginning(old.rules[head:][::-1], new.rules[head:][::-1])
    found: list[tuple[Prefixes, I64]] = []
    for source in (before, after):
        policy, last = source.policy, len(source.policy.rules) - tail
        rows = slice(int(policy.starts[head]), int(policy.starts[last]))
        found.append((policy.prefixes.take(rows), source.columns.direction[policy.owner[rows]].astype(np.int64)))
    for first, end, shift in (0, head, 0), (len(old.rules) - tail, len(old.rules), len(new.rules) - len(old.rules)):
        others = _others(before, after, first, end, shift)
        if others is None:
            return None
        found += others
    return concat([prefixes for prefixes, _ in found]), np.concatenate([way for _, way in found])


def _others(before: Source, after: Source, first: int, last: int, shift: int) -> list[tuple[Prefixes, I64]] | None:
    """The prefixes that only one of the two has, of rules `first` to `last`, which are at + `shift` in the other; None:
    their words differ, or too many prefixes."""
    for mine, others in (before.columns.verdict, after.columns.verdict), (before.columns.shadow, after.columns.shadow):
        if not np.array_equal(mine[first:last], others[first + shift : last + shift]):
            return None
    old, new = before.policy, after.policy
    one = old.prefixes.take(slice(int(old.starts[first]), int(old.starts[last])))
    other = new.prefixes.take(slice(int(new.starts[first + shift]), int(new.starts[last + shift])))
    counts = (np.diff(source.starts[at : last - first + at + 1]) for source, at in ((old, first), (new, first + shift)))
    head, tail = ends_alike(one, other)
    other_counts = np.flatnonzero(np.not_equal(*counts))
    if head + tail == len(one) == len(other) and not len(other_counts):
        return []
    # Rules before the first different row or count, and after the last, are unchanged.
    begins = int(np.searchsorted(old.starts[first : last + 1], int(old.starts[first]) + head, "right")) - 1
    ends = int(np.searchsorted(old.starts[first : last + 1], int(old.starts[last]) - tail, "left"))
    if len(other_counts):
        begins, ends = min(begins, int(other_counts[0])), max(ends, int(other_counts[-1]) + 1)
    if ends - begins > _MOST_RULES:
        return None
    found = []
    for rule in range(first + begins, min(first + ends, last)):
        rows = only_in_one(old.prefixes_of(rule), new.prefixes_of(rule + shift), _MOST_ROWS)
        if rows is None:
            return None
        found.append((rows, np.full(len(rows), before.columns.direction[rule], np.int64)))
    return found


def _slots_of(rows: Prefixes) -> tuple[I64, I64]:
    above = np.uint64(64 - abi.ROOT_BITS)
    last = rows.hi | ~mask(rows.plen.astype(np.int64))
    return (rows.hi >> above).astype(np.int64), (last >> above).astype(np.int64)


def _roots(table: VerdictTable, rows: Prefixes, directions: I64) -> dict[int, tuple[int, Direction]] | None:
    """The unit, family and direction of each root to be changed; None: a root also serves others that do not change."""
    found: dict[int, tuple[int, Direction]] = {}
    changes: dict[int, Bool] = {}
    for direction in (Direction.INGRESS, Direction.EGRESS):
        for family in (4, 6):
            root = int(table.words[abi.HDR_ROOT + 2 * direction + (family == 6)])
            mine = (rows.family == family) & ((directions == direction) | (directions == Direction.BOTH))
            if not np.array_equal(changes.setdefault(root, mine), mine):
                return None
            if mine.any():
                found[root] = family, direction
    return found


def _within(after: Source, touched: Bool) -> tuple[Prefixes, npt.NDArray[np.int32], RuleColumns]:
    """The prefixes in touched slots, the place of each one's rule, and the columns of those rules."""
    policy = after.policy
    slot, lies_in = top_bits(policy.prefixes), np.empty(len(policy.prefixes), np.bool_)
    for at in range(0, len(slot), _AT_ONCE):  # an index is eight bytes, of all of them many
        lies_in[at : at + _AT_ONCE] = touched[slot[at : at + _AT_ONCE]]
    wide = np.flatnonzero(policy.prefixes.plen < abi.ROOT_BITS)
    first, last = _slots_of(policy.prefixes.take(wide))
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(touched)])
    lies_in[wide] = before[last + 1] > before[first]
    index = np.flatnonzero(lies_in)
    rules, owner = np.unique(policy.owner[index], return_inverse=True)
    return policy.prefixes.take(index), owner.astype(np.int32), after.columns.take(rules.astype(np.int64))


def _most_units(whole: int) -> int:
    """The limit of a table's growth: by half, but not into a size with which the kernel is slower."""
    most = whole + whole // 2
    for pages in (abi.SMALL_PAGES, abi.LARGE_PAGES):
        if whole <= pages * abi.PAGE_UNITS:
            return min(most, pages * abi.PAGE_UNITS)
    return most

"""The sources that can still open connections under a default of drop. Pure."""

from collections.abc import Iterable
from ipaddress import collapse_addresses

import numpy as np

from trafficmond import networks, services
from trafficmond.dataclass import dataclass
from trafficmond.model import Action, Direction, Reason
from trafficmond.networks import Network
from trafficmond.npt import U32, Bool
from trafficmond.policy.leaves import RANK, RuleColumns
from trafficmond.policy.load import Policy
from trafficmond.policy.table import VerdictTable
from trafficmond.policy.walk import lookup
from trafficmond.verdict import is_drop

MOST = 1000  # allowed prefixes that are checked one by one; of more, only the number is given
_FAMILIES = (4, 6)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Admission:
    """The sources that a service accepts besides those that the guard protects, by family; an empty list: none. A
    family that is open except for dropped sources is left out."""

    let_in: dict[int, list[Network]]
    more: int = 0  # further prefixes that may be allowed, beyond the bound


class Admissions:
    """The sources that a policy accepts at `now` (epoch s), by service. `policy`, whose rules have these `columns`, is
    compiled into `table`. Bans, which end by themselves, are ignored."""

    def __init__(self, policy: Policy, columns: RuleColumns, table: VerdictTable, now: float) -> None:
        self._policy, self._columns, self._table, self._now = policy, columns, table, now
        self._admits, self._drops = _admits(columns), _drops(columns, now)
        self._known: dict[int, Admission] = {}  # by class of services

    @property
    def any_closed(self) -> bool:
        """Whether there may be a service that is not open to all sources but those dropped."""
        policy = self._policy
        whole = policy.owner[policy.prefixes.plen == 0]
        shut = policy.default is Action.DROP or bool(self._drops[whole].any())
        return shut or any(_dropped_in_parts(policy, family, self._drops) for family in _FAMILIES)

    @property
    def anybody(self) -> bool:
        """Whether any rule accepts any source."""
        return bool(self._admits.any())

    def to(self, protocol: int, port: int) -> Admission:
        """The sources that a port accepts."""
        place = services.place(protocol, port)
        number = int(self._table.classes.of_place[place])
        if number not in self._known:
            named = _named(self._columns, place)
            args = self._policy, self._table.words, self._now, place
            self._known[number] = _admission(*args, named, self._admits & named, self._drops & named)
        return self._known[number]


def _admission(policy: Policy, table: U32, now: float, place: int, named: Bool, admits: Bool, drops: Bool) -> Admission:
    shut = [
        family
        for family in _FAMILIES
        if _rest(policy, family, now, named) is Action.DROP or _dropped_in_parts(policy, family, drops)
    ]
    if not shut:
        return Admission({})
    found = np.flatnonzero(admits[policy.owner]) if len(policy.owner) else np.zeros(0, np.int64)
    chosen = policy.prefixes.take(found[:MOST])
    there = [networks.parse(chosen.text(row)) for row in range(len(chosen))]
    let_in = {family: _passing([each for each in there if each.version == family], table, place) for family in shut}
    # The rules that drop all parts of a family may be weaker than one that allows all of it.
    let_in = {family: some for family, some in let_in.items() if not some or some[0].prefixlen}
    return Admission(let_in, len(found) - len(there))


def _admits(columns: RuleColumns) -> Bool:
    """A mask of rules that accept anything but lifelines."""
    guard = columns.rank == RANK[Reason.GUARD]
    return np.asarray(~columns.shadow & ~is_drop(columns.verdict) & (columns.direction != Direction.EGRESS) & ~guard)


def _drops(columns: RuleColumns, now: float) -> Bool:
    there = ~columns.shadow & (columns.direction != Direction.EGRESS) & (columns.expires > now)
    return np.asarray(there & is_drop(columns.verdict))


def _dropped_in_parts(policy: Policy, family: int, drops: Bool) -> bool:
    """Whether the rules of a mask name all sources of a family, such as 0.0.0.0/1 and 128.0.0.0/1."""
    every = policy.prefixes
    # Shorter than a /64 are all that can be together; of a /0 it matters which rule is the strongest.
    rows = (every.family == family) & (every.plen > 0) & (every.plen < 64)
    if np.bincount(every.plen[rows], minlength=64) @ np.exp2(-np.arange(64.0)) < 1:
        return False
    parts = every.take(rows & drops[policy.owner])
    parts = parts.take(np.argsort(parts.hi))
    ends = np.maximum.accumulate(parts.hi | _ALL >> parts.plen.astype(np.uint64))
    gaps = (parts.hi[1:] > ends[:-1]) & (parts.hi[1:] - np.uint64(1) != ends[:-1])
    return bool(len(parts) and parts.hi[0] == 0 and ends[-1] == _ALL and not gaps.any())


def _named(columns: RuleColumns, place: int) -> Bool:
    some = columns.some_services
    named = ~some
    for index in np.flatnonzero(some).tolist():
        named[index] = services.contains(columns.services[index], ((place, place),))
    return named


def _rest(policy: Policy, family: int, now: float, named: Bool) -> Action:
    """The action for a source that matches only rules for a whole family: the last of them wins, and those that name
    the service precede others."""
    action, strength = policy.default, (False, -1)
    for row in np.flatnonzero((policy.prefixes.plen == 0) & (policy.prefixes.family == family)).tolist():
        index = int(policy.owner[row])
        rule = policy.rules[index]
        if not named[index] or rule.shadow or rule.direction is Direction.EGRESS or (rule.expires or now + 1) <= now:
            continue
        if (bool(rule.services), index) > strength:
            action, strength = rule.action, (bool(rule.services), index)
    return action


def _passing(found: Iterable[Network], table: U32, place: int) -> list[Network]:
    """The prefixes whose first or last address passes, since a stronger rule may drop them. Neighbours are joined."""
    left = [each for each in found if any(passes(end, table, place) for end in (each[0], each[-1]))]
    return list(collapse_addresses(left))  # type: ignore[type-var]


def passes(address: networks.Address, table: U32, place: int) -> bool:
    """Whether a table accepts packets from an address to a service, given by its place."""
    octets = address.packed.ljust(16, b"\0")
    hi, lo = (np.array([int.from_bytes(octets[at : at + 8], "big")], np.uint64) for at in (0, 8))
    word, _ = lookup(table, address.version, Direction.INGRESS, hi, lo, what=place)
    return not is_drop(word)[0]

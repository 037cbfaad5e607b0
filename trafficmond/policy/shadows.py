"""Rules that never decide because of others, for `check`. Pure."""

from collections.abc import Iterator
from itertools import chain, islice

import numpy as np

from trafficmond import npt, services
from trafficmond.errors import Advice
from trafficmond.model import Action, Direction, Reason
from trafficmond.policy.explain import overlapping
from trafficmond.policy.geography import By
from trafficmond.policy.leaves import rank
from trafficmond.policy.load import Policy
from trafficmond.policy.rules import Rule
from trafficmond.services import Places

_MOST_EQUAL = 200  # rules on one prefix that are compared with each other
_MOST_LOOKED_AT = 50  # rules that drop some services, and prefixes of each
_WRITTEN = (Reason.RULE, Reason.LIST)


def shadows(policy: Policy, now: float) -> Iterator[Advice]:
    """A note on each rule that never decides, or drops some services, but not from sources that others only monitor."""
    for index, by in sorted(_hidden(policy, now).items()):
        before, rule = policy.rules[by], policy.rules[index]
        least = services.with_unread(rule.services, rule.action is not Action.DROP, False)
        but = "" if services.contains(before.judged, least) else " except about later fragments"
        what = f"this rule never decides{but}: {before.source} ({before.name}) comes before it on each of its prefixes"
        yield Advice(rule.source, what)
    yield from _beneath(policy, now)
    stops = (Action.DROP, Action.LIMIT)
    some = ((at, rule) for at, rule in enumerate(policy.rules) if rule.services and rule.action in stops)
    dropping = list(islice((each for each in some if _written(each[1], now)), _MOST_LOOKED_AT))
    watching = _watching(policy, now) if dropping else np.zeros(0, np.bool_)
    for index, rule in dropping:
        watched = _watched_within(policy, index, watching)
        if watched:
            row, more = watched[0], len(watched) - 1
            other = policy.rules[int(policy.owner[row])]
            also = f" and {more:,} more" if more else ""
            named = ", ".join(services.text(rule.services))
            what = (
                f"does not {rule.action} {named} from {policy.prefixes.text(row)}{also}: "
                f'{other.source} names them without ports, with action = "monitor", and the longer prefix decides'
            )
            yield Advice(rule.source, what)


def still_allowed(policy: Policy, cidr: str, dropped: Places, now: float) -> list[str]:
    """A note on longer prefixes within `cidr` that other rules still accept for some of the services `dropped` by a
    rule on `cidr`; empty if there are none."""
    allowing = (
        rule.action is Action.ALLOW
        and not rule.shadow
        and rule.direction in (Direction.INGRESS, Direction.BOTH)
        and _written(rule, now)
        and (not rule.services or services.overlap(rule.judged, dropped))
        for rule in policy.rules
    )
    allows = np.fromiter(allowing, np.bool_, len(policy.rules))
    rows = overlapping(policy, cidr)
    rows = rows[allows[policy.owner[rows]] & (policy.prefixes.plen[rows] > int(cidr.rpartition("/")[2]))]
    if not len(rows):
        return []
    rule, more = policy.rules[int(policy.owner[rows[0]])], len(rows) - 1
    also = f" and {more:,} more" if more else ""
    named = ", ".join(services.text(dropped))
    what = f"{policy.prefixes.text(int(rows[0]))}{also} can still connect to {named}"
    return [f"{what}: {rule.source} ({rule.name}) allows it, and the longer prefix decides"]


def _hidden(policy: Policy, now: float) -> dict[int, int]:
    """Rule -> a rule that hides it, for each rule with all prefixes hidden."""
    rows = policy.prefixes
    order = np.lexsort((policy.owner, rows.plen, rows.lo, rows.hi, rows.family))
    same = np.ones(max(len(order) - 1, 0), np.bool_)
    for column in (rows.plen, rows.lo, rows.hi, rows.family):
        same &= column[order][1:] == column[order][:-1]
    begins = np.flatnonzero(np.append(True, ~same)[: len(order)])
    ends = np.append(begins[1:], len(order))
    shown = np.zeros(len(policy.rules), np.bool_)
    by: dict[int, int] = {}
    several = ends - begins > 1
    shown[policy.owner[order[begins[~several]]]] = True
    for begin, end in zip(begins[several].tolist(), ends[several].tolist(), strict=True):
        here = sorted({int(owner) for owner in policy.owner[order[begin:end]]})
        for index in here:
            hiding = None
            if len(here) <= _MOST_EQUAL:
                hiding = next((other for other in here if other != index and _hides(policy, other, index, now)), None)
            if hiding is None:
                shown[index] = True
            else:
                by[index] = hiding
    return {index: other for index, other in by.items() if not shown[index] and _written(policy.rules[index], now)}


def _hides(policy: Policy, one: int, other: int, now: float) -> bool:
    """Whether a rule always decides before the other, on the same prefix."""
    strong, weak = policy.rules[one], policy.rules[other]
    if (
        not _written(strong, now)
        or strong.expires is not None
        or strong.shadow
        or strong.direction not in (weak.direction, Direction.BOTH)
    ):
        return False
    if (rank(strong), bool(strong.services), one) < (rank(weak), bool(weak.services), other):
        return False
    return bool(weak.services or not strong.services) and services.contains(strong.services, weak.services)


def _beneath(policy: Policy, now: float) -> Iterator[Advice]:
    """A note on each rule by country or system that rules for every address keep from deciding, about some services."""
    owners = np.unique(policy.owner[policy.prefixes.plen == 0]).tolist()
    above = [policy.rules[owner] for owner in owners]
    above = [each for each in above if _written(each, now) and each.expires is None and not each.shadow]
    for rule in policy.rules:
        if rule.by is By.CIDR or not _written(rule, now):
            continue
        ways = (rule.direction, Direction.BOTH)
        over = [each for each in above if each.direction in ways and each.action is not rule.action]
        over = [each for each in over if services.overlap(each.services, rule.services)]
        if over:
            shared = services.merged(
                chain.from_iterable(services.common(each.services, rule.services) for each in over)
            )
            named = "anything" if any(not each.services for each in over) else ", ".join(services.text(shared))
            what = f"does not {rule.action} {named}: {over[0].source} ({over[0].name}) is for every address"
            yield Advice(rule.source, f"{what}, and comes before rules by country or asn")


def _written(rule: Rule, now: float) -> bool:
    return rule.reason in _WRITTEN and (rule.expires is None or rule.expires > now)


def _watched_within(policy: Policy, index: int, watching: npt.NDArray[np.bool_]) -> list[int]:
    """Rows of longer prefixes within the rule's that other rules monitor for all services."""
    rule, prefixes = policy.rules[index], policy.prefixes_of(index)
    found: set[int] = set()
    for at in range(min(len(prefixes), _MOST_LOOKED_AT)):
        rows = overlapping(policy, prefixes.text(at))
        rows = rows[watching[rows] & (policy.prefixes.plen[rows] > prefixes.plen[at])]
        ways = ({rule.direction, policy.rules[int(policy.owner[row])].direction} for row in rows)
        found |= {row for row, way in zip(rows.tolist(), ways, strict=True) if len(way) == 1 or Direction.BOTH in way}
    return sorted(found)


def _watching(policy: Policy, now: float) -> npt.NDArray[np.bool_]:
    """A mask of rows whose rule monitors all services."""
    rules = (rule.action is Action.MONITOR and not rule.services and _written(rule, now) for rule in policy.rules)
    return np.asarray(np.fromiter(rules, np.bool_, len(policy.rules))[policy.owner])

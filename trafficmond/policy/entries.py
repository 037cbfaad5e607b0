"""A policy as tables with the keys of a [[rule]], and the difference of two policies.

A list is named by its file, without its content. The guard, which follows the host's addresses, is left out.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trafficmond import services
from trafficmond.model import Action, Direction, Reason
from trafficmond.policy.geography import By
from trafficmond.policy.ids import common_beginning
from trafficmond.policy.load import Policy
from trafficmond.policy.prefixes import Prefixes
from trafficmond.policy.rules import Rule, Rules

Entry = dict[str, Any]
SOURCE = "source"  # of an entry: the file of its rule, "runtime", or a key of the settings
DEFAULT = "default"  # an entry with only that key is the default

_AT_ONCE = 1000  # prefixes in an entry; a rule with more has several


def entries(policy: Policy) -> list[Entry]:
    """The entries of a policy: the default, then rules, weakest first."""
    return [_default(policy), *(entry for part in policy.parts for entry in of_rules(part))]


def difference(before: Policy, after: Policy) -> tuple[list[Entry], list[Entry]]:
    """The entries that only the first has, and those that only the second has; quick if little changed."""
    known, found = {id(part) for part in before.parts}, {id(part) for part in after.parts}
    old = [part for part in before.parts if id(part) not in found]
    new = [part for part in after.parts if id(part) not in known]
    one: list[Entry] = []
    other: list[Entry] = []
    if len(old) == len(new):  # the same sources, some with other content
        for mine, others in zip(old, new, strict=True):
            gone, come = _middle(mine, others)
            one, other = [*one, *gone], [*other, *come]
    else:
        one, other = ([entry for part in parts for entry in of_rules(part)] for parts in (old, new))
    if _default(before) != _default(after):
        one, other = [_default(before), *one], [_default(after), *other]
    return without(one, other), without(other, one)


def counted(before: Policy, after: Policy) -> str:
    """The number of different rules, settings apart: "1 removed, 2 added"; empty if there are none."""
    both = zip(("removed", "added"), difference(before, after), strict=True)
    counts = ((word, sum(DEFAULT not in each and "allowlist" not in each for each in found)) for word, found in both)
    return ", ".join(f"{count:,} {word}" for word, count in counts if count)


def placed(entry: Entry, tried: Path, place: Path) -> Entry:
    """An entry of rules on probation, with its source once they are confirmed."""
    return entry | {key: _placed(Path(entry[key]), tried, place) for key in (SOURCE, "list") if key in entry}


def _placed(path: Path, tried: Path, place: Path) -> str:
    return str(place / path.relative_to(tried) if path.is_relative_to(tried) else path)


def of_rules(part: Rules) -> list[Entry]:
    return list(_of(part, 0, len(part.rules)))


def without(these: Sequence[Entry], those: Sequence[Entry]) -> list[Entry]:
    """The multiset difference `these` - `those`."""
    if not (these and those):
        return list(these)
    left = Counter(map(_key, those))
    found = []
    for entry in these:
        key = _key(entry)
        if left[key]:
            left[key] -= 1
        else:
            found.append(entry)
    return found


def source_line(policy: Policy, wanted: Entry) -> int:
    """The line of the rule of an entry; 0: unknown, or it is not in force."""
    key = _key(wanted)
    for part in policy.parts:
        for index, rule in enumerate(part.rules):
            if rule.path == wanted.get(SOURCE) and any(_key(each) == key for each in _of(part, index, index + 1)):
                return rule.line
    return 0


def _key(entry: Entry) -> str:
    return json.dumps(entry, sort_keys=True)


def _default(policy: Policy) -> Entry:
    return {DEFAULT: policy.default_text, SOURCE: "policy.default"}


def _middle(old: Rules, new: Rules) -> tuple[list[Entry], list[Entry]]:
    """The entries of two parts without their common beginning and end."""
    head = common_beginning(old.rules, new.rules)
    if not _same(old, new, slice(0, head), slice(0, head)):
        head = 0
    tail = common_beginning(old.rules[head:][::-1], new.rules[head:][::-1])
    ends = slice(len(old.rules) - tail, len(old.rules)), slice(len(new.rules) - tail, len(new.rules))
    if not _same(old, new, *ends):
        tail = 0
    parts = (old, len(old.rules) - tail), (new, len(new.rules) - tail)
    one, other = (list(_of(part, head, last)) for part, last in parts)
    return one, other


def _same(old: Rules, new: Rules, mine: slice, others: slice) -> bool:
    """Whether some rules of both have the same prefixes."""
    if not np.array_equal(old.counts[mine], new.counts[others]):
        return False
    one, other = (
        part.prefixes.take(_rows(part, place.start, place.stop)) for part, place in ((old, mine), (new, others))
    )
    return one.same(other)


def _rows(part: Rules, first: int, last: int) -> slice:
    start = int(part.counts[:first].sum())
    return slice(start, start + int(part.counts[first:last].sum()))


def _of(part: Rules, first: int, last: int) -> Iterator[Entry]:
    at = int(part.counts[:first].sum())
    for index in range(first, last):
        rule, count = part.rules[index], int(part.counts[index])
        if rule.reason is not Reason.GUARD:
            yield from _entries_of(rule, part.prefixes, at, count)
        at += count


def _entries_of(rule: Rule, prefixes: Prefixes, at: int, count: int) -> Iterator[Entry]:
    words = _words(rule)
    if rule.reason is Reason.LIST:
        yield {"list": rule.path, **words}
    elif rule.by is not By.CIDR:
        yield {str(rule.by): list(rule.places), **words}
    else:
        name = "allowlist" if rule.reason is Reason.ALLOWLIST else "cidr"
        words = words if name == "cidr" else {SOURCE: rule.path}
        for start in range(at, at + count, _AT_ONCE):
            yield {name: [prefixes.text(row) for row in range(start, min(start + _AT_ONCE, at + count))], **words}


def _words(rule: Rule) -> Entry:
    found: Entry = {"action": str(rule.action)}
    if rule.direction is not Direction.INGRESS:
        found["direction"] = str(rule.direction)
    if rule.services:
        found["ports"] = services.text(rule.services)
    if rule.label:
        found["label"] = rule.label
    if rule.expires is not None:
        found["expires"] = rule.expires
    if rule.action is Action.LIMIT:
        found |= {"limit": f"{rule.rate_per_s}/s", "burst": rule.burst}
    if rule.forced:
        found["force"] = True
    if rule.shadow:
        found["shadow"] = True
    return {**found, SOURCE: rule.path}


def replayed(base: Iterable[Entry], changes: Iterable[tuple[Sequence[Entry], Sequence[Entry]]]) -> list[Entry]:
    """`base` after changes, each a pair of removed and added entries."""
    state: dict[str, list[Entry]] = {}
    for removed, added in itertools.chain([((), base)], changes):
        for entry in removed:
            if held := state.get(_key(entry)):
                held.pop()
        for entry in added:
            state.setdefault(_key(entry), []).append(entry)
    return [entry for held in state.values() for entry in held]

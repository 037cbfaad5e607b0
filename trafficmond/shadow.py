"""Sums packets by rule from the counts by verdict: packets that it decided, or would have decided in shadow."""

from collections.abc import Mapping

from trafficmond.dataclass import dataclass, field
from trafficmond.model import Action, Reason
from trafficmond.parts import Parts
from trafficmond.verdict import Pair, is_shadowed, rule_of, taken_apart

Count = tuple[int, int]  # packets, bytes
_MOST_SHOWN = 50


@dataclass(slots=True)
class Sums:
    """Counts by rule id since the start; 0 is the default."""

    decided: dict[int, Count] = field(default_factory=dict)  # packets that the rule decided
    watched: dict[int, Count] = field(default_factory=dict)  # packets that the rule, in shadow, would have decided
    would_drop: dict[int, Count] = field(default_factory=dict)  # ... and dropped

    def dropped(self) -> Count:
        """The count that all rules in shadow together would have dropped."""
        found = list(self.would_drop.values())
        return sum(packets for packets, _ in found), sum(octets for _, octets in found)


def sums(by_verdict: Mapping[int, Count], pairs: Mapping[int, Pair]) -> Sums:
    """The sums of packets and bytes by verdict word."""
    found = Sums()
    for word, count in by_verdict.items():
        if not is_shadowed(word):
            _add(found.decided, rule_of(word), count)
        elif apart := taken_apart(word, pairs):
            _add(found.decided, apart.judge, count)
            _add(found.watched, apart.rule, count)
            if apart.would is Action.DROP:
                _add(found.would_drop, apart.rule, count)
    return found


def sums_of(parts: Parts) -> Sums:
    return sums(parts.pipeline.by_verdict, parts.rulebook.pairs())


def shadows(parts: Parts) -> list[dict[str, object]]:
    """`Shadow` rows for all rules in shadow and the default; those that would have dropped most come first."""
    in_force = parts.rulebook.in_force
    if in_force is None:
        return []
    policy, rules = in_force.policy, in_force.policy.rules
    watching = [
        (int(in_force.numbered.numbers[index]), rules[index].name, str(rules[index].reason), rules[index].action)
        for index in in_force.columns.shadow.nonzero()[0].tolist()
    ]
    if policy.default_shadow is not None:
        watching.append((0, str(Reason.DEFAULT), str(Reason.DEFAULT), policy.default_shadow))
    if not watching:
        return []
    counted, since = sums_of(parts), parts.rulebook.standing.maker.watching
    watching.sort(key=lambda each: -counted.would_drop.get(each[0], (0, 0))[0])
    rows: list[dict[str, object]] = []
    for number, name, kind, action in watching[:_MOST_SHOWN]:
        packets, octets = counted.watched.get(number, (0, 0))
        dropped = counted.would_drop.get(number, (0, 0))
        row = {"name": name, "kind": kind, "action": str(action), "since": since.get(number, in_force.loaded_at)}
        row |= {"packets": packets, "bytes": octets, "would_drop": {"packets": dropped[0], "bytes": dropped[1]}}
        rows.append(row)
    return rows


def _add(to: dict[int, Count], number: int, count: Count) -> None:
    had = to.get(number, (0, 0))
    to[number] = had[0] + count[0], had[1] + count[1]

"""Writes imported rules as a rules file, each with the line that it comes from."""

from collections.abc import Iterator, Sequence

from trafficctl import rulelines
from trafficctl.imports.decide import Decided
from trafficctl.imports.ruleset import ACCEPT, DROP, Ruleset, short
from trafficmond import services

_ACTIONS = {ACCEPT: "allow", DROP: "drop"}
_MOST_LABEL = 200


def lines(ruleset: Ruleset, default: str, rules: Sequence[Decided], source: str) -> Iterator[str]:
    yield f"# Made by trafficctl import of {source}. Check it with trafficctl check, then put it into cidr.d."
    yield "# Use it with these settings in trafficmond.toml:"
    yield "#   [policy]"
    yield f'#   default = "{_ACTIONS[default]}"'
    if default == DROP and not ruleset.established:
        yield "#   established = false      # no line there lets replies pass"
    for rule in rules:
        yield ""
        yield f"# {rule.line.where}: {short(rule.line.text)}" if rule.line else "# what no line decides"
        yield from rulelines.table(
            {
                "cidr": list(rule.cidrs),
                "action": _ACTIONS[rule.action],
                "direction": "egress" if rule.egress else None,
                "ports": services.text(rule.places) if rule.places else None,
                "label": "".join(filter(str.isprintable, rule.line.label))[:_MOST_LABEL] or None if rule.line else None,
            }
        )

"""Imported rules as a rules file, each with the line that it comes from."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence

from trafficctl.imports.decide import Decided
from trafficctl.imports.ruleset import ACCEPT, DROP, Ruleset, short
from trafficmond import services

_ACTIONS = {ACCEPT: "allow", DROP: "drop"}
_WIDTH = 118
_MOST_LABEL = 200


def lines(ruleset: Ruleset, default: str, rules: Sequence[Decided], source: str) -> Iterator[str]:
    """The file's lines."""
    yield f"# Made by trafficctl import of {source}. Check it with trafficctl check, then put it into cidr.d."
    yield "# It goes with these settings in trafficmond.toml:"
    yield "#   [policy]"
    yield f'#   default = "{_ACTIONS[default]}"'
    if default == DROP and not ruleset.established:
        yield "#   established = false      # no line there lets replies pass"
    for rule in rules:
        yield ""
        yield f"# {rule.line.where}: {short(rule.line.text)}" if rule.line else "# what no line decides"
        yield "[[rule]]"
        yield f"cidr = {_list(rule.cidrs)}"
        yield f'action = "{_ACTIONS[rule.action]}"'
        if rule.egress:
            yield 'direction = "egress"'
        if rule.places:
            yield f"ports = {_list(services.text(rule.places))}"
        if rule.line and rule.line.label:
            yield f"label = {_quoted(_label(rule.line.label))}"


def _list(texts: Sequence[str]) -> str:
    quoted = [_quoted(text) for text in texts]
    if len(quoted) == 1:
        return quoted[0] if "/" in texts[0] and texts[0][0] in "0123456789:" else f"[{quoted[0]}]"
    joined = ", ".join(quoted)
    if len(joined) < _WIDTH - 10:
        return f"[{joined}]"
    return "[\n" + textwrap.fill(joined, _WIDTH, initial_indent="  ", subsequent_indent="  ") + "\n]"


def _label(text: str) -> str:
    return "".join(each for each in text if each.isprintable())[:_MOST_LABEL]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)

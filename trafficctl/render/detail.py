"""Renders one threat or one explanation in full."""

from collections.abc import Iterator
from itertools import groupby, takewhile
from typing import Any

from trafficctl.names import name_key
from trafficctl.render import columns, facts, table
from trafficctl.render.facts import Fact
from trafficctl.render.style import Style
from trafficctl.render.table import Column
from trafficmond import figures

_FLOWS = 20  # flows shown; they are examples
_ANSWERS = 5  # decisions in the first line of an explanation; the table below has all


def render_threat(detail: dict[str, Any], style: Style, width: int | None) -> Iterator[str]:
    """The reply of Threat."""
    threat = detail["threat"]
    head = f"{threat['severity']} {threat['detector']} ({threat['technique']}), {threat.get('state') or 'known'}"
    yield style.word(threat["severity"]) + style.title(figures.plain(head.removeprefix(threat["severity"])))
    lasted = figures.span(threat["last_seen"] - threat["first_seen"])
    seen = f"{figures.clock(threat['first_seen'])} to {figures.clock(threat['last_seen'])}, {lasted}"
    unit = threat["evidence"].get("unit", "") if isinstance(threat["evidence"], dict) else ""
    yield from facts.render(
        [
            Fact("summary", threat["summary"]),
            Fact("from", (threat.get("src_ip") or "many") + _named(threat, "src_ip")),
            Fact("", columns.place(threat, "src_")),
            Fact("to", (threat.get("dst_ip") or "many") + _named(threat, "dst_ip")),
            Fact("", columns.place(threat, "dst_")),
            Fact("seen", seen),
            Fact("count", f"{figures.exact(threat['count'])} {figures.unit(unit)}"),
            Fact("id", threat["id"]),
        ],
        style,
        width,
    )
    yield from _evidence(threat["evidence"], style, width)
    if detail["response"]:
        yield ""
        yield style.title("WHAT WAS DONE")
        yield from (f"  {figures.plain(line)}" for line in detail["response"])
    hidden: dict[str, int] = {}
    yield from _flows(detail["flows"], style, width, hidden)
    yield from table.note(hidden, width, style)


def _named(row: dict[str, Any], end: str) -> str:
    name = row.get(name_key(end))
    return f" ({figures.plain(name)})" if name else ""


def _evidence(evidence: Any, style: Style, width: int | None) -> Iterator[str]:
    if not isinstance(evidence, dict):
        return
    shown = [Fact(figures.term(key), figures.evidence(value)) for key, value in evidence.items() if key != "unit"]
    if shown:
        yield ""
        yield style.title("EVIDENCE")
        yield from facts.render(shown, style, width)


def _flows(flows: list[dict[str, Any]], style: Style, width: int | None, hidden: dict[str, int]) -> Iterator[str]:
    if not flows:
        return
    yield ""
    yield style.title("FLOWS")
    yield from table.lines(flows[:_FLOWS], columns.FLOWS, width, style, hidden)
    if len(flows) > _FLOWS:
        yield style.dim(f"(and {len(flows) - _FLOWS} more; -o json has them)")


def _label(decision: dict[str, Any]) -> str | None:
    """The label of a decision, unless it is made of prefix and services, which have columns of their own."""
    label, prefix = decision.get("label"), decision.get("prefix")
    return None if prefix and str(label).startswith(str(prefix)) else label


def _action(decision: dict[str, Any]) -> str:
    return f"{decision['action']}, in shadow" if decision.get("shadow") else str(decision["action"])


_DECISIONS = (
    Column("mark", "", weight=9),
    Column("kind", "KIND", weight=8),
    Column("prefix", "PREFIX", weight=9, shrinks_to=18),
    Column("action", "ACTION", weight=9, meaningful=True, of=_action),
    Column("ports", "PORTS", weight=8, shrinks_to=12, of=columns.named_services),
    Column("label", "LABEL", weight=4, shrinks_to=8, of=_label),
    Column("source", "SOURCE", weight=6, shrinks_to=12, keep_end=True),
    Column("expires", "UNTIL", figures.when, weight=5),
    Column("database", "DATABASE", weight=5, shrinks_to=12),
    Column("why", "WHY NOT", weight=3, shrinks_to=14),
)


def _answers(explanation: dict[str, Any], style: Style) -> Iterator[str]:
    """The actions in a few words: one for each set of services, unless the explanation is for one service."""
    first = [] if explanation.get("service") else list(takewhile(lambda row: not row["wins"], explanation["decisions"]))
    some = [each for each in first if each.get("ports")]
    for (action, kind), those in groupby(some, lambda row: (row["action"], row["kind"])):
        ports = dict.fromkeys(port for each in those for port in each["ports"])
        yield style.word(action) + f" {figures.plain(', '.join(ports))} (by {kind})"
    rest = " all else" if some else ""
    yield style.word(explanation["action"]) + f"{rest} (by {explanation['reason']})"


def _listeners(explanation: dict[str, Any]) -> str:
    """The units and processes that listen for the service on this host; empty if that is not known."""
    found = explanation.get("listeners")
    shown = [f"{figures.plain(each['process'])} ({each['pid']})" for each in explanation.get("processes") or ()]
    return "" if found is None else ", ".join([*map(figures.plain, found), *shown]) or "nobody"


def render_explanation(explanation: dict[str, Any], style: Style, width: int | None) -> Iterator[str]:
    """The reply of Explain."""
    way = "from" if explanation["direction"] == "ingress" else "to"
    asked = f" for {figures.plain(explanation['service'])}" if explanation.get("service") else ""
    address = figures.plain(explanation["address"]) + _named(explanation, "address")
    head = style.title(f"packets {way} {address}{asked}: ")
    answers = list(_answers(explanation, style))
    if len(answers) <= _ANSWERS:
        yield head + ", ".join(answers)
    else:
        yield head + "that depends on the service; name one after the address, such as tcp/443"
    counts = f"{figures.many(explanation['packets'], 'packet')}, {figures.size(explanation['bytes'])}"
    dropped = explanation["dropped_packets"]
    first, last = (figures.clock(explanation.get(name)) for name in ("first_seen", "last_seen"))
    yield from facts.render(
        [
            Fact("sent", counts + (f", {figures.exact(dropped)} dropped" if dropped else "")),
            Fact("place", columns.place(explanation)),
            Fact("listener", _listeners(explanation)),
            Fact("seen", f"{first} to {last}" if last else "never"),
        ],
        style,
        width,
    )
    yield ""
    decisions = [{**each, "mark": "=>" if each["wins"] else ""} for each in explanation["decisions"]]
    hidden: dict[str, int] = {}
    yield from table.lines(decisions, _DECISIONS, width, style, hidden)
    if explanation["threats"]:
        yield ""
        yield style.title("THREATS")
        yield from table.lines(explanation["threats"], columns.THREATS, width, style, hidden)
    yield from _flows(explanation["flows"], style, width, hidden)
    yield from table.note(hidden, width, style)
    if explanation["advice"]:
        yield ""
        yield style.title("WHAT WOULD CHANGE IT")
        for line in explanation["advice"]:
            yield from table.hung(line, width, "  ", "    ")

"""The life of the daemon in ARCHITECTURE.md: the diagram is whole, and what it names is in the code."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from trafficmond.config.declare import spec_of
from trafficmond.config.settings import Settings

ROOT = Path(__file__).parents[2]
_PAGE = (ROOT / "ARCHITECTURE.md").read_text()
_DIAGRAM = (
    _PAGE.partition("## The life of the daemon")[2].partition("```mermaid\nflowchart TD\n")[2].partition("```")[0]
)
_SHAPE = re.compile(r'\(\[.*?\]\)|\["[^"]*"\]|\{"[^"]*"\}')


def edges() -> list[tuple[str, str, str]]:
    """(from, label, to) of every arrow."""
    found = []
    for line in _DIAGRAM.strip().splitlines():
        plain = re.sub(r'-- "([^"]*)" -->', r"-->|\1|", _SHAPE.sub("", line))
        for start, end in pairwise(plain.split("-->")):
            label, to = re.fullmatch(r"\s*(?:\|(.*)\|)?([\w &]+)", end.partition("-->")[0]).groups()  # type: ignore[union-attr]
            begins = start.rpartition("|")[2]
            found += [(one.strip(), label or "", other.strip()) for one in begins.split("&") for other in to.split("&")]
    return found


def test_everything_is_reached_from_the_start_and_only_the_two_ends_lead_nowhere() -> None:
    arrows = edges()
    reached, before = {"start"}, set[str]()
    while reached != before:
        before = set(reached)
        reached |= {end for begin, _, end in arrows if begin in reached}
    nodes = {node for begin, _, end in arrows for node in (begin, end)}
    assert reached == nodes
    assert nodes - {begin for begin, _, _ in arrows} == {"refuse", "ended"}


def test_the_stop_branches_as_the_setting_does() -> None:
    assert '{"on_stop"}' in _DIAGRAM
    assert {label for begin, label, _ in edges() if begin == "stays"} == set(spec_of(Settings, "on_stop").choices)


def test_the_signals_and_the_message_to_systemd_are_those_of_the_code() -> None:
    signals = set(re.findall(r"\bSIG[A-Z]+", _DIAGRAM))
    code = (ROOT / "trafficmond/signals.py").read_text() + (ROOT / "trafficmond/daemon.py").read_text()
    assert signals == {"SIGHUP", "SIGTERM"}
    assert all(f"signal.{name}" in code for name in signals)
    assert "READY=1" in _DIAGRAM
    assert "READY=1" in (ROOT / "trafficmond/sdnotify.py").read_text()

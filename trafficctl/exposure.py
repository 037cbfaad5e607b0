"""Finds services of this host that nobody could reach under the checked settings and rules."""

import time
from collections.abc import Iterator

import numpy as np

from trafficmond import files, reach
from trafficmond.config.lines import key_lines, line_of
from trafficmond.config.settings import Settings
from trafficmond.datapath.listeners import listeners
from trafficmond.errors import Advice
from trafficmond.model import Action
from trafficmond.policy.admission import Admissions
from trafficmond.policy.leaves import RuleColumns
from trafficmond.policy.load import Policy
from trafficmond.policy.table import CROWDED, compile_table

_SPARED = "gateways, resolvers and whoever is logged in (policy.guard)"
_NOBODY = "no rule lets a new connection in, from anywhere; " + reach.LET_IN.format("ssh")


def shut(settings: Settings, policy: Policy) -> Iterator[Advice]:
    """Yields a note for each service that would not be reachable, or only from some prefixes."""
    now = time.time()
    ids = np.zeros(len(policy.rules), np.uint32)
    table = compile_table(policy, ids, now, int)
    if table.crowded:
        yield Advice(str(settings.source), CROWDED)
    admitted = Admissions(policy, RuleColumns.of(policy.rules, ids), table, now)
    if not admitted.any_shut:
        return
    waiting = listeners()
    spared = _SPARED if settings.policy.guard else ""
    nobody = reach.nobody(admitted, waiting, spared=spared)
    if not nobody and not admitted.anybody and policy.default is Action.DROP:  # it may be for another host
        nobody = _NOBODY
    for what in [*([nobody] if nobody else []), *reach.only_from(admitted, waiting)]:
        yield Advice(_place(settings), what)


def _place(settings: Settings) -> str:
    assert settings.source is not None
    lines = {} if settings.source.suffix == ".json" else key_lines(files.read(settings.source).decode("utf-8"))
    line = line_of("policy.default", lines)
    return f"{settings.source}:{line}" if line else str(settings.source)

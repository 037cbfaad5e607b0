"""Where each host of the house calls, week after week, judged as one unit a host: few notes, and none of the broad."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from world_book import DAY, HOUR, Book, host
from world_house import (
    CONTAINERS,
    DESKTOP,
    HUB,
    JUMP,
    LAPTOP,
    MAIL,
    MONITOR,
    NAS,
    PHONE,
    RESOLVER,
    RUNNER,
    TELEPHONE,
    WEB,
    house,
)
from world_judging import SEEDS, owned, together, unit

from trafficmond.detect.detectors.new_destination import Lookups, NewDestination
from trafficmond.detect.engine import Engine
from trafficmond.detect.registry import settings_classes
from trafficmond.flows.batch import FLOW, Batch, address_text
from trafficmond.model import Severity, Threat

DAYS, LEARNT_DAYS = 6, 2  # shorter than the default, so that more is new
TICK_S = 900.0
STRANGER = host("185.12.34.56")
BROAD = (RESOLVER, MAIL, DESKTOP, LAPTOP, PHONE)
"""Whose work it is to meet new ones each day."""
NARROW = (NAS, HUB, MONITOR, JUMP, CONTAINERS, RUNNER, WEB, TELEPHONE)


def flows_of(rows: Batch) -> Batch:
    """FLOW rows of conversations, each as it looks at its end, by start."""
    flows = np.zeros(len(rows), FLOW)
    for name in set(FLOW.names or ()) & set(rows.dtype.names or ()):
        flows[name] = rows[name]
    flows["first"], flows["last"], flows["new"] = rows["start"], rows["end"], True
    return owned(flows)


def judge(rows: Batch) -> list[Threat]:
    """What this detector alone says of them, a batch each five minutes."""
    others = {name: each(enabled=False) for name, each in settings_classes().items()}
    own = NewDestination.settings_class(learning=LEARNT_DAYS * DAY)
    engine = Engine({**others, NewDestination.name: own})
    engine.inform(NewDestination.name, Lookups(unit))
    flows = flows_of(rows)
    begin, end = flows["first"].min(), flows["first"].max()
    edges = np.arange(begin, end + 2 * TICK_S, TICK_S)
    at = np.searchsorted(flows["first"], edges)
    found: dict[str, Threat] = {}
    for tick in range(len(edges) - 1):
        for update in engine.feed(flows[at[tick] : at[tick + 1]], edges[tick + 1], TICK_S):
            found[update.threat.id] = update.threat
    return list(found.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_few_notes_where_nobody_attacks_and_one_of_each_narrow_one_that_calls_home(seed: int) -> None:
    book = Book(seed + 1000)
    for number, source in enumerate(NARROW):
        at = (LEARNT_DAYS + 1) * DAY + number * HOUR + np.arange(50) * HOUR / 4
        book.tcp(at, source, STRANGER + 256 * number, 8443, 300, 200)
    found = judge(together(house(seed, DAYS).rows(), book.rows()))
    assert all(threat.severity is Severity.LOW for threat in found)

    strangers = {_text(STRANGER + 256 * number): _text(source) for number, source in enumerate(NARROW)}
    assert sorted((each.dst_ip, each.src_ip) for each in found if each.dst_ip in strangers) == sorted(strangers.items())

    notes = [threat for threat in found if threat.dst_ip not in strangers]
    told = [threat.summary for threat in notes]
    a_day = Counter((threat.src_ip, int(threat.first_seen // DAY)) for threat in notes)
    assert max(a_day.values(), default=0) <= 1, told
    assert len(notes) <= 0.1 * (DAYS - LEARNT_DAYS) * len(BROAD + NARROW), told
    assert not {threat.src_ip for threat in notes} & {_text(each) for each in BROAD}, told


def _text(number: int) -> str:
    return address_text(0, number, 4)

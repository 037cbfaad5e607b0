"""Quotas: what is told when, and for how long."""

from __future__ import annotations

import numpy as np
import pytest

from trafficmond.detect.detectors.quota import Settings as QuotaSettings
from trafficmond.detect.detectors.quota import Used
from trafficmond.detect.engine import CLOSED, OPENED, Engine, Tick
from trafficmond.flows.batch import FLOW, empty
from trafficmond.model import Severity

T0 = 1_700_000_000.0
GIB = 1 << 30


def used(octets: int, period: str = "2023-11") -> list[Used]:
    return [Used("line", period, T0 - 86400, octets, 100 * GIB, 0.8)]


@pytest.mark.parametrize(
    ("octets", "told"),
    [
        (0, []),
        (80 * GIB - 1, []),
        (80 * GIB, ["at least 80% of it is used"]),
        (100 * GIB, ["at least 80% of it is used", "it is used up"]),
        (900 * GIB, ["at least 80% of it is used", "it is used up"]),
    ],
)
def test_the_share_and_the_whole_are_reported(octets: int, told: list[str]) -> None:
    engine = Engine()
    engine.inform("quota", used(octets))
    updates = engine.feed(empty(FLOW), T0)
    assert [each.threat.summary for each in updates] == [f"quota line in 2023-11: {what}" for what in told]
    for update in updates:
        assert (update.state, update.threat.severity, update.threat.count) == (OPENED, Severity.LOW, octets)
        assert update.threat.evidence["percent"] == round(octets / GIB, 1)


def test_it_is_one_threat_that_lasts_while_it_is_reported_and_ends_with_the_period() -> None:
    engine = Engine()
    for minute in range(60):
        engine.inform("quota", used((80 + minute // 10) * GIB))
        updates = engine.feed_ticks([Tick(empty(FLOW), T0 + 60 * minute)])
        assert len(updates) == (minute == 0)
    assert [threat.count for threat in engine.threats()] == [85 * GIB]
    later = T0 + 3600 + 1000
    engine.inform("quota", used(5, "2023-12"))
    assert [update.state for update in engine.feed(empty(FLOW), later)] == [CLOSED]


def test_nothing_is_said_twice_without_news_and_none_where_it_is_off() -> None:
    engine = Engine()
    engine.inform("quota", used(90 * GIB))
    assert len(engine.feed(empty(FLOW), T0)) == 1
    assert engine.feed(empty(FLOW), T0 + 1) == []
    off = Engine({"quota": QuotaSettings(enabled=False)})
    off.inform("quota", used(90 * GIB))
    assert off.feed(empty(FLOW), T0) == []
    assert np.size(off.threats()) == 0

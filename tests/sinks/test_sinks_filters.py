from __future__ import annotations

import numpy as np
import pytest
from sink_events import event, threat

from trafficmond.config.streams import SHIPPED_LOG, Log
from trafficmond.model import Action, Severity
from trafficmond.sinks.base import Filter

BATCH = np.concatenate(
    [
        event("192.0.2.1", "10.0.0.1", sport=1),
        event("10.0.0.1", "192.0.2.200", sport=2, action=Action.DROP),
        event("198.51.100.1", "10.0.0.1", sport=3, action=Action.DROP),
        event("2001:db8::1", "2001:db9::1", sport=4),
        event("::192.0.2.1", "::1", sport=5),
    ]
)


@pytest.mark.parametrize(
    ("log", "passed"),
    [
        (Log(), [1, 2, 3, 4, 5]),
        (Log(actions=("drop",)), [2, 3]),
        (Log(actions=()), []),
        (SHIPPED_LOG, [2, 3]),
        (Log(prefixes=("192.0.2.0/24",)), [1, 2]),
        (Log(prefixes=("192.0.2.200/32", "2001:db8::/32")), [2, 4]),
        (Log(prefixes=("0.0.0.0/0",)), [1, 2, 3]),
        (Log(prefixes=("::/0",)), [4, 5]),
        (Log(prefixes=("2001:db9::1/128",), actions=("drop",)), []),
    ],
)
def test_events(log: Log, passed: list[int]) -> None:
    assert Filter(log).events(BATCH)["sport"].tolist() == passed


@pytest.mark.parametrize(
    ("log", "severity", "passed"),
    [
        (Log(), Severity.LOW, True),
        (Log(min_severity="high"), Severity.MEDIUM, False),
        (Log(min_severity="high"), Severity.HIGH, True),
        (Log(min_severity="none"), Severity.CRITICAL, False),
        (Log(prefixes=("203.0.113.0/24",)), Severity.LOW, True),
        (Log(prefixes=("192.168.0.0/16",)), Severity.LOW, True),
        (Log(prefixes=("10.0.0.0/8", "2001:db8::/32")), Severity.CRITICAL, False),
    ],
)
def test_threats(log: Log, severity: Severity, passed: bool) -> None:
    assert Filter(log).threat(threat(severity)) is passed


def test_a_threat_of_many_sources_is_filtered_by_its_victim() -> None:
    assert Filter(Log(prefixes=("192.168.1.100/32",))).threat(threat(src=None))

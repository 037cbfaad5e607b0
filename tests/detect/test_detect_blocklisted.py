from __future__ import annotations

from typing import Any

import pytest
from detect_traffic import flow, talk, watch

from trafficmond.detect.detectors.blocklisted import Blocklisted
from trafficmond.model import Action, Direction, Reason, Severity
from trafficmond.verdict import verdict_word

LISTED, HOST = "203.0.113.66", "192.0.2.1"
MONITORED, DROPPED = (verdict_word(action, Reason.LIST, 7) for action in (Action.MONITOR, Action.DROP))


@pytest.mark.parametrize(
    "row",
    [
        talk(flow(LISTED, HOST, 443, verdict=MONITORED)),
        talk(flow(HOST, LISTED, 443, verdict=MONITORED, direction=Direction.EGRESS)),
        flow(HOST, LISTED, 443, verdict=DROPPED, direction=Direction.EGRESS),
    ],
    ids=["let in", "let out", "kept in"],
)
def test_talk_with_the_listed_is_reported(row: dict[str, Any]) -> None:
    (threat,) = watch(Blocklisted).see([row])
    assert threat.severity == Severity.MEDIUM
    assert {threat.src_ip, threat.dst_ip} == {LISTED, HOST}


@pytest.mark.parametrize(
    "row",
    [
        flow(LISTED, HOST, 23, verdict=DROPPED),
        flow(LISTED, HOST, 23, verdict=MONITORED),
        talk(flow(LISTED, HOST, 443, verdict=verdict_word(Action.MONITOR, Reason.RULE, 7))),
        talk(flow(LISTED, HOST, 443)),
    ],
    ids=["dropped", "knock", "a rule", "unlisted"],
)
def test_knocks_at_the_door_are_not(row: dict[str, Any]) -> None:
    assert watch(Blocklisted).see([row]) == []

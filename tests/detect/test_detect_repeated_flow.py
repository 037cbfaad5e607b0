from __future__ import annotations

from detect_traffic import flow, refused, talk, watch

from trafficmond.detect.detectors.repeated_flow import RepeatedFlow
from trafficmond.model import Severity, Threat

A, B = "192.168.1.5", "192.168.1.9"


def attempt(count: int, gap: float, answered_at: int = -1) -> list[Threat]:
    detector, found = watch(RepeatedFlow), []
    for n in range(count):
        row = refused(flow(A, B, 8080, sport=30000 + n, first=detector.now + gap - 0.5))
        found += detector.see([talk(row) if n == answered_at else row], after=gap)
    return found


def test_a_service_dialled_in_vain_for_minutes_is_a_note() -> None:
    found = attempt(60, 3.0)
    assert {(threat.src_ip, threat.dst_ip, threat.severity) for threat in found} == {(A, B, Severity.LOW)}
    assert found[0].count == 50


def test_few_dials_rare_ones_and_those_that_succeed_are_not() -> None:
    assert attempt(40, 3.0) == []
    assert attempt(100, 20.0) == []
    assert attempt(60, 3.0, answered_at=30) == []


def test_what_happens_all_at_once_is_something_else() -> None:
    assert watch(RepeatedFlow).see(refused(flow(A, B, 80, sport=n)) for n in range(1, 500)) == []

from __future__ import annotations

from detect_traffic import T0, datagram, flow, flows, many, refused, talk, watch

from trafficmond.detect.detectors.repeated_flow import RepeatedFlow
from trafficmond.detect.engine import OPENED, Engine
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


def test_dead_hosts_that_one_source_tries_are_one_note() -> None:
    """A print server polls its printers each ten seconds at night."""
    engine, opened = Engine(), []
    for n in range(60):
        now = T0 + 10 * n
        rows = [datagram(A, printer, 161, sport=30000 + n, first=now + k) for k, printer in enumerate(many(5))]
        opened += [each for each in engine.feed(flows(rows), now + 6) if each.state == OPENED]
    assert [each.threat.detector for each in opened] == ["repeated_flow"]
    (note,) = engine.threats()
    assert (note.src_ip, note.dst_ip, note.severity) == (A, None, Severity.LOW)
    assert sorted(note.evidence["targets"]) == sorted(many(5))
    assert note.summary.endswith("times without success, and 4 more hosts")


def test_what_a_scan_explains_is_no_note() -> None:
    engine = Engine()
    engine.feed(flows(refused(flow(A, B, port, first=T0)) for port in range(1, 40)), T0 + 2)
    for n in range(60):
        row = refused(flow(A, B, 8080, sport=30000 + n, first=T0 + 3 * n + 2))
        engine.feed(flows([row]), T0 + 3 * n + 4)
    assert [threat.detector for threat in engine.threats()] == ["port_scan"]
    assert engine.status()["redundant"]

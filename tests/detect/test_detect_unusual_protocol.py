from __future__ import annotations

import pytest
from detect_traffic import flow, watch

from trafficmond.detect.detectors.unusual_protocol import UnusualProtocol
from trafficmond.model import Severity

A, B = "203.0.113.9", "192.0.2.1"


@pytest.mark.parametrize(
    ("proto", "severity"),
    [(99, Severity.LOW), (147, Severity.LOW), (148, Severity.MEDIUM), (252, Severity.MEDIUM), (254, Severity.LOW)],
)
def test_odd_protocols_are_reported_once_they_are_more_than_a_stray_packet(proto: int, severity: Severity) -> None:
    detector = watch(UnusualProtocol)
    row = flow(A, B, 0, proto=proto, sport=0, packets=6, first_flags=0, tcp_flags=0)
    assert detector.see([row]) == []
    (threat,) = detector.see([row])
    assert (threat.src_ip, threat.severity, threat.evidence["protocols"]) == (A, severity, [proto])


@pytest.mark.parametrize("proto", [1, 2, 6, 17, 46, 47, 50, 58, 89, 103, 112, 132])
def test_what_networks_ordinarily_speak_is_not(proto: int) -> None:
    assert watch(UnusualProtocol).see([flow(A, B, 0, proto=proto, packets=1000)]) == []

from __future__ import annotations

from typing import Any

import pytest
from detect_traffic import ACK, FIN, PSH, RST, SYN, T0, URG, datagram, flow, many, refused, talk, watch

from trafficmond.detect.detectors.port_scan import PortScan
from trafficmond.model import Severity

A, B = "203.0.113.9", "192.0.2.20"


@pytest.mark.parametrize(
    "probe",
    [
        lambda port: flow(A, B, port),
        lambda port: refused(flow(A, B, port)),
        lambda port: flow(A, B, port, first_flags=0, tcp_flags=0),
        lambda port: refused(flow(A, B, port, first_flags=FIN, tcp_flags=FIN)),
        lambda port: refused(flow(A, B, port, first_flags=FIN | PSH | URG, tcp_flags=FIN | PSH | URG)),
        lambda port: flow(A, B, port, first_flags=FIN | ACK, tcp_flags=FIN | ACK),
        lambda port: refused(flow(A, B, port, first_flags=ACK, tcp_flags=ACK)),
        lambda port: datagram(A, B, port),
        lambda port: flow(A, B, port, proto=132, first_flags=0, tcp_flags=0),
        lambda port: flow("2001:db8:a::1", "2001:db8:b::2", port),
        lambda port: flow(A, B, 0, proto=140 + port % 100, sport=0, first_flags=0, tcp_flags=0),
    ],
    ids=["silent", "refused", "null", "fin", "xmas", "maimon", "ack", "udp", "sctp", "ipv6", "protocols"],
)
def test_every_manner_of_scan_is_found_and_names_the_scanner(probe: Any) -> None:
    (threat,) = watch(PortScan).see(probe(port) for port in range(20, 120))[:1]
    assert (threat.src_ip, threat.dst_ip) == (probe(1)["src"], probe(1)["dst"])
    assert threat.severity >= Severity.MEDIUM
    assert threat.technique == "T1046"
    assert abs(threat.count - 100) <= 1


def test_a_slow_scan_is_found() -> None:
    scan, found = watch(PortScan), []
    for port in range(1, 25):  # three a minute
        found += scan.see([flow(A, B, port, first=scan.now + 18)], after=19)
    assert found
    assert found[-1].severity == Severity.MEDIUM
    assert found[-1].evidence["ports"] == 24


def test_one_that_takes_a_day_is_of_low_severity() -> None:
    scan, found = watch(PortScan), []
    for port in range(1, 20):  # one an hour
        found += scan.see([flow(A, B, port, first=scan.now + 3599)], after=3600)
    assert [threat.severity for threat in found] == [Severity.LOW] * len(found)
    assert found


def test_a_host_that_accepts_everything_is_scanned_too() -> None:
    probes = [
        flow(A, B, port, packets=2, tcp_flags=SYN | RST, reply_packets=1, reply_tcp_flags=SYN | ACK)
        for port in range(1, 200)
    ]
    assert watch(PortScan).see(probes)


@pytest.mark.parametrize(
    "rows",
    [
        [talk(flow(A, B, port)) for port in range(1000, 1100)],  # passive FTP, RPC
        [datagram(B, A, port, sport=53) for port in range(30000, 30200)],  # a resolver's late answers
        [flow(B, A, port, sport=443, first_flags=ACK, tcp_flags=ACK) for port in range(40000, 40200)],
        [datagram(A, B, 33434 + hop) for hop in range(90)],  # traceroute
        [datagram(A, B, 44444 + hop) for hop in range(30)],  # tracepath
        [refused(flow(A, B, 8080, sport=port)) for port in range(40000, 40200)],  # one closed port, again and again
        [flow(A, B, port) for port in range(1, 8)],  # a few ports
        [flow(A, host, 443) for host in many(100)],  # many hosts
        [flow(B, A, 50000 + n, sport=80, first_flags=SYN | ACK, tcp_flags=SYN | ACK) for n in range(100)],  # echo
        [refused(flow(A, B, port)) for port in range(1, 21)] + [talk(flow(A, B, port)) for port in range(1000, 1050)],
    ],
    ids=["passive", "dns", "replies", "traceroute", "tracepath", "retry", "few", "hosts", "backscatter", "mostly open"],
)
def test_ordinary_traffic_is_no_scan(rows: list[dict[str, Any]]) -> None:
    assert watch(PortScan).see(rows) == []


def test_the_victim_that_resets_is_never_blamed() -> None:
    found = watch(PortScan).see(refused(flow(A, B, port)) for port in range(1, 500))
    assert {threat.src_ip for threat in found} == {A}


@pytest.mark.parametrize(
    ("visits", "proven"),
    [
        ([], False),
        ([443] * 100, False),  # of a customer, whose address is forged in the scan
        (range(50000, 50200), False),  # of a client of FTP
        (range(1000, 1014), False),
        (range(1000, 1020), True),
    ],
)
def test_a_scan_is_proven_by_what_alone_shows_a_scanner(visits: list[int], proven: bool) -> None:
    scan = [refused(flow(A, B, port)) for port in range(1, 301)]
    found = watch(PortScan).see([*scan, *(talk(flow(A, B, port)) for port in visits)])
    assert [(each.severity, each.evidence["proven"]) for each in found] == [(Severity.HIGH, proven)]


def test_a_scanner_is_proven_when_it_returns_to_the_ports_that_it_found_open() -> None:
    scan, ports = watch(PortScan), range(400, 420)
    answer = {"tcp_flags": SYN | RST, "packets": 2, "reply_packets": 1, "reply_tcp_flags": SYN | ACK}
    half_open = [flow(A, B, port, **answer) for port in ports]
    (threat,) = scan.see([*(refused(flow(A, B, port)) for port in range(1, 301)), *half_open])
    assert threat.evidence["proven"] is False
    visits = [talk(flow(A, B, port, sport=50000, first=scan.now)) for port in ports]
    assert scan.see([*visits, refused(flow(A, B, 500, first=scan.now))])[0].evidence["proven"] is True


def test_visits_to_what_was_found_prolong_no_scan() -> None:
    scan = watch(PortScan)
    (threat,) = scan.see(refused(flow(A, B, port)) for port in range(1, 31))
    assert (threat.count, threat.last_seen) == (30, T0)
    assert scan.see([talk(flow(A, B, 80, first=scan.now + 30))], after=31) == []


def test_a_million_strangers_neither_grow_it_nor_raise_a_threat() -> None:
    scan = watch(PortScan, capacity=64)
    size = scan.detector.table.rows.nbytes
    for turn in range(20):
        assert scan.see(flow(source, B, 80) for source in many(500, f"10.{turn}.0.0/16")) == []
    counters = scan.detector.counters()
    assert counters["entities"] <= counters["capacity"] == 64
    assert counters["refused"] + counters["evicted"] >= 9000
    assert scan.detector.table.rows.nbytes == size


@pytest.mark.parametrize(("opened", "found"), [((), [Severity.LOW]), ((3, 7, 11), [Severity.LOW]), (range(3, 12), [])])
def test_a_dozen_ports_within_a_minute_are_a_note_even_if_some_were_open(opened: Any, found: list[Severity]) -> None:
    scan, told = watch(PortScan), []
    for port in range(12):
        probe = flow(A, B, port + 1, first=scan.now + 1)
        sa = {"packets": 2, "tcp_flags": SYN | RST, "reply_packets": 1, "reply_tcp_flags": SYN | ACK}
        told += scan.see([{**probe, **sa} if port in opened else probe])
    assert [threat.severity for threat in told][:1] == found


@pytest.mark.parametrize(("before", "pause", "found"), [(1, 300, [Severity.LOW]), (5, 70, [Severity.LOW]), (5, 70, [])])
def test_what_a_source_tried_before_hides_no_dozen_of_ports_within_a_minute(
    before: int, pause: float, found: list[Severity]
) -> None:
    """As with a first look at one port; those who try a port now and then are not noted."""
    scan = watch(PortScan)
    told = scan.see(flow(A, B, port, first=scan.now + 1) for port in range(1, before + 1))
    scan.see([], after=pause)
    for port in range(20, 29):
        told += scan.see([flow(A, B, port, first=scan.now + 1)], after=0.5 if found else 9)
    assert [threat.severity for threat in told][:1] == found


def test_few_ports_a_day_from_the_same_three_never_add_up() -> None:
    scan = watch(PortScan)
    for _ in range(5):
        rows = [flow(f"203.0.113.{one}", B, 10 * one + port, first=scan.now) for one in (1, 2, 3) for port in range(6)]
        assert scan.see(rows, after=90000) == []


@pytest.mark.parametrize(
    ("probe", "found"),
    [
        (lambda port: flow(A, B, port), True),
        (lambda port: refused(flow(A, B, port, first_flags=FIN, tcp_flags=FIN)), True),
        (lambda port: datagram(A, B, port, payload_bytes=0), True),
        (lambda port: datagram(A, B, port, payload_bytes=40), False),
        (lambda port: refused(flow(A, B, port, first_flags=ACK, tcp_flags=ACK)), True),
        (lambda port: refused(flow("192.168.1.9", B, port, first_flags=ACK, tcp_flags=ACK)), False),  # it wakes up
        (lambda port: flow(A, B, 50000 + port, sport=443, first_flags=ACK, tcp_flags=ACK), False),  # of clients
        (lambda port: flow(A, B, 40000 + port, sport=50000 + port, first_flags=FIN | ACK, tcp_flags=FIN | ACK), False),
    ],
    ids=["syn", "fin", "empty", "datagram", "acknowledgement", "left over", "of clients", "ftp"],
)
def test_some_ports_at_once_are_a_note_if_no_client_begins_so(probe: Any, found: bool) -> None:
    severities = {threat.severity for threat in watch(PortScan).see(probe(port) for port in range(20, 31))}
    assert severities == ({Severity.LOW} if found else set())

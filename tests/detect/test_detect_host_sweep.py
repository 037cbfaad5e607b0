from __future__ import annotations

from typing import Any

import pytest
from detect_traffic import ACK, FIN, datagram, flow, many, ping, refused, talk, watch

from trafficmond.detect.detectors.host_sweep import HostSweep
from trafficmond.model import Severity

A, OURS = "203.0.113.9", "192.168.0.9"
HOSTS = many(60)


@pytest.mark.parametrize(
    "probe",
    [
        lambda host: flow(A, host, 23),
        lambda host: refused(flow(A, host, 445)),
        lambda host: flow(A, host, 22, first_flags=FIN, tcp_flags=FIN),
        lambda host: datagram(A, host, 1434, first_len=418),
        lambda host: ping(A, host),
    ],
    ids=["telnet", "smb", "fin", "slammer", "ping"],
)
def test_every_manner_of_sweep_is_found_and_names_the_scanner(probe: Any) -> None:
    found = watch(HostSweep).see(probe(host) for host in HOSTS)
    assert {(threat.src_ip, threat.dst_ip) for threat in found} == {(A, None)}
    assert found[0].severity == Severity.MEDIUM
    assert abs(found[0].evidence["hosts"] - 60) <= 3


@pytest.mark.parametrize(
    ("port", "sent", "hosts", "proven"),
    [
        (443, 700, 1, False),  # a customer, whose address is forged in the sweep
        (443, 700, 30, False),  # a crawler
        (22, 0, 14, False),
        (22, 0, 20, True),  # collects greetings
    ],
)
def test_a_sweep_is_proven_by_what_alone_shows_a_scanner(port: int, sent: int, hosts: int, proven: bool) -> None:
    sweep = [flow(A, host, port) for host in many(120)]
    visits = [talk(flow(A, host, port), sent, 100) for host in many(hosts, "10.1.0.0/16")]
    found = watch(HostSweep).see([*sweep, *visits])
    assert [(each.severity, each.evidence["proven"]) for each in found] == [(Severity.HIGH, proven)]


def test_ipv6() -> None:
    assert watch(HostSweep).see(flow("2001:db8::9", f"2001:db8:1::{host:x}", 22) for host in range(1, 40))


def test_a_ping_sweep_of_a_half_populated_network() -> None:
    rows = [ping(A, host) if index % 2 else talk(ping(A, host)) for index, host in enumerate(HOSTS)]
    (threat,) = watch(HostSweep).see(rows)
    assert threat.technique == "T1018"


def test_a_stranger_who_searches_our_web_servers_is_no_browser() -> None:
    """A browser of ours, whose way out is broken, fails as often."""
    ours, strange = many(20, "192.168.0.0/24"), many(20, "198.51.100.0/24")
    assert worst([flow("203.0.113.9", host, 443) for host in ours]) == Severity.MEDIUM
    assert worst([flow("203.0.113.9", host, 443) for host in ours[:9]]) == Severity.LOW
    assert worst([flow("203.0.113.9", host, 443) for host in strange]) is None
    assert worst([flow("192.168.0.9", host, 443) for host in strange]) is None


def test_nine_hosts_in_hours_is_a_note() -> None:
    sweep, found = watch(HostSweep), []
    for host in HOSTS[:9]:
        found += sweep.see([flow(A, host, 445, first=sweep.now + 599)], after=600)
    assert {threat.severity for threat in found} == {Severity.LOW}


@pytest.mark.parametrize(
    "rows",
    [
        [talk(flow(A, host, 443)) for host in many(500)],  # a crawler
        [talk(flow(A, host, 25)) if n % 4 else flow(A, host, 25) for n, host in enumerate(many(200))],  # a mail server
        [talk(datagram(A, host, 53)) for host in many(200)],  # a resolver
        [flow(OURS, host, 443) for host in many(40, "198.51.100.0/24")],  # a browser whose way out is broken
        [datagram(OURS, host, 443, first_len=1292) for host in many(40, "198.51.100.0/24")],  # QUIC that is dropped
        [datagram(A, host, 30303, sport=30303, first_len=171) for host in HOSTS[:30]],  # a peer of the dead
        [datagram(A, host, 6881, first_len=60 + n) for n, host in enumerate(HOSTS)],  # gossip of all lengths
        [flow(A, host, 30303) if n % 3 else talk(flow(A, host, 30303)) for n, host in enumerate(HOSTS)],  # a node
        [flow(A, HOSTS[0], port) for port in range(1, 200)],  # one host
        [datagram(A, f"239.1.1.{n}", 5004) for n in range(1, 60)],  # groups
        [ping(A, host, sport=3) for host in HOSTS],  # errors
    ],
    ids=["crawler", "mta", "resolver", "ipv6", "quic", "peers", "gossip", "node", "ports", "multicast", "errors"],
)
def test_ordinary_traffic_is_no_sweep(rows: list[dict[str, Any]]) -> None:
    assert [threat for threat in watch(HostSweep).see(rows) if threat.severity > Severity.LOW] == []


def test_a_monitor_that_asks_its_dead_hosts_again_and_again_is_none() -> None:
    monitor = watch(HostSweep)
    for turn in range(8):
        rows = [talk(ping(A, host)) if n % 5 else ping(A, host) for n, host in enumerate(HOSTS)]
        assert monitor.see([{**row, "first": monitor.now + 59} for row in rows], after=60) == [], turn


def test_its_table_is_bounded() -> None:
    sweep = watch(HostSweep, capacity=64)
    for turn in range(10):
        assert sweep.see(flow(source, "192.0.2.1", 80) for source in many(500, f"10.{turn}.0.0/16")) == []
    assert sweep.detector.counters()["entities"] <= 64


def test_after_a_restart_it_is_known_who_gets_anything_back() -> None:
    """Whose answers were never seen may be seen in one direction only; then his sweep is of low severity."""
    ours, severities = "192.168.0.9", []
    before, after = watch(HostSweep), watch(HostSweep)
    before.see([talk(datagram(ours, "192.168.0.1", 53))])
    after.detector.recall(before.detector.learned(), after.now)
    for sweep in (after, watch(HostSweep)):
        found = sweep.see(datagram(ours, host, 161) for host in many(150, "10.9.0.0/16"))
        severities += [threat.severity for threat in found]
    assert severities == [Severity.HIGH, Severity.LOW]


def test_answers_to_strangers_are_none_to_our_own_hosts() -> None:
    """On a busy server, strangers would soon take all places of who gets anything back."""
    sweep = watch(HostSweep)
    sweep.see(talk(flow(stranger, "192.168.0.1", 443)) for stranger in many(30000, "8.8.0.0/17"))
    found = sweep.see(datagram("192.168.0.9", host, 161) for host in many(150, "10.9.0.0/16"))
    assert [threat.severity for threat in found] == [Severity.LOW]


# ---- hosts that have a list ----


V6 = "2001:db8:5::20"
FAR = [f"2001:db8:{each:x}::1" for each in range(100, 220)]


def worst(rows: list[dict[str, Any]]) -> Severity | None:
    return max((threat.severity for threat in watch(HostSweep).see(rows)), default=None)


@pytest.mark.parametrize(
    ("tries", "reached"),
    [
        ([datagram(OURS, host, 443, first_len=1292) for host in many(120, "203.0.113.0/24")], OURS),  # QUIC
        ([flow(V6, host, 443) for host in FAR], OURS),  # IPv6, of which one does not know whose it is
    ],
    ids=["quic", "ipv6"],
)
def test_a_browser_that_reaches_the_same_sites_another_way_is_a_note(tries: list[dict[str, Any]], reached: str) -> None:
    web = [talk(flow(reached, host, 443)) for host in many(80, "203.0.113.0/24")]
    assert worst([talk(flow(OURS, "203.0.113.1", 22)), *tries]) == Severity.HIGH
    assert worst([*web, *tries]) == Severity.LOW


def test_what_was_browsed_hours_ago_explains_no_sweep() -> None:
    sweep = watch(HostSweep)
    sweep.see(talk(flow(OURS, host, 443)) for host in many(80, "203.0.113.0/24"))
    found = sweep.see((flow(V6, host, 443, first=sweep.now + 10_000) for host in FAR), after=10_001)
    assert {threat.severity for threat in found} == {Severity.HIGH}


@pytest.mark.parametrize("source", ["fd00::20", V6], ids=["ours", "unknown"])
def test_strangers_at_our_own_web_server_explain_no_sweep(source: str) -> None:
    visits = [talk(flow(host, "192.168.0.10", 443)) for host in many(100, "198.51.100.0/24")]
    tries = [flow(source, host, 443) for host in FAR]
    assert worst([talk(flow(OURS, "203.0.113.1", 22)), *visits, *tries]) == Severity.HIGH


def test_who_browses_and_sweeps_our_own_network_is_found() -> None:
    names = [talk(datagram(OURS, "192.168.0.1", 53, sport=port)) for port in range(2000, 2080)]
    assert worst([*names, *(flow(OURS, host, 443) for host in many(120, "192.168.0.0/24"))]) == Severity.HIGH


@pytest.mark.parametrize(("dport", "severity"), [(853, Severity.LOW), (8853, Severity.MEDIUM)])
def test_a_mail_server_may_ask_for_names_over_tls(dport: int, severity: Severity) -> None:
    names = [talk(flow(OURS, "203.0.113.53", dport, sport=port)) for port in range(2000, 2040)]
    assert worst([*names, *(flow(OURS, host, 25) for host in many(60, "198.51.100.0/24"))]) == severity


@pytest.mark.parametrize(("port", "severity"), [(7680, Severity.LOW), (7681, Severity.MEDIUM)])
def test_windows_that_asks_other_hosts_for_its_updates_is_a_note(port: int, severity: Severity) -> None:
    assert worst([flow(OURS, host, port) for host in many(25, "192.168.5.0/24")]) == severity


@pytest.mark.parametrize(("source", "severity"), [(A, Severity.MEDIUM), (OURS, None)])
def test_acknowledgements_without_a_connection_sweep_unless_they_are_left_over(
    source: str, severity: Severity | None
) -> None:
    rows = [flow(source, host, 80, sport=33333, first_flags=ACK, tcp_flags=ACK) for host in many(80, "192.0.2.0/24")]
    assert worst(rows) == severity

"""Scans of which each source tries little, of which one direction is seen, or whose source moves within its /64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from detect_traffic import ACK, RST, SYN, T0, Watch, datagram, flow, flows, many, refused, talk, watch

from trafficmond.config.settings import Response as Settings
from trafficmond.detect.detectors.host_sweep import HostSweep
from trafficmond.detect.detectors.port_scan import PortScan
from trafficmond.detect.engine import CLOSED, OPENED, UPDATED, Engine, ThreatUpdate
from trafficmond.detect.response import Response
from trafficmond.flows.batch import empty
from trafficmond.learned import packed, unpacked
from trafficmond.model import Severity, Threat

A, OURS, THEIRS = "203.0.113.9", "192.168.1.20", "192.0.2.20"
STRANGERS = [f"2a01:4f8:{number:x}::1" for number in range(1, 31)]


def minute(scan: Watch, rows: list[dict[str, Any]]) -> list[Threat]:
    """What is found in rows that are spread over 50 seconds, in batches of two of them."""
    found = []
    for second in range(0, 50, 2):
        mine = rows[second * len(rows) // 50 : (second + 2) * len(rows) // 50]
        found += scan.see(({**row, "first": scan.now + 0.5} for row in mine), after=1.0)
    return found


def shared(sources: int, ports: int, dst: str = THEIRS) -> list[dict[str, Any]]:
    """A scan of so many ports, shared out among sources in turn."""
    each = many(sources, "198.51.0.0/16")
    return [flow(each[port % sources], dst, 7 * port + 1, sport=50000) for port in range(ports)]


@pytest.mark.parametrize(("sources", "ports"), [(80, 160), (50, 100), (100, 100)])
def test_many_strangers_with_a_port_or_two_each_are_one_note_that_lists_them(sources: int, ports: int) -> None:
    found = minute(watch(PortScan), shared(sources, ports))
    assert {(threat.src_ip, threat.dst_ip, threat.severity) for threat in found} == {(None, THEIRS, Severity.LOW)}
    listed = {each["src_ip"] for each in found[-1].evidence["sources"]}
    assert listed <= set(many(sources, "198.51.0.0/16"))
    assert len(listed) >= sources // 3  # those of the first 45 ports are not listed


@pytest.mark.parametrize(
    "rows",
    [
        [flow(source, THEIRS, 23 if n % 2 else n + 1) for n, source in enumerate(many(70))],  # many want Telnet
        [refused(flow(source, THEIRS, 443)) for source in many(300)],  # a service that is stopped
        shared(30, 40),  # ten times the Internet's background
        [datagram(source, THEIRS, 40000 + n) for n, source in enumerate(many(150))],  # peers of one that has left
        [talk(row) for row in shared(80, 160)],
        [flow(source, dst, n + 1) for n, source in enumerate(many(100)) for dst in many(9, "192.0.2.0/24")[n % 9 :: 9]],
    ],
    ids=["favourite", "stopped", "background", "peers", "answered", "a network"],
)
def test_many_strangers_who_look_for_the_same_or_for_little_are_no_scan(rows: list[dict[str, Any]]) -> None:
    assert minute(watch(PortScan), rows) == []


@pytest.mark.parametrize(
    ("sources", "ports", "flood", "found"),
    [(40, 52, 0, False), (80, 160, 0, True), (80, 160, 600, True), (12, 30, 600, False), (12, 30, 3000, False)],
)
def test_where_a_batch_ends_changes_no_verdict(sources: int, ports: int, flood: int, found: bool) -> None:
    start = T0 - T0 % 60 + 60  # a minute of the clock
    rows = [{**row, "first": start + 50 * n / ports} for n, row in enumerate(shared(sources, ports))]
    forged = many(flood, "203.0.112.0/20")
    rows += [flow(one, THEIRS, 9 * n + 5, first=start + 20.3 + n / 500) for n, one in enumerate(forged)]
    rows.sort(key=lambda row: row["first"])
    for interval in (1.0, 10.0, 60.0):
        engine, threats = Engine(), []
        for at in np.arange(start, start + 60, interval).tolist():
            batch = flows(row for row in rows if at <= row["first"] < at + interval)
            threats += [one.threat for one in engine.feed(batch, at + interval, interval)]
        threats += [one.threat for one in engine.finish(start + 60)]
        noted = {(one.src_ip, one.dst_ip, one.severity) for one in threats if one.detector == "port_scan"}
        assert noted == ({(None, THEIRS, Severity.LOW)} if found else set()), interval


def test_a_flood_over_random_ports_is_no_scan() -> None:
    rows = [flow(source, THEIRS, n % 60000 + 1) for n, source in enumerate(many(1000))]
    assert watch(PortScan).see({**row, "first": T0 + 0.001 * n} for n, row in enumerate(rows)) == []


def test_a_scanner_does_not_hide_among_strangers() -> None:
    loud = [flow(A, THEIRS, port) for port in range(20000, 20060)]
    rows = [row for pair in zip(shared(200, 60), loud, strict=True) for row in pair]
    found = minute(watch(PortScan), [*rows, *shared(200, 160)])
    assert (A, Severity.MEDIUM) in {(threat.src_ip, threat.severity) for threat in found}


@pytest.mark.parametrize(
    ("src", "ports", "found"), [(A, 12, True), (A, 7, False), ("192.168.1.9", 12, False)], ids=["note", "few", "ours"]
)
def test_a_stranger_who_fails_at_eight_ports_of_ours_in_half_an_hour_is_a_note(
    src: str, ports: int, found: bool
) -> None:
    """A client of ours may look for all the services of a domain controller that is switched off."""
    scan, told = watch(PortScan), []
    for port in range(ports):
        told += scan.see([refused(flow(src, OURS, 20 + port, first=scan.now + 29))], after=29)
    assert {threat.severity for threat in told} == ({Severity.LOW} if found else set())


def refusal(dst: str, port: int, src: str = A, sport: int = 50000) -> dict[str, Any]:
    """Of an attempt of `src`, only the refusal is seen."""
    return flow(dst, src, sport, sport=port, first_flags=RST | ACK, tcp_flags=RST | ACK)


def test_refusals_in_records_without_the_flags_of_the_first_packet_are_attempts_too() -> None:
    rows = [{**refusal(OURS, port), "first_flags": ACK} for port in range(20, 60)]
    assert {threat.src_ip for threat in watch(PortScan).see(rows)} == {A}


def unasked(dst: str, port: int, sport: int = 50000) -> dict[str, Any]:
    """A SYN-ACK that answers nothing, and the reset for it."""
    answer = {"reply_packets": 1, "reply_first_flags": SYN | ACK, "reply_tcp_flags": SYN | ACK}
    return flow(dst, A, sport, sport=port, first_flags=RST, tcp_flags=RST, **answer)


def test_a_scan_of_which_only_our_refusals_are_seen_is_found() -> None:
    (threat, *_) = watch(PortScan).see(refusal(OURS, port) for port in range(20, 60))
    assert (threat.src_ip, threat.dst_ip, threat.severity, threat.evidence["proven"]) == (A, OURS, 2, False)
    assert threat.evidence["sample"] == sorted(set(threat.evidence["sample"]) & set(range(20, 60)))
    (threat, *_) = watch(HostSweep).see(refusal(host, 22) for host in many(40))
    assert (threat.src_ip, threat.severity) == (A, Severity.MEDIUM)


def test_a_scan_by_syn_acks_is_found() -> None:
    (threat, *_) = watch(PortScan).see(unasked(THEIRS, port) for port in range(20, 60))
    assert (threat.src_ip, threat.dst_ip, threat.evidence["manner"]) == (A, THEIRS, ["stray"])


@pytest.mark.parametrize("services", [1, 4])
def test_answers_of_flooded_services_to_syns_with_our_address_are_no_more_than_a_note(services: int) -> None:
    rows = [{**unasked(OURS, 1024 + 107 * n, sport=40000), "dst": f"203.0.113.{n % services}"} for n in range(600)]
    found = watch(PortScan).see(rows)
    assert {(threat.severity, threat.src_ip is None) for threat in found} == {(Severity.LOW, False)}


def part(scan: Watch, source: int, ports: range) -> list[Threat]:
    return scan.see((flow(f"198.51.100.{source}", THEIRS, port, first=scan.now) for port in ports), after=3.0)


def test_ports_that_a_scan_by_many_tried_outlive_a_restart() -> None:
    scan, again = watch(PortScan), watch(PortScan)
    for source in range(10):
        part(scan, source, range(10 * source, 10 * source + 10))
    again.now = scan.now
    again.detector.recall(unpacked(packed(scan.detector.learned())), again.now)
    assert [threat.evidence["ports"] for threat in part(again, 10, range(100, 110))] == [pytest.approx(110, abs=6)]


@pytest.mark.parametrize(
    ("step", "ports", "found"), [(10, 10, [Severity.MEDIUM, Severity.HIGH]), (0, 5, [])], ids=["scan", "retries"]
)
@pytest.mark.parametrize("back", [0, 30 * 86400], ids=["", "clock set back"])
def test_what_single_strangers_tried_days_before_is_no_part_of_a_scan(
    step: int, ports: int, found: list[int], back: int
) -> None:
    scan = watch(PortScan)
    for source in range(36):
        assert part(scan, 100 + source, range(1000 + 10 * source, 1005 + 10 * source)) == []
        scan.now += 7200
    scan.now -= back
    threats = [threat for n in range(12) for threat in part(scan, n, range(80 + step * n, 80 + step * n + ports))]
    assert sorted({threat.severity for threat in threats if threat.src_ip is None}) == found


@pytest.mark.parametrize(
    "rows",
    [
        [refusal(OURS, 40000 + n, sport=443) for n in range(60)],  # a browser that gives up what was idle
        [refusal(THEIRS, 20 + n) for n in range(60)],  # others refuse whoever forged an address
        [refusal(THEIRS, 20 + n, src=OURS) for n in range(60)],
        [unasked(OURS, 30000 + n, sport=443) for n in range(60)],  # answers to SYNs with our forged address
        [unasked(OURS, 1000 * n + 500, sport=8080) for n in range(60)],  # ... at a higher port
        # A record without the first packet's flags, of a reset that answers one.
        [flow(A, OURS, n + 1000, sport=25565, first_flags=ACK, tcp_flags=RST | ACK) for n in range(60)],
        [flow(A, OURS, n + 1000, sport=25565, first_flags=0, tcp_flags=RST) for n in range(60)],
    ],
    ids=["clients", "others", "ours", "backscatter", "high backscatter", "record", "record without flags"],
)
def test_resets_that_clients_and_forged_addresses_cause_are_no_scan(rows: list[dict[str, Any]]) -> None:
    assert watch(PortScan).see(rows) == []


def test_syn_acks_to_a_port_of_many_hosts_may_answer_forged_syns() -> None:
    assert watch(HostSweep).see(unasked(host, 53) for host in many(60)) == []


def test_a_scan_by_sctp_is_found_from_any_port() -> None:
    probes = [flow(A, THEIRS, 3000 + port, proto=132, sport=2905, first_flags=0, tcp_flags=0) for port in range(30)]
    assert [threat.severity for threat in watch(PortScan).see(probes)] == [Severity.MEDIUM]


def swept(engine: Engine, at: float, src: str, hosts: int, proven: bool = False) -> list[ThreatUpdate]:
    rows = [flow(src, f"2a02:88:{at - T0:.0f}::{n:x}", 22, first=at) for n in range(hosts)]
    greeted = [talk(flow(src, f"2a02:88::80:{n}", 22, first=at), 0) for n in range(20 * proven)]
    updates = engine.feed(flows([*rows, *greeted]), at + 0.5)
    return updates + engine.feed(empty(flows([]).dtype), at + 2)


@pytest.mark.parametrize(("net", "threats"), [("2a01:4f8:77:1", 1), ("fd00:4f8:77:1", 5)], ids=["stranger", "ours"])
def test_a_scanner_that_moves_within_its_64_is_one_threat_and_hosts_of_ours_are_not(net: str, threats: int) -> None:
    engine = Engine()
    updates = [
        update
        for n in range(5)
        for update in swept(engine, T0 + 10 * n, f"{net}::{n + 1:x}", 20)
        if update.threat.src_ip
    ]
    assert len({update.threat.id for update in updates}) == threats
    assert [update.threat.src_ip for update in updates] == [f"{net}::{n + 1:x}" for n in range(5)]  # each may be banned
    assert {update.state for update in updates} == ({OPENED, UPDATED} if threats == 1 else {OPENED})
    assert all(str(update.threat.src_ip) in update.threat.summary for update in updates)
    if threats == 1:
        assert engine.threats()[0].evidence["addresses"] == [f"{net}::{n + 1:x}" for n in range(5)]


@pytest.mark.parametrize("proven", [1, 2])
@pytest.mark.parametrize("meanwhile", ["nothing", "closed", "restart"])
def test_an_address_is_not_proven_because_its_neighbour_is(meanwhile: str, proven: int) -> None:
    engine, net = Engine(), "2a01:4f8:77:1::"
    updates = swept(engine, T0, f"{net}1", 80, proven == 1)
    stored, at = engine.threats(), T0 + (HostSweep.idle_timeout_s + 60 if meanwhile == "closed" else 10)
    engine = Engine() if meanwhile == "restart" else engine
    updates += [*engine.feed(flows([]), at), *swept(engine, at, f"{net}2", 95, proven == 2)]
    engine.resume(stored if meanwhile == "restart" else [], at + 4)
    seen = [(each.threat.src_ip, each.threat.evidence["proven"]) for each in updates if each.state != CLOSED]
    assert seen == [(f"{net}1", proven == 1), (f"{net}2", proven == 2)]
    (threat,) = engine.threats()
    assert (threat.src_ip, threat.evidence["proven"]) == seen[1]
    assert threat.summary.startswith(f"{net}2 ")


def test_every_proven_address_of_a_64_is_reported_even_beyond_those_listed_but_not_in_turns_forever() -> None:
    engine, net = Engine(), "2a01:4f8:77:1::"
    sources = [f"{net}{n + 1:x}" for n in range(20)]
    once = [swept(engine, T0 + 10 * n, src, 80, proven=True) for n, src in enumerate(sources)]
    assert [{each.threat.src_ip for each in updates} for updates in once] == [{src} for src in sources]
    at = T0 + 300
    turns = [swept(engine, at + 2.5 * n, src, 80, proven=True) for n, src in enumerate(sources[16:18] * 10)]
    assert 0 < sum(map(len, turns)) <= 10  # in 50 seconds


class Banned:
    """An engine whose response is on, and may ban for a minute."""

    def __init__(self, **settings: Any) -> None:
        self.engine = Engine()
        self.response = Response(Settings(ban="on", ban_time=60.0, **settings), lambda _: False)

    def swept(self, at: float, src: str, hosts: int, proven: bool = True) -> list[str]:
        """The addresses that are banned because one sweeps so many hosts."""
        updates = swept(self.engine, at, src, hosts, proven) + self.engine.continued(at + 2)
        return [ban.prefix.split("/")[0] for update in updates for ban in self.response.decide(update, at + 2)]


def test_a_ban_of_an_address_returns_only_if_this_address_goes_on() -> None:
    daemon, (one, other, third) = Banned(), (f"2a01:4f8:77:1::{n}" for n in (1, 2, 3))
    assert daemon.swept(T0, one, 180) == [one]
    assert daemon.swept(T0 + 10, other, 180) == [other]
    assert daemon.swept(T0 + 100, one, 3) == [one]
    assert daemon.swept(T0 + 110, third, 180, proven=False) == []
    assert daemon.swept(T0 + 120, other, 3) == [other]
    assert daemon.swept(T0 + 400, third, 3, proven=False) == []  # the threat named a banned one, whose ban has ended
    assert daemon.swept(T0 + 410, other, 3) == [other]


@pytest.mark.parametrize("net", ["2a01:4f8:77:1::", "2a01:4f8:{}::"], ids=["a network", "a crowd"])
def test_who_was_let_go_again_is_not_banned_for_what_others_do_but_if_he_does_more(net: str) -> None:
    daemon, sources = Banned(), [f"{net.format(n)}{n:x}" for n in range(1, 24)]
    for number, source in enumerate(sources[:4]):
        assert daemon.swept(T0 + 5 * number, source, 150) == [source]
    mine = sources[3]
    daemon.response.lifted(f"{mine}/128")
    assert daemon.swept(T0 + 30, mine, 3, proven=False) == []
    for number, source in enumerate(sources[4:]):
        daemon.swept(T0 + 40 + number, source, 150, proven=False)
        assert daemon.swept(T0 + 40.5 + number, mine, 3, proven=False) == []
    assert daemon.swept(T0 + 80, mine, 400) == [mine]  # twice as much


def test_an_address_is_not_banned_because_its_neighbour_was_worse() -> None:
    daemon, (one, other, third) = Banned(), (f"2a01:4f8:77:1::{n}" for n in (1, 2, 3))
    assert daemon.swept(T0, one, 180) == [one]
    assert [daemon.swept(T0 + 10 * n, each, 80) for n, each in ((1, other), (2, third))] == [[], []]
    (threat,) = daemon.engine.threats()
    assert (threat.severity, threat.evidence["address_severity"]) == (Severity.HIGH, "medium")
    assert daemon.response.why_not(threat).startswith("below min_severity")
    assert daemon.swept(T0 + 50, third, 5) == []
    assert daemon.swept(T0 + 60, other, 180) == [other]  # now it is as bad itself


def test_of_strangers_that_sweep_for_the_same_service_the_third_and_more_are_one_threat() -> None:
    engine, sources = Engine(), STRANGERS
    for number, source in enumerate(sources):
        swept(engine, T0 + number, source, 20)
    threats = engine.threats()
    assert len(threats) == 3
    (crowd,) = [each for each in threats if "crowd" in each.evidence]
    assert crowd.summary.endswith(" hosts, as other strangers do")
    assert crowd.evidence["addresses"] == sources[2:18]
    again = Engine()
    assert again.resume(threats, T0 + 60) == []
    swept(again, T0 + 70, "2a01:4f9::1", 20)
    assert {each.id for each in again.threats()} == {each.id for each in threats}


def test_hosts_of_ours_that_sweep_for_the_same_service_are_reported_one_by_one() -> None:
    engine = Engine()
    for number in range(5):
        swept(engine, T0 + number, f"fd00:{number:x}::2", 20)
    assert len(engine.threats()) == 5


def test_each_stranger_of_a_crowd_is_banned_only_for_what_it_did_itself() -> None:
    daemon, sources = Banned(), STRANGERS[:6]
    bans = [daemon.swept(T0 + 10 * n, source, 150, proven=n % 2 == 0) for n, source in enumerate(sources)]
    assert bans == [[sources[0]], [], [sources[2]], [], [sources[4]], []]
    assert daemon.swept(T0 + 70, sources[3], 3, proven=False) == []
    assert daemon.swept(T0 + 80, sources[4], 3) == []  # banned already
    assert daemon.swept(T0 + 130, sources[4], 3) == [sources[4]]


@pytest.mark.parametrize("meanwhile", ["nothing", "closed", "restart", "neighbours"])
def test_what_an_address_did_does_not_prove_what_is_worse(meanwhile: str) -> None:
    daemon, (one, other) = Banned(), ("2a01:4f8:77:1::1", "2a01:4f8:77:1::2")
    daemon.engine.feed(flows(flow(one, f"2a02:99::{n:x}", 23) for n in range(180)), T0 + 5)  # forged
    (forged,) = daemon.engine.threats()
    assert (forged.severity, forged.evidence["proven"]) == (Severity.HIGH, False)
    at = T0 + (HostSweep.idle_timeout_s + 60 if meanwhile == "closed" else 10)
    daemon.engine = Engine() if meanwhile == "restart" else daemon.engine
    daemon.engine.feed(flows([]), at)
    if meanwhile == "neighbours":
        assert daemon.swept(at, other, 80) == []
    assert daemon.swept(at + 10, one, 80) == []
    daemon.engine.resume([forged] if meanwhile == "restart" else [], at + 14)
    assert daemon.swept(at + 20, one, 10) == []
    (threat,) = daemon.engine.threats()
    assert (threat.severity, threat.evidence["proven"]) == (Severity.HIGH, meanwhile == "neighbours")
    assert daemon.response.why_not(threat).startswith(
        "below min_severity" if meanwhile == "neighbours" else "source not proven"
    )
    assert daemon.swept(at + 30, one, 180) == [one]


@pytest.mark.parametrize("prefix", ["64:ff9b::", "64:ff9b:1:2::"])
def test_strangers_behind_nat64_are_told_apart_as_in_ipv4(prefix: str) -> None:
    engine = Engine()
    updates = [*swept(engine, T0, f"{prefix}2d01:907", 20), *swept(engine, T0 + 10, f"{prefix}2d02:907", 20)]
    assert len({each.threat.id for each in updates}) == 2


def test_few_addresses_with_little_each_in_a_64_are_not_added_up() -> None:
    engine = Engine()
    assert [swept(engine, T0 + 10 * n, f"2a01:4f8:77:1::{n + 1:x}", 5) for n in range(8)] == [[]] * 8


@pytest.mark.parametrize("first", [33434, 44444])
def test_traces_to_many_hosts_are_no_sweep(first: int) -> None:
    rows = [datagram("192.168.1.9", host, first + hop) for host in many(100) for hop in range(30)]
    assert watch(HostSweep).see(rows) == []

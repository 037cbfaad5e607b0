from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from detect_traffic import ACK, FIN, RST, SYN, T0, datagram, flow, flows, many, ping, refused, talk, watch

from trafficmond.detect.detectors.volume import Volume
from trafficmond.model import Severity, Threat

A, V = "203.0.113.9", "192.0.2.80"


def stream(packets: int, size: int = 100, **fields: Any) -> dict[str, Any]:
    return datagram(A, V, 9000, **{"packets": packets, "bytes": packets * size, **fields})


@pytest.mark.parametrize(
    "rows",
    [
        [stream(5000)],
        [datagram(source, V, 80) for source in many(3000)],
        [ping(A, V, packets=3000, bytes=3000 * 98, reply_packets=3000, reply_bytes=3000 * 98)],
        [flow(source, V, 80, first_flags=ACK, tcp_flags=ACK) for source in many(3000)],
        [flow(source, V, 80, first_flags=RST, tcp_flags=RST) for source in many(3000)],
        [refused(flow(source, V, 80, first_flags=ACK, tcp_flags=ACK, payload_bytes=9)) for source in many(3000)],
        [datagram(source, V, 80, bytes=1400) for source in many(1500)],
        [datagram(A, V, 0, sport=0, packets=1500, bytes=1500 * 1480)],  # fragments
        [datagram("fe80::1", "ff02::1:2", 547, packets=3000, bytes=300000)],
        [flow(A, V, 0, proto=50, sport=0, first_flags=0, tcp_flags=0, packets=4000, bytes=400000, first_len=100)],
        # Answers that nobody asked for come as the second half of a flow.
        [ping(V, A, packets=0, bytes=0, reply_packets=4000, reply_bytes=400000)],
    ],
    ids=["udp", "many", "ping", "ack", "rst", "psh", "large", "fragments", "dhcpv6", "esp", "smurf"],
)
def test_one_way_floods_name_the_victim(rows: list[dict[str, Any]]) -> None:
    (threat,) = watch(Volume).see(rows)
    assert threat.dst_ip in (V, "ff02::1:2")
    assert threat.src_ip in ((A, "fe80::1") if len(rows) == 1 else (None,))
    assert threat.severity >= Severity.MEDIUM


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([ping(A, V, packets=3000, bytes=294000, reply_packets=3000, reply_bytes=294000)], "3,000 pings"),
        ([ping(A, V, packets=3000, bytes=294000)], "3,000 unanswered packets"),
        ([ping(A, V, packets=900, reply_packets=900), stream(2000)], "2,900 unanswered packets and pings"),
        ([stream(9000, 1358)], "9,000 unanswered packets"),  # each counts a fifth
    ],
)
def test_the_summary_says_how_many_there_were_and_whether_they_were_answered(rows: list[Any], what: str) -> None:
    (threat,) = watch(Volume).see(rows)
    assert threat.summary.startswith(f"about {what} a second to {V} ")


@pytest.mark.parametrize(
    "rows",
    [
        [talk(flow(A, V, 443), packets=50000, bytes=70_000_000, reply_packets=20000, tcp_flags=ACK)],
        [stream(50000, 1300, reply_packets=25000)],  # QUIC
        [flow(A, V, 443, packets=9000, first_flags=ACK, tcp_flags=ACK, payload_bytes=10**7)],  # half of a download
        [flow(A, V, 443, packets=9000, tcp_flags=SYN | ACK)],
        [stream(3000, 1358)],  # video
        [datagram(A, "239.1.2.3", 5004, packets=20000, bytes=20000 * 500)],  # television
        [datagram(A, V, 4789, packets=8000, bytes=8000 * 900)],  # an overlay network
        [datagram(A, V, 514, packets=3000, bytes=3000 * 200)],  # syslog
        [stream(300)],
        [flow(V, A, 443, packets=0, reply_packets=9000, reply_payload_bytes=10**7, first_flags=SYN | ACK)],
        [refused(flow(A, V, port, first_flags=FIN, tcp_flags=FIN)) for port in range(1, 3000)],
        [flow(A, V, 40000, sport=port, first_flags=RST | ACK, tcp_flags=RST | ACK) for port in range(1, 3000)],
        [datagram(A, "ff0e::1", 5004, packets=5000, bytes=5000 * 300)],
        [flow(source, V, 80) for source in many(5000)],  # a SYN flood is told by its own detector
    ],
    ids=(
        [
            "upload",
            "quic",
            "asymmetric",
            "half",
            "video",
            "iptv",
            "vxlan",
            "syslog",
            "little",
            "download",
            "fin-scan",
            "scanned",
            "iptv6",
            "syn",
        ]
    ),
)
def test_business_is_no_flood(rows: list[dict[str, Any]]) -> None:
    assert watch(Volume).see(rows) == []


@pytest.mark.parametrize(("flags", "count", "found"), [(ACK, 12000, 1), (ACK, 4000, 0), (RST | ACK, 12000, 0)])
def test_packets_of_one_source_to_random_ports_are_a_flood_above_the_rate_of_a_scan(
    flags: int, count: int, found: int
) -> None:
    rows = [flow(A, V, 1 + n, first_flags=flags, tcp_flags=flags) for n in range(count)]
    threats = watch(Volume).see(rows)
    assert [(threat.dst_ip, threat.severity) for threat in threats] == [(V, Severity.HIGH)] * found


def test_a_scanner_is_not_flooded_by_the_errors_it_earns() -> None:
    probes = [flow(V, A, port) for port in range(1, 2001)]
    errors = {**ping(A, V, sport=3, packets=2000, bytes=140000), "dport": 13}
    assert watch(Volume).see([*probes, errors]) == []
    assert len(watch(Volume).see([errors])) == 1


def test_a_host_gets_used_to_its_stream_and_more_of_it_is_news() -> None:
    collector = watch(Volume, memory=60.0)
    verdicts = [bool(collector.see([stream(1200, id=1, new=False, first=T0)])) for _ in range(100)]
    assert verdicts[0]
    assert not any(verdicts[50:])
    assert collector.see([stream(9000, id=1, new=False, first=T0)])


def told_at(rates: Iterable[int]) -> list[float]:
    """When a stream of these rates, one each second, is told as a flood."""
    watching = watch(Volume)
    rows = (stream(10**6, id=1, new=False, first=T0, d_packets=rate, d_bytes=100 * rate) for rate in rates)
    return [second for second, row in enumerate(rows) if watching.see([row], after=0.0)]


def test_a_flood_that_goes_on_for_long_is_told_as_long_as_it_lasts() -> None:
    assert told_at([5000] * 600)[-1] == 599


def test_a_flood_that_grows_for_ten_minutes_is_found() -> None:
    assert told_at(range(0, 3000, 5)) != []


VISITED = talk(flow(A, V, 443))


@pytest.mark.parametrize(
    ("rows", "severities"),
    [
        ([VISITED, *(datagram(source, V, 2000 + 7 * n, sport=9000 + n) for n, source in enumerate(many(850)))],
         [Severity.LOW]),
        ([datagram(source, V, 2000 + 7 * n, sport=9000 + n) for n, source in enumerate(many(850))], []),  # one side
        ([VISITED, *(datagram(source, V, 6881, sport=9000 + n) for n, source in enumerate(many(850)))], []),  # peers
        ([VISITED, *(datagram(source, V, 2000 + 7 * n, sport=443) for n, source in enumerate(many(850)))], []),
        ([VISITED, *(datagram(source, V, 2000 + 7 * n, sport=9000 + n) for n, source in enumerate(many(200)))], []),
        ([VISITED, *(datagram(A, V, 2000 + 7 * n, sport=9000) for n in range(850))], []),  # a scan
        # Answers to a resolver that is seen from one side.
        ([datagram(source, V, 2000 + 7 * n, sport=53) for n, source in enumerate(many(2000))], [Severity.LOW]),
        ([datagram(V, A, 514), *(datagram(source, V, 2000 + 7 * n, sport=53) for n, source in enumerate(many(2000)))],
         [Severity.LOW]),  # what it sends to others shows nothing
        ([VISITED, *(datagram(source, V, 2000 + 7 * n, sport=53) for n, source in enumerate(many(2000)))],
         [Severity.MEDIUM]),
        ([{**ping(V, "10.0.0.5", sport=3), "dport": 3},  # port closed
          *(datagram(source, V, 2000 + 7 * n, sport=53) for n, source in enumerate(many(2000)))], [Severity.MEDIUM]),
    ],
    ids=["scattered", "one side", "peers", "quic", "little", "scan", "resolver", "logs", "seen", "closed"],
)  # fmt: skip
def test_what_is_only_a_note(rows: list[dict[str, Any]], severities: list[Severity]) -> None:
    watching = watch(Volume)
    found = [threat for second in range(12) for threat in watching._feed(flows(rows), T0 + second)]
    assert [threat.severity for threat in found[-1:]] == severities


@pytest.mark.parametrize(
    ("sources", "count", "severities"),
    [(1, 300, []), (100, 300, [Severity.LOW]), (100, 1200, [Severity.MEDIUM])],
    ids=["scan", "note", "flood"],
)
def test_an_earlier_flood_changes_no_verdict(sources: int, count: int, severities: list[Severity]) -> None:
    def told(after: float, sources: int, count: int, packets: int = 1) -> list[Threat]:
        hosts, found, sizes = many(sources), [], {"packets": packets, "bytes": 100 * packets}
        for at in (T0 + after + second for second in range(12)):
            rows = (
                datagram(hosts[n % sources], V, 2000 + 7 * n, sport=9000 + n, first=at, **sizes) for n in range(count)
            )
            found += watching._feed(flows([VISITED, *rows]), at)
        return found

    watching = watch(Volume)
    assert [threat.severity for threat in told(0, 1100, 1100, packets=10)][-1:] == [Severity.HIGH]
    last = told(7200, sources, count)[-1:]
    assert [threat.severity for threat in last] == severities
    for latest in last:
        assert latest.evidence["peak_weighted_packets_s"] == pytest.approx(count, rel=0.01)
        assert latest.evidence["sources"] == pytest.approx(sources, rel=0.1)


def test_a_scan_hours_after_a_flood_is_none() -> None:
    watching = watch(Volume)
    for at in (T0 + second for second in range(5)):
        watching._feed(flows([stream(12000, first=at)]), at)
    for at in (T0 + 7200 + second for second in range(5)):
        rows = [flow(A, V, 1 + port, first_flags=ACK, tcp_flags=ACK, first=at) for port in range(2000)]
        assert watching._feed(flows(rows), at) == []


def test_hosts_that_had_a_flood_once_do_not_crowd_out_one_that_has_it_now() -> None:
    watching, once = watch(Volume), [f"192.0.{network}.80" for network in range(10, 50)]
    for second in range(2):
        watching._feed(flows({**stream(2500, first=T0 + second), "dst": victim} for victim in once), T0 + second)
    found = []
    for at in (T0 + 7200 + second for second in range(6)):
        rows = [{**stream(700, first=at), "dst": victim} for victim in once]
        found += watching._feed(flows([*rows, *(datagram(source, V, 9000, first=at) for source in many(1500))]), at)
    assert [threat.severity for threat in found if threat.dst_ip == V][-1:] == [Severity.MEDIUM]


@pytest.mark.parametrize(
    ("port", "polled", "packets", "severity"),
    [
        (161, "10.1.0.0/16", 1, Severity.LOW),
        (5683, "10.1.0.0/16", 1, Severity.LOW),
        (40000, "10.1.0.0/16", 1, Severity.LOW),
        (161, "11.1.0.0/16", 1, Severity.MEDIUM),
        (161, "10.1.0.0/16", 10, Severity.HIGH),  # ten times the threshold
        (0, "10.1.0.0/16", 1, Severity.MEDIUM),  # a port of their own each
    ],
)
def test_answers_of_our_devices_are_a_note_if_one_direction_is_seen(
    port: int, polled: str, packets: int, severity: Severity
) -> None:
    watching, found = watch(Volume), []
    sizes = {"packets": packets, "bytes": 400 * packets, "first_len": 400}
    for at in (T0 + second for second in range(5)):
        rows = (
            datagram(device, "10.0.0.2", 50000, sport=port or 3000 + n, first=at, **sizes)
            for n, device in enumerate(many(1100, polled))
        )
        found += watching._feed(flows(rows), at)
    assert [threat.severity for threat in found[-1:]] == [severity]


def test_a_flood_too_short_to_be_told_at_once_does_not_end_as_a_note() -> None:
    watching = watch(Volume)
    for second, count in enumerate((4000, 4000, 300)):
        rows = [VISITED, *(datagram(source, V, 2000 + 7 * n, sport=9000 + n) for n, source in enumerate(many(count)))]
        assert watching._feed(flows(rows), T0 + second) == []
    assert [threat.severity for threat in watching._feed(flows([]), T0 + 9)] == [Severity.MEDIUM]


def test_a_whole_record_is_spread_over_its_time() -> None:
    assert watch(Volume).see([stream(60000, first=T0, last=T0 + 600)]) == []


def test_parts_of_one_batch_add_up() -> None:
    detector = watch(Volume)
    assert detector.see([stream(600)], after=0.0) == []
    detector.now -= 1.0  # the same moment
    assert detector.see([stream(600)], after=0.0) != []


@pytest.mark.parametrize(
    ("size", "first_len", "expected"), [(80, 1242, 0), (80, 80, 1), (1242, 1242, 1)], ids=["quic", "small", "large"]
)
def test_acknowledgements_of_a_download_seen_one_way_are_no_flood(size: int, first_len: int, expected: int) -> None:
    row = datagram(A, V, 443, sport=50123, packets=6000, bytes=6000 * size, first_len=first_len)
    assert len(watch(Volume).see([row])) == expected


def test_floods_that_wait_to_be_reported_are_bounded() -> None:
    detector = watch(Volume, capacity=1 << 16)
    told = []
    for network in range(60):  # 32 of each batch are looked at
        rows = [{**stream(5000), "dst": f"10.{network}.{number}.1"} for number in range(32)]
        told += detector._feed(flows(rows), T0)
    assert len(told) == 60 * 32 - 1024
    assert len({threat.dst_ip for threat in told}) == len(told)


def test_a_flood_that_continues_over_a_restart_is_reported_when_it_is_seen_again() -> None:
    before, after = watch(Volume), watch(Volume)
    assert before._feed(flows([stream(5000)]), T0) == []
    after.detector.recall(before.detector.learned(), T0 + 4)
    (threat,) = after._feed(flows([stream(5000, first=T0 + 3)]), T0 + 4)
    assert threat.dst_ip == V


@pytest.mark.parametrize(
    ("proto", "port", "size", "first", "found"),
    [
        (50, 0, 1350, 1350, False),
        (47, 0, 1350, 1350, False),
        (47, 0, 500, 500, True),  # all of one size
        (47, 0, 500, 90, False),
        (50, 0, 700, 1400, False),
        (47, 0, 76, 76, False),
        (17, 51820, 700, 190, False),  # WireGuard
        (17, 51820, 700, 700, True),
    ],
)
def test_what_a_tunnel_carries_is_no_flood_if_one_direction_is_seen(
    proto: int, port: int, size: int, first: int, found: bool
) -> None:
    watching, told = watch(Volume), []
    for second in range(5):
        packets = 1500 * (second + 1)
        row = flow(A, V, port, proto=proto, sport=port, first_flags=0, tcp_flags=0, packets=packets, first_len=first)
        row["bytes"] = packets * size
        told += watching.see([{**row, "id": 7, "d_packets": 1500, "d_bytes": 1500 * size, "new": second == 0}])
    assert bool(told) == found


@pytest.mark.parametrize(("answered", "found"), [(300, 0), (10, 1), (0, 1)])
def test_later_fragments_of_answered_datagrams_are_no_flood(answered: int, found: int) -> None:
    watching, told = watch(Volume), []
    counts = {"packets": answered, "bytes": answered * 1500, "reply_packets": answered, "reply_bytes": answered * 160}
    for _ in range(6):
        rows = [datagram(A, V, 0, sport=0, packets=1500, bytes=1500 * 1500, first=watching.now)]
        rows += [datagram(A, V, 2049, sport=800, first=watching.now, **counts)] * (answered > 0)
        told += watching.see(rows)
    assert len(told[:1]) == found

from __future__ import annotations

from typing import Any

import pytest
from detect_traffic import ACK, RST, SYN, T0, datagram, flow, many, talk, watch

from trafficmond.detect.detectors.amplification import Amplification
from trafficmond.model import Severity

V = "192.0.2.80"


def reflected(count: int, sport: int, size: int, network: str = "11.0.0.0/8", **fields: Any) -> list[dict[str, Any]]:
    return [
        datagram(source, V, 30000 + n, sport=sport, first_len=size, bytes=size * fields.get("packets", 1), **fields)
        for n, source in enumerate(many(count, network))
    ]


@pytest.mark.parametrize(
    ("sport", "size"), [(53, 1400), (123, 482), (11211, 1442), (4500, 246), (3702, 700), (19, 1000)]
)
def test_reflected_answers_are_one_threat_that_names_the_victim(sport: int, size: int) -> None:
    (threat,) = watch(Amplification).see(reflected(300, sport, size))
    assert (threat.src_ip, threat.dst_ip) == (None, V)
    assert threat.evidence["ports"] == [sport]
    assert threat.evidence["reflectors"] > 200


@pytest.mark.parametrize(
    ("reflectors", "flags", "found"),
    [
        (400, RST, [Severity.HIGH]),
        (12, RST, [Severity.LOW]),  # the victim resets them, so it did not ask
        (1, RST, []),
        (12, 0, []),  # perhaps its SYNs take another route
        (12, SYN | RST, []),  # it scans
    ],
)
def test_reflected_syn_acks(reflectors: int, flags: int, found: list[Severity]) -> None:
    # The flow table takes the receiver of a SYN-ACK for the opener.
    sources = many(reflectors, "11.0.0.0/8")
    rows = [
        flow(V, sources[n % reflectors], 443, sport=1000 + n, packets=flags > 0, first_flags=SYN | ACK, tcp_flags=flags,
             reply_packets=2, reply_bytes=120, reply_first_flags=SYN | ACK, reply_tcp_flags=SYN | ACK)
        for n in range(400)
    ]  # fmt: skip
    threats = watch(Amplification).see(rows)
    assert [(threat.src_ip, threat.dst_ip, threat.severity) for threat in threats] == [
        (None, V, each) for each in found
    ]


@pytest.mark.parametrize(
    "rows",
    [
        reflected(400, 53, 130),  # a resolver seen from one side
        [talk(datagram(V, source, 53), got=1500) for source in many(300)],  # a resolver
        [*reflected(300, 443, 1292), *reflected(300, 443, 1292, packets=30)],  # QUIC from one side
        reflected(5, 123, 482, packets=100),  # few hosts
        [datagram(source, V, 30303, sport=30303, bytes=250) for source in many(300)],  # peers
        [*reflected(300, 6881, 250), *(talk(datagram(V, source, 6881)) for source in many(60, "12.0.0.0/8"))],  # swarm
        reflected(400, 6881, 140),  # a swarm that does not know the client is gone
        reflected(60, 123, 482),
        [talk(flow("11.0.0.1", V, 443)), *reflected(30, 51820, 1200, packets=500)],  # tunnels
        reflected(12, 123, 76, packets=40),  # time servers
        reflected(12, 161, 300, packets=5),  # agents
        reflected(40, 514, 250, packets=30),  # syslog from the port of the service
        [talk(row, got=1500) for row in reflected(12, 6881, 900, packets=90)],  # downloads
    ],
    ids=[
        "one side",
        "resolver",
        "quic",
        "few",
        "ethereum",
        "swarm",
        "gone",
        "trickle",
        "tunnels",
        "time",
        "agents",
        "syslog",
        "downloads",
    ],
)
def test_answers_of_business_are_not_reflected(rows: list[dict[str, Any]]) -> None:
    assert watch(Amplification).see(rows) == []


def test_a_trickle_over_hours_never_adds_up() -> None:
    detector = watch(Amplification)
    for turn in range(50):
        assert detector.see(reflected(10, 123, 482, f"11.{turn}.0.0/16", first=T0), after=30) == []


VISITED = talk(flow("11.0.0.1", V, 443))  # so the victim's packets are seen


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([VISITED, *reflected(8, 11211, 1442, packets=20)], True),
        ([VISITED, *reflected(3, 19, 1000, packets=50)], True),
        ([VISITED, *reflected(10, 53, 1300, packets=12)], True),
        (reflected(8, 11211, 1442, packets=20), False),  # perhaps its questions are not seen
        ([datagram(V, "11.0.0.1", 9000), *reflected(8, 11211, 1442, packets=20)], False),  # one side of it
        ([VISITED, *reflected(8, 11211, 1442, packets=5)], False),
        ([VISITED, *reflected(1, 11211, 1442, packets=500)], False),
        ([VISITED, *reflected(10, 53, 300, packets=40)], False),
        ([VISITED, *reflected(8, 5004, 1200, packets=90)], False),  # cameras
        ([VISITED, *reflected(8, 443, 1292, packets=90)], False),  # QUIC
        ([VISITED, *reflected(8, 514, 250, packets=30)], False),  # syslog from firewalls
        ([VISITED, *reflected(8, 161, 1400, "10.0.0.0/8", packets=90)], False),  # our devices
        ([VISITED, *(talk(datagram(V, source, 123), reply_packets=90) for source in many(8, "11.0.0.0/8")),
          *reflected(8, 123, 482, packets=30)], False),  # asked
    ],
    ids=["memcached", "chargen", "dns", "unseen", "aside", "little", "one", "small", "media", "quic", "syslog", "ours",
         "asked"],
)  # fmt: skip
def test_few_reflectors_of_large_answers_are_a_note_if_the_victim_is_seen(
    rows: list[dict[str, Any]], found: bool
) -> None:
    assert [threat.severity for threat in watch(Amplification).see(rows)] == [Severity.LOW] * found


@pytest.mark.parametrize("sport", [10074, 17185, 27960, 32414])
def test_long_flows_from_ports_of_known_reflectors_are_reported(sport: int) -> None:
    (threat,) = watch(Amplification).see([VISITED, *reflected(40, sport, 1100, packets=110)])
    assert (threat.severity, threat.evidence["ports"]) == (Severity.HIGH, [sport])


def test_notes_about_few_reflectors_do_not_crowd_out_a_threat() -> None:
    noted = [f"192.0.{network}.80" for network in range(40)]
    rows = [row for victim in noted for row in (talk(flow("11.0.0.1", victim, 443)), *(
        {**row, "dst": victim} for row in reflected(3, 19, 1000, packets=90)))]  # fmt: skip
    threats = watch(Amplification).see([*rows, *reflected(30, 123, 482, packets=5), VISITED])
    assert (V, Severity.HIGH) in {(threat.dst_ip, threat.severity) for threat in threats}

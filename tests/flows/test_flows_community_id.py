"""Community ID against the vectors published with its specification (corelight/community-id-spec, baseline)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trafficmond.flows.batch import DELTA, Batch, empty, split_address
from trafficmond.flows.community_id import community_ids, flow_hashes

BASELINE = [  # proto, source, destination, ports (ICMP: type and code), Community ID
    (58, "fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea", 135, 0, "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
    (58, "fe80::260:97ff:fe07:69ea", "fe80::200:86ff:fe05:80da", 136, 0, "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
    (58, "fe80::260:97ff:fe07:69ea", "fe80::200:86ff:fe05:80da", 135, 0, "1:zavyT/cezQr1fmImYCwYnMXbgck="),
    (58, "fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea", 136, 0, "1:zavyT/cezQr1fmImYCwYnMXbgck="),
    (58, "3ffe:501:1800:2345::2", "3ffe:507:0:1:200:86ff:fe05:80da", 3, 0, "1:2ObVBgIn28oZvibYZhZMBgh7WdQ="),
    (58, "3ffe:501:410:0:2c0:dfff:fe47:33e", "3ffe:507:0:1:200:86ff:fe05:80da", 1, 4, "1:hLZd0XGWojozrvxqE0dWB1iM6R0="),
    (58, "3ffe:507:0:1:200:86ff:fe05:80da", "3ffe:501:0:1001::2", 128, 0, "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="),
    (58, "3ffe:501:0:1001::2", "3ffe:507:0:1:200:86ff:fe05:80da", 129, 0, "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="),
    (58, "fe80::200:86ff:fe05:80da", "ff02::2", 133, 0, "1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0="),
    (58, "fe80::260:97ff:fe07:69ea", "ff02::1", 134, 0, "1:pkvHqCL88/tg1k4cPigmZXUtL00="),
    (1, "192.168.0.89", "192.168.0.1", 8, 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    (1, "192.168.0.1", "192.168.0.89", 0, 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    (1, "10.0.0.1", "10.0.0.2", 11, 0, "1:YHxtAirCG//0OzkcVAukqKQN9xM="),
    (
        6,
        "2001:470:e5bf:dead:4957:2174:e82c:4887",
        "2607:f8b0:400c:c03::1a",
        63943,
        25,
        "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
    ),
    (
        6,
        "2607:f8b0:400c:c03::1a",
        "2001:470:e5bf:dead:4957:2174:e82c:4887",
        25,
        63943,
        "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
    ),
    (132, "192.168.170.8", "192.168.170.56", 7, 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
    (132, "192.168.170.56", "192.168.170.8", 7, 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
    (6, "128.232.110.120", "66.35.250.204", 34855, 80, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    (6, "66.35.250.204", "128.232.110.120", 80, 34855, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    (17, "192.168.1.52", "8.8.8.8", 54585, 53, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
    (17, "8.8.8.8", "192.168.1.52", 53, 54585, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
    (46, "10.1.12.1", "10.1.12.2", 0, 0, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
    (46, "10.1.12.2", "10.1.12.1", 0, 0, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
]


@pytest.mark.parametrize(("proto", "src", "dst", "sport", "dport", "expected"), BASELINE)
def test_published_vectors(
    deltas: Callable[..., Batch], proto: int, src: str, dst: str, sport: int, dport: int, expected: str
) -> None:
    assert community_ids(deltas({"proto": proto, "src": src, "dst": dst, "sport": sport, "dport": dport})) == [expected]


def test_a_batch_keeps_the_order_of_its_rows(deltas: Callable[..., Batch]) -> None:
    batch = deltas(
        *(
            {"proto": proto, "src": src, "dst": dst, "sport": sport, "dport": dport}
            for proto, src, dst, sport, dport, _ in BASELINE
        )
    )
    assert community_ids(batch) == [row[-1] for row in BASELINE]


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(st.data(), st.sampled_from([6, 17, 132, 47]), st.integers(0, 65535), st.integers(0, 65535))
def test_both_directions_have_one_id(data: st.DataObject, proto: int, sport: int, dport: int) -> None:
    version = data.draw(st.sampled_from([4, 6]))
    ends = [data.draw(st.ip_addresses(v=version)) for _ in range(2)]
    batch = empty(DELTA, 2)
    batch["proto"], batch["family"] = proto, version
    for row, (src, dst, from_port, to_port) in enumerate([(*ends, sport, dport), (*ends[::-1], dport, sport)]):
        batch["src_hi"][row], batch["src_lo"][row] = split_address(ipaddress.ip_address(src).packed)
        batch["dst_hi"][row], batch["dst_lo"][row] = split_address(ipaddress.ip_address(dst).packed)
        batch["sport"][row], batch["dport"][row] = from_port, to_port
    assert len(set(community_ids(batch))) == 1
    there, back = flow_hashes(batch)
    assert there == back


def test_flow_hash_is_eight_hex_digits_and_tells_destinations_apart(deltas: Callable[..., Batch]) -> None:
    one, other = flow_hashes(deltas({"dst": "198.51.100.2"}, {"dst": "198.51.100.3"}))
    assert one != other
    assert len(one) == 8
    assert int(one, 16) >= 0


@pytest.mark.parametrize(
    ("proto", "known"),
    [(6, False), (17, False), (132, False), (1, True), (47, True)],
    ids=["tcp", "udp", "sctp", "icmp", "gre"],
)
def test_later_fragments_have_none_where_ports_are_needed(
    proto: int, known: bool, deltas: Callable[..., Batch]
) -> None:
    batch = deltas({"proto": proto, "sport": 0, "dport": 0})
    assert [bool(text) for text in community_ids(batch)] == [known]
    assert len(flow_hashes(batch)[0]) == 8

"""A flood spread over the hosts of a network is one threat that names the network; a busy network is none."""

from __future__ import annotations

import numpy as np
import pytest
from world_attacks import datagram_flood, reflection, syn_flood, text
from world_book import Book, host
from world_house import WEB
from world_judging import judge

from trafficmond.model import Severity, Threat

NETWORK = host("198.51.100.0")
FLOODS = ("volume", "syn_flood", "amplification")


def told(book: Book) -> list[Threat]:
    return [threat for threat in judge(book.rows(), 1.0) if threat.detector in FLOODS]


def moments(book: Book, a_second: float, seconds: float) -> np.ndarray:
    return np.sort(book.rng.uniform(0, seconds, int(a_second * seconds)))


def hosts(book: Book, count: int, among: int = 256) -> np.ndarray:
    return NETWORK + (book.rng.integers(0, among, count) if among == 256 else 1 + book.rng.integers(0, among, count))


def is_of_the_network(threat: Threat) -> bool:
    """It names the network, and one of the hosts that were hit: whoever asks about them finds it."""
    named = threat.src_ip, threat.evidence["network"]
    return named == (None, "198.51.100.0/24") and str(threat.dst_ip).startswith("198.51.100.")


# ---- floods ----


def udp_carpet(book: Book, a_second: float, seconds: float, among: int = 256) -> None:
    at = moments(book, a_second, seconds)
    book.udp(at, book.public(len(at)), hosts(book, len(at), among), book.rng.integers(1, 65536, len(at)), 100)


def syn_carpet(book: Book, a_second: float, seconds: float, among: int = 256) -> None:
    at = moments(book, a_second, seconds)
    book.half_open(at, book.public(len(at)), hosts(book, len(at), among), 443)


def reflected_carpet(book: Book, a_second: float, seconds: float, among: int = 256) -> None:
    at = moments(book, a_second, seconds)
    who = book.rng.choice(book.public(3000), len(at))
    book.udp(at, who, hosts(book, len(at), among), book.ports(len(at)), 900, sport=53)


def test_datagrams_over_a_network_are_one_threat() -> None:
    book = Book(1)
    udp_carpet(book, 60_000, 5)
    (threat,) = told(book)
    assert threat.detector == "volume"
    assert is_of_the_network(threat)
    assert threat.severity == Severity.HIGH
    assert threat.evidence["targets"] == pytest.approx(256, rel=0.25)


def test_one_that_ends_before_its_window_is_full_is_found() -> None:
    book = Book(1)
    udp_carpet(book, 6_600, 9)
    assert [is_of_the_network(threat) for threat in told(book)] == [True]


@pytest.mark.parametrize("among", [8, 12, 48])
def test_datagrams_to_random_ports_of_a_few_hosts_are_one_threat(among: int) -> None:
    book = Book(1)
    udp_carpet(book, 700 * min(among, 12), 20, among)
    (threat,) = told(book)
    assert threat.detector == "volume"
    assert is_of_the_network(threat)


@pytest.mark.parametrize("port", [6881, 6969, 51820])
def test_datagrams_to_a_port_of_a_few_hosts_whose_answers_are_not_seen_are_no_flood(port: int) -> None:
    book = Book(1)  # trackers, nodes of a distributed table
    at = moments(book, 700 * 8, 20)
    book.udp(at, book.rng.choice(book.public(20_000), len(at)), hosts(book, len(at), 8), port, 100)
    assert told(book) == []


@pytest.mark.parametrize(
    ("a_second", "seconds", "among"), [(10_000, 15, 256), (2000, 20, 256), (1000, 30, 5), (240, 30, 12)]
)
def test_openings_over_a_network_are_one_threat(a_second: float, seconds: float, among: int) -> None:
    book = Book(1)
    syn_carpet(book, a_second, seconds, among)
    (threat,) = told(book)
    assert threat.detector == "syn_flood"
    assert is_of_the_network(threat)


@pytest.mark.parametrize(("a_second", "seconds", "among"), [(15_000, 10, 256), (3000, 30, 256), (3000, 10, 5)])
def test_reflected_answers_over_a_network_are_one_threat(a_second: float, seconds: float, among: int) -> None:
    book = Book(1)
    reflected_carpet(book, a_second, seconds, among)
    (threat,) = told(book)
    assert threat.detector == "amplification"
    assert is_of_the_network(threat)


def test_datagrams_of_a_few_sources_are_a_flood_when_they_are_more_than_a_scan() -> None:
    book = Book(1)
    at = moments(book, 20_000, 6)
    book.udp(at, book.rng.choice(book.public(10), len(at)), hosts(book, len(at)), book.ports(len(at)), 500)
    assert any(is_of_the_network(threat) for threat in told(book) if threat.detector == "volume")


def test_a_flood_at_one_host_or_two_names_the_hosts_and_no_network() -> None:
    book = Book(1)
    situations = [datagram_flood(book, 0, WEB), syn_flood(book, 0, WEB + 1), reflection(book, 0, WEB + 2)]
    syn_flood(book, 0, WEB + 3)
    found = {(threat.detector, threat.dst_ip) for threat in told(book)}
    assert found == {(each.detector, each.dst_ip) for each in situations} | {("syn_flood", text(WEB + 3))}


# ---- and what looks like it ----


def test_a_farm_of_busy_servers_is_no_flood() -> None:
    book = Book(1)
    at = moments(book, 20 * 300, 10)
    book.tcp(at, book.public(len(at)), hosts(book, len(at), 20), 443, 500, 4000, 0.3)
    assert told(book) == []


@pytest.mark.parametrize("answered", [True, False])
def test_a_farm_whose_answers_are_not_seen_is_no_flood(answered: bool) -> None:
    book = Book(1)
    at = moments(book, 400, 30)
    book.tcp(at, book.public(len(at)), hosts(book, len(at), 12), 443, 500, 4000, 0.3)
    if not answered:
        rows = book.rows()
        for name in ("packets", "bytes", "payload_bytes", "tcp_flags", "first_flags"):
            rows[f"reply_{name}"] = 0
    assert told(book) == []


def test_answers_to_an_office_behind_one_address_are_no_flood() -> None:
    book = Book(1)
    at, office = moments(book, 800, 20), NETWORK + 7
    book.udp(at, office, book.rng.choice(book.public(500), len(at)), 443, 1250, 30_000, 0.3, packets=3, replies=25)
    book.tcp(at, office, book.rng.choice(book.public(500), len(at)), 443, 900, 40_000, 0.3)
    assert told(book) == []


def test_a_network_that_distributes_content_to_many_desktops_is_no_flood() -> None:
    book = Book(1)
    desktops = np.repeat(NETWORK + 1 + np.arange(50), 4)
    book.tcp(book.rng.uniform(0, 2, 200), desktops, book.public(4)[0], 443, 3000, 20_000_000, 15.0)
    book.udp(book.rng.uniform(0, 2, 200), desktops, book.public(4)[1], 443, 90_000, 20_000_000, 15.0,
             packets=2000, replies=16_000)  # fmt: skip
    # ... and seen one way
    book.udp(book.rng.uniform(0, 2, 200), book.public(1)[0], desktops, book.ports(200), 2_000_000, 0, 15.0,
             packets=1600, sport=443)  # fmt: skip
    assert told(book) == []


@pytest.mark.parametrize("answered", [True, False])
def test_a_farm_of_resolvers_is_no_flood(answered: bool) -> None:
    book = Book(1)
    at = moments(book, 8 * 80, 10)
    farm, servers = hosts(book, len(at), 8), book.rng.choice(book.public(2000), len(at))
    sizes = np.where(book.rng.random(len(at)) < 0.1, 600, 120)
    if answered:
        book.udp(at, farm, servers, 53, 45, sizes)
    else:
        book.udp(at, servers, farm, book.ports(len(at)), sizes, sport=53)
    assert told(book) == []


@pytest.mark.parametrize("answered", [True, False])
def test_a_network_of_desktops_in_calls_is_no_flood(answered: bool) -> None:
    book = Book(1)
    desktops, peers = NETWORK + 1 + np.arange(250), book.public(250)
    begins, ports = book.rng.uniform(0, 2, 250), book.ports(500)
    for second in range(20):  # of each a record a second: what one of a whole call says of its packets' times is less
        book.udp(begins + second, peers, desktops, ports[:250], 100 * 900, 100 * 900 * answered, 0.99, packets=100,
                 sport=ports[250:])  # fmt: skip
    assert told(book) == []


def test_background_of_the_internet_over_a_network_is_no_flood() -> None:
    book = Book(1)
    at = moments(book, 30, 60)
    book.silent(at, book.rng.choice(book.public(5000), len(at)), hosts(book, len(at)), 23)
    at = moments(book, 1000, 10)
    book.silent(at, host("185.12.34.56"), hosts(book, len(at)), 23)  # a scanner in a hurry
    assert told(book) == []

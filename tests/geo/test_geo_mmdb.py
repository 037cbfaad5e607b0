"""Databases in MaxMind's format: every form is read, and what is no database says so."""

from __future__ import annotations

import contextlib
import ipaddress
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdb_writer import BUILT, Said, country, mmdb, system

from trafficmond.geo.geoip import Database, GeoIp
from trafficmond.geo.mmdb import Content, Damaged, Record, read

NETWORKS: list[tuple[str, Said]] = [
    ("203.0.113.0/24", country("XX")),
    ("203.0.113.64/26", country("YY")),
    ("2001:db8::/32", country("ZZ")),
    ("2001:db8::1/128", country("XX")),
    ("198.51.100.0/24", system(64500, "Example Networks")),
]


def geoip(*contents: Content) -> GeoIp:
    return GeoIp(tuple(Database(Path(f"{at}.mmdb"), (at,), each) for at, each in enumerate(contents)))


@pytest.mark.parametrize("bits", [24, 28, 32])
def test_every_size_of_record_is_read(bits: int) -> None:
    content = read(mmdb(NETWORKS, bits=bits))
    assert content.built == BUILT
    known = geoip(content).of(
        ["203.0.113.1", "203.0.113.64", "203.0.113.128", "2001:db8::1", "2001:db8::2", "2001:db9::", "192.0.2.1", "no"]
    )
    codes = [record.country for record in known.values()]
    assert codes == ["XX", "YY", "XX", "XX", "ZZ", "", "", ""]
    assert geoip(content).of(["198.51.100.9"])["198.51.100.9"] == Record("", 64500, "Example Networks")


def test_a_database_of_ipv4_alone_is_read() -> None:
    content = read(mmdb(NETWORKS[:2], version=4, bits=24))
    assert geoip(content).of(["203.0.113.70"])["203.0.113.70"].country == "YY"


@pytest.mark.parametrize(
    ("said", "record"),
    [
        ({"country_code": "ch"}, Record("CH")),
        ({"country": {}, "registered_country": {"iso_code": "DE"}}, Record("DE")),
        ({"country": "FR", "asn": "AS64501", "as_name": "Example"}, Record("FR", 64501, "Example")),
        ({"country": {"iso_code": "XXX"}, "autonomous_system_number": 0}, Record()),
        ({"country": {"iso_code": 7}, "asn": "none"}, Record()),
        ({"country": ["DE"], "registered_country": {"iso_code": "FR"}, "asn": True}, Record("FR")),
        ({"country_code": ["DE"], "country": True, "autonomous_system_number": True}, Record()),
        ({"country_code": "CH", "traits": {"autonomous_system_number": 64502}}, Record("CH", 64502)),
        ({"x": ["a", {"b": "c"}, True], "y": "z" * 400, "country_code": "AT"}, Record("AT")),
    ],
)
def test_what_the_makers_of_databases_write(said: dict[str, Any], record: Record) -> None:
    assert read(mmdb([("203.0.113.0/24", said)])).records == [record]


def networks_of(draw: Any) -> list[tuple[str, Said]]:
    rng = random.Random(draw(st.integers(0, 1 << 30)))
    found = []
    for _ in range(draw(st.integers(1, 40))):
        six = rng.random() < 0.5
        bits = 128 if six else 32
        length = rng.choice([8, 16, 24, 31, 32] if not six else [19, 32, 48, 63, 64, 65, 96, 127, 128])
        base = rng.getrandbits(6) << (bits - 6) | rng.getrandbits(bits - 6) & ((1 << rng.choice([8, bits - 6])) - 1)
        if six:
            base |= 1 << 125  # away from ::/96, where IPv4 is
        network = ipaddress.ip_network((base >> (bits - length) << (bits - length), length))
        found.append((str(network), country(rng.choice(["AA", "BB", "CC"]))))
    return sorted(found, key=lambda each: int(each[0].partition("/")[2]))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_look_ups_are_those_of_the_longest_network(data: st.DataObject) -> None:
    networks = networks_of(data.draw)
    where = geoip(read(mmdb(networks, bits=data.draw(st.sampled_from([24, 28, 32])))))
    parsed = [(ipaddress.ip_network(text), said["country"]["iso_code"]) for text, said in networks]
    asked = set[str]()
    for network, _ in parsed:
        first, last = int(network[0]), int(network[-1])
        for number in (first, last, first - 1, last + 1):
            if 0 <= number < 1 << network.max_prefixlen:
                asked.add(str(type(network[0])(number)))
    for address, record in where.of(sorted(asked)).items():
        ip = ipaddress.ip_address(address)
        holding = [(network.prefixlen, at) for at, (network, _) in enumerate(parsed) if ip in network]
        assert record.country == (parsed[max(holding)[1]][1] if holding else ""), address
    for code in ("AA", "BB", "CC"):
        rows = where.prefixes_of("country", {code})
        mine = [ipaddress.ip_network(rows.text(row)) for row in range(len(rows))]
        for address, record in where.of(sorted(asked)).items():
            assert any(ipaddress.ip_address(address) in each for each in mine) == (record.country == code)


@pytest.mark.parametrize("built", ["abc", [1], {"a": 1}, 1 << 63, 1_781_654_400_000, 0])
def test_a_date_that_is_none_is_unknown(built: Any) -> None:
    content = read(mmdb(NETWORKS, built=built))
    assert (content.built, len(content.networks)) == (0, len(read(mmdb(NETWORKS)).networks))
    assert Database(Path("x.mmdb"), (), content).dated == "x.mmdb of unknown date"


@pytest.mark.parametrize("networks", [["0.0.0.0/0", "2001:db8::/32"], ["::/1", "8000::/1"]])
def test_one_record_may_be_that_of_all_ipv4_addresses(networks: list[str]) -> None:
    """As maxminddb looks it up."""
    where = geoip(read(mmdb([(network, country(code)) for network, code in zip(networks, ("XX", "YY"), strict=True)])))
    assert where.of(["203.0.113.7"])["203.0.113.7"].country == "XX"
    assert where.prefixes_of("country", {"XX"}).text(0) == "0.0.0.0/0"


def test_what_is_no_database_says_so() -> None:
    for data in (b"", b"<html>not found</html>", mmdb(NETWORKS)[:-40], b"\xab\xcd\xefMaxMind.com"):
        with pytest.raises(Damaged):
            read(data)


def test_a_tree_that_runs_in_a_circle_is_damaged() -> None:
    good = mmdb([("203.0.113.0/24", country("XX"))], version=4, bits=24)
    with pytest.raises(Damaged):
        read(bytes(6) * (len(good) // 6 - 40) + good[good.rindex(b"\xab\xcd\xefMaxMind.com") :])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_damage_does_more_than_be_told(data: st.DataObject) -> None:
    octets = bytearray(mmdb(NETWORKS, bits=data.draw(st.sampled_from([24, 28, 32]))))
    for _ in range(data.draw(st.integers(1, 6))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 40))
    with contextlib.suppress(Damaged):
        content = read(bytes(octets[: len(octets) - cut]))
        geoip(content).of(["203.0.113.1", "2001:db8::1", "198.51.100.1"])


def test_of_each_kind_the_first_database_that_has_it_counts() -> None:
    six = read(mmdb([("2001:db8::/32", country("AA"))]))
    four = read(mmdb([("203.0.113.0/24", country("BB")), ("2001:db8::/32", country("BB"))]))
    systems = read(mmdb([("203.0.113.0/24", system(64500, "Example"))]))
    where = geoip(six, four, systems)
    assert where.of(["2001:db8::1", "203.0.113.1"]) == {
        "2001:db8::1": Record("AA"),
        "203.0.113.1": Record("BB", 64500, "Example"),
    }
    assert where.values("country") == {"AA", "BB"}
    assert where.values("asn") == {64500}
    assert where.sources("country") == "0.mmdb of 2026-06-17, 1.mmdb of 2026-06-17"
    assert not where.knows("organisation")


def test_the_networks_are_held_once() -> None:
    networks = [("192.0.2.0/24", country("XX")), ("198.51.100.0/24", country("YY")), ("2001:db8::/32", country("YY"))]
    for chosen in (networks, networks[:2], networks[2:]):
        database = geoip(read(mmdb(chosen))).databases[0]
        counts = Counter(6 if ":" in each else 4 for each, _ in chosen)
        assert {family: len(rows) for family, (rows, _) in database.table.items()} == counts
        assert all(np.shares_memory(rows.hi, database.content.networks.hi) for rows, _ in database.table.values())

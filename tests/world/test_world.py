"""The standard house: quiet while nobody attacks, and every attack found in it at the rates that the documents promise.

Five weeks are run by every test run; `make world SEEDS=200` runs so many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import pytest
import world_attacks as attacks
from world_attacks import Situation, named
from world_book import DAY, HOUR, MONDAY, Book, host
from world_house import LAPTOP, RESOLVER, WEB, house
from world_judging import SEEDS, judge, text, together

from trafficmond.flows.batch import Batch
from trafficmond.model import Severity

COARSE_S = 300.0  # a batch of a week; attacks are judged a second or ten at a time

LOUD: dict[str, Callable[[Book], Situation]] = {
    "port scan": lambda book: attacks.port_scan(book, 10 * HOUR, WEB),
    "host sweep": lambda book: attacks.host_sweep(book, 10 * HOUR, LAPTOP),
    "guessing": lambda book: attacks.guessing(book, 10 * HOUR, WEB),
    "beacon": lambda book: attacks.beacon(book, 10 * HOUR, LAPTOP),
    "SYN flood": lambda book: attacks.syn_flood(book, 10 * HOUR, WEB),
    "reflection": lambda book: attacks.reflection(book, 10 * HOUR, WEB),
    "datagram flood": lambda book: attacks.datagram_flood(book, 10 * HOUR, WEB),
    "slow HTTP by many": lambda book: attacks.slow_http(book, 10 * HOUR, WEB, 600, sources=500),
    "DNS tunnel": lambda book: attacks.dns_tunnel(book, 10 * HOUR, LAPTOP, RESOLVER, 8192.0),
    "ping tunnel": lambda book: attacks.ping_tunnel(book, 10 * HOUR, LAPTOP, 8192.0),
}
SLOW: dict[str, Callable[[Book], Situation]] = {
    "a port every 15 s": lambda book: attacks.port_scan(book, HOUR, WEB, 200, 15.0),
    "10 hosts a minute": lambda book: attacks.host_sweep(book, 10 * HOUR, LAPTOP, 200, 6.0),
    "20 guesses an hour": lambda book: attacks.guessing(book, HOUR, WEB, 200, 180.0),
    "many guessers": lambda book: attacks.many_guessers(book, 10 * HOUR, WEB),
    "a call an hour": lambda book: attacks.beacon(book, 0, LAPTOP, HOUR, 0.2, 30),
    "a dead server": lambda book: attacks.beacon(book, 10 * HOUR, LAPTOP, 42.0, 0.01, 19, alive=False),
    "100 openings a second": lambda book: attacks.syn_flood(book, 10 * HOUR, WEB, 100, 60),
    "200 held connections": lambda book: attacks.slow_http(book, 10 * HOUR, WEB),
    "a DNS tunnel of 1 KiB/s": lambda book: attacks.dns_tunnel(book, 10 * HOUR, LAPTOP, RESOLVER),
    "a ping tunnel of 1 KiB/s": lambda book: attacks.ping_tunnel(book, 10 * HOUR, LAPTOP),
}


@lru_cache(1)
def a_day() -> Batch:
    """A Monday of the house, with nobody attacking."""
    return house(1, 1).rows()


@pytest.mark.parametrize("attack", [*LOUD, *SLOW])
def test_each_attack_alone_is_one_threat_that_names_the_right_ones(attack: str) -> None:
    book = Book(3)
    situation = (LOUD | SLOW)[attack](book)
    found = judge(book.rows(), 1.0 if attack in LOUD else 10.0)
    assert [threat for threat in found if named(threat, situation)], [text(threat) for threat in found]
    assert len([threat for threat in found if threat.detector == situation.detector]) == 1


def test_in_the_house_they_are_found_as_well_and_nobody_else_is_blamed() -> None:
    book = Book(4)
    poured = ["port scan", "20 guesses an hour", "10 hosts a minute", "200 held connections", "a DNS tunnel of 1 KiB/s"]
    situations = [(LOUD | SLOW)[attack](book) for attack in poured]
    found = judge(together(a_day(), book.rows()), 60.0)
    for attack, situation in zip(poured, situations, strict=True):
        assert any(named(threat, situation) for threat in found), attack
    others = [
        each for each in found if each.severity >= Severity.MEDIUM and not any(named(each, s) for s in situations)
    ]
    assert not others, [text(threat) for threat in others]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_benign_week_brings_nothing_to_look_at_and_few_notes(seed: int) -> None:
    rows = house(seed).rows()
    background = (rows["dst_lo"] == host("192.168.30.80") | 0xFFFF00000000) & (rows["reply_payload_bytes"] == 0)
    assert len(rows) >= 200_000
    assert background.sum() >= 7 * 5000
    found = judge(rows, COARSE_S)
    assert not [text(threat) for threat in found if threat.severity >= Severity.MEDIUM]
    notes = Counter((threat.src_ip or threat.dst_ip, int((threat.first_seen - MONDAY) // DAY)) for threat in found)
    assert max(notes.values(), default=0) <= 2, notes.most_common(5)
    a_week = Counter(threat.src_ip or threat.dst_ip for threat in found)
    assert max(a_week.values(), default=0) <= 2 * 7, a_week.most_common(5)


def test_twice_as_much_of_the_house_changes_no_verdict() -> None:
    other = house(2, 1).rows()
    for side in ("src_lo", "dst_lo"):  # another house beside it: 192.168 becomes 10.168
        inside = (other[side] >> 16) & 0xFFFF == 0xC0A8
        other[side][inside] = other[side][inside] - (0xC0A80000 - 0x0AA80000)
    book = Book(4)
    situation = attacks.guessing(book, HOUR, WEB, 200, 180.0)
    attacked = together(a_day(), book.rows())
    assert any(named(threat, situation) for threat in judge(attacked, COARSE_S))
    assert verdicts(together(attacked, other)) == verdicts(attacked) | verdicts(other)


def verdicts(rows: Batch) -> set[tuple[str, Severity, str | None, str | None]]:
    return {(each.detector, each.severity, each.src_ip, each.dst_ip) for each in judge(rows, COARSE_S)}

"""Attacks to pour into a world, each at a rate of the caller's choosing, from loud to slow.

Each function writes one situation into a `Book` and returns who must be named: `src_ip` and `dst_ip` as the threat
should have them, "" where it should name nobody. Forged sources are random public addresses.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from world_book import HOUR, Book, host

from trafficmond.flows.batch import address_text
from trafficmond.model import Threat

STRANGER = host("185.12.34.56")


class Situation(NamedTuple):
    """What a detector should say."""

    detector: str
    src_ip: str
    dst_ip: str


def named(threat: Threat, situation: Situation) -> bool:
    """Whether the threat is that situation, and blames and pities the right ones."""
    right = threat.detector == situation.detector and (threat.src_ip or "") == situation.src_ip
    return right and (not situation.dst_ip or (threat.dst_ip or "") in (situation.dst_ip, ""))


def found_in(threats: list[Threat], situation: Situation) -> bool:
    """Whether one of the threats is that situation."""
    return any(named(threat, situation) for threat in threats)


def port_scan(book: Book, at: float, victim: int, ports: int = 400, every: float = 0.02) -> Situation:
    """SYNs to one port after the other, closed but for two."""
    when, tried = at + np.arange(ports) * every, book.rng.permutation(np.arange(1, ports + 1))
    open_ones = np.isin(tried, (80, 443))
    book.refused(when[~open_ones], STRANGER, victim, tried[~open_ones])
    book.half_open(when[open_ones], STRANGER, victim, tried[open_ones])
    return _found("port_scan", STRANGER, victim)


def scan_by_many(
    book: Book,
    at: float,
    victim: int,
    sources: int = 10,
    ports: int = 400,
    every: float = 0.01,
    *,
    shared: bool = False,
) -> Situation:
    """A scan that hides: each probe is sent from all of the sources (nmap -D), or `shared` out among them."""
    who, tried = book.public(sources), book.rng.permutation(np.arange(1, ports + 1))
    if shared:
        book.refused(at + np.arange(ports) * every, np.resize(who, ports), victim, tried)
    else:
        when = np.repeat(at + np.arange(ports) * every, sources) + np.tile(np.arange(sources) * 1e-4, ports)
        book.refused(when, np.tile(who, ports), victim, np.repeat(tried, sources))
    return Situation("port_scan", "", text(victim))


def host_sweep(
    book: Book, at: float, source: int, hosts: int = 300, every: float = 0.05, dport: int = 2323
) -> Situation:
    """SYNs to one port of many addresses, most of which are nobody's."""
    when, targets = at + np.arange(hosts) * every, book.public(hosts)
    alive = book.rng.random(hosts) < 0.05
    book.silent(when[~alive], source, targets[~alive], dport)
    book.refused(when[alive], source, targets[alive], dport)
    return _found("host_sweep", source)


def guessing(book: Book, at: float, victim: int, guesses: int = 200, every: float = 2.0, dport: int = 22) -> Situation:
    """Passwords tried at SSH, three a connection (MaxAuthTries less what OpenSSH's client asks), each refused."""
    when = at + np.arange(guesses) * every * book.rng.uniform(0.8, 1.2, guesses)
    _guess(book, when, STRANGER, victim, dport)
    return _found("brute_force", STRANGER, victim)


def many_guessers(
    book: Book, at: float, victim: int, sources: int = 60, each: int = 4, within: float = 6 * HOUR
) -> Situation:
    """Passwords tried by many, none of whom tries often."""
    who = np.repeat(book.public(sources), each)
    _guess(book, at + book.rng.uniform(0, within, len(who)), who, victim, 22)
    return Situation("brute_force", "", text(victim))


def spray(book: Book, at: float, victims: int, hosts: int = 40, every: float = 5.0) -> Situation:
    """One password tried once at each of the hosts from `victims` on, by somebody outside."""
    when = at + np.arange(hosts) * every * book.rng.uniform(0.8, 1.2, hosts)
    _guess(book, when, STRANGER, victims + np.arange(hosts), 22)
    return _found("brute_force", STRANGER)


def unusual_protocol(book: Book, at: float, source: int, proto: int = 200, packets: int = 40) -> Situation:
    """Packets of a protocol that IANA has not assigned, for a minute."""
    book.bare(at, source, int(book.public(1)[0]), proto, packets, 200, 60.0)
    return _found("unusual_protocol", source)


def failing(book: Book, at: float, source: int, dials: int = 80) -> Situation:
    """A program that dials a server that is down, without a rhythm."""
    peer = int(book.public(1)[0])
    book.refused(at + np.cumsum(book.rng.uniform(1, 8, dials)), source, peer, 8443)
    return _found("repeated_flow", source, peer)


def beacon(book: Book, at: float, source: int, every: float = 60.0, jitter: float = 0.1, calls: int = 60,
           *, dport: int = 8443, alive: bool = True) -> Situation:  # fmt: skip
    """An implant calls home; `jitter` is the share of the pause by which a call may come early or late."""
    when = at + np.cumsum(every * (1 + book.rng.uniform(-jitter, jitter, calls)))
    home = int(book.public(1)[0])
    if alive:
        book.tcp(when, source, home, dport, 210 + book.rng.integers(0, 20, calls), 140, 0.3)
    else:
        book.refused(when, source, home, dport)
    return _found("beacon", source, home)


def syn_flood(book: Book, at: float, victim: int, a_second: float = 2000.0, seconds: float = 20.0) -> Situation:
    """Openings from forged addresses to one port, which nobody finishes."""
    count = int(a_second * seconds)
    sources = book.rng.integers(host("23.0.0.0"), host("99.255.255.255"), count)
    book.half_open(at + np.sort(book.rng.uniform(0, seconds, count)), sources, victim, 443)
    return Situation("syn_flood", "", text(victim))


def reflection(
    book: Book, at: float, victim: int, reflectors: int = 3000, seconds: float = 5.0, size: int = 90
) -> Situation:
    """Answers from port 53 of many resolvers that nobody asked, two or three from each, most of them short."""
    who = np.repeat(book.public(reflectors), book.rng.integers(2, 4, reflectors))
    sizes = np.where(book.rng.random(len(who)) < 0.2, book.rng.integers(460, 810, len(who)), size - 42)
    book.udp(at + np.sort(book.rng.uniform(0, seconds, len(who))), who, victim, book.ports(len(who)), sizes, sport=53)
    return Situation("amplification", "", text(victim))


def datagram_flood(book: Book, at: float, victim: int, a_second: int = 20_000, seconds: float = 20.0) -> Situation:
    """Datagrams of a few sources to one port."""
    book.udp(at + np.zeros(6), book.public(6), victim, 9000, int(a_second * seconds / 6) * 100, 0, seconds,
             packets=int(a_second * seconds / 6))  # fmt: skip
    return Situation("volume", "", text(victim))


def exfiltration(book: Book, at: float, source: int, size: float = 3e9, seconds: float = 600.0) -> Situation:
    """One long upload to somebody new."""
    book.tcp(at, source, int(book.public(1)[0]), 443, int(size), int(size) // 200, seconds)
    return Situation("exfiltration", text(source), "")


def slow_http(
    book: Book, at: float, victim: int, connections: int = 200, seconds: float = 300.0, sources: int = 1
) -> Situation:
    """Connections held open by a header line each 15 s (slowloris' default), and nothing back."""
    who = np.resize(book.public(sources) if sources > 1 else np.array([STRANGER]), connections)
    for begin in np.arange(0, seconds, 60.0):  # a server gives up after a minute, and the place is taken again
        book.trickle(at + begin + book.rng.uniform(0, 10, connections), who, victim, 80, 200, 20, 15.0, 48.0)
    return Situation("slow_http", "" if sources > 1 else text(STRANGER), text(victim))


def dns_tunnel(
    book: Book, at: float, source: int, resolver: int, a_second: float = 1024.0, seconds: float = 600.0
) -> Situation:
    """Data in the names of questions: about 110 bytes a question, answers about as long."""
    count = int(a_second * seconds / 110)
    book.udp(at + np.sort(book.rng.uniform(0, seconds, count)), source, resolver, 53,
             book.rng.integers(95, 200, count), book.rng.integers(110, 260, count))  # fmt: skip
    return Situation("tunnel", text(source), "")


def ping_tunnel(book: Book, at: float, source: int, a_second: float = 1024.0, seconds: float = 600.0) -> Situation:
    """Data in echo requests of varying length, and more of it back."""
    peer, steps = int(book.public(1)[0]), int(seconds / 20)
    sizes = book.rng.integers(200, 1200, steps)
    packets = np.maximum((a_second * 20 / sizes).astype(np.int64), 1)
    book.ping(at + np.arange(steps) * 20.0, source, peer, sizes, packets=packets, lasts=19.0, got=sizes * packets // 2)
    return Situation("tunnel", text(source), "")


def _guess(book: Book, when: np.ndarray, who: np.ndarray | int, victim: int, dport: int) -> None:
    count = len(when)
    book.tcp(when, who, victim, dport, book.rng.integers(1900, 2300, count), book.rng.integers(2300, 2700, count),
             book.rng.uniform(2, 8, count), greets=True)  # fmt: skip


def _found(detector: str, source: int, victim: int | None = None) -> Situation:
    return Situation(detector, text(source), "" if victim is None else text(victim))


def text(number: int) -> str:
    """An address as threats have it."""
    return address_text(0, number | 0xFFFF00000000, 4)

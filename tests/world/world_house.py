"""The standard house: an ordinary network's week, role by role, with nobody attacking.

Each function writes one role's conversations into a `Book`. Where a number decides whether a detector speaks, its
comment says where it comes from: a default of the program, an RFC, a paper. Nothing was taken from a capture.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from world_book import DAY, HOUR, MINUTE, Book, host

ROUTER, RESOLVER, NAS, MONITOR = (host(f"192.168.10.{last}") for last in (1, 2, 3, 4))
MAIL, RUNNER, JUMP, CONTAINERS = (host(f"192.168.10.{last}") for last in (5, 6, 7, 8))
DESKTOP, LAPTOP, PHONE, HUB, PRINTER, TELEPHONE = (host(f"192.168.10.{last}") for last in (21, 22, 31, 41, 51, 61))
BULBS = np.array([host(f"192.168.10.{last}") for last in range(42, 47)])
SERVERS = np.array([host(f"192.168.20.{last}") for last in range(10, 50)])  # what the jump host looks after
WEB = host("192.168.30.80")
"""The exposed server, behind a port forwarding that keeps the callers' addresses."""

DNS, NTP, HTTP, HTTPS, SSH = 53, 123, 80, 443, 22


def browsing(book: Book, day: int, who: int, pages: float) -> None:
    """A person reads pages: each dozens of fetches from a handful of servers, names asked for first."""
    rng = book.rng
    at = book.waking(day, pages)
    popular = book.public(4000)
    # How often a site is visited falls with its rank (Zipf; Breslau et al., INFOCOM 1999: exponent 0.64 to 0.83).
    weights = np.arange(1, len(popular) + 1) ** -0.8
    for moment in at:
        servers = rng.choice(popular, 1 + rng.poisson(4), p=weights / weights.sum())
        book.udp(moment + rng.uniform(0, 1, len(servers)), who, RESOLVER, DNS, rng.integers(28, 60, len(servers)),
                 rng.integers(60, 400, len(servers)))  # fmt: skip
        # A browser holds up to six connections a server over HTTP/1.1 and one over HTTP/2 and 3 (RFC 9113, 9.1).
        fetches = np.repeat(servers, rng.integers(1, 4, len(servers)))
        when = moment + 0.2 + rng.exponential(1.5, len(fetches))
        got = book.heavy(len(fetches), 12_000)
        lasts = 0.3 + got / 2e6 + rng.exponential(20, len(fetches))  # kept alive for a while
        quic = rng.random(len(fetches)) < 0.4
        book.tcp(
            when[~quic], who, fetches[~quic], HTTPS, rng.integers(600, 4000, (~quic).sum()), got[~quic], lasts[~quic]
        )
        size = got[quic]
        book.udp(when[quic], who, fetches[quic], HTTPS, rng.integers(2500, 6000, quic.sum()), size + 3000, lasts[quic],
                 packets=6 + size // 4000, replies=6 + size // 1200)  # fmt: skip
        if rng.random() < 0.03:  # a dead link: some addresses of it, each tried for a while
            book.silent(moment + rng.uniform(0, 2, 2), who, book.public(2), HTTPS, 6)


def desktop(book: Book, day: int) -> None:
    """A Linux desktop: pages, a connectivity check, the time, updates, a file-sharing client on some evenings."""
    rng, begin = book.rng, day * DAY
    browsing(book, day, DESKTOP, 160)
    # NetworkManager's default: connectivity.interval=300, plain HTTP to one address of its distribution.
    checks = book.rhythm(begin + 8 * HOUR, begin + 23 * HOUR, 300, 0.002)
    book.tcp(checks, DESKTOP, _fixed(1), HTTP, 87, 148, 0.1)
    # systemd-timesyncd polls each 32 to 2048 s (PollIntervalMinSec, PollIntervalMaxSec).
    book.udp(book.rhythm(begin + 8 * HOUR, begin + 23 * HOUR, 2048, 0.01), DESKTOP, _fixed(2), NTP, 48, 48)
    book.tcp(begin + 9 * HOUR + rng.uniform(0, HOUR, 40), DESKTOP, rng.choice(_mirrors(), 40), HTTP, 300,
             book.heavy(40, 200_000), 2.0)  # fmt: skip
    # A mail program: one session of IMAP IDLE at a time, renewed before 29 minutes are over (RFC 2177).
    for start in np.arange(begin + 8 * HOUR, begin + 23 * HOUR, 29 * MINUTE):
        book.tcp(start, DESKTOP, MAIL, 993, 2400, 9000, 29 * MINUTE - 5)
    if rng.random() < 0.4:
        sharing(book, begin + rng.uniform(18, 21) * HOUR, DESKTOP)


def sharing(book: Book, at: float, who: int) -> None:
    """A file-sharing client starts from a list of peers, most of them gone: over UDP from one socket, and over TCP."""
    rng = book.rng
    known = book.public(480)
    ports = np.where(rng.random(480) < 0.13, 6881, rng.integers(1025, 65535, 480))
    alive = rng.random(480) < 0.2
    when = at + rng.uniform(0, 120, 480)
    book.udp(when, who, known, ports, 109, np.where(alive, 300, 0), 0.2, sport=51413)
    # The list by TCP: dialled through within a minute, each peer again after one to two (BEP 3 clients' retry).
    peers = known[:81]
    for turn in range(3):
        begun = at + turn * rng.uniform(60, 75) + np.sort(rng.uniform(0, 55, len(peers)))
        gone = ~alive[:81]
        book.silent(begun[gone], who, peers[gone], 6881, 3)
        book.tcp(begun[~gone], who, peers[~gone], 6881, 5000, book.heavy(int((~gone).sum()), 800_000), 300.0)


def phone(book: Book, day: int) -> None:
    """A telephone: pages in bursts, a push channel, its maker's services, the hub's app now and then."""
    rng, begin = book.rng, day * DAY
    browsing(book, day, PHONE, 70)
    # Push: one connection, a heartbeat each 15 minutes on Wi-Fi (FCM), a new one whenever the network changed.
    edges = np.sort(np.concatenate([[begin], begin + rng.uniform(0, DAY, 6), [begin + DAY]]))
    for start, end in pairwise(edges):
        beats = max(1, int((end - start) / (15 * MINUTE)))
        book.tcp(start, PHONE, _fixed(3), 5228, 600 + 60 * beats, 1200 + 60 * beats, end - start - 1)
    for open_at in book.waking(day, 4):
        polls = np.arange(open_at, open_at + rng.uniform(20, 90), 2.0)  # the app shows the lamps' state
        book.tcp(polls + rng.normal(0, 0.1, len(polls)), PHONE, HUB, HTTP, 260, 1800, 0.05)


def hub(book: Book, day: int) -> None:
    """A home hub: a plain HTTP poll of its maker's cloud while it is set up, MQTT afterwards, CoAP to its bulbs."""
    rng, begin = book.rng, day * DAY
    if day == 0:
        polls = np.cumsum(rng.normal(2.2, 0.15, 50)) + begin + 10 * HOUR
        book.tcp(polls, HUB, _fixed(4), HTTP, 792, 254, 0.15)
    book.tcp(begin, HUB, _fixed(5), 8883, 60 * 1440, 60 * 1440, DAY - 5)  # keep-alive each minute (MQTT's usual)
    for bulb in BULBS:
        at = book.rhythm(begin, begin + DAY, 10 * MINUTE, 0.05)
        book.udp(at, HUB, int(bulb), 5683, 40, 60, packets=2)


def laptop(book: Book, day: int) -> None:
    """A second computer with chat and video meetings."""
    rng = book.rng
    browsing(book, day, LAPTOP, 110)
    for start in book.waking(day, 2, 9, 17):
        seconds = rng.uniform(15, 60) * MINUTE
        server = int(book.public(1)[0])
        book.udp(start, LAPTOP, server, 3478, int(seconds * 160_000), int(seconds * 220_000), seconds,
                 packets=int(seconds * 170), replies=int(seconds * 220))  # fmt: skip


def resolver(book: Book, day: int) -> None:
    """A recursive resolver: a question a port to servers all over the world, some of which never answer."""
    rng, begin = book.rng, day * DAY
    at = np.concatenate([book.waking(day, 5500), book.poisson(begin, begin + DAY, 1500)])
    servers = rng.choice(_world(), len(at), p=_ranks(len(_world())))
    lost = rng.random(len(at)) < 0.02
    got = np.where(lost, 0, rng.integers(80, 900, len(at)))
    book.udp(at, RESOLVER, servers, DNS, rng.integers(40, 80, len(at)), got, rng.exponential(0.03, len(at)))
    truncated = rng.random(len(at)) < 0.004
    book.tcp(at[truncated] + 0.1, RESOLVER, servers[truncated], DNS, 60, 2500, 0.1)


def mail(book: Book, day: int) -> None:
    """A mail server: what comes in, what goes out, greylisted and retried (postfix: 300 to 4000 s), dead targets."""
    rng, begin = book.rng, day * DAY
    largest = 10_240_000  # postfix: message_size_limit
    inbound = book.poisson(begin, begin + DAY, 350)
    octets = book.heavy(len(inbound), 20_000, most=largest)
    book.tcp(inbound, book.public(len(inbound)), MAIL, 25, octets, 900, 2.0, greets=True)
    outbound = np.concatenate([book.waking(day, 80, 8, 19), book.poisson(begin, begin + DAY, 20)])
    octets = book.heavy(len(outbound), 15_000, most=largest)
    book.tcp(outbound, MAIL, book.public(len(outbound)), 25, octets, 900, 2.0, greets=True)
    for dead in book.public(3):  # two each 300 s at first, doubling to 4000 s
        tries = begin + rng.uniform(0, DAY / 2) + np.cumsum(np.minimum(300 * 2.0 ** np.arange(12), 4000))
        book.silent(tries, MAIL, int(dead), 25, 5)


def nas(book: Book, day: int) -> None:
    """Backups: every machine to the store at night, the store to another site over SSH, a full one on Sunday."""
    rng, begin = book.rng, day * DAY
    for client in (DESKTOP, LAPTOP, MAIL, JUMP, CONTAINERS, WEB):
        size = int(book.heavy(1, 300e6, most=40e9)[0])
        book.tcp(begin + rng.uniform(1, 4) * HOUR, client, NAS, 445, size, size // 400, 60 + size / 40e6)
    size = int(book.heavy(1, 250e6, most=2e9)[0]) if day != 6 else int(30e9)
    book.tcp(begin + 4.5 * HOUR, NAS, _fixed(6), SSH, size, size // 300, 30 + size / 5e6, greets=True)


def monitoring(book: Book, day: int) -> None:
    """Prometheus (scrape_interval: 15 s here), pings each minute, SNMP walks of two routers, a host down for hours."""
    rng, begin = book.rng, day * DAY
    targets = (ROUTER, RESOLVER, NAS, MAIL, RUNNER, JUMP, CONTAINERS)
    for target in targets:  # one connection each, kept for the day
        book.tcp(begin + rng.uniform(0, 15), MONITOR, target, 9100, 300 * 5760, 30_000 * 5760, DAY - 20)
    for minute in range(0, 1440, 5):  # a probe of five pings each minute, taken together by fives for speed
        book.ping(begin + minute * MINUTE, MONITOR, SERVERS[:8], packets=25, lasts=250.0)
    for router in (ROUTER, host("192.168.10.254")):
        at = np.arange(begin, begin + DAY, 10 * MINUTE) + rng.uniform(0, 20)
        book.udp(at, MONITOR, router, 161, 2600 * 90, 2600 * 400, 1.0, packets=2600)
    if day in (2, 4):
        down = int(rng.choice(SERVERS))
        book.silent(np.arange(begin + 13 * HOUR, begin + 16 * HOUR, 15.0), MONITOR, down, 9100, 4)


def runner(book: Book, day: int) -> None:
    """A CI runner: asks for work each 3 s (GitLab Runner's check_interval), clones and pulls when there is some."""
    rng, begin = book.rng, day * DAY
    forge = _fixed(7)
    for start in np.arange(begin, begin + DAY, HOUR):  # over one connection an hour
        book.tcp(start, RUNNER, forge, HTTPS, 900 * 1200, 400 * 1200, HOUR - 2)
    for job in book.waking(day, 45, 8, 19):
        clones = rng.integers(2, 6)  # submodules by SSH, some at once
        book.tcp(job + rng.uniform(0, 3, clones), RUNNER, _fixed(8), SSH, 6000, book.heavy(clones, 400_000), 4.0,
                 greets=True)  # fmt: skip
        pulls = rng.integers(5, 25)
        book.tcp(job + 5 + rng.exponential(15, pulls), RUNNER, rng.choice(_mirrors(), pulls), HTTPS, 1500,
                 book.heavy(pulls, 2_000_000), 3.0)  # fmt: skip
        book.udp(job + rng.uniform(0, 20, pulls), RUNNER, RESOLVER, DNS, 45, 140)


def jump(book: Book, day: int) -> None:
    """A jump host: a dozen sessions kept open with keep-alives, and a deployment over all servers, five at a time."""
    rng, begin = book.rng, day * DAY
    for server in SERVERS[:12]:  # ServerAliveInterval 60, ControlMaster: one connection, whatever runs in it
        book.tcp(
            begin + 8 * HOUR + rng.uniform(0, 600), JUMP, int(server), SSH, 60 * 600, 44 * 600, 10 * HOUR, greets=True
        )
    for play in book.waking(day, 3, 9, 18):
        # Ansible: forks = 5, ControlPersist = 60s: one connection a host and play.
        at = play + np.arange(len(SERVERS)) // 5 * 12 + rng.uniform(0, 2, len(SERVERS))
        book.tcp(
            at,
            JUMP,
            SERVERS,
            SSH,
            rng.integers(40_000, 200_000, len(SERVERS)),
            60_000,
            40 + rng.uniform(0, 60),
            greets=True,
        )


def containers(book: Book, day: int) -> None:
    """A container host: health checks each 30 s (Docker's default), a database pool, a service that keeps crashing."""
    rng, begin = book.rng, day * DAY
    bridge, inside = host("172.17.0.1"), np.array([host(f"172.17.0.{last}") for last in range(2, 8)])
    for number, one in enumerate(inside):
        at = book.rhythm(begin, begin + DAY, 30, 0.01)
        book.tcp(at, bridge, int(one), 8080 + number, 120, 200, 0.01)
    for one in inside[:3]:  # a pool of ten, idle for much of the day
        book.tcp(begin + rng.uniform(0, 60, 10), int(one), int(inside[5]), 5432, 200_000, 2_000_000, DAY - 120)
    if day == 3:  # its dependants dial it while it restarts: 10 s apart, then slower up to 5 minutes (Kubernetes)
        gaps = np.minimum(10 * 2.0 ** np.arange(60), 300)
        book.refused(begin + 11 * HOUR + np.cumsum(gaps), int(inside[0]), int(inside[4]), 6379)


def house_rest(book: Book, day: int) -> None:
    """A printer that is looked for, a telephone that keeps its registration and rings now and then."""
    rng, begin = book.rng, day * DAY
    book.udp(book.rhythm(begin, begin + DAY, 30, 0.02), TELEPHONE, _fixed(9), 5060, 4, 4, sport=5060)
    for call in book.waking(day, 5):
        seconds = float(book.heavy(1, 120, 1.5, 3600)[0])
        book.udp(call, TELEPHONE, _fixed(9), 10_000 + 2 * int(rng.integers(5000)), int(seconds * 50 * 172),
                 int(seconds * 50 * 172), seconds, packets=int(seconds * 50))  # fmt: skip
    for print_at in book.waking(day, 3):
        book.tcp(print_at, DESKTOP, PRINTER, 631, book.heavy(1, 500_000), 800, 5.0)
    book.udp(book.rhythm(begin, begin + DAY, 5 * MINUTE, 0.01), LAPTOP, PRINTER, 161, 47, 60)


def web(book: Book, day: int) -> None:
    """An exposed web server: visitors, crawlers, watchers with a rhythm, and the Internet's background noise."""
    rng, begin = book.rng, day * DAY
    visits = np.concatenate([book.waking(day, 900, 6, 24), book.poisson(begin, begin + DAY, 300)])
    who = np.repeat(book.public(len(visits)), rng.integers(1, 7, len(visits)))
    at = np.repeat(visits, np.bincount(np.searchsorted(np.unique(who), who)))[: len(who)]
    at = np.resize(at, len(who)) + rng.exponential(3, len(who))
    book.tcp(
        at,
        who,
        WEB,
        HTTPS,
        rng.integers(500, 3000, len(who)),
        book.heavy(len(who), 15_000),
        rng.exponential(8, len(who)),
    )
    # Uptime services ask each minute from several places, feed readers each half an hour or hour, by the clock.
    for number in range(6):
        at = book.rhythm(begin, begin + DAY, 60, 0.01)
        book.tcp(at, _fixed(20 + number), WEB, HTTPS, 700, 5200, 0.2)
    for number in range(40):
        at = book.rhythm(begin, begin + DAY, 1800 if number % 2 else 3600, 0.01)
        book.tcp(at, _fixed(40 + number), WEB, HTTPS, 600, 30_000 if number % 3 else 900, 0.3)
    for crawler in book.public(5):
        at = begin + rng.uniform(0, DAY / 2) + np.cumsum(rng.exponential(rng.uniform(1, 20), 250))
        book.tcp(at, int(crawler), WEB, HTTPS, 700, book.heavy(250, 15_000), 0.4)
    background(book, day, WEB, 5500)


def background(book: Book, day: int, victim: int, dials: int) -> None:
    """Internet background radiation: strangers each try a port or two, again after days if at all.

    Most probes are single SYNs to a few ports by many sources (Durumeric et al., USENIX Security 2014; Pang et al.,
    IMC 2004), the closed ones answered by a reset here, those of the web accepted and dropped without a word.
    """
    rng, begin = book.rng, day * DAY
    favourite = np.array([23, 22, 80, 443, 8080, 3389, 445, 2323, 5060, 6379, 8443, 81, 1433, 3306, 5900, 21, 25, 5555])
    ranks = np.arange(1, len(favourite) + 1) ** -0.9
    sources = book.public(dials)[rng.integers(0, int(dials * 0.7), dials)]
    ports = np.where(
        rng.random(dials) < 0.7, rng.choice(favourite, dials, p=ranks / ranks.sum()), rng.integers(1, 65535, dials)
    )
    at = begin + rng.uniform(0, DAY, dials)
    opened = (ports == HTTP) | (ports == HTTPS)
    asked = opened & (rng.random(dials) < 0.6)  # banner grabbers ask one thing
    book.tcp(at[asked], sources[asked], victim, ports[asked], 150, 600, 0.4)
    book.half_open(at[opened & ~asked], sources[opened & ~asked], victim, ports[opened & ~asked])
    book.refused(at[~opened], sources[~opened], victim, ports[~opened])
    stray = rng.integers(0, dials // 10)
    book.ping(begin + rng.uniform(0, DAY, stray), book.public(stray), victim, 32)
    odd = rng.integers(0, dials // 10)
    book.udp(
        begin + rng.uniform(0, DAY, odd),
        book.public(odd),
        victim,
        rng.choice([53, 123, 161, 1900, 5060, 11211], odd),
        60,
    )


ROLES: dict[str, Callable[[Book, int], None]] = {
    "desktop with a browser and file sharing": desktop,
    "phone": phone,
    "hub and bulbs": hub,
    "laptop": laptop,
    "resolver": resolver,
    "mail server": mail,
    "backup": nas,
    "monitoring": monitoring,
    "CI runner": runner,
    "jump host": jump,
    "container host": containers,
    "printer and telephone": house_rest,
    "exposed web server": web,
}


def house(seed: int, days: int = 7, roles: tuple[str, ...] = tuple(ROLES)) -> Book:
    """The house's days from Monday on, or only what some of its roles do."""
    book = Book(seed)
    for day in range(days):
        for role in roles:
            ROLES[role](book, day)
    return book


def _fixed(number: int) -> int:
    """A public service that stays at its address: the same in every world."""
    return int(np.random.default_rng(7000 + number).integers(host("100.128.0.0"), host("126.255.255.255")))


def _mirrors() -> np.ndarray:
    return np.array([_fixed(100 + number) for number in range(8)])


def _world() -> np.ndarray:
    return np.random.default_rng(99).integers(host("128.0.0.0"), host("168.255.0.0"), 3000)


def _ranks(count: int) -> np.ndarray:
    weights = np.arange(1, count + 1) ** -0.8
    return weights / weights.sum()

"""What each detector finds from loud to slow, and what it says of ordinary weeks: the tables of docs/detectors.md.

    PYTHONPATH=. .venv/bin/python tests/world/curves.py [--seeds 5] [--weeks 2]

Recall is the share of seeds in which the right threat, with the right hosts, came of the attack alone. Run by hand
(`make curves`): it takes a quarter of an hour.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import world_attacks as attacks
from world_attacks import Situation, found_in
from world_book import DAY, HOUR, Book
from world_house import LAPTOP, RESOLVER, WEB, house
from world_judging import judge

from trafficmond.model import Severity

PAGE = Path(__file__).parents[2] / "docs/detectors.md"
BEGIN, END = "<!-- curves: tests/world/curves.py -->", "<!-- end of curves -->"
Attack = Callable[[Book, Any], Situation]

_INTERVALS_S = {"volume": 1.0, "exfiltration": 60.0}


def upload(book: Book, size: float) -> Situation:
    """A large upload at the end of a day on which the host sent a little now and then."""
    book.tcp(np.arange(0, DAY, 600.0), LAPTOP, book.public(144), 443, 200_000, 20_000, 2.0)
    return attacks.exfiltration(book, DAY, LAPTOP, size)


def flood(book: Book, rate: int, seconds: int) -> Situation:
    """Datagrams of six sources to one port, from another port each second."""
    situation = Situation("volume", "", attacks.text(WEB))
    at, sources = np.repeat(np.arange(seconds), 6), np.tile(book.public(6), seconds)
    book.udp(HOUR + at, sources, WEB, 9000, rate // 6 * 100, 0, 0.99, packets=rate // 6)
    return situation


def failing(book: Book, dials: int) -> Situation:
    """A program that dials a server that is down every five seconds, more or less."""
    home = int(book.public(1)[0])
    book.refused(HOUR + np.cumsum(book.rng.uniform(4.0, 6.0, dials)), LAPTOP, home, 8443)
    return Situation("repeated_flow", attacks.text(LAPTOP), attacks.text(home))


CURVES: tuple[tuple[str, str, Attack, tuple[Any, ...]], ...] = (
    ("port_scan", "40 ports, one every ... s", lambda book, every: attacks.port_scan(book, HOUR, WEB, 40, every),
     (1, 15, 120, 600, 3600)),
    ("host_sweep", "60 hosts, one every ... s", lambda book, every: attacks.host_sweep(book, HOUR, LAPTOP, 60, every),
     (0.1, 6, 60, 300, 900)),
    ("syn_flood", "... SYNs a second for 30 s", lambda book, rate: attacks.syn_flood(book, HOUR, WEB, rate, 30.0),
     (1000, 100, 40, 20, 10)),
    ("amplification", "... reflectors in 5 s", lambda book, count: attacks.reflection(book, HOUR, WEB, count),
     (10000, 3000, 2000, 1000, 300)),
    ("volume", "... datagrams a second for 20 s", lambda book, rate: flood(book, rate, 20),
     (20000, 5000, 1500, 900, 300)),
    ("brute_force", "100 guesses, ... an hour",
     lambda book, rate: attacks.guessing(book, HOUR, WEB, 100, HOUR / rate), (1000, 60, 20, 10, 5)),
    ("brute_force", "... guessers with 4 tries each in 6 h",
     lambda book, count: attacks.many_guessers(book, HOUR, WEB, count), (200, 60, 20, 10, 5)),
    ("beacon", "a connection every 60 s, early or late by up to ... %",
     lambda book, jitter: attacks.beacon(book, HOUR, LAPTOP, 60.0, jitter / 100, 60), (0, 20, 40, 60, 90)),
    ("beacon", "40 connections, one every ... s, early or late by up to 20 %",
     lambda book, every: attacks.beacon(book, HOUR, LAPTOP, every, 0.2, 40), (5, 60, 3600, 10800, 21600)),
    ("exfiltration", "... MB in ten minutes, by a host seen for a day", lambda book, size: upload(book, size * 1e6),
     (5000, 2000, 1000, 600, 300)),
    ("slow_http", "... connections held open", lambda book, count: attacks.slow_http(book, HOUR, WEB, count),
     (600, 200, 120, 80, 40)),
    ("tunnel", "DNS, ... bytes a second for 10 min",
     lambda book, rate: attacks.dns_tunnel(book, HOUR, LAPTOP, RESOLVER, rate), (4096, 1024, 64, 32, 16)),
    ("tunnel", "ping, ... bytes a second for 10 min", lambda book, rate: attacks.ping_tunnel(book, HOUR, LAPTOP, rate),
     (8192, 1024, 256, 128, 32)),
    ("repeated_flow", "... failed connections, one every 5 s", lambda book, dials: failing(book, dials),
     (400, 100, 60, 50, 40)),
    ("unusual_protocol", "... packets in a minute",
     lambda book, packets: attacks.unusual_protocol(book, HOUR, LAPTOP, packets=packets), (1000, 100, 10, 9, 1)),
)  # fmt: skip


def curves(seeds: Iterable[int]) -> list[str]:
    """A line for each attack: its rates from loud to slow, and the share of seeds in which it is found at each."""
    seeds = list(seeds)
    lines = [
        f"The share in each cell is that of {len(seeds)} random attacks. The detectors got the flows in batches of",
        "10 seconds (`volume`: 1 second, `exfiltration`: 60 seconds).",
        "",
        "| detector | attack | " + " | ".join(["fast or large", "", "", "", "slow or small"]) + " |",
        "|---|---|" + "---|" * 5,
    ]
    for detector, what, attack, rates in CURVES:
        cells = []
        for rate in rates:
            found = 0
            for seed in seeds:
                book = Book(100 + seed)
                situation = attack(book, rate)
                found += found_in(judge(book.rows(), _INTERVALS_S.get(detector, 10.0)), situation)
            cells.append(f"{rate:g}: {found / len(seeds):.0%}")
        lines.append(f"| `{detector}` | {what} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    lines += [
        "",
        "`blocklisted`, `new_destination` and `quota` have no such row, because one flow, or a limit that you set,",
        "decides.",
    ]
    return lines


def ordinary(weeks: int) -> list[str]:
    """What ordinary weeks bring, by detector: false alarms (medium severity and above) and notes, a host and week."""
    medium: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    hosts = 0
    for seed in range(weeks):
        flows = house(seed).rows()
        ends = np.unique(np.concatenate([flows["src_lo"], flows["dst_lo"]]))
        hosts += int(np.count_nonzero(ends >> 16 & 0xFFFF == 0xC0A8))
        for threat in judge(flows, 300.0):
            (medium if threat.severity >= Severity.MEDIUM else notes)[threat.detector] += 1
    rows = [f"| `{name}` | {medium[name] / hosts:.2f} | {notes[name] / hosts:.2f} |" for name in sorted(medium | notes)]
    return [
        "",
        f"The next table shows what the detectors reported in a simulation of {weeks} ordinary weeks, without any",
        f"attack, in a house with {hosts // weeks} hosts. Its figures are threats per host and week.",
        "",
        "| detector | false alarms (medium severity or above) | notes (low severity) |",
        "|---|---|---|",
        *rows,
        "| each other detector | 0.00 | 0.00 |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="of each attack at each rate")
    parser.add_argument("--weeks", type=int, default=2, help="ordinary ones")
    chosen = parser.parse_args()
    lines = curves(range(chosen.seeds)) + ordinary(chosen.weeks)
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    PAGE.write_text(head + BEGIN + "\n\n" + "\n".join(lines) + "\n\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main()

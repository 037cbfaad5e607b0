"""Several ticks looked at together: what is found is what is found a tick at a time, to the field."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from detect_traffic import ACK, FIN, PSH, RST, SYN, T0, datagram, flow, flows, ping, refused, talk

from trafficmond.detect.attempts import Attempts
from trafficmond.detect.engine import Engine, Tick
from trafficmond.detect.windows import Columns, in_turns

HOUSE = [f"192.168.7.{n}" for n in range(2, 12)]
WORLD = [f"203.0.113.{n}" for n in range(1, 40)]


def second(pick: random.Random, at: float, number: int) -> Iterator[dict[str, Any]]:
    """A second of a house with attacks of every kind under way, some quiet, some not."""
    for _ in range(pick.randint(0, 6)):
        row = flow(
            pick.choice(HOUSE), pick.choice(WORLD), pick.choice((80, 443, 8443)), first=at, id=pick.getrandbits(63)
        )
        yield talk(row) if pick.random() < 0.7 else refused(row) if pick.random() < 0.5 else row
    yield talk(datagram(pick.choice(HOUSE), "192.168.7.1", 53, first=at, sport=pick.randint(20000, 60000)))
    if number % 7 == 0:  # a beacon
        yield talk(flow(HOUSE[0], WORLD[0], 4444, first=at, sport=20000 + number))
    if 20 <= number < 60:  # a scan, a sweep, a list of services tried in vain
        for port in range(pick.randint(1, 4)):
            yield refused(flow(WORLD[1], HOUSE[1], 1000 + 40 * number + port, first=at))
        yield flow(WORLD[2], f"192.168.9.{number}", 445, first=at)
        yield ping(WORLD[3], f"192.168.9.{number}", first=at)
        yield flow(HOUSE[2], WORLD[4], 9999, first=at, sport=30000 + number)
    if 30 <= number < 90:  # logins, from one and from many
        for source in (WORLD[5], pick.choice(WORLD), pick.choice(WORLD)):
            row = talk(flow(source, HOUSE[3], 22, first=at, sport=pick.randint(20000, 60000)), sent=900, got=1200)
            yield {**row, "reply_bits": 0x08, "reply_tcp_flags": SYN | ACK | PSH | RST}
    if number in (40, 41, 42, 100):  # a flood, and reflected answers
        for n in range(60):
            yield flow(f"198.51.100.{n}", HOUSE[4], 80, first=at, sport=1000 + n)
            yield datagram(f"198.51.100.{n}", HOUSE[5], 40000, sport=389, first=at, packets=30, bytes=30 * 1400)
    if number % 3 == 0:  # what was opened and is told of again
        yield flow(HOUSE[6], WORLD[6], 443, first=at - 2, new=False, packets=9, d_packets=3, d_bytes=9 << 20, id=number)


def ticks(seed: int, width: float = 1.0) -> list[Tick]:
    pick = random.Random(seed)
    made = []
    for number in range(130):
        at = T0 + number * width
        rows = [] if pick.random() < 0.2 else list(second(pick, at + pick.random() * 0.9 * width, number))
        made.append(Tick(flows(rows), at + width, width))
        if rows and pick.random() < 0.5:  # what became of attempts just begun
            again = made[-1].flows[:4].copy()
            again["new"], again["reply_packets"], again["reply_tcp_flags"] = False, 1, SYN | ACK
            again["tcp_flags"] |= ACK
            made.append(Tick(again, at + width, width))
    return made


@pytest.mark.parametrize(("seed", "width", "together"), [(1, 1.0, 9), (2, 1.0, 200), (3, 10.0, 2), (4, 60.0, 200)])
def test_ticks_together_give_what_each_alone_gives(seed: int, width: float, together: int) -> None:
    several, alone = Engine(), Engine()
    made = ticks(seed, width)
    expected = [(update.state, astuple(update.threat)) for tick in made for update in alone.feed(*tick)]
    found = [
        (update.state, astuple(update.threat))
        for start in range(0, len(made), together)
        for update in several.feed_ticks(made[start : start + together])
    ]
    assert len({threat.detector for threat in alone.threats()} | {"ended"}) >= 4
    assert found == expected
    end = made[-1].now
    assert [astuple(each.threat) for each in several.finish(end)] == [
        astuple(each.threat) for each in alone.finish(end)
    ]
    assert several.status() == alone.status()


@pytest.mark.parametrize("capacity", [10_000, 20])
def test_dials_are_judged_at_the_tick_at_which_they_would_be_alone(capacity: int) -> None:
    together, alone = Attempts(capacity), Attempts(capacity)
    made = ticks(5)
    columns = Columns(np.concatenate([tick.flows for tick in made]))
    columns.put("tick", np.repeat(np.arange(len(made)), [len(tick.flows) for tick in made]))
    judged, judged_at = together.feed_ticks(columns, np.array([tick.now for tick in made]))
    for number, tick in enumerate(made):
        expected = alone.feed(Columns(tick.flows), tick.now)
        assert judged[judged_at == number].tolist() == expected.tolist()
    assert (len(together), together.early) == (len(alone), alone.early)


def test_turns_hold_a_tick_of_each_key_in_order() -> None:
    keys, at = np.array([5, 5, 7, 5, 7, 5], np.uint64), np.array([0, 0, 1, 1, 2, 3])
    assert [turn.tolist() for turn in in_turns(keys, at)] == [[0, 1, 2], [3, 4], [5]]
    assert [turn.tolist() for turn in in_turns(keys, np.zeros(6, int))] == [[0, 1, 2, 3, 4, 5]]
    assert list(in_turns(keys[:0], at[:0])) == []


@pytest.mark.parametrize("together", [1, 50])
def test_flows_that_merely_went_quiet_change_nothing(together: int) -> None:
    with_them, without = Engine(), Engine()
    made = ticks(5)
    longer, said = [], []
    for number, tick in enumerate(made):
        quiet = made[max(number - 40, 0)].flows.copy()
        quiet = quiet[(quiet["tcp_flags"] | quiet["reply_tcp_flags"]) & (FIN | RST) == 0]
        quiet["new"], quiet["ended"] = False, True
        for name in ("d_packets", "d_bytes", "d_reply_packets", "d_reply_bytes"):
            quiet[name] = 0
        longer.append(Tick(np.concatenate([quiet[:3], tick.flows, quiet[3:]]), tick.now, tick.interval_s))
    for engine, given in ((with_them, longer), (without, made)):
        updates = [
            update for at in range(0, len(given), together) for update in engine.feed_ticks(given[at : at + together])
        ]
        said.append([(update.state, astuple(update.threat)) for update in updates])
    assert len(said[0]) > 5
    assert said[0] == said[1]

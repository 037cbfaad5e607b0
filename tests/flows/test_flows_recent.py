"""Rates over the last seconds: averages of what moved, whose sums are those of all there was."""

from __future__ import annotations

import numpy as np
import pytest

from trafficmond.flows.batch import FLOW, Batch, empty
from trafficmond.flows.recent import MOST, Rates, Recent, by_host
from trafficmond.model import Direction

LAST, TWO, TEN, FORTY = range(4)


def row(ident: int, sent: int, received: int = 0, *, egress: bool = False, ifindex: int = 2) -> Batch:
    """A flow of `ident` from host `ident` to host 1000, which moved so many bytes and a packet each."""
    made = empty(FLOW, 1)
    made["id"], made["src_lo"], made["dst_lo"], made["family"], made["ifindex"] = ident, ident, 1000, 4, ifindex
    made["direction"] = Direction.EGRESS if egress else Direction.INGRESS
    made["d_packets"], made["d_bytes"] = bool(sent), sent
    made["d_reply_packets"], made["d_reply_bytes"] = bool(received), received
    return made


def ticks(recent: Recent, count: int, *rows: Batch, seconds: float = 1.0) -> None:
    for _ in range(count):
        recent.add(np.concatenate([empty(FLOW), *rows]), seconds)


def sent(recent: Recent, ident: int) -> list[float]:
    """Bytes a second that a flow sent: at present and over each window."""
    rows, rates = recent.flows()
    (at,) = np.flatnonzero(rows["id"] == ident)
    return [round(float(each), 3) for each in rates.sent(1)[:, at]]


def test_averages_over_each_window() -> None:
    recent = Recent()
    ticks(recent, 40, row(1, 100))
    assert sent(recent, 1) == [100, 100, 100, 100]
    ticks(recent, 1, row(1, 1100))
    assert sent(recent, 1) == [1100, 600, 200, 125]


def test_what_pauses_is_kept_for_forty_seconds() -> None:
    recent = Recent()
    ticks(recent, 1, row(1, 4000))
    ticks(recent, 3)
    assert sent(recent, 1) == [0, 0, 1000, 1000], "of the four seconds there are"
    ticks(recent, 36)
    assert sent(recent, 1) == [0, 0, 0, 100]
    ticks(recent, 1)
    assert len(recent.flows()[0]) == 0


def test_ticks_of_any_length_and_none() -> None:
    recent = Recent()
    assert len(recent.flows()[0]) == 0
    assert recent.interfaces() == {}
    assert not recent.total().values.any()
    ticks(recent, 8, row(1, 500), seconds=5.0)
    assert sent(recent, 1) == [100, 100, 100, 100]
    fast = Recent()
    ticks(fast, 200, row(1, 20), seconds=0.2)
    assert sent(fast, 1) == [100, 100, 100, 100]
    assert len(fast._ticks) == 200, "forty seconds of them and no more"
    ticks(fast, 50, row(1, 20), seconds=0.2)
    assert len(fast._ticks) <= 201


@pytest.mark.parametrize("flows", [3, 5 * MOST])
def test_the_sums_are_those_of_all_flows_kept_or_not(flows: int) -> None:
    recent, generator = Recent(), np.random.default_rng(7)
    everything = np.zeros((2, 2))
    for _ in range(10):
        batch = empty(FLOW, flows)
        batch["id"] = np.arange(flows)
        batch["ifindex"] = 2 + np.arange(flows) % 2
        batch["direction"] = generator.integers(0, 2, flows)
        for name in ("d_packets", "d_bytes", "d_reply_packets", "d_reply_bytes"):
            batch[name] = generator.integers(1, 1000, flows)
        everything += [[batch["d_packets"].sum(), batch["d_bytes"].sum()], [0, 0]]
        everything += [[0, 0], [batch["d_reply_packets"].sum(), batch["d_reply_bytes"].sum()]]
        recent.add(batch, 1.0)
    total = recent.total().values[TEN, :, 0]
    assert total == pytest.approx(everything.ravel() / 10)
    through = sum(each.values[TEN, :, 0] for each in recent.interfaces().values())
    assert through[:2] + through[2:] == pytest.approx(total[:2] + total[2:]), "in and out are sent and received"
    rows, rates = recent.flows()
    assert len(rows) <= 2 * MOST * 10
    if flows <= 2 * MOST:
        assert rates.values[TEN].sum(axis=1) == pytest.approx(total)


def test_the_busiest_of_a_flood_are_kept_by_packets_and_by_bytes() -> None:
    flood = empty(FLOW, 20 * MOST)
    flood["id"] = np.arange(len(flood))
    flood["d_packets"], flood["d_bytes"] = 1, 60
    flood["d_packets"][3], flood["d_reply_bytes"][5] = 1000, 1_000_000
    recent = Recent()
    recent.add(flood, 1.0)
    rows, _ = recent.flows()
    assert {3, 5} <= set(rows["id"].tolist())
    assert len(rows) <= 2 * MOST


def test_in_and_out_of_an_interface_whoever_began() -> None:
    recent = Recent()
    ticks(recent, 1, row(1, 100, 7), row(2, 30, 5, egress=True), row(3, 9, ifindex=4))
    assert sorted(recent.interfaces()) == [2, 4]
    two = recent.interfaces()[2]
    assert (two.sent(1)[LAST, 0], two.received(1)[LAST, 0]) == (37, 105)


def test_a_host_sends_what_its_flows_send_and_its_peers_receive() -> None:
    recent = Recent()
    ticks(recent, 2, row(1, 100, 7), row(2, 30, 5))
    hosts, counts, rates = by_host(*recent.flows())
    found = {
        int(host["lo"]): (int(count), float(rates.sent(1)[TWO, at]), float(rates.received(1)[TWO, at]))
        for at, (host, count) in enumerate(zip(hosts, counts, strict=True))
    }
    assert found == {1: (1, 100, 7), 2: (1, 30, 5), 1000: (2, 12, 130)}


@pytest.mark.parametrize("count", [0, 1, 500])
def test_hosts_are_distinguished_by_their_whole_address(count: int) -> None:
    rows, dice = empty(FLOW, count), np.random.default_rng(count)
    for name in ("src_hi", "src_lo", "dst_hi", "dst_lo"):
        rows[name] = dice.integers(0, 3, count)
    rows["family"] = dice.choice([4, 6], count)
    values = dice.integers(0, 1000, (4, 4, count)).astype(np.float64)
    expected: dict[tuple[int, int, int], list[float]] = {}
    for at, row in enumerate(rows):
        for side, sent, received in (("src", 1, 3), ("dst", 3, 1)):
            host = expected.setdefault((row[f"{side}_hi"], row[f"{side}_lo"], row["family"]), [0, 0, 0])
            for slot, amount in enumerate((1, values[LAST, sent, at], values[LAST, received, at])):
                host[slot] += amount
    hosts, counts, rates = by_host(rows, Rates(values))
    found = zip(hosts.tolist(), counts, rates.sent(1)[LAST], rates.received(1)[LAST], strict=True)
    assert {host: [flows, *both] for host, flows, *both in found} == expected
    assert hosts.tolist() == sorted(expected)

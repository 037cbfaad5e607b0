"""Reports: when a flow ends or is told of while it lasts, under which verdict, and that nothing is ever lost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from flow_rows import make
from flow_talk import ACK, ALLOW, BACK, DROP, FIN_ACK, MONITOR, RST, SYN, SYN_ACK, THERE, Deltas, total
from hypothesis import given, settings
from hypothesis import strategies as st

from trafficmond.flows.batch import DELTA, Batch, empty
from trafficmond.flows.report import End
from trafficmond.flows.state import CLOSE_LINGER_S
from trafficmond.flows.table import FlowTable
from trafficmond.model import Action

# ---- when it ends ----


@pytest.mark.parametrize(
    ("there", "back", "ends"), [(RST, 0, True), (0, RST, True), (FIN_ACK, FIN_ACK, True), (FIN_ACK, ACK, False)]
)
def test_a_reset_or_both_fins_end_it_once(table: FlowTable, deltas: Deltas, there: int, back: int, ends: bool) -> None:
    rows = deltas({**THERE, "tcp_flags": there}, {**BACK, "tcp_flags": back})
    assert table.update(rows, 101.0)["ended"].tolist() == [ends]
    again = table.update(deltas({**THERE, "new": False, "tcp_flags": there, "last": 101.5}), 102.0)
    assert again["ended"].tolist() == [False]
    table.update(empty(DELTA), 101.5 + CLOSE_LINGER_S)
    assert len(table) == (0 if ends else 1)
    assert table.due(101.5 + CLOSE_LINGER_S)["end"].tolist() == ([End.CLOSED] if ends else [])


def test_an_idle_flow_ends_in_update_and_is_reported(table: FlowTable, deltas: Deltas) -> None:
    table.update(deltas({**THERE, "packets": 7}), 101.0)
    assert len(table.update(empty(DELTA), 129.9)) == 0
    (flow,) = table.update(empty(DELTA), 130.0)
    assert flow["ended"]
    assert (flow["packets"], flow["d_packets"]) == (7, 0)
    (report,) = table.due(130.0)
    assert (report["end"], report["packets"]) == (End.IDLE, 7)
    assert len(table) == 0


def test_flows_that_stay_keep_their_time_and_name_when_others_go(table: FlowTable, deltas: Deltas) -> None:
    table.update(deltas(*({**THERE, "sport": port, "last": 100.0 + port % 2 * 20} for port in range(1, 21))), 121.0)
    table.update(empty(DELTA), 130.0)
    assert sorted(table.due(130.0)["sport"].tolist()) == list(range(2, 21, 2))
    again = table.update(deltas(*({**THERE, "sport": port, "new": False, "last": 131.0} for port in (1, 19))), 132.0)
    assert again["new"].tolist() == [False, False]
    table.update(empty(DELTA), 150.0)
    assert sorted(table.due(150.0)["sport"].tolist()) == list(range(3, 19, 2))


def test_a_syn_on_a_closed_connection_begins_another_flow(table: FlowTable, deltas: Deltas) -> None:
    table.update(deltas({**THERE, "first_flags": SYN, "tcp_flags": SYN | RST}), 100.5)
    (flow,) = table.update(
        deltas({**THERE, "first_flags": SYN, "tcp_flags": SYN, "first": 101.0, "last": 101.0}), 101.5
    )
    assert (flow["new"], flow["packets"], flow["ended"]) == (True, 1, False)
    assert table.due(101.5)["end"].tolist() == [End.CLOSED]


def test_a_long_flow_is_reported_every_active_timeout(table: FlowTable, deltas: Deltas) -> None:
    seen = []
    for now in range(101, 1001):
        table.update(deltas({**THERE, "new": now == 101, "last": now - 0.5}), float(now))
        seen += [(now, int(row["packets"]), row["first"], row["last"]) for row in table.due(float(now))]
    assert [when for when, *_ in seen] == [400, 701]
    assert [count for _, count, *_ in seen] == [300, 301]
    assert seen[1][2:] == (400.5, 700.5)


# ---- reports ----


def test_a_change_of_verdict_is_reported_under_the_old_one_first(table: FlowTable, deltas: Deltas) -> None:
    table.update(deltas({**THERE, "verdict": MONITOR, "packets": 5}), 101.0)
    (flow,) = table.update(deltas({**THERE, "verdict": ALLOW, "packets": 2, "last": 101.5}), 102.0)
    assert (flow["verdict"], flow["packets"], flow["d_packets"]) == (ALLOW, 7, 2)
    reports = np.concatenate([table.due(102.0), table.due(102.0, everything=True)])
    assert sorted(zip(reports["verdict"].tolist(), reports["packets"].tolist(), strict=True)) == [
        (ALLOW, 2),
        (MONITOR, 5),
    ]


def test_verdicts_that_meet_in_one_batch_are_kept_apart(table: FlowTable, deltas: Deltas) -> None:
    """A rate limit: the same flow passes and is dropped within one reading."""
    rows = deltas(
        {**THERE, "verdict": DROP, "packets": 90, "last": 100.9},
        {**THERE, "verdict": MONITOR, "packets": 10, "last": 100.1},
        {**BACK, "packets": 4, "verdict": MONITOR},
    )
    (flow,) = table.update(rows, 101.0)
    assert (flow["packets"], flow["d_packets"], flow["reply_packets"], flow["verdict"]) == (100, 100, 4, DROP)
    assert flow["new"]
    reports = np.concatenate([table.due(101.0), table.due(101.0, everything=True)])
    dropped = reports[reports["verdict"] == DROP]
    assert total(dropped, "packets", "reply_packets") == 90
    assert total(reports, "packets", "reply_packets") == 104


def test_dropped_replies_are_distinguished_from_what_passed(table: FlowTable, deltas: Deltas) -> None:
    table.update(
        deltas({**THERE, "verdict": ALLOW, "direction": 1}, {**BACK, "first": 100.1, "verdict": DROP, "packets": 3}),
        101.0,
    )
    reports = table.due(101.0, everything=True)
    assert [
        (int(row["verdict"]), int(row["packets"]), int(row["reply_packets"]))
        for row in np.sort(reports, order="packets")
    ] == [(DROP, 0, 3), (ALLOW, 1, 0)]


def test_replies_whose_fate_changes_between_drains_keep_both_fates(table: FlowTable, deltas: Deltas) -> None:
    table.update(deltas({**THERE, "verdict": ALLOW}, {**BACK, "first": 100.1, "verdict": DROP, "packets": 3}), 101.0)
    table.update(deltas({**BACK, "verdict": ALLOW, "first": 101.5, "last": 101.5, "packets": 4}), 102.0)
    reports = np.concatenate([table.due(102.0), table.due(102.0, everything=True)])
    assert total(reports[reports["verdict"] == DROP], "packets", "reply_packets") == 3
    assert total(reports[reports["verdict"] == ALLOW], "packets", "reply_packets") == 5


def test_replies_alone_are_reported_under_their_own_rules(table: FlowTable, deltas: Deltas) -> None:
    answer = {**BACK, "first_flags": SYN_ACK, "verdict": ALLOW, "packets": 3}
    table.update(deltas(answer), 101.0)
    (flow,) = table.update(deltas({**answer, "verdict": MONITOR, "last": 101.5, "packets": 4}), 102.0)
    assert flow["verdict"] == MONITOR
    reports = np.concatenate([table.due(102.0), table.due(102.0, everything=True)])
    assert list(zip(reports["verdict"].tolist(), reports["reply_packets"].tolist(), strict=True)) == [
        (ALLOW, 3),
        (MONITOR, 4),
    ]


def test_everything_reports_once_and_keeps_the_flows(table: FlowTable, deltas: Deltas) -> None:
    table.update(deltas(THERE, {**THERE, "sport": 2}), 101.0)
    assert table.due(101.0, everything=True)["end"].tolist() == [End.FORCED, End.FORCED]
    assert len(table.due(101.0, everything=True)) == 0
    assert len(table) == 2


# ---- nothing is lost ----


@pytest.mark.parametrize("step", [-86400.0, 86400.0])
def test_a_clock_that_jumps_a_day_loses_nothing(table: FlowTable, deltas: Deltas, step: float) -> None:
    now, reported = 100_000.0, 0
    for tick in range(100):
        now += 1.0 + (step if tick == 50 else 0.0)
        table.update(deltas({**THERE, "first": now, "last": now, "new": tick == 0}), now)
        reported += total(table.due(now), "packets")
    assert reported + total(table.due(now, everything=True), "packets") == 100
    table.update(empty(DELTA), now + 31)
    assert len(table) == 0


# Few hosts and ports, so that packets often meet those of the other direction.
hosts = st.sampled_from(["10.0.0.1", "10.0.0.2"])
rows = st.fixed_dictionaries(
    {
        "src": hosts,
        "dst": hosts,
        "sport": st.sampled_from([0, 8, 40000]),
        "dport": st.sampled_from([0, 8, 40000]),
        "proto": st.sampled_from([1, 6, 6, 17]),
        "ifindex": st.sampled_from([1, 1, 1, 2]),
        "verdict": st.sampled_from([ALLOW, MONITOR, DROP]),
        "packets": st.integers(1, 5),
        "bytes": st.integers(40, 9000),
        "first_flags": st.sampled_from([0, SYN, SYN_ACK, ACK]),
        "tcp_flags": st.sampled_from([ACK, FIN_ACK, RST]),
        "new": st.booleans(),
        "ago": st.floats(0, 0.99),
    }
)
ticks = st.lists(st.tuples(st.lists(rows, max_size=12), st.sampled_from([1.0, 5.0, 40.0, -20.0])), max_size=12)


def conversation(row: Any) -> tuple[Any, ...]:
    """What must be equal for packets to be of one flow; ICMP is told by its type's pair."""
    ends = sorted([(int(row["src_lo"]), int(row["sport"])), (int(row["dst_lo"]), int(row["dport"]))])
    if row["proto"] == 1:
        ends = sorted([(int(row["src_lo"]), 0), (int(row["dst_lo"]), 0)])
    return (*ends, int(row["proto"]), int(row["ifindex"]))


@settings(max_examples=150)
@given(ticks, st.integers(1, 20))
def test_reports_and_flows_add_up_to_the_deltas(script: list[Any], capacity: int) -> None:
    table = FlowTable(capacity, idle_timeout_s=10, active_timeout_s=20, seed=7)
    sent: Counter[Any] = Counter()
    told: Counter[Any] = Counter()
    now = 1000.0

    def tell(reports: Batch) -> None:
        for row in reports:
            assert row["first"] <= row["last"]
            fate = (int(row["verdict"]) >> 28) == Action.DROP
            told[conversation(row), fate, "packets"] += int(row["packets"]) + int(row["reply_packets"])
            told[conversation(row), fate, "bytes"] += int(row["bytes"]) + int(row["reply_bytes"])

    for script_rows, step in script:
        now += step
        batch = make(
            DELTA,
            (
                {
                    **{k: v for k, v in row.items() if k != "ago"},
                    "first": now - row["ago"],
                    "last": now - row["ago"] / 2,
                }
                for row in script_rows
            ),
        )
        for row in batch:
            fate = (int(row["verdict"]) >> 28) == Action.DROP
            sent[conversation(row), fate, "packets"] += int(row["packets"])
            sent[conversation(row), fate, "bytes"] += int(row["bytes"])
        flows = table.update(batch, now)
        assert len(table) <= capacity
        assert total(flows, "d_packets", "d_reply_packets") == total(batch, "packets")
        assert total(flows, "d_bytes", "d_reply_bytes") == total(batch, "bytes")
        tell(table.due(now))
    tell(table.due(now, everything=True))
    assert told == sent

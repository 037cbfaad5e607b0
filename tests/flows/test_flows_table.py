"""The flow table: what is one flow, who began it, when it is reported, and that nothing is ever lost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flow_rows import make
from hypothesis import given, settings
from hypothesis import strategies as st

from trafficmond.flows.batch import DELTA, Batch, empty
from trafficmond.flows.report import End
from trafficmond.flows.table import CLOSE_LINGER_S, FlowTable
from trafficmond.model import Action, Reason, verdict_word

SYN, SYN_ACK, ACK, FIN_ACK, RST = 0x02, 0x12, 0x10, 0x11, 0x04
CLIENT, SERVER = "192.0.2.1", "198.51.100.2"
THERE = {"src": CLIENT, "dst": SERVER, "sport": 40000, "dport": 443}
BACK = {"src": SERVER, "dst": CLIENT, "sport": 443, "dport": 40000, "direction": 1}
ALLOW = verdict_word(Action.ALLOW, Reason.RULE, 3)
MONITOR = verdict_word(Action.MONITOR, Reason.RULE, 4)
DROP = verdict_word(Action.DROP, Reason.RULE, 5)

Deltas = Callable[..., Batch]


@pytest.fixture
def table() -> FlowTable:
    return FlowTable(1024, idle_timeout_s=30, active_timeout_s=300, seed=1)


def total(batch: Batch, *columns: str) -> int:
    return sum(int(batch[column].sum()) for column in columns)


# ---- what is one flow ----


def test_two_directions_and_two_cpus_are_one_flow(table: FlowTable, deltas: Deltas) -> None:
    flows = table.update(
        deltas(
            {**THERE, "packets": 2, "bytes": 200},
            {**BACK, "first": 100.2, "packets": 3, "bytes": 3000},
            {**THERE, "first": 100.1, "packets": 5, "bytes": 500},
        ),
        101.0,
    )
    assert len(flows) == len(table) == 1
    (flow,) = flows
    assert (flow["packets"], flow["bytes"], flow["reply_packets"], flow["reply_bytes"]) == (7, 700, 3, 3000)
    assert (flow["sport"], flow["dport"], flow["first"], flow["reply_first"]) == (40000, 443, 100.0, 100.2)
    assert flow["new"]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2)])
def test_of_two_cpus_records_of_one_tick_the_handshakes_came_first(
    table: FlowTable, deltas: Deltas, order: tuple[int, ...]
) -> None:
    records = [
        {**THERE, "first_flags": SYN, "first_len": 74},
        {**THERE, "first_flags": ACK, "first_len": 66},
        {**BACK, "first_flags": SYN_ACK},
        {**BACK, "first_flags": ACK},
    ]
    (flow,) = table.update(deltas(*(records[at] for at in order)), 101.0)
    assert (flow["first_flags"], flow["reply_first_flags"], flow["first_len"]) == (SYN, SYN_ACK, 74)


@pytest.mark.parametrize("field", ["ifindex", "vlan", "proto", "sport", "dport", "inner"])
def test_other_keys_are_other_flows(table: FlowTable, deltas: Deltas, field: str) -> None:
    assert len(table.update(deltas(THERE, {**THERE, field: 99}), 101.0)) == 2


def test_a_tunnels_conversations_are_flows_of_their_own_with_both_directions(table: FlowTable, deltas: Deltas) -> None:
    ends = {"src": CLIENT, "dst": SERVER, "proto": 47}
    back = {"src": SERVER, "dst": CLIENT, "proto": 47, "direction": 1, "first": 100.5}
    large = (1 << 63) + 5
    batch = deltas(*({**way, "inner": inner} for way in (ends, back) for inner in (0, 5, large, 5 << 32)))
    flows = table.update(batch, 101.0)
    assert sorted(flows["inner"].tolist()) == [0, 5, 5 << 32, large]
    assert flows["packets"].tolist() == flows["reply_packets"].tolist() == [1] * 4
    alone = deltas(ends)  # the same flow, whether others of the batch carry something or not
    (again,) = table.update(alone, 102.0)
    assert (again["inner"], again["packets"], again["id"]) == (0, 2, flows["id"][flows["inner"] == 0][0])
    told = table.due(102.0, everything=True)
    assert sorted(zip(told["inner"].tolist(), told["packets"].tolist(), strict=True)) == [
        (0, 2),
        (5, 1),
        (5 << 32, 1),
        (large, 1),
    ]


def test_an_ipv4_address_and_its_mapped_ipv6_form_are_other_flows(table: FlowTable, deltas: Deltas) -> None:
    batch = deltas(THERE, THERE)
    batch["family"][1] = 6
    assert len(table.update(batch, 101.0)) == 2


@pytest.mark.parametrize(("proto", "asks", "answers"), [(1, 8, 0), (1, 13, 14), (58, 128, 129), (58, 135, 136)])
def test_icmp_requests_and_replies_are_one_flow(
    table: FlowTable, deltas: Deltas, proto: int, asks: int, answers: int
) -> None:
    reply = {"src": SERVER, "dst": CLIENT, "sport": answers, "proto": proto, "first": 100.0, "direction": 1}
    request = {"src": CLIENT, "dst": SERVER, "sport": asks, "proto": proto, "first": 100.0}
    (flow,) = table.update(deltas(reply, request), 101.0)
    assert (flow["sport"], flow["dport"], flow["packets"], flow["reply_packets"]) == (asks, 0, 1, 1)
    assert flow["direction"] == 0


def test_icmp_errors_have_no_other_direction(table: FlowTable, deltas: Deltas) -> None:
    error = {"proto": 1, "sport": 3, "dport": 1}
    assert len(table.update(deltas({**error}, {**error, "src": SERVER, "dst": CLIENT}), 101.0)) == 2


def test_an_echo_reply_alone_belongs_to_who_must_have_asked(table: FlowTable, deltas: Deltas) -> None:
    (flow,) = table.update(deltas({"src": SERVER, "dst": CLIENT, "proto": 1, "sport": 0, "direction": 0}), 101.0)
    assert (flow["packets"], flow["reply_packets"], flow["sport"], flow["direction"]) == (0, 1, 8, 1)


# ---- who began it ----


def test_the_first_packet_names_the_initiator(table: FlowTable, deltas: Deltas) -> None:
    (flow,) = table.update(deltas({**BACK, "first": 100.5}, {**THERE, "first": 100.1}), 101.0)
    assert flow["dport"] == 443


def test_within_one_tick_of_the_clock_the_lower_port_is_the_service(table: FlowTable, deltas: Deltas) -> None:
    (flow,) = table.update(deltas({**BACK, "proto": 17}, {**THERE, "proto": 17}), 101.0)
    assert flow["dport"] == 443


def test_a_syn_outweighs_the_order_of_packets(table: FlowTable, deltas: Deltas) -> None:
    (flow,) = table.update(
        deltas({**BACK, "first": 99.0}, {**THERE, "first": 100.0, "first_flags": SYN, "tcp_flags": SYN}), 101.0
    )
    assert (flow["dport"], flow["first_flags"]) == (443, SYN)


def test_a_syn_ack_alone_is_an_answer(table: FlowTable, deltas: Deltas) -> None:
    (flow,) = table.update(deltas({**BACK, "first_flags": SYN_ACK, "tcp_flags": SYN_ACK}), 101.0)
    assert (flow["dport"], flow["packets"], flow["reply_packets"], flow["direction"]) == (443, 0, 1, 0)
    assert flow["reply_first_flags"] == SYN_ACK


def test_a_later_syn_turns_a_guess_round_and_keeps_the_counts(table: FlowTable, deltas: Deltas) -> None:
    table.update(deltas({**BACK, "packets": 4, "bytes": 400, "verdict": DROP}), 101.0)
    (flow,) = table.update(deltas({**THERE, "first": 101.5, "last": 101.5, "first_flags": SYN, "verdict": DROP}), 102.0)
    assert (flow["dport"], flow["packets"], flow["reply_packets"], flow["reply_bytes"]) == (443, 1, 4, 400)
    assert flow["reply_first"] == 100.0
    assert flow["direction"] == 0
    assert not flow["new"]
    (report,) = table.due(102.0, everything=True)
    assert (report["dport"], report["packets"], report["reply_packets"]) == (443, 1, 4)


def test_a_sure_initiator_stays(table: FlowTable, deltas: Deltas) -> None:
    table.update(deltas({**THERE, "first_flags": SYN}), 101.0)
    (flow,) = table.update(deltas({**BACK, "first_flags": SYN, "first": 101.5, "last": 101.5}), 102.0)
    assert flow["dport"] == 443


# ---- what a flow remembers ----


def test_deltas_of_a_batch_and_sums_since_the_beginning(table: FlowTable, deltas: Deltas) -> None:
    table.update(deltas({**THERE, "packets": 2, "payload_packets": 1, "payload_bytes": 9}), 101.0)
    (flow,) = table.update(deltas({**THERE, "new": False, "packets": 3, "payload_packets": 2}, BACK), 102.0)
    assert (flow["packets"], flow["d_packets"], flow["d_reply_packets"]) == (5, 3, 1)
    assert (flow["payload_packets"], flow["payload_bytes"]) == (3, 9)


def test_first_payload_is_of_the_first_packet_of_each_side_only(table: FlowTable, deltas: Deltas) -> None:
    later = {**THERE, "bits": 0x02, "first": 100.5, "last": 100.5}
    (flow,) = table.update(deltas({**THERE, "bits": 0x01}, later, {**BACK, "bits": 0x0A, "first": 100.2}), 101.0)
    assert flow["bits"] == 0x01
    assert flow["reply_bits"] == 0x0A


def test_never_answered_is_nan(table: FlowTable, deltas: Deltas) -> None:
    (flow,) = table.update(deltas(THERE), 101.0)
    assert math.isnan(flow["reply_first"])


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
    assert [when for when, *_ in seen] == [400, 700, 1000]
    assert [count for _, count, *_ in seen] == [300, 300, 300]
    assert seen[1][2:] == (400.0, 699.5)


# ---- reports ----


def test_a_change_of_verdict_is_told_under_the_old_one_first(table: FlowTable, deltas: Deltas) -> None:
    table.update(deltas({**THERE, "verdict": MONITOR, "packets": 5}), 101.0)
    (flow,) = table.update(deltas({**THERE, "verdict": ALLOW, "packets": 2, "last": 101.5}), 102.0)
    assert (flow["verdict"], flow["packets"], flow["d_packets"]) == (ALLOW, 7, 2)
    reports = np.concatenate([table.due(102.0), table.due(102.0, everything=True)])
    assert sorted(zip(reports["verdict"].tolist(), reports["packets"].tolist(), strict=True)) == [
        (ALLOW, 2),
        (MONITOR, 5),
    ]


def test_verdicts_that_meet_in_one_batch_are_kept_apart(table: FlowTable, deltas: Deltas) -> None:
    """A rate limit: the same flow passes and is dropped within one drain."""
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


def test_dropped_replies_are_told_apart_from_what_passed(table: FlowTable, deltas: Deltas) -> None:
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


def test_replies_alone_are_told_under_their_own_rules(table: FlowTable, deltas: Deltas) -> None:
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


# ---- bounds ----


def test_beyond_capacity_the_oldest_unanswered_flow_goes_first_and_is_reported(deltas: Deltas) -> None:
    table = FlowTable(2, 30, 300, seed=1)
    table.update(deltas({**THERE, "sport": 1, "last": 100.0}, {**BACK, "dport": 1}), 100.0)
    table.update(deltas({**THERE, "sport": 2, "first": 101.0, "last": 101.0}), 101.0)
    table.update(deltas({**THERE, "sport": 3, "first": 102.0, "last": 102.0}), 102.0)
    assert (len(table), table.evicted) == (2, 1)
    (report,) = table.due(102.0)
    assert (report["sport"], report["end"]) == (2, End.LACK_OF_RESOURCES)


def test_a_flood_larger_than_the_table_stays_exact(deltas: Deltas) -> None:
    table = FlowTable(100, 30, 300, seed=1)
    batch = np.repeat(deltas(THERE), 5000)
    batch["sport"], batch["packets"], batch["bytes"] = np.arange(5000), 3, 500
    flows = table.update(batch, 101.0)
    assert len(flows) == 5000
    assert total(flows, "d_packets") == 15000
    assert len(table) <= 100
    assert total(np.concatenate([table.due(101.0), table.due(101.0, True)]), "packets") == 15000
    assert table.evicted >= 4900


def test_a_smaller_capacity_takes_effect_at_once(table: FlowTable, deltas: Deltas) -> None:
    table.update(deltas(*({**THERE, "sport": port} for port in range(200))), 101.0)
    table.configure(50, 30, 300)
    assert len(table) <= 50
    assert total(table.due(101.0), "packets") + total(table.due(101.0, True), "packets") == 200


def test_an_empty_table_is_small_again_after_a_flood(deltas: Deltas) -> None:
    table = FlowTable(1 << 20, 30, 300, seed=1)
    before = table.memory_bytes
    batch = np.repeat(deltas(THERE), 60000)
    batch["sport"] = np.arange(60000)
    table.update(batch, 101.0)
    assert table.memory_bytes > 60000 * 100
    table.due(200.0)
    assert table.memory_bytes < before + 10000


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


# ---- the invariant ----

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

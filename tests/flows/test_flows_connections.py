"""Two connections on the same ports are two, whichever CPUs carried their packets."""

from __future__ import annotations

import random

import pytest
from flow_cpus import FIN, connections, told
from flow_talk import ACK, BACK, RST, SYN, SYN_ACK, THERE, Deltas, total

from trafficmond.flows.batch import Batch
from trafficmond.flows.table import FlowTable


def at(moment: float, last: float = 0.0) -> dict[str, float]:
    return {"first": moment, "last": last or moment}


def call(began: float) -> list[dict[str, object]]:
    """What the CPU with the handshake has of a call: the client's SYN and two packets more, the server's answer."""
    mine = {**THERE, **at(began, began + 0.02), "first_flags": SYN, "tcp_flags": SYN | ACK, "packets": 3}
    theirs = {**BACK, **at(began + 0.001, began + 0.02), "first_flags": SYN_ACK, "tcp_flags": SYN_ACK, "packets": 3}
    return [mine, theirs]


def opened(rows: Batch) -> list[float]:
    return sorted({round(float(first), 3) for first in rows["first"]})


def test_an_end_that_another_cpu_told_with_an_earlier_call_joins_no_later_ones(
    table: FlowTable, deltas: Deltas
) -> None:
    """One CPU has the handshakes, the other a record that spans the calls and holds the last one's reset."""
    spanning = {**THERE, **at(100.01, 100.92), "first_flags": ACK, "tcp_flags": ACK | RST, "packets": 4}
    rows = table.update(deltas(*call(100.0), *call(100.3), *call(100.6), *call(100.9), spanning), 101.0)
    assert opened(rows) == [100.0, 100.3, 100.6, 100.9]
    assert total(rows, "d_packets", "d_reply_packets") == 4 * 6 + 4
    assert sum(report["packets"] + report["reply_packets"] for report in table.due(500.0)) == 4 * 6 + 4


def test_a_call_whose_every_acknowledgement_another_cpu_has_was_open_if_something_was_said(
    table: FlowTable, deltas: Deltas
) -> None:
    greeted = {**BACK, **at(100.001, 100.02), "first_flags": SYN_ACK, "tcp_flags": SYN_ACK, "payload_packets": 1}
    table.update(deltas({**THERE, **at(100.0), "first_flags": SYN, "tcp_flags": SYN}, greeted), 101.0)
    rows = table.update(deltas(*call(101.2)), 102.0)
    assert opened(rows[~rows["ended"]]) == [101.2]


def test_a_call_in_the_next_batch_is_another_too(table: FlowTable, deltas: Deltas) -> None:
    table.update(deltas(*call(100.0)), 101.0)
    rows = table.update(deltas(*call(101.2)), 102.0)
    assert opened(rows[~rows["ended"]]) == [101.2]


@pytest.mark.parametrize("answer", [{}, {"new": False, "tcp_flags": SYN_ACK | ACK, "first_flags": SYN_ACK}])
def test_a_syn_that_nobody_accepts_splits_nothing(table: FlowTable, deltas: Deltas, answer: dict[str, object]) -> None:
    """A stranger's SYN on the ports of a connection (RFC 5961, 4) is answered by an ACK of the old one."""
    table.update(deltas(*call(100.0)), 101.0)
    forged = {**THERE, **at(101.2), "first_flags": SYN, "tcp_flags": SYN}
    challenge = {**BACK, **at(101.3), "first_flags": ACK, "tcp_flags": ACK, **answer}
    if answer:
        challenge |= at(100.001, 101.3)
    rows = table.update(deltas(forged, challenge), 102.0)
    assert opened(rows) == [100.0]
    assert len(table) == 1


def test_a_syn_that_is_sent_again_before_the_answer_is_the_same_call(table: FlowTable, deltas: Deltas) -> None:
    table.update(deltas({**THERE, **at(100.0), "first_flags": SYN, "tcp_flags": SYN}), 100.5)
    again = {**THERE, **at(100.0, 101.0), "first_flags": SYN, "tcp_flags": SYN, "new": False}
    answer = {**BACK, **at(101.001), "first_flags": SYN_ACK, "tcp_flags": SYN_ACK}
    rows = table.update(deltas(again, answer), 101.5)
    assert opened(rows) == [100.0]
    assert not rows["ended"].any()


@pytest.mark.parametrize("end", [FIN, RST])
def test_two_calls_seen_from_one_side_in_one_reading_are_two(table: FlowTable, deltas: Deltas, end: int) -> None:
    calls = [
        {**THERE, **at(began, began + 0.2), "first_flags": SYN, "tcp_flags": SYN | ACK | end, "packets": 5}
        for began in (100.1, 100.5)
    ]
    assert opened(table.update(deltas(*calls), 101.0)) == [100.1, 100.5]


@pytest.mark.parametrize("answers", [[(101.1, SYN_ACK), (101.12, ACK)], [(101.1, SYN_ACK)]])
def test_a_syn_that_another_cpu_sent_again_is_of_the_call_that_it_opened(
    table: FlowTable, deltas: Deltas, answers: list[tuple[float, int]]
) -> None:
    """All in one reading: the first one was not heard, and its CPU has what was said after the answer."""
    said = {**THERE, **at(100.0, 101.5), "first_flags": SYN, "tcp_flags": SYN | ACK, "packets": 500}
    again = {**THERE, **at(101.0), "first_flags": SYN, "tcp_flags": SYN}
    back = [{**BACK, **at(when, 101.5), "first_flags": of, "tcp_flags": of, "owner": 7} for when, of in answers]
    rows = table.update(deltas(said, again, *back), 102.0)
    assert (len(rows), rows["owner"].tolist(), total(rows, "packets")) == (1, [7], 501)


@pytest.mark.parametrize("moved", [-0.004, 0.004, 0.0])
def test_a_connection_is_one_though_the_clock_drifts(table: FlowTable, deltas: Deltas, moved: float) -> None:
    """Its records seem to begin a little earlier or later at each reading. The answers are read after what they answer,
    and its end is the last of it."""
    said = {**THERE, **at(100.0, 104.9), "first_flags": SYN, "tcp_flags": SYN | ACK, "packets": 500}
    table.update(deltas({**said, "payload_packets": 400}), 105.0)
    answered = {**BACK, **at(100.001 + moved, 105.5), "first_flags": SYN_ACK, "tcp_flags": SYN_ACK, "owner": 7}
    on = {**said, **at(100.0 + moved, 105.5), "new": False}
    rows = table.update(deltas(on, answered), 106.0)
    assert (opened(rows), rows["owner"].tolist(), total(rows, "packets")) == ([100.0], [7], 1000)
    ends = {**at(100.001 + moved, 109.0), "first_flags": SYN_ACK, "tcp_flags": SYN_ACK | FIN, "new": False}
    mine = {**on, "last": 109.0, "tcp_flags": SYN | ACK | FIN, "packets": 1}
    (row,) = table.update(deltas(mine, {**BACK, **ends}), 110.0)
    assert (row["tcp_flags"] & FIN, row["reply_tcp_flags"] & FIN, bool(row["ended"])) == (FIN, FIN, True)


@pytest.mark.parametrize("packets", [1, 3])
def test_a_record_that_continues_from_the_call_before_hides_no_call(
    table: FlowTable, deltas: Deltas, packets: int
) -> None:
    """One CPU has the handshake of the next call; to another, which had that of the one before, it is all one."""
    reset = {**THERE, **at(100.3), "first_flags": ACK, "tcp_flags": ACK | RST}
    table.update(deltas(*call(100.0), reset), 101.0)
    for side, flags in (THERE, SYN), (BACK, SYN_ACK):
        began = 101.2 + (side is BACK) * 1.5
        spanning = {**side, **at(100.001, began + 0.03), "first_flags": flags, "tcp_flags": SYN_ACK, "new": False}
        rows = table.update(deltas(*call(began), {**spanning, "packets": packets}), began + 0.8)
        assert opened(rows[~rows["ended"]])[-1] == began
        assert rows["first_flags"][-1] == SYN
        table.update(deltas({**reset, **at(began + 0.9)}), began + 1.0)


@pytest.mark.parametrize("later", [0.2, 35.2])
def test_a_record_that_continues_counts_where_its_last_packet_does(
    table: FlowTable, deltas: Deltas, later: float
) -> None:
    """A port is used again, and a CPU without the handshake has most of the answers: no call of answers alone."""
    mine, theirs = call(100.0)
    table.update(deltas({**mine, "tcp_flags": SYN | ACK | FIN}, {**theirs, "tcp_flags": SYN_ACK | FIN}), 101.0)
    began = 101.0 + later
    table.update(deltas(), began - 0.1)
    answers = {**BACK, **at(100.001, began + 0.02), "first_flags": SYN_ACK, "tcp_flags": SYN_ACK, "new": False}
    rows = table.update(deltas(*call(began), {**answers, "packets": 44}), began + 1)
    now = rows[~rows["ended"]]
    assert (opened(now), total(now, "packets", "reply_packets")) == ([began], 3 + 3 + 44)


def test_a_syn_that_is_drained_before_its_answer_is_another_call_when_it_is_answered(
    table: FlowTable, deltas: Deltas
) -> None:
    """The reset of the call before was told by another CPU, with a call before that."""
    table.update(deltas(*call(100.0)), 101.0)
    table.update(deltas({**THERE, **at(101.2), "first_flags": SYN, "tcp_flags": SYN}), 101.2)
    mine, theirs = call(101.2)
    rows = table.update(deltas({**mine, "packets": 2, "new": False}, theirs), 102.0)
    assert opened(rows[~rows["ended"]]) == [101.2]


def test_an_end_in_a_record_of_several_calls_is_that_of_the_last(table: FlowTable, deltas: Deltas) -> None:
    spanning = {**THERE, **at(100.01, 100.35), "first_flags": ACK, "tcp_flags": ACK | RST, "packets": 4}
    rows = table.update(deltas(*call(100.0), *call(100.3), spanning), 101.0)
    assert opened(rows) == [100.0, 100.3]
    assert set(rows["first_flags"]) == {SYN}
    rows = table.update(deltas({**THERE, **at(101.2), "first_flags": SYN, "tcp_flags": SYN}), 101.3)
    assert opened(rows[~rows["ended"]]) == [101.2]


@pytest.mark.parametrize("end", [FIN, RST], ids=["fin", "rst"])
@pytest.mark.parametrize(("moves", "least"), [(0.0, 1.0), (1.0, 1.0), (0.05, 0.99), (0.3, 0.99)])
def test_calls_from_one_port_are_as_many_whichever_cpus_have_them_and_whenever_they_are_read(
    end: int, moves: float, least: float
) -> None:
    """All, where a connection's packets keep to one CPU; where it changes in mid-connection, one in a hundred may be
    told with the one before."""
    calls, found = 0, 0
    for seed in range(40):
        dice = random.Random(seed)
        packets = list(connections(dice, 30, end, dice.choice((0.02, 0.13, 0.25, 0.6)), 1000.0))
        table = FlowTable(1024, idle_timeout_s=30, active_timeout_s=300, seed=1)
        reports = []
        for batch, now in told(dice, packets, moves):
            table.update(batch, now)
            reports.append(table.due(now))
        reports.append(table.due(packets[-1].at + 1000))
        assert sum(total(rows, "packets", "reply_packets") for rows in reports) == len(packets)
        calls, found = calls + 30, found + sum(map(len, reports))
    assert least * calls <= found <= calls

"""For how long a flow is remembered, and who goes first when there is no more room."""

from __future__ import annotations

import numpy as np
import pytest
from flow_talk import ACK, BACK, FIN_ACK, RST, SYN, SYN_ACK, THERE, Deltas

from trafficmond.flows.state import ANSWERED_S, CLOSE_LINGER_S, ESTABLISHED_S, STATE
from trafficmond.flows.table import _QUIET_FRACTION, FlowTable

TCP, UDP = 6, 17
IDLE = 30.0


def kept_s(rows: np.ndarray, idle_s: float) -> np.ndarray:
    """For how long a table keeps rows."""
    return FlowTable(256, idle_s, 300.0)._kept(rows)


@pytest.mark.parametrize(
    ("row", "seconds"),
    [
        ({"proto": TCP, "tcp_flags": SYN | ACK, "reply_tcp_flags": SYN_ACK}, ESTABLISHED_S),
        ({"proto": TCP, "tcp_flags": SYN, "reply_tcp_flags": SYN_ACK}, IDLE),  # the handshake's third packet is lacking
        ({"proto": TCP, "tcp_flags": SYN, "reply_tcp_flags": 0, "reply_packets": 0}, IDLE),
        ({"proto": TCP, "tcp_flags": SYN | FIN_ACK, "reply_tcp_flags": SYN_ACK}, ANSWERED_S),  # one side has finished
        ({"proto": TCP, "tcp_flags": SYN | ACK | RST, "reply_tcp_flags": SYN_ACK, "closed": True}, CLOSE_LINGER_S),
        ({"proto": UDP}, ANSWERED_S),
        ({"proto": UDP, "reply_packets": 0}, IDLE),
        ({"proto": UDP, "packets": 0}, IDLE),
        ({"proto": UDP, "packets": 2, "reply_packets": 2, "last": 131.0}, ESTABLISHED_S),  # went on for longer
        ({"proto": UDP, "packets": 2, "reply_packets": 2, "last": 129.0}, ANSWERED_S),
        ({"proto": UDP, "packets": 9, "reply_packets": 1, "last": 131.0}, ANSWERED_S),  # one answer is no rhythm
    ],
)
def test_a_conversation_is_remembered_as_nats_must(row: dict[str, object], seconds: float) -> None:
    rows = np.zeros(1, STATE)
    for name, value in {"packets": 1, "reply_packets": 1, "first": 100.0, "last": 100.0, **row}.items():
        rows[name] = value
    assert kept_s(rows, IDLE).tolist() == [seconds]


@pytest.mark.parametrize("idle", [1.0, 1000.0])
def test_the_setting_prolongs_and_shortens(idle: float) -> None:
    rows = np.zeros(2, STATE)
    rows["proto"], rows["packets"], rows["reply_packets"], rows["closed"] = UDP, 1, [1, 0], False
    assert kept_s(rows, idle).tolist() == [max(ANSWERED_S, idle), idle]
    rows["closed"] = True
    assert kept_s(rows, idle).tolist() == [min(CLOSE_LINGER_S, idle)] * 2


def talks(deltas: Deltas, count: int, when: float) -> np.ndarray:
    """Connections that were established, one a port."""
    rows = []
    for port in range(count):
        there, back = {**THERE, "sport": 1024 + port}, {**BACK, "dport": 1024 + port}
        rows += [
            {**there, "first": when, "last": when, "first_flags": SYN, "tcp_flags": SYN | ACK, "packets": 3},
            {**back, "first": when, "last": when, "first_flags": SYN_ACK, "tcp_flags": SYN_ACK, "packets": 2},
        ]
    return deltas(*rows)


def strangers(deltas: Deltas, first: int, count: int, when: float) -> np.ndarray:
    """SYNs that nobody answers, each from an address of its own."""
    return deltas(
        *(
            {**THERE, "src": f"203.0.{n >> 8}.{n & 255}", "first": when, "last": when, "first_flags": SYN,
             "tcp_flags": SYN}
            for n in range(first, first + count)
        )
    )  # fmt: skip


def test_strangers_evict_themselves_and_no_conversation(deltas: Deltas) -> None:
    """Ten times as many as there is room for, while the conversations rest."""
    table = FlowTable(256, idle_timeout_s=IDLE, active_timeout_s=300, seed=1)
    table.update(talks(deltas, 20, 100.0), 101.0)
    table.update(deltas(), 140.0)  # they rest
    for number in range(10):
        table.update(strangers(deltas, 256 * number, 256, 141.0 + number), 141.5 + number)
    assert table.evicted > 2000
    again = {**THERE, "first": 100.0, "last": 155.0, "first_flags": SYN, "tcp_flags": ACK, "new": False}
    rows = table.update(deltas(*({**again, "sport": 1024 + port} for port in range(20))), 156.0)
    mine = rows[rows["src_lo"] == np.uint64(0xFFFF_C000_0201)]
    assert len(mine) == 20
    assert not mine["new"].any()
    assert not mine["ended"].any()


def test_those_that_rest_have_a_share_of_the_table_and_the_oldest_go_first(deltas: Deltas) -> None:
    table = FlowTable(256, idle_timeout_s=IDLE, active_timeout_s=300, seed=1)
    most = 256 // _QUIET_FRACTION
    table.update(talks(deltas, most, 100.0), 101.0)
    table.update(deltas(), 140.0)
    assert (len(table), table.evicted) == (most, 0)
    later = talks(deltas, most // 2, 150.0)
    later["sport"], later["dport"] = (
        later["sport"] + 5000 * (later["sport"] > 443),
        later["dport"] + 5000 * (later["dport"] > 443),
    )
    table.update(later, 151.0)
    table.update(deltas(), 190.0)
    assert len(table) <= most
    assert table.evicted >= most // 2
    told = table.due(191.0)
    assert int(told["packets"].sum() + told["reply_packets"].sum()) == 5 * (most + most // 2), "and all of it was told"
    again = {**THERE, "first": 150.0, "last": 195.0, "first_flags": SYN, "tcp_flags": ACK, "new": False}
    rows = table.update(deltas(*({**again, "sport": 6024 + port} for port in range(most // 2))), 196.0)
    assert not rows["new"].any(), "the later ones are there"

"""The flow table: what is one flow, who began it, what is remembered of it, and how many there can be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from flow_talk import ACK, BACK, CLIENT, DROP, SERVER, SYN, SYN_ACK, THERE, Deltas, total

from trafficmond.flows.batch import address_text
from trafficmond.flows.report import End
from trafficmond.flows.table import FlowTable

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


@pytest.mark.parametrize(
    ("src", "group", "proto", "kind"),
    [
        ("fe80::2", "ff02::1", 58, 134),  # a router advertises itself, unasked (RFC 4861, 6.2.4)
        ("fe80::2", "ff02::1", 58, 136),  # a neighbour (7.2.6)
        (SERVER, "224.0.0.1", 1, 9),  # a router (RFC 1256)
    ],
)
def test_who_advertises_itself_to_a_group_was_not_asked_by_it(
    table: FlowTable, deltas: Deltas, src: str, group: str, proto: int, kind: int
) -> None:
    (flow,) = table.update(deltas({"src": src, "dst": group, "proto": proto, "sport": kind}), 101.0)
    assert (flow["packets"], flow["reply_packets"], flow["sport"]) == (1, 0, kind)
    assert address_text(int(flow["src_hi"]), int(flow["src_lo"]), int(flow["family"])) == src


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


@pytest.mark.parametrize(
    ("sport", "dport", "direction", "turned"),
    [(22, 40000, 1, True), (22, 40000, 0, False), (40000, 22, 1, False), (22, 2222, 1, False), (23, 40000, 1, False)],
    ids=["our service", "a stranger's", "our client", "both are services", "no service"],
)
def test_who_is_served_here_began_what_was_there_before_us(
    table: FlowTable, deltas: Deltas, sport: int, dport: int, direction: int, turned: bool
) -> None:
    table.set_listening(np.array([22, 2222], np.uint16))
    mine = {"sport": sport, "dport": dport, "direction": direction, "tcp_flags": 0x18, "first_flags": 0x18}
    theirs = {
        **{"src": "198.51.100.2", "dst": "192.0.2.1", "sport": dport, "dport": sport},
        **{"direction": 1 - direction, "tcp_flags": 0x10, "first_flags": 0x10},
    }
    for row in ({**mine, "first": 10.0, "packets": 2}, {**theirs, "first": 10.5, "packets": 3}):
        (flow,) = table.update(deltas(row), 11.0)
    assert bool(flow["sport"] == dport) is turned
    assert (flow["packets"], flow["reply_packets"]) == ((3, 2) if turned else (2, 3))
    assert flow["direction"] == direction ^ turned


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


def _bytes(table: FlowTable) -> int:
    return sum(each.nbytes for each in vars(table).values() if isinstance(each, np.ndarray))


def test_an_empty_table_is_small_again_after_a_flood(deltas: Deltas) -> None:
    table = FlowTable(1 << 20, 30, 300, seed=1)
    before = _bytes(table)
    batch = np.repeat(deltas(THERE), 60000)
    batch["sport"] = np.arange(60000)
    table.update(batch, 101.0)
    assert _bytes(table) > 60000 * 100
    table.due(200.0)
    assert _bytes(table) < before + 10000

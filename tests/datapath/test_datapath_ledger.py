"""What the reader makes of the ledger's records: columns, what is new once and over a restart, and its own figures."""

from __future__ import annotations

import ipaddress

import numpy as np
from datapath_world import World, finish

from trafficmond import abi


def test_a_restart_continues_where_the_last_reader_was() -> None:
    world = World()
    finish(world.book(1, 5))
    assert world.read()["packets"].tolist() == [5]
    finish(world.book(1, 2))
    world.reader = world.new_reader()
    batch = world.read()
    assert batch["packets"].tolist() == [2]
    assert not batch["new"].any()


def test_a_record_is_new_once() -> None:
    world = World()
    finish(world.book(1))
    assert world.read()["new"].tolist() == [True]
    for packets in range(2, 9):  # it is evicted by larger ones of its set
        finish(world.book(packets % 3 * 2 + 3, packets * 10))
    batch = world.read()
    assert not batch["new"][batch["sport"] == 1].any()
    assert batch["new"][batch["sport"] != 1].all()


def test_columns_are_those_of_the_record() -> None:
    world = World()
    finish(world.book(2, 3, 100, 7, now=11))
    finish(world.book(2, 1, 90, 0, now=13))
    slot = world.slots.raw[:1]
    key = slot["key"]
    key["src"] = np.frombuffer(ipaddress.ip_address("::ffff:192.0.2.1").packed, np.uint8)
    key["dst"] = np.frombuffer(ipaddress.ip_address("::ffff:198.51.100.2").packed, np.uint8)
    key["proto"], key["vlan"], key["ifindex"], key["verdict"], key["dport"] = 6, 9, 4, 0x20000005, 443
    key["scope"] = abi.SCOPE_EGRESS
    slot["tcp_flags"], slot["first_flags"], slot["ttl"], slot["bits"] = 0x12, 2, 64, abi.BIT_FIRST_PAYLOAD
    (row,) = world.read()
    named = {name: row[name].item() for name in row.dtype.names}
    expected = {
        **{"src_hi": 0, "src_lo": 0xFFFFC0000201, "dst_hi": 0, "dst_lo": 0xFFFFC6336402, "family": 4, "direction": 1},
        **{"sport": 2, "dport": 443, "proto": 6, "vlan": 9, "ifindex": 4, "verdict": 0x20000005},
        **{"packets": 4, "bytes": 390, "payload_bytes": 7, "payload_packets": 3, "first": 11.0, "last": 13.0},
        **{"tcp_flags": 0x12, "first_flags": 2, "ttl": 64, "bits": 2, "new": True},
    }
    assert {name: named[name] for name in expected} == expected


def test_ipv6_addresses_keep_both_halves() -> None:
    world = World()
    finish(world.book(2))
    key = world.slots.raw["key"][:1]
    key["src"] = np.frombuffer(ipaddress.ip_address("2001:db8::1").packed, np.uint8)
    key["scope"] = abi.SCOPE_IPV6
    (row,) = world.read()
    assert (row["src_hi"], row["src_lo"], row["family"], row["direction"]) == (0x20010DB8 << 32, 1, 6, 0)


def test_what_it_says_of_itself() -> None:
    world = World()
    assert (world.reader.used(), world.reader.evicted_records()) == (0, 0)
    for flow in (0, 2, 4):
        finish(world.book(flow))
    assert (world.reader.used(), world.reader.evicted_records()) == (2, 1)
    world.reader.close()
    assert all(memory.closed for memory in (world.slots, world.taken, world.rings, world.evicted_records))

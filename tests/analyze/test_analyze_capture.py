"""Captures: every packet accounted for, whatever the file's variant, link type or damage."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from captures import AT, block, enhanced, ethernet, interface, ipv4, ipv6, option, pcap, section, tcp, udp
from hypothesis import given, settings
from hypothesis import strategies as st
from readings import Reading

from trafficmond.analyze import native
from trafficmond.flows.batch import address_text

FRAME = ethernet(ipv4(tcp()))


def _truth() -> list[dict[str, object]]:
    path = Path(__file__).parents[3] / "shared/data/pcaps/TRUTH.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("known", _truth(), ids=lambda known: str(known["file"]))
def test_every_packet_of_the_labelled_captures_is_accounted_for(
    known: dict[str, object], data: Path, reading: Reading
) -> None:
    _, stats = reading(data / "pcaps" / str(known["file"]))
    assert stats.seen.packets == known["packets"]
    assert stats.parse_errors.total == 0


def test_hostile_captures_conserve_packets_and_bytes(data: Path, reading: Reading) -> None:
    files = sorted((data / "pcaps/robust").iterdir())
    assert files
    for file in files:
        _, stats = reading(file)
        assert stats.seen.packets == stats.records


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34])
def test_pcap_variants(order: str, magic: int, reading: Reading) -> None:
    rows, stats = reading(pcap([(AT, FRAME), (AT + 0.5, FRAME)], order=order, magic=magic))
    assert (stats.seen.packets, stats.seen.bytes) == (2, 2 * len(FRAME))
    (row,) = rows
    assert address_text(int(row["src_hi"]), int(row["src_lo"]), int(row["family"])) == "192.0.2.1"
    assert (row["sport"], row["dport"], row["proto"], row["tcp_flags"]) == (1234, 80, 6, 2)
    assert row["first"] == pytest.approx(AT, abs=1e-6)
    assert row["last"] == pytest.approx(AT + 0.5, abs=1e-6)


def _records(frames: Sequence[bytes], more: int, order: str = "<", *, turned: bool = False) -> bytes:
    """pcap records with `more` bytes in the header of each, cut to 60 bytes; `turned`: the length on the wire first."""
    lengths = [(min(len(frame), 60), len(frame))[:: -1 if turned else 1] for frame in frames]
    return b"".join(
        struct.pack(order + "IIII", int(AT) + at, 250_000, *lengths[at]) + b"\7" * more + frame[:60]
        for at, frame in enumerate(frames)
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("frames", [1, 2, 3, 9])
@pytest.mark.parametrize(
    ("magic", "more"), [(0xA1B2C3D4, 4), (0xA1B2C3D4, 8), (0xA1B2CD34, 12), (0xA1B2CD34, 0), (0xA1B2CD34, 8)]
)
def test_what_patched_tcpdumps_wrote_is_recognised_by_how_its_records_follow_each_other(
    magic: int, more: int, frames: int, order: str, reading: Reading
) -> None:
    """Those of Nokia, Red Hat 6.1 and SuSE 6.3: more in the header of a record, and the magic number of others."""
    packets = [FRAME + b"x" * at for at in range(frames)]
    rows, stats = reading(pcap([], order=order, magic=magic) + _records(packets, more, order))
    assert (stats.in_flows.packets, stats.in_flows.bytes) == (frames, sum(map(len, packets)))
    assert stats.parse_errors.total == 0
    assert rows["last"].max() == int(AT) + frames - 1 + 0.25


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [(2, 2), (2, 3), (543, 0)])
@pytest.mark.parametrize("turned", [False, True])
def test_old_captures_may_have_the_lengths_of_a_record_the_other_way_round(
    turned: bool, version: tuple[int, int], order: str, reading: Reading
) -> None:
    packets = [FRAME + b"x" * 40 * at for at in range(5)]
    head = bytearray(pcap([], order=order))
    struct.pack_into(order + "HH", head, 4, *version)
    _, stats = reading(bytes(head) + _records(packets, 0, order, turned=turned))
    assert (stats.in_flows.packets, stats.in_flows.bytes) == (5, sum(map(len, packets)))
    assert stats.parse_errors.total == 0


_NETWORK = ipv4(tcp())
_COOKED = struct.pack(">HHH8sH", 0, 1, 6, b"", 0x0800)
_COOKED_OUT = struct.pack(">HHH8sH", 4, 1, 6, b"", 0x0800)
_COOKED_2 = struct.pack(">HHIHBB8s", 0x0800, 0, 1, 1, 4, 6, b"")


@pytest.mark.parametrize(
    ("link", "frame", "outgoing"),
    [
        (1, ethernet(_NETWORK), False),
        (1, ethernet(_NETWORK, tags=[5]), False),
        (1, ethernet(_NETWORK, tags=[5, 6]), False),
        (12, _NETWORK, False),
        (101, _NETWORK, False),
        (228, _NETWORK, False),
        (113, _COOKED + _NETWORK, False),
        (113, _COOKED_OUT + _NETWORK, True),
        (113, _COOKED[:-2] + struct.pack(">HHH", 0x8100, 5, 0x0800) + _NETWORK, False),
        (276, _COOKED_2 + _NETWORK, True),
        (0, struct.pack("<I", 2) + _NETWORK, False),
        (0, struct.pack(">I", 2) + _NETWORK, False),
        (108, struct.pack(">I", 2) + _NETWORK, False),
        (9, b"\xff\x03\x00\x21" + _NETWORK, False),
        (9, b"\x00\x21" + _NETWORK, False),
        (50, b"\xff\x03\x00\x21" + _NETWORK, False),
        (104, b"\x0f\x00\x08\x00" + _NETWORK, False),
    ],
)
def test_link_types(link: int, frame: bytes, outgoing: bool, reading: Reading) -> None:
    rows, stats = reading(pcap([(AT, frame)], link=link))
    (row,) = rows
    assert (row["sport"], row["dport"], row["proto"]) == (1234, 80, 6)
    assert row["bytes"] == len(frame)
    assert bool(row["direction"]) == outgoing
    assert row["vlan"] == (5 if b"\x81\x00" in frame[:18] else 0)
    assert stats.parse_errors.total == 0


@pytest.mark.parametrize("family", [10, 24, 28, 30])
def test_loopback_knows_every_system_s_number_for_ipv6(family: int, reading: Reading) -> None:
    rows, _ = reading(pcap([(AT, struct.pack("<I", family) + ipv6(udp()))], link=0))
    assert (rows[0]["family"], rows[0]["dport"]) == (6, 5353)


def test_an_unread_link_type_is_counted_and_said(reading: Reading) -> None:
    rows, stats = reading(pcap([(AT, FRAME)], link=147))  # DLT_USER0
    assert len(rows) == 0
    assert stats.not_ip.packets == 1
    assert stats.parse_errors.kinds == {"unsupported link type": 1}


def test_a_snapshot_counts_the_length_on_the_wire(reading: Reading) -> None:
    frame = ethernet(ipv4(tcp(payload=b"x" * 1000)))
    rows, stats = reading(pcap([(AT, frame)], snap=60))
    assert rows[0]["bytes"] == len(frame)
    assert rows[0]["payload_bytes"] == 1000
    assert stats.snapped == 1


def test_a_snapshot_shorter_than_the_ip_header_is_malformed_by_reason(reading: Reading) -> None:
    _, stats = reading(pcap([(AT, FRAME)], snap=30))
    assert dict(stats.malformed_by) == {"short_ip": 1}
    assert stats.malformed.bytes == len(FRAME)


def test_a_server_that_speaks_first_is_noticed(reading: Reading) -> None:
    there = {"src": "192.0.2.1", "dst": "198.51.100.2"}
    back = {"src": "198.51.100.2", "dst": "192.0.2.1"}
    frames = [
        (AT, ethernet(ipv4(tcp(), **there))),
        (AT + 0.01, ethernet(ipv4(tcp(80, 1234, 0x12, ack=2), **back))),
        (AT + 0.02, ethernet(ipv4(tcp(flags=0x10, ack=2), **there))),
        (AT + 0.03, ethernet(ipv4(tcp(80, 1234, 0x18, b"220 ready", ack=2), **back))),
    ]
    rows, _ = reading(pcap(frames))
    bits = {int(row["sport"]): int(row["bits"]) for row in rows}
    assert bits == {1234: 0, 80: 0x08}


def test_flows_continue_over_intervals_like_the_kernel_s_records(reading: Reading) -> None:
    frames = [(AT + second, ethernet(ipv4(tcp(flags=0x02 if second == 0 else 0x10)))) for second in range(3)]
    rows, _ = reading(pcap(frames))
    assert rows["new"].tolist() == [True, False, False]
    assert rows["tcp_flags"].tolist() == [0x02, 0x10, 0x10]
    assert rows["first_flags"].tolist() == [0x02, 0x02, 0x02]
    assert rows["first"].tolist() == rows["last"].tolist() == [at for at, _ in frames]
    assert rows["first_flags"].tolist() == [0x02] * 3
    assert rows["first"].tolist() == pytest.approx([AT] * 3)


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng(order: str, reading: Reading) -> None:
    options = option(2, b"eth7", order) + option(9, b"\x09", order) + option(0, b"", order)
    ticks = int(AT * 1e9)
    simple = block(3, struct.pack(order + "I", len(FRAME)) + FRAME, order)
    obsolete = struct.pack(order + "HHIIII", 0, 0, ticks >> 32, ticks & 0xFFFFFFFF, len(FRAME), len(FRAME)) + FRAME
    data = section(order) + interface(1, options, order) + block(5, b"\0" * 16, order)
    data += enhanced(ticks, FRAME, order=order) + simple + block(2, obsolete, order)
    rows, stats = reading(data)
    assert int(rows["packets"].sum()) == 3
    assert rows["last"].tolist() == pytest.approx([AT], abs=1e-6)
    assert stats.interfaces == {1: "eth7"}
    assert stats.parse_errors.total == 0


def test_pcapng_time_offset_and_binary_resolution(reading: Reading) -> None:
    options = option(9, b"\x8a") + option(14, struct.pack("<q", 1_600_000_000))
    rows, _ = reading(section() + interface(1, options) + enhanced(int(100.5 * 1024), FRAME))
    assert rows["last"][0] == pytest.approx(1_600_000_100.5)


def test_pcapng_sections_and_interfaces_keep_their_names(reading: Reading) -> None:
    ticks = int(AT * 1e6)
    data = b""
    for name in (b"one", b"two"):
        data += section() + interface(1, option(2, name)) + interface(1, option(2, name + b"b"))
        data += enhanced(ticks, FRAME, 0) + enhanced(ticks, FRAME, 1)
    rows, stats = reading(data)
    assert sorted(stats.interfaces[number] for number in rows["ifindex"].tolist()) == ["one", "oneb", "two", "twob"]


def test_truncation_is_reported_with_its_offset(reading: Reading) -> None:
    whole = pcap([(AT, FRAME), (AT, FRAME)])
    _, stats = reading(whole[:-5])
    assert stats.seen.packets == 1
    (place,) = stats.parse_errors.places
    assert place.where == f"offset {len(whole) - len(FRAME) - 16}"
    assert place.what.startswith("truncated")


def test_reading_continues_behind_an_impossible_record(reading: Reading) -> None:
    good = pcap([(AT + n / 100, FRAME) for n in range(5)])
    at = 24 + 2 * (16 + len(FRAME))
    broken = good[:at] + b"\xff" * 16 + good[at + 16 :]
    _, stats = reading(broken)
    assert stats.seen.packets == 4
    assert list(stats.parse_errors.kinds) == ["impossible record length", "reading resumed"]
    assert stats.parse_errors.places[0].where == f"offset {at}"


def test_reading_continues_behind_an_impossible_block(reading: Reading) -> None:
    ticks = int(AT * 1e6)
    data = section() + interface() + enhanced(ticks, FRAME)
    broken = data + struct.pack("<II", 6, 7) + b"\xee" * 24 + enhanced(ticks, FRAME) + enhanced(ticks, FRAME)
    _, stats = reading(broken)
    assert stats.seen.packets == 3
    assert list(stats.parse_errors.kinds) == ["impossible block length", "reading resumed"]


def test_a_packet_of_an_undescribed_interface_is_damage(reading: Reading) -> None:
    _, stats = reading(section() + interface() + enhanced(0, FRAME, number=9))
    assert stats.parse_errors.kinds == {"packet of an interface that the file does not describe": 1}


def test_more_flows_than_the_ledger_holds_lose_nothing(reading: Reading) -> None:
    frames = []
    for n in range(70_000):
        source = f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"
        frames.append((AT, ethernet(ipv4(tcp(), src=source))))
    rows, stats = reading(pcap(frames))
    assert stats.in_flows.packets == 70_000
    assert len(set(rows["src_lo"].tolist())) == 70_000


_SAMPLE = pcap([(AT + n / 10, ethernet(ipv4(tcp(1000 + n)), tags=[n] * (n % 3))) for n in range(6)])
_SAMPLE_NG = section() + interface() + b"".join(enhanced(int((AT + n) * 1e6), FRAME) for n in range(6))


@settings(max_examples=150)
@given(
    st.sampled_from([_SAMPLE, _SAMPLE_NG]),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=24)), max_size=6),
    st.integers(0, 4000),
    st.integers(40, 999),
)
def test_damage_anywhere_neither_stops_nor_miscounts(
    base: bytes, wounds: list[tuple[int, bytes]], cut: int, step: int
) -> None:
    damaged = bytearray(base)
    for at, wound in wounds:
        damaged[4 + at % len(base) : 4 + at % len(base) + len(wound)] = wound
    content = bytes(damaged[: max(24, len(damaged) - cut)])
    ledger = native.Ledger(1.0)
    capture = native.Capture(ledger)
    packets = 0
    waiting, at, final = b"", 0, False
    for _ in range(10_000):
        waiting += content[at : at + step]
        at += step
        final = at >= len(content)
        used, _ = capture.feed(waiting, final=final)
        waiting = waiting[used:]
        packets += int(ledger.take(close=final)["packets"].sum())
        if final and not ledger.waiting:
            break
    assert final
    assert not waiting
    totals = ledger.totals()
    assert packets == totals.in_flows.packets
    for unit in ("packets", "bytes"):
        parts = (totals.in_flows, totals.not_ip, totals.malformed)
        assert getattr(totals.seen, unit) == sum(getattr(part, unit) for part in parts)

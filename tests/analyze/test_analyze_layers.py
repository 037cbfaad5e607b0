"""Captures as other tools read them: what lies between link and IP, packets held in part, times and joined files."""

from __future__ import annotations

import struct

import pytest
from captures import ADDED, AT, block, enhanced, ethernet, interface, ipv4, ipv6, pcap, section, tcp, udp
from readings import Reading

PACKET = ipv4(tcp())
FRAME = ethernet(PACKET)
MACS = FRAME[:12]
SNAP = b"\xaa\xaa\x03\0\0\0\x08\0"


def typed(kind: int, behind: bytes) -> bytes:
    return MACS + struct.pack(">H", kind) + behind


def tags(*kinds: int) -> bytes:
    head = b"".join(struct.pack(">HH", kind, 7) for kind in kinds)
    return MACS + head + b"\x08\0" + PACKET


def data_frame(control: int, more: int = 0, before: bytes = b"") -> bytes:
    return before + struct.pack("<H", control) + bytes(22 + more) + SNAP + PACKET


def nflog(order: str) -> bytes:
    packet = struct.pack(order + "HH", 4 + len(PACKET), 9) + PACKET
    return b"\x02\0\0\0" + struct.pack(order + "HH", 5, 10) + b"\0\0\0\0" + packet


PKTAP = struct.pack("<III24sI", 108, 1, 1, b"en0", 2) + bytes(68)
ROUTED = MACS[:6] + bytes([MACS[6] | 0x80]) + MACS[7:]
PREAMBLE = b"\x55" * 7 + b"\xd5"
LABELS = struct.pack(">II", 16 << 12 | 64, 17 << 12 | 1 << 8 | 64)


@pytest.mark.parametrize(
    ("link", "frame"),
    [
        pytest.param(1, tags(0x9100, 0x8100), id="QinQ of an old type"),
        pytest.param(1, tags(0x9200, 0x88A8, 0x8100), id="three tags of three types"),
        pytest.param(1, tags(*[0x8100] * 9), id="nine tags"),
        pytest.param(1, typed(0x8847, LABELS + PACKET), id="MPLS"),
        pytest.param(1, typed(0x8848, LABELS[4:] + bytes(4) + FRAME), id="Ethernet over MPLS, control word"),
        pytest.param(1, typed(0x8847, LABELS[4:] + b"\x12" + FRAME[1:]), id="Ethernet over MPLS"),
        pytest.param(1, tags(0x8100)[:-len(PACKET) - 2] + b"\x88\x47" + LABELS + PACKET, id="MPLS behind a tag"),
        pytest.param(1, typed(0x8864, b"\x11\0\0\1\0\x20\0\x21" + PACKET), id="PPPoE"),
        pytest.param(1, typed(0x8864, b"\x11\0\0\1\0\x20\x21" + PACKET), id="PPPoE, protocol field compressed"),
        pytest.param(1, MACS + struct.pack(">H", len(PACKET) + 8) + SNAP + PACKET, id="LLC and SNAP"),
        pytest.param(1, MACS + struct.pack(">H", len(PACKET) + 3) + b"\x06\x06\x03" + PACKET, id="LLC of IP"),
        pytest.param(1, typed(0x8909, b"\1\1\0\1\0\x64\x08\0" + PACKET), id="security-group tag"),
        pytest.param(1, typed(0x8926, b"\0\0\0\0\x08\0" + PACKET), id="VN-Tag"),
        pytest.param(1, typed(0x893F, bytes(6) + b"\x08\0" + PACKET), id="E-Tag"),
        pytest.param(1, typed(0x88E7, bytes(4) + FRAME), id="PBB"),
        pytest.param(1, typed(0x8903, b"\0\x40" + FRAME), id="FabricPath"),
        pytest.param(1, typed(0x22F3, bytes(6) + FRAME), id="TRILL"),
        pytest.param(1, typed(0x892F, bytes(4) + b"\x08\0" + PACKET), id="HSR"),
        pytest.param(1, typed(0xF1C1, bytes(4) + b"\x08\0" + PACKET), id="802.1CB"),
        pytest.param(1, typed(0x894F, b"\x0f\xc6\1\1" + bytes(20) + PACKET), id="NSH"),
        pytest.param(1, typed(0x88E5, b"\x20\0\0\0\0\1" + bytes(8) + b"\x08\0" + PACKET + bytes(16)), id="MACsec"),
        pytest.param(1, typed(0xD28B, b"\0\1\0\x10" + bytes(8) + b"\x08\0" + PACKET), id="Arista, 64 bits"),
        pytest.param(1, typed(0xD28B, b"\0\1\0\x20" + bytes(6) + b"\x08\0" + PACKET), id="Arista, 48 bits"),
        pytest.param(113, struct.pack(">HHH8sH", 0, 1, 6, b"", 0x8847) + LABELS + PACKET, id="MPLS, cooked"),
        pytest.param(9, b"\x0f\0\x08\0" + PACKET, id="Cisco HDLC under PPP"),
        pytest.param(50, b"\x8f\0\x08\0" + PACKET, id="Cisco HDLC under PPP in HDLC framing"),
        pytest.param(9, b"\x21" + PACKET, id="PPP, protocol field compressed"),
        pytest.param(9, b"\xff\x03\x21" + PACKET, id="PPP framed, protocol field compressed"),
        pytest.param(9, b"\xff\x03\x02\x81" + LABELS + PACKET, id="MPLS over PPP"),
        pytest.param(51, b"\x11\0\0\1\0\x20\0\x21" + PACKET, id="PPPoE without Ethernet"),
        pytest.param(166, b"\1\xff\x03\0\x21" + PACKET, id="PPP with direction, pppd"),
        pytest.param(204, b"\0\xff\x03\0\x21" + PACKET, id="PPP with direction"),
        pytest.param(205, b"\0\x0f\0\x08\0" + PACKET, id="HDLC with direction"),
        pytest.param(100, SNAP + PACKET, id="RFC 1483"),
        pytest.param(105, data_frame(0x0008), id="Wi-Fi"),
        pytest.param(105, data_frame(0x0388, 8), id="Wi-Fi, four addresses and quality of service"),
        pytest.param(127, data_frame(0x0088, 2, b"\0\0\x0c\0" + bytes(8)), id="radiotap"),
        pytest.param(119, data_frame(0x0008, 0, bytes(144)), id="Prism"),
        pytest.param(163, data_frame(0x0008, 0, struct.pack(">II", 1, 64) + bytes(56)), id="AVS"),
        pytest.param(192, struct.pack("<HHI", 0, 8, 105) + data_frame(0x0008), id="PPI"),
        pytest.param(109, struct.pack("<III", 2, 0, 0) + PACKET, id="OpenBSD's enc"),
        pytest.param(117, b"\x3d\x02" + bytes(62) + PACKET, id="pflog"),
        pytest.param(138, bytes(16) + b"\x08\0" + PACKET, id="FireWire"),
        pytest.param(219, LABELS + PACKET, id="bare MPLS"),
        pytest.param(226, b"\1\2" + bytes(22) + PACKET, id="Solaris' ipnet"),
        pytest.param(239, nflog("<"), id="nflog"),
        pytest.param(239, nflog(">"), id="nflog of a big-endian host"),
        pytest.param(242, bytes(40) + b"\x08\0\0\0" + PACKET, id="InfiniBand"),
        pytest.param(258, PKTAP + FRAME, id="macOS' pktap"),
        pytest.param(281, MACS + bytes(4) + b"\x08\0" + PACKET, id="Broadcom switch tag"),
        pytest.param(282, bytes(4) + FRAME, id="Broadcom switch tag in front"),
        pytest.param(6, b"\x10\x40" + MACS + SNAP + PACKET, id="Token Ring"),
        pytest.param(6, b"\x10\x40" + ROUTED + b"\x06\x30\0\x11\0\x20" + SNAP + PACKET, id="Token Ring, routed"),
        pytest.param(10, b"\x50" + MACS + SNAP + PACKET, id="FDDI"),
        pytest.param(8, bytes(16) + PACKET, id="SLIP"),
        pytest.param(107, b"\x18\x41\x03\xcc" + PACKET, id="frame relay"),
        pytest.param(107, b"\x18\x40\x41\x03\0\xcc" + PACKET, id="frame relay, long address, filled up"),
        pytest.param(107, b"\x18\x41\x03\0\x80\0\0\0\x08\0" + PACKET, id="frame relay with SNAP"),
        pytest.param(107, b"\x18\x41\x03\0\x80\0\x80\xc2\0\x07" + FRAME, id="frame relay, bridged"),
        pytest.param(107, b"\x18\x41\x08\0" + PACKET, id="frame relay of Cisco"),
        pytest.param(122, bytes(16) + SNAP + PACKET, id="Fibre Channel"),
        pytest.param(123, b"\x02\0\0\x64" + SNAP + PACKET, id="ATM of SunOS"),
        pytest.param(123, b"\x81\0\0\x64\0\1" + FRAME, id="ATM of SunOS, emulated LAN"),
        pytest.param(240, bytes(4) + FRAME, id="netANALYZER"),
        pytest.param(241, bytes(4) + PREAMBLE + FRAME, id="netANALYZER with preamble"),
        pytest.param(274, PREAMBLE + FRAME, id="mPacket"),
        pytest.param(274, PREAMBLE[5:] + FRAME, id="mPacket, short preamble"),
        pytest.param(274, PREAMBLE[:7] + b"\xe6" + FRAME, id="mPacket that may be interrupted"),
        pytest.param(285, MACS + bytes(8) + b"\x08\0" + PACKET, id="Marvell switch tag"),
    ],
)  # fmt: skip
def test_ip_is_found_behind_what_switches_and_systems_put_before_it(link: int, frame: bytes, reading: Reading) -> None:
    rows, stats = reading(pcap([(AT, frame)], link=link))
    assert stats.parse_errors.kinds == {}
    assert [(row["sport"], row["dport"], row["proto"], row["bytes"]) for row in rows] == [
        (1234, 80, 6, len(frame) - ADDED.get(link, 0))
    ]


@pytest.mark.parametrize(
    ("link", "frame"),
    [
        (6, b"\x10\x02" + MACS + SNAP + PACKET),  # of the ring itself
        (8, b"\0\x80" + bytes(14) + PACKET),  # compressed as RFC 1144 has it
        (10, b"\xc2" + MACS + SNAP + PACKET),
        (107, b"\x18\x41\x03\x08" + PACKET),
        (107, b"\x18\x40"),
        (123, b"\x07\0\0\x10" + SNAP + PACKET),  # the network's own
        (274, PREAMBLE[:7] + b"\x61" + FRAME),  # what follows an interruption
        (274, PREAMBLE),
    ],
)
def test_frames_of_rings_and_lines_that_are_not_ip(link: int, frame: bytes, reading: Reading) -> None:
    rows, stats = reading(pcap([(AT, frame)], link=link))
    assert (len(rows), stats.parse_errors.total) == (0, 0)
    assert stats.seen.packets == stats.not_ip.packets + stats.malformed.packets == 1


@pytest.mark.parametrize(
    "frame",
    [
        typed(0x8847, LABELS[:3]),
        typed(0x8864, b"\x11"),
        typed(0x8909, b"\1"),
        typed(0x88E5, b"\x2c" + bytes(40)),
        typed(0x894F, b"\x0f\x01\1\1" + bytes(20)),
        MACS + b"\0\x26\x42\x42\x03" + bytes(35),
        tags(*[0x8100] * 500),
    ],
)
def test_what_cannot_be_followed_is_not_ip(frame: bytes, reading: Reading) -> None:
    rows, stats = reading(pcap([(AT, frame)]))
    assert len(rows) == 0
    assert stats.seen.packets == stats.not_ip.packets + stats.malformed.packets == 1


def test_what_is_not_ip_is_recognised_by_its_types(reading: Reading) -> None:
    frames = [typed(0x0806, bytes(28))] * 3 + [typed(0x88CC, bytes(30))] + [MACS + b"\0\x26\x42\x42\x03" + bytes(35)]
    _, stats = reading(pcap([(AT, frame) for frame in frames]))
    assert dict(stats.not_ip_types) == {0x0806: 3, 0x88CC: 1, 1: 1}


def test_more_types_than_are_distinguished_are_counted_together(reading: Reading) -> None:
    _, stats = reading(pcap([(AT, typed(0x9900 + number, bytes(46))) for number in range(100)]))
    assert sum(stats.not_ip_types.values()) == 100
    assert stats.not_ip_types[-1] == 36


@pytest.mark.parametrize("size", [1400, 4000, 60000])
def test_super_packets_without_a_length_are_as_long_as_their_frame(size: int, reading: Reading) -> None:
    body = tcp(payload=bytes(size))
    four = bytearray(ipv4(body))
    four[2:4] = b"\0\0"
    six = bytearray(ipv6(body, proto=6))
    six[4:6] = b"\0\0"
    rows, stats = reading(pcap([(AT, ethernet(bytes(four))), (AT, ethernet(bytes(six), 0x86DD))]))
    assert stats.malformed.packets == 0
    assert sorted(int(row["payload_bytes"]) for row in rows) == [size, size]


@pytest.mark.parametrize(
    ("packet", "kept", "expected"),
    [
        pytest.param(ethernet(ipv4(tcp(payload=bytes(500)))), 66, (1234, 80, 2), id="whole headers"),
        pytest.param(ethernet(ipv4(tcp(payload=bytes(500)))), 48, (1234, 80, 2), id="flags are there"),
        pytest.param(ethernet(ipv4(tcp(payload=bytes(500)))), 40, (1234, 80, 0), id="ports are there"),
        pytest.param(ethernet(ipv4(tcp(payload=bytes(500)))), 36, (1234, 0, 0), id="one port is there"),
        pytest.param(ethernet(ipv4(udp(payload=bytes(500)), proto=17)), 38, (53, 5353, 0), id="UDP"),
        pytest.param(ethernet(ipv6(tcp(), proto=6), 0x86DD), 68, (1234, 80, 2), id="IPv6 at 68 bytes"),
        pytest.param(ethernet(ipv4(b"\x08\0\1\2\3\4", proto=1)), 36, (8, 0, 0), id="ICMP type and code"),
    ],
)
@pytest.mark.parametrize("said", [True, False], ids=["length kept", "length lost"])
def test_cut_packets_tell_what_is_there(
    packet: bytes, kept: int, expected: tuple[int, int, int], said: bool, reading: Reading
) -> None:
    rows, stats = reading(pcap([(AT, packet)], snap=kept) if said else pcap([(AT, packet[:kept])]))
    assert stats.malformed.packets == 0
    (row,) = rows
    assert (row["sport"], row["dport"], row["tcp_flags"]) == expected
    assert row["bytes"] == (len(packet) if said else kept)


def test_a_packet_too_short_by_itself_is_still_malformed(reading: Reading) -> None:
    _, stats = reading(pcap([(AT, ethernet(ipv4(tcp()[:12])))]))
    assert dict(stats.malformed_by) == {"short_transport": 1}


def record(seconds: int, fraction: int, frame: bytes = FRAME) -> bytes:
    return struct.pack("<IIII", seconds, fraction, len(frame), len(frame)) + frame


HEAD = pcap([])


@pytest.mark.parametrize("length", [0, 10, 19, 0xFFFFFFFF, 1 << 25])
def test_a_length_on_the_wire_that_cannot_be_is_said(length: int, reading: Reading) -> None:
    """Or missing: tshark reads such packets too, by what was captured of them."""
    rows, stats = reading(HEAD + struct.pack("<IIII", 1000, 0, len(FRAME), length) + FRAME + record(1001, 0))
    assert [(int(row["packets"]), int(row["bytes"])) for row in rows] == [(1, len(FRAME))] * 2
    assert stats.parse_errors.kinds == {"impossible length on the wire": 1}
    ng, told = reading(section() + interface() + block(6, struct.pack("<IIIII", 0, 0, 9, len(FRAME), length) + FRAME))
    assert (int(ng[0]["bytes"]), told.parse_errors.total) == (len(FRAME), 1)


@pytest.mark.parametrize(
    ("length", "kept"), [(20, False), (30, False), (33, False), (34, False), (37, False), (50, True)]
)
def test_a_length_on_the_wire_shorter_than_the_headers_cannot_be(length: int, kept: bool, reading: Reading) -> None:
    """Some writers store the length of another layer there; tshark shows what was captured of the packet."""
    rows, stats = reading(HEAD + struct.pack("<IIII", 1000, 0, len(FRAME), length) + FRAME)
    assert [(row["sport"], row["dport"], row["bytes"]) for row in rows] == [(1234, 80, length if kept else len(FRAME))]
    assert stats.parse_errors.kinds == ({} if kept else {"impossible length on the wire": 1})


def test_what_a_writer_filled_a_frame_up_with_is_none_of_it(reading: Reading) -> None:
    rows, stats = reading(HEAD + struct.pack("<IIII", 1000, 0, len(FRAME) + 4, len(FRAME)) + FRAME + b"pad!")
    assert (int(rows[0]["bytes"]), stats.parse_errors.total) == (len(FRAME), 0)


def test_a_fraction_beyond_a_second_is_carried_over(reading: Reading) -> None:
    rows, stats = reading(HEAD + record(1000, 0) + record(1000, 1_000_005) + record(1002, 0) + record(1003, 0xFFFFFFF0))
    assert stats.seen.packets == 4
    assert stats.parse_errors.kinds == {"impossible time": 2}
    assert (rows[0]["first"], stats.last) == (1000.0, 1003.0)


def test_nanoseconds_under_the_magic_of_microseconds(reading: Reading) -> None:
    _, stats = reading(HEAD + b"".join(record(1000 + number, 118_831_273) for number in range(10)))
    assert stats.seen.packets == 10
    assert stats.parse_errors.kinds == {"nanoseconds in a file of microseconds": 1}
    assert stats.last == pytest.approx(1009.118831273)


def test_a_fraction_that_cannot_be_in_front_of_a_length_that_leads_nowhere_is_no_record(reading: Reading) -> None:
    bad = struct.pack("<IIII", 7, 0xFFFFFFFF, 30, 30) + b"\xff" * 46
    _, stats = reading(HEAD + record(1000, 0) + bad + record(1001, 0) + record(1002, 0))
    assert stats.seen.packets == 3
    assert stats.parse_errors.kinds["reading resumed"] == 1


PCAPNG = section() + interface() + enhanced(int(1003e6), FRAME)


@pytest.mark.parametrize(
    "joined",
    [
        pcap([(1000, FRAME)] * 3) + pcap([(1001, FRAME)] * 3),
        pcap([(1000, FRAME)] * 3) + pcap([(1001, FRAME)] * 3, order=">", magic=0xA1B23C4D),
        pcap([(1000, FRAME)] * 3) + pcap([(1001, PACKET)] * 3, link=101),
        pcap([(1000, FRAME)] * 5) + PCAPNG,
        PCAPNG + pcap([(1001, FRAME)] * 5),
        PCAPNG * 6,
    ],
)
def test_joined_captures_are_read_one_after_the_other(joined: bytes, reading: Reading) -> None:
    rows, stats = reading(joined)
    assert stats.parse_errors.kinds == {}
    assert (stats.seen.packets, sum(int(row["packets"]) for row in rows)) == (6, 6)
    assert (stats.first >= 1000, stats.last <= 1003) == (True, True)


def test_zeros_of_a_full_disk_are_no_packets(reading: Reading) -> None:
    """Nor are they of 1970. A file behind them is read, of whatever byte order and unit of time."""
    one, other = pcap([(1000.0, FRAME)] * 3), pcap([(1003.0, FRAME)] * 3, order=">", magic=0xA1B23C4D)
    for content, packets in ((one + bytes(4096), 3), (one + bytes(100) + other, 6)):
        _, stats = reading(content)
        assert (stats.seen.packets, stats.first, stats.malformed.packets) == (packets, 1000.0, 0)
        assert stats.parse_errors.kinds["impossible record length"] == 1


def test_hundreds_of_interfaces(reading: Reading) -> None:
    blocks = [interface() for _ in range(300)] + [enhanced(int(1e9), FRAME, number) for number in range(300)]
    _, stats = reading(section() + b"".join(blocks))
    assert (stats.parse_errors.kinds, stats.seen.packets) == ({}, 300)


def test_packets_before_the_first_time_get_it(reading: Reading) -> None:
    simple = block(3, struct.pack("<I", len(FRAME)) + FRAME)
    _, stats = reading(section() + interface() + simple + enhanced(int(1_690_000_000e6), FRAME))
    assert stats.first == stats.last == 1_690_000_000.0
    assert stats.parse_errors.kinds == {"packets without a time": 1}
    _, stats = reading(section() + interface() + simple * 3)
    assert stats.parse_errors.kinds["packets without a time"] == 1

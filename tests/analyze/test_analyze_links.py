"""Link types by their documents (https://www.tcpdump.org/linktypes.html), and what is refused by its name."""

from __future__ import annotations

import struct

import pytest
from captures import ADDED, AT, block, enhanced, ethernet, interface, ipv4, ipv6, pcap, section, tcp, udp
from readings import Reading

from trafficmond.analyze.source import InputError

FOUR, SIX = ipv4(tcp()), ipv6(tcp(), proto=6)
FRAME = ethernet(FOUR)
MACS = FRAME[:12]
SNAP = b"\xaa\xaa\x03\0\0\0\x08\0"
LABEL = struct.pack(">I", 17 << 12 | 1 << 8 | 64)


ISL = b"\1\0\x0c\0\0\0" + bytes(6) + b"\0\x50" + SNAP[:3] + b"\0\0\x0c\0\x0a" + bytes(4)


def ipnet(family: int, packet: bytes) -> bytes:
    return bytes([2, family]) + struct.pack(">HIIIII", 0, len(packet), 1, 0, 0, 0xFFFFFFFF) + packet


def wifi(control: int, more: bytes = b"", behind: bytes = SNAP + FOUR) -> bytes:
    return struct.pack("<H", control) + bytes(22) + more + behind


def radiotap(present: int, fields: bytes, frame: bytes) -> bytes:
    return struct.pack("<BBHI", 0, 0, 8 + len(fields), present) + fields + frame


def subframe(packet: bytes) -> bytes:
    sent = bytes(12) + struct.pack(">H", len(packet) + 8) + SNAP + packet
    return sent + bytes(-len(sent) % 4)


def cooked(device: int, protocol: int, behind: bytes) -> bytes:
    return struct.pack(">HHH8sH", 0, device, 6, b"", protocol) + behind


@pytest.mark.parametrize(
    ("link", "frame"),
    [
        pytest.param(0, struct.pack("<I", 0x0800) + FOUR, id="loopback with an EtherType"),
        pytest.param(8, b"\1\x40" + bytes(14) + SIX, id="SLIP of BSD"),
        pytest.param(8, b"\0" + FOUR, id="SLIP as documented"),
        pytest.param(8, b"\1" + SIX, id="SLIP as documented, IPv6"),
        pytest.param(100, b"\xfe\xfe\x03\xcc" + FOUR, id="RFC 2684, NLPID"),
        pytest.param(100, b"\xfe\xfe\x03\x8e" + SIX, id="RFC 2684, NLPID of IPv6"),
        pytest.param(100, b"\xaa\xaa\x03\0\x80\xc2\0\x07\0\0" + FRAME, id="RFC 2684, bridged"),
        pytest.param(11, SNAP + FOUR, id="RFC 2684 by its old number"),
        pytest.param(149, struct.pack("<IIII", 40, 1, 1, 0) + bytes(24) + FRAME, id="macOS' pktap by its old number"),
        pytest.param(106, SNAP + FOUR, id="classical IP over ATM"),
        pytest.param(106, FOUR, id="classical IP over ATM, bare"),
        pytest.param(113, cooked(801, 0, wifi(8)), id="Wi-Fi, cooked"),
        pytest.param(113, cooked(803, 4, radiotap(0, b"", wifi(8))), id="radiotap, cooked"),
        pytest.param(113, cooked(1, 4, SNAP + FOUR), id="LLC, cooked"),
        pytest.param(119, struct.pack(">II", 0x80211001, 64) + bytes(56) + wifi(8), id="AVS in place of Prism"),
        pytest.param(127, radiotap(2, b"\x20", wifi(0x0088, bytes(4))), id="radiotap, filled up"),
        pytest.param(127, radiotap(3, b"\0" * 8 + b"\x20", wifi(0x0088, bytes(4))), id="radiotap with time, filled up"),
        pytest.param(127, radiotap(2, b"\x10", wifi(0x0088, bytes(2))) + bytes(4), id="radiotap with checksum"),
        pytest.param(50, b"\xff\x03\0\x3d\xc0\0\0\1\0\x21" + FOUR, id="PPP, multilink, whole"),
        pytest.param(50, b"\xff\x03\0\x3d\xc0\0\0\1\x57" + SIX, id="PPP, multilink, whole, compressed field"),
        pytest.param(166, b"\1\x03\0\x57" + SIX, id="PPP of pppd, which has the direction for an address"),
        pytest.param(205, b"\1\x0f\0\x86\xdd" + SIX, id="HDLC with direction"),
        pytest.param(1, ISL + FRAME + bytes(4), id="Cisco's ISL"),
        pytest.param(1, MACS + b"\x88\x70" + SNAP + FOUR, id="LLC in a jumbo frame"),
        pytest.param(1, MACS + struct.pack(">H", len(FOUR) + 3) + b"\6\7\3" + FOUR, id="LLC, a response"),
        pytest.param(9, b"\xff\3\0\x31\0\1" + FRAME, id="PPP, bridged"),
        pytest.param(9, b"\xff\3\0\x31\x40\1" + bytes(4) + FRAME, id="PPP, bridged, of a numbered LAN"),
        pytest.param(
            107, b"\x18\x41\3\0\x80\0\x80\xc2\0\1" + FRAME + bytes(4), id="frame relay, bridged, with checksum"
        ),
        pytest.param(239, b"\7\0\0\0" + struct.pack("<HH", 4 + len(FOUR), 9) + FOUR, id="nflog of a bridge"),
        pytest.param(206, b"\1\x18\x41\x03\xcc" + FOUR, id="frame relay with direction"),
        pytest.param(219, LABEL + SIX, id="bare MPLS"),
        pytest.param(226, ipnet(2, FOUR), id="ipnet"),
        pytest.param(226, ipnet(26, SIX), id="ipnet, IPv6"),
        pytest.param(281, MACS + b"\0\0\0\1\x08\0" + FOUR, id="Broadcom's switch tag"),
        pytest.param(178, b"MGC\0" + FRAME, id="Juniper's Ethernet"),
        pytest.param(178, b"MGC\x81\0\6\1\1\1\2\1\0" + FRAME, id="Juniper's Ethernet with extensions"),
        pytest.param(178, b"MGC\x82\0\0\6\0\0\0" + SIX, id="Juniper's Ethernet without a link header"),
        pytest.param(179, b"MGC\0\xff\3\0\x57" + SIX, id="Juniper's PPP"),
        pytest.param(180, b"MGC\1\x18\x41\3\xcc" + FOUR, id="Juniper's frame relay"),
        pytest.param(181, b"MGC\0\x0f\0\x86\xdd" + SIX, id="Juniper's HDLC"),
        pytest.param(252, b"\0\x0c\0\4ip\0\0\0\0\0\0" + FOUR, id="IP that Wireshark exported"),
        pytest.param(252, b"\0\x0c\0\4ipv6\0\0\0\0" + SIX, id="IPv6 that Wireshark exported"),
        pytest.param(252, b"\0\x20\0\2\0\0\0\x0c\0\4eth\0\0\0\0\0" + FRAME, id="Ethernet that Wireshark exported"),
        pytest.param(284, MACS + b"\xc0\x08\0\x05\x08\0" + FOUR, id="Marvell's switch tag"),
        pytest.param(285, MACS + b"\xda\xda\0\0\xc0\x08\0\x05\x08\0" + FOUR, id="Marvell's switch tag with a type"),
    ],
)
def test_ip_is_found_behind_each_link_header(link: int, frame: bytes, reading: Reading) -> None:
    rows, stats = reading(pcap([(AT, frame)], link=link))
    assert stats.parse_errors.kinds == {}
    size = len(frame) - ADDED.get(link, 0)
    assert [(row["sport"], row["dport"], row["proto"], row["bytes"]) for row in rows] == [(1234, 80, 6, size)]


def erf(kind: int, behind: bytes, extensions: int = 0) -> bytes:
    kinds = bytes([kind | (0x80 if extensions else 0), 4])
    more = b"".join(bytes([0x84 if after else 4]) + bytes(7) for after in reversed(range(extensions)))
    return bytes(8) + kinds + struct.pack(">HHH", 16 + len(more + behind), 0, len(behind)) + more + behind


@pytest.mark.parametrize(
    ("kind", "before", "behind"),
    [
        *((kind, 2, FRAME) for kind in (2, 11, 16, 20)),
        *((kind, 0, b"\xff\3\0\x57" + SIX) for kind in (1, 10, 15, 19)),
        *((kind, 4, b"\x0f\0\x08\0" + FOUR) for kind in (5, 17)),
        *((22, 0, FOUR), (23, 0, SIX)),
    ],
)
@pytest.mark.parametrize("extensions", [0, 1, 3])
def test_endaces_records_count_without_their_header(
    kind: int, before: int, behind: bytes, extensions: int, reading: Reading
) -> None:
    rows, stats = reading(pcap([(AT, erf(kind, bytes(before) + behind, extensions))], link=197))
    assert stats.parse_errors.kinds == {}
    assert [(row["sport"], row["dport"], row["proto"], row["bytes"]) for row in rows] == [(1234, 80, 6, len(behind))]


@pytest.mark.parametrize("proto", [33, 136])
@pytest.mark.parametrize("size", [262144, 14 + 20 + 4])
def test_dccp_and_udp_lite_have_ports(proto: int, size: int, reading: Reading) -> None:
    header = struct.pack(">HH", 1000, 2000) + bytes(12)
    frames = [ethernet(ipv4(header, proto)), ethernet(ipv6(header, proto), 0x86DD, tags=(5,))]
    rows, _ = reading(pcap([(AT, frame) for frame in frames[: 2 if size > 1514 else 1]], snap=size))
    assert {(row["sport"], row["dport"], row["proto"]) for row in rows} == {(1000, 2000, proto)}


@pytest.mark.parametrize("proto", [33, 136])
def test_a_later_fragment_has_no_ports(proto: int, reading: Reading) -> None:
    packet = bytearray(ipv4(bytes(range(1, 17)), proto))
    packet[6:8] = b"\0\5"
    rows, _ = reading(pcap([(AT, ethernet(bytes(packet)))]))
    assert [(row["sport"], row["dport"], row["proto"]) for row in rows] == [(0, 0, proto)]


@pytest.mark.parametrize("tags", [(), (5,)])
def test_ipv6_under_the_type_of_ipv4_is_ipv6(tags: tuple[int, ...], reading: Reading) -> None:
    rows, _ = reading(pcap([(AT, ethernet(SIX, 0x0800, tags))]))
    assert [(row["sport"], row["dport"], row["family"]) for row in rows] == [(1234, 80, 6)]


def test_each_packet_of_those_sent_together_counts(reading: Reading) -> None:
    packets = [subframe(ipv4(tcp(sport=port, payload=bytes(port % 7)))) for port in (1001, 1002, 1003)]
    frame = wifi(0x0088, b"\x80\0", b"".join(packets) + b"\1\2\3\4")
    rows, stats = reading(pcap([(AT, frame)], link=105))
    assert sorted((row["sport"], row["packets"], row["bytes"]) for row in rows) == [
        (1001, 1, 26 + len(packets[0])), (1002, 1, len(packets[1])), (1003, 1, len(packets[2]) + 4)
    ]  # fmt: skip
    assert (stats.seen.packets, stats.seen.bytes) == (3, len(frame))


def test_packets_sent_together_that_are_cut_are_counted_as_far_as_they_are_there(reading: Reading) -> None:
    frame = wifi(0x0088, b"\x80\0", subframe(FOUR) * 300)
    for size in range(26, 200):
        _, stats = reading(pcap([(AT, frame)], link=105, snap=size))
        assert stats.seen.bytes == len(frame)
    rows, stats = reading(pcap([(AT, frame)], link=105))
    assert (int(rows["packets"].sum()), int(rows["bytes"].sum())) == (300, len(frame))


@pytest.mark.parametrize("link", [284, 285])
def test_marvells_tag_has_the_vlan_that_it_took_the_place_of(link: int, reading: Reading) -> None:
    tag = (b"\xda\xda\0\0" if link == 285 else b"") + b"\xe0\x08\0\x05\x08\0"
    rows, _ = reading(pcap([(AT, MACS + tag + FOUR)], link=link))
    assert rows["vlan"].tolist() == [5]


@pytest.mark.parametrize(("link", "frame"), [(8, b"\1" + FOUR), (206, b"\1\x18\x41\x03\xcc" + FOUR)])
def test_which_way_a_packet_went_is_in_the_first_byte(link: int, frame: bytes, reading: Reading) -> None:
    rows, _ = reading(pcap([(AT, frame), (AT, b"\0" + frame[1:])], link=link))
    assert sorted(rows["direction"].tolist()) == [0, 1]


@pytest.mark.parametrize(
    ("link", "frame", "kind"),
    [
        pytest.param(0, struct.pack("<I", 7) + SNAP + FOUR, 0, id="a family of another kind"),
        pytest.param(1, MACS + b"\0\0" + SNAP + FOUR, 0, id="a length of zero"),
        pytest.param(8, b"\0\x80" + bytes(60), 0, id="SLIP, compressed"),
        pytest.param(9, b"\xff\x03\xc0\x21" + SNAP + FOUR, 0, id="PPP's own"),
        pytest.param(50, b"\xff\x03\0\x3d\x80\0\0\1\0\x21" + FOUR, 0, id="PPP, multilink, first part"),
        pytest.param(113, cooked(824, 0x0800, FOUR), 0, id="netlink, cooked"),
        pytest.param(113, cooked(280, 0x000C, bytes(16)), 0, id="CAN, cooked"),
        pytest.param(178, b"MGX\0" + FRAME, 0, id="Juniper's without its mark"),
        pytest.param(197, erf(27, bytes(40)), 0, id="ERF about the capture itself"),
        pytest.param(252, b"\0\x0c\0\4ipx\0\0\0\0\0" + FOUR, 0, id="another protocol that Wireshark exported"),
        pytest.param(100, b"\x42\x42\x03" + bytes(40), 1, id="LLC of another kind"),
    ],
)
def test_what_holds_no_ip_is_not_taken_for_it(link: int, frame: bytes, kind: int, reading: Reading) -> None:
    rows, stats = reading(pcap([(AT, frame)], link=link))
    assert (len(rows), dict(stats.not_ip_types)) == (0, {kind: 1})


@pytest.mark.parametrize(
    ("link", "name"),
    [(283, "IEEE 802.15.4"), (220, "USB"), (130, "Juniper"), (147, "somebody's own"), (267, "OpenFlow")],
)
def test_a_link_type_that_is_not_read_is_said_by_its_name(link: int, name: str, reading: Reading) -> None:
    rows, stats = reading(pcap([(AT, FRAME)], link=link))
    assert (len(rows), stats.not_ip.packets) == (0, 1)
    assert stats.parse_errors.places[0].what == (
        f"unsupported link type: number {link} ({name}); its packets are counted as not IP; tshark may read them"
    )


@pytest.mark.parametrize(("link", "frame"), [(6, FRAME), (9, b"\x10\x40" + MACS + SNAP + FOUR)])
def test_aix_has_its_own_link_types_and_nanoseconds(link: int, frame: bytes, reading: Reading) -> None:
    content = bytearray(pcap([(AT, frame)], link=link, magic=0xA1B2C3D4))
    content[4:8] = struct.pack("<HH", 2, 2)
    content[28:32] = struct.pack("<I", 250_000_000)
    rows, stats = reading(bytes(content))
    assert (rows["sport"].tolist(), rows["first"].tolist(), stats.parse_errors.total) == ([1234], [AT], 0)


@pytest.mark.parametrize(("snap", "ports"), [(35, (0, 0)), (37, (1234, 0)), (38, (1234, 80)), (0, (1234, 80))])
def test_what_fills_up_a_simple_packet_block_is_none_of_the_packet(
    snap: int, ports: tuple[int, int], reading: Reading
) -> None:
    described = block(1, struct.pack("<HHI", 1, 0, snap))
    simple = block(3, struct.pack("<I", len(FRAME)) + (FRAME[:snap] + b"\x7f" * (-snap % 4) if snap else FRAME))
    rows, _ = reading(section() + described + enhanced(int(AT * 1e6), ethernet(ipv4(udp(), 17))) + simple)
    found = [(row["sport"], row["dport"], row["bytes"]) for row in rows if row["proto"] == 6]
    assert found == [(*ports, len(FRAME))]


def test_a_section_of_another_version_is_read_and_said(reading: Reading) -> None:
    head = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 2, 0, -1))
    rows, stats = reading(head + interface() + enhanced(int(AT * 1e6), FRAME))
    assert (len(rows), stats.parse_errors.kinds) == (1, {"unknown file version": 1})


OPTIONS = b"\x48" + FOUR[1:2] + struct.pack(">H", len(FOUR) + 12) + FOUR[4:20] + b"\x07\x0b\4" + bytes(9) + FOUR[20:]
HOP = ipv6(b"\x06\0\1\4\0\0\0\0" + tcp(), proto=0)


@pytest.mark.parametrize("said", [True, False], ids=["length kept", "length lost"])
@pytest.mark.parametrize(
    ("packet", "kind", "kept", "expected"),
    [
        pytest.param(OPTIONS, 0x0800, 34, (6, 0, 0), id="no option is there"),
        pytest.param(OPTIONS, 0x0800, 45, (6, 0, 0), id="not the last option"),
        pytest.param(OPTIONS, 0x0800, 50, (6, 1234, 80), id="options and ports"),
        pytest.param(HOP, 0x86DD, 54, (0, 0, 0), id="no extension is there"),
        pytest.param(HOP, 0x86DD, 56, (6, 0, 0), id="part of an extension"),
        pytest.param(HOP, 0x86DD, 62, (6, 0, 0), id="whole extension"),
        pytest.param(HOP, 0x86DD, 66, (6, 1234, 80), id="extension and ports"),
    ],
)
def test_headers_cut_short_tell_addresses_and_protocol(
    packet: bytes, kind: int, kept: int, expected: tuple[int, int, int], said: bool, reading: Reading
) -> None:
    frame = ethernet(packet, kind)
    rows, stats = reading(pcap([(AT, frame)], snap=kept) if said else pcap([(AT, frame[:kept])]))
    assert stats.malformed.packets == 0
    (row,) = rows
    assert (row["proto"], row["sport"], row["dport"]) == expected


@pytest.mark.parametrize(
    ("start", "name", "step"),
    [
        (b"\x1c\0\x01\xac", "Ixia", "tshark -w"),
        (b"GMBU", "Microsoft Network Monitor", "tshark -w"),
        (b"btsnoop\0", "Bluetooth", "tshark"),
        (b"\x0c\xa5\x01\0", "nfdump", "nfdump"),
    ],
)
def test_a_capture_of_another_kind_is_refused_by_its_name(start: bytes, name: str, step: str, reading: Reading) -> None:
    with pytest.raises(InputError, match=name) as caught:
        reading(start + bytes(100))
    assert step in caught.value.hint

"""The laboratory itself: what it says it sends arrives, to the byte, and nothing else does."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from tmlab import Lab, Sender, read_capture

FRAME = bytes.fromhex("02000000000202000000000a88b5") + bytes(46)


def received(lab: Lab) -> tuple[int, int]:
    stats = lab.host.link(lab.links[0].host)["stats64"]["rx"]
    return stats["packets"], stats["bytes"]


@pytest.mark.root
def test_a_quiet_wire_carries_exactly_what_is_sent() -> None:
    frames = [FRAME[:14], FRAME[:15], FRAME, FRAME + bytes(1440)] * 500
    with Lab(quiet=True) as lab, Sender(lab.outside, lab.links[0].outside) as sender:
        sent = sender.send(frames)
        assert (sent.packets, sent.bytes) == (len(frames), sum(map(len, frames)))
        # The kernel counts received bytes without the Ethernet header it has pulled.
        packets, count = received(lab)
        assert packets == sent.packets
        assert count in (sent.bytes, sent.bytes - 14 * sent.packets)


@pytest.mark.root
def test_a_frame_longer_than_the_wire_is_skipped_with_its_reason() -> None:
    with Lab(quiet=True) as lab, Sender(lab.outside, lab.links[0].outside) as sender:
        sent = sender.send([FRAME, FRAME + bytes(2000), FRAME])
        assert sent.packets == 2
        assert sent.skipped == {"longer than the MTU (2060 bytes)": 1}
        assert received(lab)[0] == 2


@pytest.mark.root
def test_the_lab_joins_both_families_and_leaves_nothing_behind() -> None:
    with Lab(links=2) as lab:
        for link in lab.links:
            lab.outside.run("ping", "-c1", "-W2", link.host_ip)
            lab.host.run("ping", "-c1", "-W2", link.outside_ip6)
        paths = [namespace.path for namespace in lab.namespaces]
        assert all(path.exists() for path in paths)
    assert not any(path.exists() for path in paths)


def pcap(linktype: int, frames: list[bytes], order: str = "<", magic: int = 0xA1B2C3D4) -> bytes:
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, linktype)
    return head + b"".join(struct.pack(order + "IIII", 0, 0, len(f), len(f)) + f for f in frames)


def pcapng(linktype: int, frames: list[bytes]) -> bytes:
    def block(code: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack("<II", code, 12 + len(body)) + body + struct.pack("<I", 12 + len(body))

    head = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)) + block(1, struct.pack("<HHI", linktype, 0, 0))
    return head + b"".join(block(6, struct.pack("<IIIII", 0, 0, 0, len(f), len(f)) + f) for f in frames)


@pytest.mark.parametrize(
    "data",
    [pcap(1, [FRAME, FRAME[:13]]), pcap(1, [FRAME, FRAME[:13]], ">", 0xA1B23C4D), pcapng(1, [FRAME, FRAME[:13]])],
    ids=["pcap", "pcap big endian, nanoseconds", "pcapng"],
)
def test_every_format_gives_the_same_frames(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "capture"
    path.write_bytes(data)
    capture = read_capture(path)
    assert capture.frames == [FRAME]
    assert capture.skipped == {"shorter than an Ethernet header": 1}


@pytest.mark.parametrize(
    ("linktype", "frame", "wired"),
    [
        (101, b"\x45rest", FRAME[:12] + b"\x08\x00\x45rest"),
        (101, b"\x60rest", FRAME[:12] + b"\x86\xdd\x60rest"),
        (0, b"\x02\0\0\0\x45rest", FRAME[:12] + b"\x08\x00\x45rest"),
        (113, bytes(14) + b"\x86\xdd\x60rest", FRAME[:12] + b"\x86\xdd\x60rest"),
        (276, b"\x08\x00" + bytes(18) + b"\x45rest", FRAME[:12] + b"\x08\x00\x45rest"),
        (9, b"\xff\x03\x00\x21\x45rest", FRAME[:12] + b"\x08\x00\x45rest"),
    ],
)
def test_other_link_types_get_an_ethernet_header(tmp_path: Path, linktype: int, frame: bytes, wired: bytes) -> None:
    path = tmp_path / "capture"
    path.write_bytes(pcap(linktype, [frame]))
    assert read_capture(path).frames == [wired]


def test_what_is_no_capture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(b"hello, world")
    with pytest.raises(ValueError, match="neither pcap nor pcapng"):
        read_capture(path)

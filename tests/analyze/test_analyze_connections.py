"""A connection is one however long it is idle, and two connections are two: whole captures, whole reports."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from captures import AT, ethernet, ipv4, pcap, tcp, udp

from trafficmond.analyze import run
from trafficmond.analyze.run import analyze
from trafficmond.config.settings import Settings

SYN, SYN_ACK, ACK, PSH_ACK, FIN_ACK, RST, RST_ACK = 0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14
CLIENT, SERVER = "10.0.0.5", "203.0.113.7"

Frame = tuple[float, bytes]


def up(at: float, packet: bytes, proto: int = 6) -> Frame:
    return AT + at, ethernet(ipv4(packet, proto, CLIENT, SERVER))


def down(at: float, packet: bytes, proto: int = 6) -> Frame:
    return AT + at, ethernet(ipv4(packet, proto, SERVER, CLIENT))


def handshake(at: float, sport: int, dport: int, ack: int = 2) -> list[Frame]:
    return [
        up(at, tcp(sport, dport, SYN)),
        down(at + 0.001, tcp(dport, sport, SYN_ACK, ack=ack)),
        up(at + 0.002, tcp(sport, dport, ACK, ack=1)),
    ]


def exchange(at: float, sport: int, dport: int) -> list[Frame]:
    return [
        up(at, tcp(sport, dport, PSH_ACK, b"x" * 60, ack=9)),
        down(at + 0.01, tcp(dport, sport, PSH_ACK, b"y" * 44, ack=9)),
    ]


def session(at: float, sport: int, dport: int = 22, end: str = "fin") -> list[Frame]:
    """Greeted, six exchanges, and over in 1.7 s."""
    frames = handshake(at, sport, dport)
    frames.append(down(at + 0.01, tcp(dport, sport, PSH_ACK, b"SSH-2.0-server\r\n", ack=2)))
    for number in range(6):
        frames += exchange(at + 0.1 + 0.2 * number, sport, dport)
    if end == "fin":
        frames += [up(at + 1.6, tcp(sport, dport, FIN_ACK)), down(at + 1.65, tcp(dport, sport, FIN_ACK))]
        frames.append(up(at + 1.7, tcp(sport, dport, ACK)))
    else:
        frames.append(up(at + 1.6, tcp(sport, dport, RST)))
    return frames


def refused(at: float, sport: int, dport: int) -> list[Frame]:
    return [up(at, tcp(sport, dport, SYN)), down(at + 0.001, tcp(dport, sport, RST_ACK, ack=2))]


class Room:
    """Captures in a folder of their own, and what is said of them."""

    def __init__(self, path: Path) -> None:
        self._path = path / "in.pcap"

    def report(self, frames: Iterable[Frame], *, in_time: bool = True) -> dict[str, Any]:
        frames = sorted(frames, key=lambda frame: frame[0]) if in_time else list(frames)
        self._path.write_bytes(pcap(frames))
        report = analyze([str(self._path)], Settings(), now=AT + 1e6)
        assert sum(one["packets"] for one in report["protocol_distribution"].values()) == len(frames)
        return report

    def threats(self, frames: Iterable[Frame], **how: Any) -> list[str]:
        return sorted(f"{one['detector']} {one['severity']}" for one in self.report(frames, **how)["threats"])


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def flows_to(report: dict[str, Any], port: int) -> int:
    """So many flows to a port, as the list of services says."""
    return sum(one["flows"] for one in report["flow_analysis"]["top_services"] if one["port"] == port)


# ---- one connection ----


@pytest.mark.parametrize(
    ("connections", "port", "every"), [(1, 443, 60), (2, 443, 60), (3, 8883, 45), (4, 22, 60), (10, 22, 60)]
)
def test_idle_connections_are_neither_calls_nor_guesses(connections: int, port: int, every: int, room: Room) -> None:
    frames: list[Frame] = []
    for number in range(connections):
        frames += handshake(number, 40000 + number, port)
        for at in range(every, 3600, every):
            frames += exchange(at + number * every / connections, 40000 + number, port)
    report = room.report(frames)
    assert report["threats"] == []
    assert flows_to(report, port) == report["flow_analysis"]["unique_flows"] == connections


@pytest.mark.parametrize("noise", [False, True], ids=["alone", "among others"])
@pytest.mark.parametrize("every", [60, 250], ids=["each minute", "each four minutes"])
def test_datagrams_with_a_rhythm_are_one_conversation_whatever_else_happens(
    every: int, noise: bool, room: Room
) -> None:
    frames: list[Frame] = []
    for at in range(0, 3600, every):
        for sport in (50000, 50001):
            frames += [up(at, udp(sport, 8443), 17), down(at + 0.01, udp(8443, sport), 17)]
    if noise:
        frames += [up(at + 0.5, udp(60000, 9999), 17) for at in range(3600)]
    report = room.report(frames)
    assert report["threats"] == []
    assert flows_to(report, 8443) == 2


def test_a_pause_longer_than_is_remembered_makes_two_flows(room: Room) -> None:
    frames = [
        frame
        for at in (0, 600, 1200)
        for frame in (up(at, udp(50000, 8443), 17), down(at + 0.01, udp(8443, 50000), 17))
    ]
    assert flows_to(room.report(frames), 8443) == 3


# ---- two connections ----


@pytest.mark.parametrize("pause", [20, 900])
def test_a_syn_after_the_end_names_the_client(pause: int, room: Room) -> None:
    frames = [down(0, tcp(445, 40000, FIN_ACK)), up(0.1, tcp(40000, 445, RST)), *handshake(pause, 40000, 445)]
    report = room.report(frames)
    assert flows_to(report, 445) == 1
    assert report["flow_analysis"]["top_flows"][0]["dst_port"] == 445


@pytest.mark.parametrize("end", ["fin", "rst"])
@pytest.mark.parametrize("pause", [4.0, 1.8])
def test_a_fixed_source_port_hides_no_guessing(end: str, pause: float, room: Room) -> None:
    frames = [frame for number in range(60) for frame in session(pause * number, 50000, end=end)]
    report = room.report(frames)
    assert flows_to(report, 22) == report["flow_analysis"]["unique_flows"] == 60
    (guessing,) = [threat for threat in report["threats"] if threat["detector"] == "brute_force"]
    others = [frame for number in range(60) for frame in session(pause * number, 50000 + number, end=end)]
    (same,) = [threat for threat in room.report(others)["threats"] if threat["detector"] == "brute_force"]
    assert (guessing["count"], guessing["severity"]) == (same["count"], same["severity"])


def test_a_fixed_source_port_hides_no_beacon(room: Room) -> None:
    frames = [frame for number in range(60) for frame in session(60.0 * number, 50000, 443)]
    assert [one.split()[0] for one in room.threats(frames)] == ["beacon"]


def test_refused_calls_from_one_port_are_as_many(room: Room) -> None:
    frames = [
        *session(0, 50000, 443),
        *(frame for number in range(30) for frame in refused(10.0 + 5 * number, 50000, 443)),
    ]
    assert flows_to(room.report(frames), 443) == 31


@pytest.mark.parametrize(
    "syns",
    [[0.0, 1.0, 3.0, 7.0, 15.0], [0.0, 0.0001], [0.0, 0.5]],
    ids=["backing off", "seen twice", "impatient"],
)
def test_a_syn_that_is_repeated_is_no_connection_of_its_own(syns: list[float], room: Room) -> None:
    frames = [up(at, tcp(50000, 443, SYN)) for at in syns]
    assert flows_to(room.report(frames), 443) == 1
    answered = [*frames, *(handshake(syns[-1] + 0.5, 50000, 443)[1:])]
    assert flows_to(room.report(answered), 443) == 1


def test_a_simultaneous_opening_is_one_connection(room: Room) -> None:
    frames = [
        up(0, tcp(50000, 50001, SYN)),
        down(0.001, tcp(50001, 50000, SYN)),
        up(0.002, tcp(50000, 50001, SYN_ACK, ack=2)),
        down(0.003, tcp(50001, 50000, SYN_ACK, ack=2)),
        *exchange(1.0, 50000, 50001),
    ]
    assert room.report(frames)["flow_analysis"]["unique_flows"] == 1


def test_a_syn_into_an_open_connection_changes_nothing(room: Room) -> None:
    frames = [
        *handshake(0, 50000, 443),
        *exchange(0.5, 50000, 443),
        up(1.0, tcp(50000, 443, SYN)),
        *exchange(1.5, 50000, 443),
    ]
    assert flows_to(room.report(frames), 443) == 1


# ---- later fragments ----


def fragmented(kind: int, size: int = 4008) -> list[bytes]:
    """An echo in IPv4 fragments, as `ping -s 4000` sends it."""
    body = struct.pack(">BBHHH", kind, 0, 0, 7, 1) + b"p" * (size - 8)
    pieces = []
    for at in range(0, size, 1480):
        piece, more = body[at : at + 1480], at + 1480 < size
        packet = bytearray(ipv4(piece, 1, *((CLIENT, SERVER) if kind == 8 else (SERVER, CLIENT))))
        packet[6:8] = struct.pack(">H", more << 13 | at // 8)
        pieces.append(ethernet(bytes(packet)))
    return pieces


def test_a_big_ping_is_one_flow(room: Room) -> None:
    frames = [
        (AT + second + 0.01 * (kind == 0), piece)
        for second in range(5)
        for kind in (8, 0)
        for piece in fragmented(kind)
    ]
    (flow,) = room.report(frames)["flow_analysis"]["top_flows"]
    assert (flow["src_ip"], flow["src_port"], flow["packets"]) == (CLIENT, 8, 30)


def test_big_pings_without_an_answer_are_their_senders(room: Room) -> None:
    frames = [(AT + number * 0.01, piece) for number in range(500) for piece in fragmented(8)]
    (flow,) = room.report(frames)["flow_analysis"]["top_flows"]
    assert (flow["src_ip"], flow["src_port"]) == (CLIENT, 8)


def test_later_fragments_alone_ask_for_nothing(room: Room) -> None:
    frames = [(AT + number, fragmented(8)[1]) for number in range(20)]
    (flow,) = room.report(frames)["flow_analysis"]["top_flows"]
    assert (flow["src_ip"], flow["dst_ip"], flow["src_port"]) == (CLIENT, SERVER, 0)


# ---- times ----


def test_halves_of_a_file_that_were_swapped_are_no_flood(room: Room) -> None:
    frames = [up(number / 100, udp(50000, 9999, b"v" * 100), 17) for number in range(60000)]
    swapped = frames[30000:] + frames[:30000]
    one, other = room.report(frames), room.report(swapped, in_time=False)
    assert one["threats"] == other["threats"] == []
    assert one["temporal_analysis"]["peak"]["packets"] == other["temporal_analysis"]["peak"]["packets"]
    assert flows_to(other, 9999) == 1


def test_halves_of_a_file_larger_than_the_window_are_sorted(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every packet is a flow of its own. All are sorted before they are analysed, and the report says so."""
    monkeypatch.setattr(run, "HOLD", 4096)
    frames = [up(0.02 * number, udp(1024 + number, 9999), 17) for number in range(20_000)]
    in_order, swapped = (room.report(each, in_time=False) for each in (frames, frames[10_000:] + frames[:10_000]))
    for section in ("threats", "flow_analysis", "temporal_analysis"):
        assert swapped[section] == in_order[section]
    assert swapped["summary"]["accounting"]["out_of_order"] == 0
    assert [len(report["summary"]["sources"][0]["notes"]) for report in (in_order, swapped)] == [0, 1]
    content = pcap(frames[10_000:] + frames[:10_000])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
    piped = analyze(["-"], Settings(), now=AT + 1e6)["summary"]  # which cannot be read again
    assert piped["accounting"]["out_of_order"] > 1024
    assert "only a file can be sorted" in str(piped["sources"][0]["notes"])


def test_of_equal_times_the_order_of_the_file_tells_who_began(room: Room) -> None:
    def first(*ports: int) -> int:
        one, other = ports
        frames = [up(0, udp(one, other), 17), down(0, udp(other, one), 17)]
        return int(room.report(frames)["flow_analysis"]["top_flows"][0]["src_port"])

    assert first(1023, 2049) == 1023
    assert first(2049, 1023) == 1023  # NFS is known
    assert first(30000, 20000) == 30000
    assert first(20000, 30000) == 20000
    assert first(53, 40000) == 40000

"""The same from every door: one situation as different programs write it down gives the same threats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import world_attacks as attacks
import world_doors as doors
from world_attacks import Situation
from world_book import HOUR, Book, host
from world_house import LAPTOP, WEB
from world_judging import judge

from trafficmond.analyze.run import analyze
from trafficmond.config.load import load_settings
from trafficmond.detect.registry import settings_classes
from trafficmond.protocols import ACK, FIN, RST, SYN

DOORS: dict[str, doors.Door] = {
    "Zeek": doors.conn_log,
    "Suricata": doors.eve_log,
    "capture": doors.capture,
    "flows.db": doors.flows_db,
    "VPC with flags": doors.vpc_with_flags,
    "VPC": doors.vpc_default,
    "exporter": doors.exporter,
    "exporter's table": doors.exporter_csv,
    "Argus": doors.ra,
}
SITUATIONS: dict[str, Callable[[Book], Situation]] = {
    "port scan": lambda book: attacks.port_scan(book, HOUR, WEB),
    "host sweep": lambda book: attacks.host_sweep(book, HOUR, LAPTOP),
    "guessing": lambda book: attacks.guessing(book, HOUR, WEB),
    "slow guessing": lambda book: attacks.guessing(book, HOUR, WEB, 30, 180.0),
    "many guessers": lambda book: attacks.many_guessers(book, HOUR, WEB, within=HOUR),
    "beacon": lambda book: attacks.beacon(book, HOUR, LAPTOP),
    "SYN flood": lambda book: attacks.syn_flood(book, HOUR, WEB, 100.0),
    "reflection": lambda book: attacks.reflection(book, HOUR, WEB),
    "DNS tunnel": lambda book: attacks.dns_tunnel(book, HOUR, LAPTOP, host("192.168.10.2"), seconds=200.0),
    "slow HTTP": lambda book: attacks.slow_http(book, HOUR, WEB),
    "dead beacon": lambda book: attacks.beacon(book, HOUR, LAPTOP, 42.0, 0.01, 19, alive=False),
    "upload": lambda book: attacks.exfiltration(book, HOUR, LAPTOP, 1.2e9),
    "datagram flood": lambda book: attacks.datagram_flood(book, HOUR, WEB),
    "one password at many hosts": lambda book: attacks.spray(book, HOUR, host("192.168.20.10")),
    "unusual protocol": lambda book: attacks.unusual_protocol(book, HOUR, LAPTOP),
    "failing program": lambda book: attacks.failing(book, HOUR, LAPTOP),
    "ping tunnel": lambda book: attacks.ping_tunnel(book, HOUR, LAPTOP),
}
UNSEEN = {
    # Without flags nobody knows whether a connection was opened or goes on, nor whether it was closed.
    "VPC": {"guessing", "slow guessing", "many guessers", "one password at many hosts", "beacon", "slow HTTP"},
}
UNTURNED = {"VPC": {"ping tunnel"}, "VPC with flags": {"ping tunnel"}}
"""ICMP without a type, and times in whole seconds: nobody knows who asked."""


UNWRITTEN = {"Zeek": {"unusual protocol"}, "Suricata": {"unusual protocol"}}
"""Of protocols that they do not know, Zeek writes no number, and Suricata nothing."""


@pytest.mark.parametrize(
    ("situation", "door"), [(one, door) for one in SITUATIONS for door in DOORS if one not in UNWRITTEN.get(door, ())]
)
def test_one_situation_is_one_threat_through_each(situation: str, door: str, tmp_path: Path) -> None:
    book = Book(5)
    expected = SITUATIONS[situation](book)
    rows = book.rows()
    path = tmp_path / "world"
    DOORS[door](rows, path)
    report = analyze([str(path)], load_settings(None, detectors=settings_classes()), 0.0)
    assert report["damage"]["total"] == 0
    told = {(each["detector"], each["src_ip"] or "", each["dst_ip"] or "") for each in report["threats"]}
    of_kind = {each for each in told if each[0] == expected.detector}
    assert told == of_kind, report["threats"]
    if situation in UNSEEN.get(door, ()):
        assert not told, "it is found: say so"
        return
    direct = {
        (each.detector, each.src_ip or "", each.dst_ip or "")
        for each in judge(rows)
        if each.detector == expected.detector
    }
    if situation in UNTURNED.get(door, ()):
        of_kind, direct = ({tuple(sorted(each)) for each in known} for known in (of_kind, direct))  # type: ignore[misc]
    assert of_kind == direct != set(), report["threats"]


@pytest.mark.parametrize(("speakers", "a_second", "size"), [(64, 64, 70), (100, 50, 172)])
def test_games_and_calls_of_which_one_side_is_captured_are_no_flood(
    speakers: int, a_second: int, size: int, tmp_path: Path
) -> None:
    book, packets = Book(1), a_second * 15
    book.udp(book.rng.uniform(0, 3, speakers), book.public(speakers), WEB, 27015, packets * size, 0, 15.0,
             packets=packets)  # fmt: skip
    path = tmp_path / "world"
    doors.capture(book.rows(), path)
    report = analyze([str(path)], load_settings(None, detectors=settings_classes()), 0.0)
    assert report["damage"]["total"] == 0
    assert report["threats"] == []


@pytest.mark.parametrize("door", ["VPC with flags", "exporter"])
def test_downloads_of_many_told_a_direction_and_minute_are_no_flood(door: str, tmp_path: Path) -> None:
    book = Book(1)
    book.tcp(book.rng.uniform(0, 300, 40), LAPTOP, book.public(40), 6881, 3000, 900_000, 100.0)
    path = tmp_path / "world"
    DOORS[door](book.rows(), path)
    report = analyze([str(path)], load_settings(None, detectors=settings_classes()), 0.0)
    assert report["threats"] == []


def test_a_meeting_of_which_one_side_is_told_in_records_of_an_hour_is_no_flood(tmp_path: Path) -> None:
    book = Book(1)
    for server in book.public(8).tolist():
        book.udp(book.rng.uniform(0, 60), server, LAPTOP, 50_000, 220 * 900 * 900, 0, 900.0, packets=220 * 900)
    path = tmp_path / "world"
    doors.exporter(book.rows(), path, 3600.0)
    report = analyze([str(path)], load_settings(None, detectors=settings_classes()), 0.0)
    assert report["threats"] == []


@pytest.mark.parametrize("client", [attacks.STRANGER, LAPTOP])
@pytest.mark.parametrize(("port", "greets"), [(22, True), (143, True), (993, False), (3306, True)])
def test_sessions_that_idle_are_no_guesses_and_who_guesses_beside_them_is_found(
    port: int, greets: bool, client: int, tmp_path: Path
) -> None:
    """Zeek counts a few packets in an hour, and tells when it ended."""
    book, guesser = Book(1), host("77.1.2.3")
    begun, lasts = book.rng.uniform(0, 23 * HOUR, 600), book.rng.uniform(0.5, 1.0, 600) * HOUR
    book.tcp(begun, client, WEB, port, 2000, 2500, lasts, greets=greets)
    attacks.guessing(book, HOUR, LAPTOP, 30, 180.0)
    took = book.rng.uniform(2, 4, 300)
    book.tcp(12 * HOUR + np.cumsum(took), guesser, WEB, port, 300, 400, took * 0.9, greets=greets)
    path = tmp_path / "world"
    doors.conn_log(book.rows(), path)
    report = analyze([str(path)], load_settings(None, detectors=settings_classes()), 0.0)
    told = {(each["detector"], each["src_ip"], each["dst_ip"]) for each in report["threats"]}
    victims = (attacks.text(attacks.STRANGER), attacks.text(LAPTOP)), (attacks.text(guesser), attacks.text(WEB))
    assert told == {("brute_force", *pair) for pair in victims}


@pytest.mark.parametrize("closed", [FIN, RST])
@pytest.mark.parametrize("port", [80, 3000, 9090])
@pytest.mark.parametrize("door", ["Zeek", "VPC with flags", "exporter", "exporter's table"])
def test_a_service_whose_port_is_opened_and_closed_by_the_clock_scans_nobody(
    door: str, port: int, closed: int, tmp_path: Path
) -> None:
    """Checks of Kubernetes (tcpSocket) and HAProxy: a handshake, and its end."""
    book = Book(1)
    book.tcp(book.rhythm(0, HOUR, 10, 0.002), host("192.168.20.1"), LAPTOP, port, 0, 0, 0.01)
    rows = book.rows()
    if closed == RST:
        rows["tcp_flags"], rows["reply_tcp_flags"] = SYN | ACK | RST, SYN | ACK
        rows["reply_packets"] = 1
    path = tmp_path / "world"
    DOORS[door](rows, path)
    report = analyze([str(path)], load_settings(None, detectors=settings_classes()), 0.0)
    assert [each for each in report["threats"] if each["severity"] != "low"] == []

"""One situation by many, or at many, is one threat; and what looks like it is none."""

from __future__ import annotations

import numpy as np
import pytest
from world_attacks import STRANGER, port_scan, scan_by_many, text
from world_book import HOUR, Book, host
from world_house import WEB
from world_judging import judge

from trafficmond.model import Severity, Threat


def told(book: Book, detector: str, interval_s: float = 1.0) -> list[Threat]:
    return [threat for threat in judge(book.rows(), interval_s) if threat.detector == detector]


# ---- scans ----


@pytest.mark.parametrize(("every", "interval_s"), [(0.01, 1.0), (60.0, 10.0)])
def test_a_scan_behind_decoys_is_one_threat_that_lists_them_all(every: float, interval_s: float) -> None:
    book = Book(1)
    scan_by_many(book, HOUR, WEB, every=every)
    (threat,) = told(book, "port_scan", interval_s)
    assert (threat.src_ip, threat.dst_ip, threat.severity) == (None, text(WEB), Severity.HIGH)
    assert len(threat.evidence["sources"]) == 10
    assert {source["count"] for source in threat.evidence["sources"]} == {400}


@pytest.mark.parametrize(("sources", "ports", "every"), [(20, 1000, 0.01), (50, 500, 0.01), (20, 1000, 1.0)])
def test_a_scan_shared_out_among_many_is_one_threat(sources: int, ports: int, every: float) -> None:
    book = Book(1)
    scan_by_many(book, HOUR, WEB, sources, ports, every, shared=True)
    (threat,) = told(book, "port_scan")
    assert (threat.src_ip, threat.dst_ip) == (None, text(WEB))
    assert len(threat.evidence["sources"]) == sources
    assert threat.evidence["ports"] == pytest.approx(ports, rel=0.2)


def test_a_scanner_alone_is_named_and_so_is_one_of_many_who_scans_elsewhere_too() -> None:
    book = Book(1)
    port_scan(book, HOUR, WEB)
    assert [threat.src_ip for threat in told(book, "port_scan")] == [text(STRANGER)]
    book, bots = Book(1), Book(2).public(5)
    for turn, victim in enumerate(range(host("192.168.20.10"), host("192.168.20.30"))):
        for bot in bots.tolist():
            book.refused(turn * 5.0 + np.arange(40) * 0.05, bot, victim, np.arange(1, 41))
    found = told(book, "port_scan")
    assert {text(bot) for bot in bots.tolist()} <= {threat.src_ip for threat in found}
    assert len(found) <= 5 + 2


def test_clients_of_a_server_that_is_switched_off_scan_nothing() -> None:
    book, clients = Book(1), np.array([host(f"192.168.10.{last}") for last in range(100, 130)])
    services = np.array([22, 139, 445, 2049, 5000, 8080])
    for turn in np.arange(0, 1800, 60.0):
        at = turn + book.rng.uniform(0, 50, (30, 6))
        book.silent(at.ravel(), np.repeat(clients, 6), host("192.168.20.9"), np.tile(services, 30), 3)
    assert told(book, "port_scan", 10.0) == []

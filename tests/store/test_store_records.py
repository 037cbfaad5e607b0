"""Threats and the audit are bounded, and it is the oldest that go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opened_store import flushed, opened

from trafficmond.model import Severity, Threat
from trafficmond.store import records
from trafficmond.store.records import AuditEntry
from trafficmond.store.writer import Limits


def test_the_oldest_threats_and_changes_are_forgotten(
    path: Path, limits: Limits, ask: Callable[..., list[tuple[Any, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MOST_THREATS", 3)
    monkeypatch.setattr(records, "MOST_CHANGES", 4)
    clock = [1e9]
    store = opened(path, limits, clock=lambda: clock[0])
    for number in (5, 1, 3, 2, 4):
        store.put_threat(
            Threat("port_scan", Severity.HIGH, "T1046", None, None, 1.0, float(number), 1, "", {}, f"t{number}"),
            "opened",
        )
    for number in range(6):
        store.audit(AuditEntry(float(number), 0, "root", 1, "ban", str(number)))
    assert flushed(store, 5)
    clock[0] += 3600
    store.audit(AuditEntry(6.0, 0, "root", 1, "ban", "6")).result(5)
    store.close(5)
    assert ask("SELECT id FROM threats ORDER BY id") == [("t3",), ("t4",), ("t5",)]
    assert ask("SELECT subject FROM audit ORDER BY id") == [("3",), ("4",), ("5",), ("6",)]


def test_the_latest_open_threats_are_read_and_older_ones_closed(
    path: Path, limits: Limits, ask: Callable[..., list[tuple[Any, ...]]]
) -> None:
    store = opened(path, limits)
    given = [
        Threat(
            "port_scan", Severity.HIGH, "T1046", "192.0.2.9", None, 1.0, float(number), 1, "s", {"n": [1]}, f"t{number}"
        )
        for number in range(5)
    ]
    for threat in given:
        store.put_threat(threat, "closed" if threat.id == "t3" else "updated")
    found = store.last_threats(0.0, 2).result(5)[1]
    store.close(5)
    assert sorted(found, key=lambda threat: threat.id) == [given[2], given[4]]
    assert ask("SELECT id FROM threats WHERE state != 'closed' ORDER BY id") == [("t2",), ("t4",)]

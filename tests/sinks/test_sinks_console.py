from __future__ import annotations

import os
import pty
from pathlib import Path

import numpy as np
import pytest
from sink_events import NAMES, event, threat

from trafficmond.config.streams import Log
from trafficmond.figures import plain
from trafficmond.flows.batch import Batch
from trafficmond.model import Action, Direction, Reason, Severity
from trafficmond.sinks.console import Console
from trafficmond.sinks.messages import CONFIG_REJECTED, STARTED, Note


def lines(tmp_path: Path, batch: Batch) -> list[str]:
    path = tmp_path / "t.log"
    console = Console(Log(format="console", path=path))
    console.events(batch, NAMES)
    console.close()
    return path.read_text().splitlines()


def test_lines_for_people(tmp_path: Path) -> None:
    batch = np.concatenate(
        [
            event(),
            event("2001:db8::1", "2001:db8::2", proto=17, action=Action.DROP, direction=Direction.EGRESS, rule=5),
            event(proto=1, sport=8, dport=0),
            event(proto=47, sport=0, dport=0, reason=Reason.LIST),
        ]
    )
    assert lines(tmp_path, batch) == [
        "2024-11-28T23:00:00.250Z LOG      eth0 -> TCP 203.0.113.5:12345 > 192.168.1.100:22 64 B [default]",
        "2024-11-28T23:00:00.250Z DROP     eth0 <- UDP [2001:db8::1]:12345 > [2001:db8::2]:22 64 B "
        r'[a "b",\ü\x1b\n]',
        "2024-11-28T23:00:00.250Z LOG      eth0 -> ICMP 8/0 203.0.113.5 > 192.168.1.100 64 B [default]",
        "2024-11-28T23:00:00.250Z LOG      eth0 -> GRE 203.0.113.5 > 192.168.1.100 64 B [list]",
    ]


def test_a_closed_threat_does_not_look_new(tmp_path: Path) -> None:
    console = Console(Log(format="console", path=tmp_path / "log"))
    for state in ("opened", "updated", "closed"):
        console.threat(threat(), state)
    console.close()
    found = [line.partition("HIGH")[2].split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert found == ["port_scan", "updated:", "closed:"]


def on_terminal() -> str:
    reader, writer = pty.openpty()
    console = Console(Log(format="console"), writer)
    console.events(event(action=Action.DROP), NAMES)
    console.threat(threat(Severity.CRITICAL), "opened")
    console.note(Note(CONFIG_REJECTED, "bad \x1b[2J file", 0.0))
    console.note(Note(STARTED, "started", 0.0))
    text = ""
    while text.count("\n") < 4:
        text += os.read(reader, 10_000).decode()
    os.close(writer)
    os.close(reader)
    return text


def test_colour_on_a_terminal_and_nothing_that_steers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = on_terminal()
    assert "\033[31mDROP" in text
    assert "CRITICAL" in text
    assert "bad \\x1b[2J file" in text
    assert "1970-01-01T00:00:00.000Z \033[31merror" in text


def test_no_colour_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033[" not in on_terminal()
    monkeypatch.delenv("NO_COLOR")
    assert "\033[" not in lines(tmp_path, event(action=Action.DROP))[0]


def test_printable() -> None:
    assert plain("plain ü") == "plain ü"
    assert plain("a\x1b\u202eb\n") == "a\\x1b\\u202eb\\n"

"""The journal writer against a journald of its own, in a mount namespace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sink_events import AWKWARD, NAMES, event, many

from trafficmond.sinks import journal, messages
from trafficmond.sinks.journal import Journal

ROOT = Path(__file__).parents[2]
JOURNALD = Path("/lib/systemd/systemd-journald")

_SETUP = """
set -e
mount -t tmpfs tmpfs /run
[ ! -d /var/log/journal ] || mount -t tmpfs tmpfs /var/log/journal
mkdir -p /run/systemd/journal /run/log/journal
printf '%s\\n' '[Journal]' Storage=volatile ReadKMsg=no Audit= RateLimitBurst=0 > /run/journald.conf
mount --bind /run/journald.conf /etc/systemd/journald.conf
mkdir -p /run/catalog /run/entries
cp systemd/trafficmond.catalog /run/entries
mount --bind /run/catalog /var/lib/systemd/catalog
mount --bind /run/entries /usr/lib/systemd/catalog
journalctl --update-catalog
{journald} 2>/dev/null & pid=$!
for i in $(seq 200); do [ -S /run/systemd/journal/socket ] && break; sleep 0.02; done
{python} -c "$PROGRAM"
journalctl --sync
journalctl --no-pager {options} SYSLOG_IDENTIFIER=trafficmond
kill $pid; wait $pid || true
"""

_PROGRAM = """
import sys, time
sys.path.insert(0, "tests/sinks")
from sink_events import *
from trafficmond.config.streams import Log
from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet
sinks = SinkSet([Log()])
sinks.start()
sinks.emit(event(action=Action.DROP, reason=Reason.RULE, rule=5, vlan=7), NAMES)
sinks.emit(event(), NAMES)
sinks.threat(threat(), "opened")
sinks.threat(threat(), "closed")
sinks.note(messages.ATTACHED, "watching eth0", {"interface": "eth0", "mode": "native"})
sinks.close(time.monotonic() + 5)
assert sinks.status()[0]["written"] == 5, sinks.status()
"""


def _journal(options: str, program: str = _PROGRAM) -> str:
    script = _SETUP.format(journald=JOURNALD, python=sys.executable, options=options)
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", script]
    environment = {**os.environ, "PROGRAM": program, "JOURNAL_STREAM": "1:1"}
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


def _possible() -> bool:
    files = JOURNALD, Path("/etc/machine-id"), Path("/var/lib/systemd/catalog")
    if os.geteuid() != 0 or not shutil.which("unshare") or not all(file.exists() for file in files):
        return False
    return subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode == 0


needs_journald = pytest.mark.skipif(
    not _possible(), reason=f"needs root that may make mount namespaces, {JOURNALD} and a machine id; run with sudo"
)


@pytest.mark.root
@needs_journald
def test_entries_are_structured() -> None:
    entries: list[dict[str, Any]] = [json.loads(line) for line in _journal("-o json").splitlines()]
    dropped, logged, threat, over, note = entries
    assert {key: dropped[key] for key in dropped if key.startswith("TRAFFICMON_")} == {
        "TRAFFICMON_TIMESTAMP": "1732834800",
        "TRAFFICMON_TIMESTAMP_ISO": "2024-11-28T23:00:00.250Z",
        "TRAFFICMON_SRC_IP": "203.0.113.5",
        "TRAFFICMON_DST_IP": "192.168.1.100",
        "TRAFFICMON_SRC_PORT": "12345",
        "TRAFFICMON_DST_PORT": "22",
        "TRAFFICMON_PROTOCOL": "TCP",
        "TRAFFICMON_PROTOCOL_NUM": "6",
        "TRAFFICMON_PACKET_SIZE": "64",
        "TRAFFICMON_ACTION": "DROP",
        "TRAFFICMON_INTERFACE": "eth0",
        "TRAFFICMON_FLOW_HASH": dropped["TRAFFICMON_FLOW_HASH"],
        "TRAFFICMON_EVENT": "new",
        "TRAFFICMON_DIRECTION": "ingress",
        "TRAFFICMON_RULE": list(AWKWARD.encode()),  # what journalctl does with a field that is not printable
        "TRAFFICMON_REASON": "rule",
        "TRAFFICMON_VLAN": "7",
        "TRAFFICMON_COMMUNITY_ID": dropped["TRAFFICMON_COMMUNITY_ID"],
        **{
            f"TRAFFICMON_{name}": "" for name in ("UNIT", "CGROUP", "UID", "WOULD", "WOULD_RULE", "PROCESS", "PID")
        },  # of nobody here
    }
    assert [(e["MESSAGE_ID"], e["PRIORITY"]) for e in entries] == [
        (messages.EVENT.id, "5"),
        (messages.EVENT.id, "6"),
        (messages.THREAT.id, "3"),
        (messages.THREAT.id, "5"),
        (messages.ATTACHED.id, "5"),
    ]
    assert logged["MESSAGE"] == "LOG eth0 TCP 203.0.113.5:12345 > 192.168.1.100:22 64 B (default)"
    assert threat["MESSAGE"].startswith("high port_scan: ")
    assert threat["MESSAGE"].endswith(" (trafficctl threat t-1)")
    assert over["MESSAGE"] == f"closed: {threat['MESSAGE']}"  # not taken for a new attack
    assert (threat["TRAFFICMON_STATE"], over["TRAFFICMON_STATE"]) == ("opened", "closed")
    assert threat["TRAFFICMON_THREAT_ID"] == "t-1"
    assert threat["TRAFFICMON_EVIDENCE_UNIT"] == "ports"
    assert (note["MESSAGE"], note["TRAFFICMON_MODE"]) == ("watching eth0", "native")


@pytest.mark.root
@needs_journald
def test_journalctl_x_explains() -> None:
    text = _journal("-x")
    assert "An interface is being watched" in text
    assert "Programs were attached to eth0 in native mode." in text
    assert "trafficctl explain 203.0.113.5" in text


def test_what_failed_half_way_is_not_sent_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    def sendv(*fields: str) -> None:
        if len(sent) == 3 and not failed:
            failed.append(True)
            raise OSError(105, "No buffer space available")
        sent.append(next(field for field in fields if field.startswith("TRAFFICMON_SRC_PORT=")))

    failed: list[bool] = []
    monkeypatch.setattr(journal, "sendv", sendv)
    monkeypatch.setattr(journal, "available", lambda: True)
    writer = Journal()
    with pytest.raises(OSError, match="No buffer space"):
        writer.events(many(5), NAMES)
    writer.events(many(5), NAMES)
    writer.events(event(sport=5), NAMES)
    assert sent == [f"TRAFFICMON_SRC_PORT={number}" for number in range(6)]


def test_a_journal_that_went_away_is_an_error_and_no_silence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(journal, "SOCKET", tmp_path / "none")
    with pytest.raises(OSError, match="there is no journal"):
        Journal().events(event(at=time.time()), NAMES)


def test_a_module_for_another_python_is_none(tmp_path: Path) -> None:
    package = tmp_path / "systemd"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_journal.cpython-27-x86_64-linux-gnu.so").touch()
    command = [sys.executable, "-c", "from trafficmond.sinks import journal; print(journal.lacking())"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(tmp_path)}).stdout
    assert said == "there is no journal for Python (pip install systemd-python)\n"

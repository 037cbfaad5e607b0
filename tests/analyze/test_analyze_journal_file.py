"""A file of the systemd journal, written by systemd's own program, is read by way of journalctl."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from readings import Reading

from trafficmond.analyze.formats import format_of
from trafficmond.analyze.parse_errors import ParseErrors
from trafficmond.analyze.readers.journal import EVENT_ID
from trafficmond.analyze.source import InputError, Source

WRITER = Path("/lib/systemd/systemd-journal-remote")
FIELDS = {
    **{"SRC_IP": "192.0.2.1", "DST_IP": "192.0.2.2", "SRC_PORT": "40000", "DST_PORT": "443", "PROTOCOL": "TCP"},
    **{"TIMESTAMP_ISO": "2023-11-14T22:13:20.250Z", "PACKET_SIZE": "60", "ACTION": "LOG", "EVENT": "new"},
    **{"PROTOCOL_NUM": "6", "TIMESTAMP": "1700000000", "INTERFACE": "eth0"},
}


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty entries, every other one an event."""
    if not WRITER.exists():
        pytest.skip("needs systemd-journal-remote; run: apt install systemd-journal-remote")
    path = tmp_path_factory.mktemp("journal") / "some.journal"
    boot = "".join(f"{digit:x}" for digit in range(16)) * 2
    exported = []
    for number in range(20):
        entry = {"__REALTIME_TIMESTAMP": f"{1700000000250000 + number}", "__MONOTONIC_TIMESTAMP": f"{1000 + number}"}
        entry |= {"_BOOT_ID": boot, "MESSAGE": "x"}
        if number % 2:
            entry |= {"MESSAGE_ID": EVENT_ID, **{f"TRAFFICMON_{name}": value for name, value in FIELDS.items()}}
        exported.append("".join(f"{name}={value}\n" for name, value in entry.items()))
    command = [WRITER, f"--output={path}", "--split-mode=none", "-"]
    subprocess.run(command, input="\n".join(exported) + "\n", text=True, check=True, capture_output=True)
    return path


def test_its_events_are_read_and_all_else_is_passed_over(journal: Path, reading: Reading) -> None:
    rows, stats = reading(journal)
    assert (int(rows["packets"].sum()), int(rows["bytes"].sum())) == (10, 600)
    assert stats.parse_errors.total == 0


def test_a_file_that_journalctl_cannot_read_is_said_to_be_one(journal: Path, tmp_path: Path, reading: Reading) -> None:
    cut = tmp_path / "cut.journal"
    cut.write_bytes(journal.read_bytes()[:4096])
    with pytest.raises(InputError, match="no entry that journalctl can read") as error:
        reading(cut)
    assert str(cut) in str(error.value.hint)


def test_on_standard_input_it_is_said_how_it_is_read(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with journal.open("rb") as file, monkeypatch.context() as patched:
        patched.setattr(sys, "stdin", io.TextIOWrapper(file))
        with pytest.raises(InputError) as error:
            format_of(Source("-", ParseErrors()))
    assert "journalctl -o json --file FILE" in str(error.value.hint)

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from trafficmond.sinks import messages
from trafficmond.sinks.messages import PRIORITY_NAMES

CATALOG = Path(__file__).parents[2] / "systemd/trafficmond.catalog"
ALL = [value for value in vars(messages).values() if isinstance(value, messages.Message)]


def test_ids_are_ids_and_each_its_own() -> None:
    assert all(re.fullmatch("[0-9a-f]{32}", message.id) for message in ALL)
    assert len({message.id for message in ALL}) == len(ALL) >= 15


def test_the_catalog_explains_each_message_once() -> None:
    subjects, explained = {}, {}
    for entry in CATALOG.read_text().removeprefix("-- ").split("\n-- "):
        head, _, explained[entry[:32]] = entry.partition("\n\n")
        message_id, subject, *rest = head.splitlines()
        assert rest == ["Defined-By: trafficmond", "Documentation: man:trafficmond(8)"]
        assert message_id not in subjects, "explained twice"
        subjects[message_id] = subject.removeprefix("Subject: ")
    assert list(subjects) == [message.id for message in ALL]
    assert all(subjects.values())
    assert all(text.strip() for text in explained.values())


def test_each_message_has_a_priority_with_a_name() -> None:
    assert all(message.priority in PRIORITY_NAMES for message in ALL)


@pytest.mark.skipif(not shutil.which("journalctl"), reason="no journalctl; install systemd")
def test_journalctl_reads_the_catalog(tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/systemd/catalog"
    folder.mkdir(parents=True)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    shutil.copy(CATALOG, folder)
    for command in ("--update-catalog", "--list-catalog"):
        found = subprocess.run(
            ["journalctl", f"--root={tmp_path}", command], capture_output=True, text=True, check=True, timeout=30
        )
    listed = {line[:32] for line in found.stdout.splitlines()}
    assert listed == {message.id for message in ALL}
    assert "trafficmond: The flow store was damaged" in found.stdout

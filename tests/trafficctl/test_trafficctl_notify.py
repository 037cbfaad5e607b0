"""`trafficctl notify`: how the targets are, and a message to each of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ctl_runs import Ctl

from trafficmond.model import Severity
from trafficmond.notifier import settings
from trafficmond.notifier.outbox import Outbox


@pytest.fixture(autouse=True)
def without_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """These run within the test's process, which is not to become the service's user where the package is installed."""
    monkeypatch.setattr("trafficctl.commands.notify._USER", "no-such-user")


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    path = tmp_path / "notify.toml"
    lines = [f'[[target]]\nname = "file"\ncommand = ["/usr/bin/tee", "{tmp_path}/got"]']
    path.write_text("\n".join([*lines, '[[target]]\nname = "broken"\ncommand = ["/bin/false"]\n']))
    return path


def test_a_message_to_each(ctl: Ctl, targets: Path, tmp_path: Path) -> None:
    done = ctl("notify", "--test", "--config", str(targets))
    assert done.returncode == 1  # one of them did not take it
    assert json.loads((tmp_path / "got").read_text())["test"] is True
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [["file", "yes"], ["broken", "no"]]
    assert "the command ended with 1" in done.stdout
    rows = json.loads(ctl("-o", "json", "notify", "--test", "--config", str(targets)).stdout)
    assert [(row["name"], row["delivered"]) for row in rows] == [("file", True), ("broken", False)]


def test_wrong_settings_are_said_in_their_place(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "notify.toml").write_text("min_severity = 7\n[[target]]\n")
    done = ctl("notify", "--test", "--config", str(tmp_path / "notify.toml"))
    assert done.returncode == 1
    assert "notify.toml:1: min_severity" in done.stderr
    assert "write url for a service, or command" in done.stderr


def test_how_they_are(ctl: Ctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "STATE_DIR", tmp_path)
    done = ctl("notify")
    assert (done.returncode, done.stdout) == (1, "")
    assert "has never run here\n  write /etc/trafficmon/notify.toml" in done.stderr
    outbox = Outbox(tmp_path)
    outbox.begin(["mail", "pager"])
    threat = {"id": "a", "severity": "high", "state": "opened", "last_seen": 5.0}
    outbox.note([threat], Severity.HIGH, 5.0)
    outbox.delivered("mail", outbox.waiting("mail")[0], 0, 6.0)
    assert ctl("notify").returncode == 0
    outbox.failed("pager", "no answer", 7.0)
    done = ctl("notify", "-o", "json")
    assert done.returncode == 1
    told = {row["name"]: row for row in json.loads(done.stdout)}
    assert (told["mail"]["messages"], told["mail"]["waiting"], told["mail"]["last_sent"]) == (1, 0, 6.0)
    assert (told["pager"]["waiting"], told["pager"]["error"], told["pager"]["failing_since"]) == (1, "no answer", 7.0)
    assert "no answer" in ctl("notify").stdout

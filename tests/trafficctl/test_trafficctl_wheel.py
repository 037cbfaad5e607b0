"""`trafficctl doctor` after pip: what nobody has set up, and nothing of that elsewhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from trafficctl.doctor import wheel
from trafficctl.doctor.examination import OK, SERVICE, WARN, Host


def found(root: Path) -> dict[str, str]:
    return {each.subject: each.state for each in wheel.examine(Host(root=root))}


def test_it_has_nothing_to_say_where_pip_was_not(tmp_path: Path) -> None:
    assert found(tmp_path) == {}


def test_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "from_wheel", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert found(tmp_path) == {"journal": WARN, "names of services": WARN}  # and no units where there is no systemd
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert found(tmp_path)["service"] == WARN
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system" / SERVICE).touch()
    (tmp_path / "etc/services").touch()
    assert found(tmp_path) == {"journal": WARN, "service": OK}


def test_it_says_where_the_units_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "from_wheel", lambda: True)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (advice,) = [each.advice for each in wheel.examine(Host(root=tmp_path)) if each.subject == "service"]
    assert "share/trafficmon/systemd" in advice
    assert "systemd-sysusers" in advice

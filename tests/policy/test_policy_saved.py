"""The daemon's own rules file: what is saved is what is read, and a crash or a mistake loses nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policy_loading import load_policy

from trafficmond.errors import ConfigError
from trafficmond.sources import read_saved, save

TABLES = [
    {"cidr": "192.0.2.0/24", "action": "drop", "label": 'a "label" \\x41 é', "direction": "both"},
    {"cidr": ["10.0.0.0/8", "::/0"], "action": "limit", "limit": "5/s", "burst": 10},
    {"cidr": "192.0.2.1", "action": "allow", "expires": datetime(2027, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)},
]


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "00-trafficctl.toml"
    assert read_saved(path) == []
    save(path, TABLES)
    assert read_saved(path) == TABLES
    assert path.read_text().startswith("# Written by trafficmond")
    assert len(load_policy(tmp_path, saved=path).rules) == 3
    save(path, [])
    assert read_saved(path) == []
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(label=st.text().filter(str.isprintable))
def test_any_label(tmp_path: Path, label: str) -> None:
    table = {"cidr": "192.0.2.0/24", "action": "drop", "label": label[:200]}
    save(tmp_path / "x.toml", [table])
    assert read_saved(tmp_path / "x.toml") == [table]


def test_mistakes_of_others_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[[rule]]\ncidr = 5\n")
    with pytest.raises(ConfigError, match="move it away"):
        read_saved(path)


def test_a_failed_save_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.toml"
    save(path, TABLES)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(path, [])
    assert path.read_bytes() == before

"""`trafficctl lists`: what the daemon counts, beside what the files and the fetching say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from control_fake import Running
from control_replies import RULE
from ctl_runs import Ctl

from trafficmond.feeds.state import Fetched, write

T0 = 1_700_000_000.0


@pytest.fixture
def lists(running: Running, tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / f"{name}.netset" for name in ("mine", "good", "bad", "gone")}
    for name, path in found.items():
        if name != "gone":
            path.write_text("192.0.2.1\n")
        row = {**RULE, "cidr": str(path), "kind": "list", "label": "" if name == "mine" else name, "prefixes": 1}
        running.canned.runtime[str(path)] = row
    good = Fetched(checked=T0 + 60, changed=T0, tried=T0 + 60, prefixes=1)
    bad = Fetched(checked=T0, changed=T0, tried=T0 + 90, failing_since=T0 + 90, error="answered 503", prefixes=1)
    write(tmp_path, {"good": good, "bad": bad, "forgotten": good})
    return found


def test_each_with_its_age_and_hits(ctl: Ctl, lists: dict[str, Path]) -> None:
    done = ctl("-o", "json", "lists")
    assert done.returncode == 1  # there is something about two of them
    rows = {row["label"]: row for row in json.loads(done.stdout)}
    assert rows.keys() == lists.keys()  # and no rules
    assert (rows["mine"]["fetched"], rows["mine"]["state"], rows["mine"]["size_bytes"]) == (None, "ok", 10)
    assert rows["mine"]["changed"] == pytest.approx(lists["mine"].stat().st_mtime)
    assert (rows["good"]["fetched"], rows["good"]["changed"], rows["good"]["state"]) == (T0 + 60, T0, "ok")
    assert rows["bad"]["state"].endswith(": answered 503")
    assert rows["gone"]["state"] == "its file: No such file or directory"
    assert rows["good"]["packets"] == RULE["packets"]


def test_as_a_table_and_as_csv(ctl: Ctl, lists: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # paths of tests are long
    table = ctl("lists").stdout.splitlines()
    assert table[0].split()[:3] == ["LIST", "ACTION", "DIRECTION"]
    assert len(table) == 1 + len(lists)
    assert ctl("-o", "csv", "lists").stdout.splitlines()[0].startswith("label,action,direction,prefixes,size_bytes")


def test_none(ctl: Ctl) -> None:
    done = ctl("lists")
    assert (done.returncode, done.stdout) == (0, "no lists\n")

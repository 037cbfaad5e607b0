"""`what-if` and `--dry-run`: stored and live flows by other rules, and what stands in for the rules in force."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from control_fake import Running
from control_replies import FLOW, STATUS
from ctl_runs import Ctl

from trafficctl.whatif import flows as whatif_flows
from trafficctl.whatif.flows import Reader
from trafficctl.whatif.rules import in_force, with_path
from trafficctl.whatif.tally import Peers
from trafficmond.control.client import Client
from trafficmond.errors import ConfigError
from trafficmond.store.schema import STORED_COLUMNS, create_partition, migrate, partition_table

POLICY_RULE = {
    **{"kind": "rule", "action": "drop", "direction": "ingress", "label": None, "line": 1, "expires": None},
    **{"rate_per_s": None, "burst_packets": None, "ports": None},
}


def rule(index: int, path: str, *prefixes: str, **more: Any) -> dict[str, Any]:
    return {**POLICY_RULE, "index": index, "name": f"r{index}", "path": path, "prefixes": list(prefixes), **more}


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    folder = tmp_path / "cidr.d"
    folder.mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path, running: Running, rules: Path) -> Path:
    """600 flows of a day, all of them at 203.0.113.0/24, half of them answered, in two partitions; six are live."""
    import sqlite3

    path = tmp_path / "flows.db"
    now = time.time()
    connection = sqlite3.connect(path, isolation_level=None)
    migrate(connection, path)
    create_partition(connection, 2)
    connection.execute("BEGIN")
    for number in range(600):
        last = now - 80_000 + 100 * number
        told = {"src_ip": f"203.0.113.{number % 200}", "dst_ip": "192.0.2.10", "src_port": 2000 + number, "rule": ""}
        told |= {
            "tcp_flags": 2,
            "dst_port": 443 if number % 3 else 22,
            "direction": "ingress",
            "first_seen": last,
            "last_seen": last,
        }
        if number % 2:
            told |= {"reply_packets": 0, "reply_bytes": 0}
        row = {**dict.fromkeys(STORED_COLUMNS, 0), **FLOW, **told}
        marks = ", ".join("?" * len(STORED_COLUMNS))
        table = partition_table(1 + number // 300)
        connection.execute(f"INSERT INTO {table} VALUES ({marks})", [row[name] for name in STORED_COLUMNS])
    connection.execute("UPDATE partitions SET last_seen = (SELECT max(last_seen) FROM flows)")
    connection.execute("COMMIT")
    connection.close()
    running.canned.live = [
        {
            **FLOW,
            "tcp_flags": 2,
            "src_ip": f"198.51.100.{number}",
            "direction": "ingress",
            "last_seen": now,
            "first_seen": now,
        }
        for number in range(6)
    ]
    running.canned.replies["Status"] = {**STATUS, "store": {**STATUS["store"], "path": str(path)}}
    running.canned.replies["Bans"] = {"bans": []}
    running.canned.replies["Policy"] = policy(rules)
    return path


def policy(folder: Path, *more: dict[str, Any]) -> dict[str, Any]:
    told = [
        rule(0, "/lists/bad.netset", "198.51.100.0/30", kind="list"),
        rule(1, str(folder / "10-first.toml"), "192.0.2.0/24", action="allow"),
        rule(2, str(folder / "20-second.toml"), "203.0.113.7", action="allow"),
        rule(3, "runtime", "203.0.113.8", action="allow"),
        *more,
        rule(9, "guard", "203.0.113.9", kind="guard", action="allow", direction="both"),
    ]
    return {"default": "monitor", "established": True, "cidr_dir": str(folder), "rules": told}


def test_nothing_differs(ctl: Ctl, store: Path, rules: Path) -> None:
    assert store.exists()
    (rules / "10-first.toml").write_text('[[rule]]\ncidr = "192.0.2.0/24"\naction = "allow"\n')
    (rules / "20-second.toml").write_text('[[rule]]\ncidr = "203.0.113.7"\naction = "allow"\n')
    done = ctl("what-if", str(rules))
    assert (done.returncode, done.stderr) == (0, "")
    assert "606 flows seen since" in done.stdout
    assert "nothing would be different" in done.stdout


def test_what_would_be_dropped_by_rule_peer_and_service(ctl: Ctl, store: Path, tmp_path: Path) -> None:
    assert store.exists()
    other = tmp_path / "other"
    other.mkdir()
    text = '[[rule]]\ncidr = "203.0.113.0/24"\naction = "drop"\nports = ["tcp/22"]\nlabel = "no SSH"\n'
    (other / "10.toml").write_text(text)
    done = ctl("what-if", str(other), "-o", "json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["differs"], told["flows"]) == (1, True, 606)
    dropped = told["dropped"]
    # 200 to port 22, without those of .8 (by hand, but 20-second.toml is gone, and .7 with it) and .9 (the guard).
    kept = [number for number in range(0, 600, 3) if number % 200 not in (8, 9)]
    assert dropped["flows"] == len(kept)
    assert dropped["answered"] == sum(not number % 2 for number in kept)
    assert dropped["packets"] == sum(10 + (0 if number % 2 else 8) for number in kept)
    assert dropped["bytes"] == sum(1200 + (0 if number % 2 else 64_000) for number in kept)
    assert {(row["rule"], row["origin"]) for row in dropped["rules"]} == {("no SSH", f"{other}/10.toml:1")}
    assert {row["before_rule"] for row in dropped["rules"]} == {"default", "r2"}
    assert [row["service"] for row in dropped["services"]] == ["tcp/22"]
    assert sum(row["flows"] for row in dropped["sources"]) == len(kept)
    assert len(dropped["largest"]) == 10
    latest = [row["src_port"] for row in dropped["latest"]]
    assert latest == sorted((2000 + number for number in kept), reverse=True)[:10]
    shown = ctl("what-if", str(other), "--since", "7d").stdout
    assert f"{dropped['answered']} flows that were answered would be dropped" in shown
    assert "WOULD NEWLY BE DROPPED" in shown


def test_live_flows_are_judged_too(ctl: Ctl, store: Path, rules: Path) -> None:
    assert store.exists()
    (rules / "20-second.toml").write_text('[[rule]]\ncidr = "198.51.100.0/24"\naction = "allow"\n')
    told = json.loads(ctl("what-if", str(rules), "-o", "json").stdout)
    assert (told["passed"]["flows"], told["dropped"]["flows"]) == (0, 0), "on one address the longer prefix decides"
    (rules / "20-second.toml").write_text('[[rule]]\ncidr = "198.51.100.0/30"\naction = "allow"\n')
    told = json.loads(ctl("what-if", str(rules), "-o", "json").stdout)
    assert (told["passed"]["flows"], told["passed"]["rules"][0]["before_rule"]) == (4, "r0")
    assert {row["src_ip"] for row in told["passed"]["latest"]} == {f"198.51.100.{at}" for at in range(4)}


def test_one_file_stands_in_for_that_of_its_name(running: Running, rules: Path, store: Path, tmp_path: Path) -> None:
    assert store.exists()
    folder = tmp_path / "mine"
    folder.mkdir()
    text = '[[rule]]\ncidr = "203.0.113.7"\naction = "drop"\n'
    with Client(str(running.path)) as client:
        now = in_force(client)
    for name, expected in (
        ("20-second.toml", ["/lists/bad.netset", "10-first.toml", "20-second.toml", "runtime", "guard"]),
        ("15-new.toml", ["/lists/bad.netset", "10-first.toml", "15-new.toml", "20-second.toml", "runtime", "guard"]),
    ):
        (folder / name).write_text(text)
        then = with_path(now, folder / name).policy()
        order = [each.path.removeprefix(f"{rules}/").removeprefix(f"{folder}/") for each in then.rules]
        assert order == expected


def test_settings_bring_their_own_rules(ctl: Ctl, store: Path, tmp_path: Path) -> None:
    assert store.exists()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    settings = tmp_path / "other.toml"
    settings.write_text(
        f'cidr_dir = "{folder}"\nstate_dir = "{tmp_path}"\n[policy]\ndefault = "drop"\nallowlist = ["203.0.113.77"]\n'
    )
    told = json.loads(ctl("what-if", str(settings), "-o", "json").stdout)
    spared = {"203.0.113.77", "203.0.113.8", "203.0.113.9"}
    assert told["dropped"]["flows"] == 600 - 9 + 2, "all but those, and the two of 198.51.100.0 that passed"
    assert spared.isdisjoint(row["source"] for row in told["dropped"]["sources"])
    by_default = json.loads(ctl("what-if", "--default", "drop", "-o", "json").stdout)
    assert by_default["dropped"]["flows"] == 600 - 9 + 2


def test_a_dry_run_changes_nothing(ctl: Ctl, running: Running, store: Path) -> None:
    assert store.exists()
    done = ctl("add-cidr", "203.0.113.0/28", "--dry-run", "-o", "json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["dropped"]["flows"]) == (1, 3 * 13), "without .7, .8 and .9"
    assert "the guard protects 203.0.113.9 (r9)" in done.stderr
    done = ctl("ban", "203.0.113.8", "--dry-run", "-o", "json")
    assert json.loads(done.stdout)["dropped"]["flows"] == 3, "a ban comes before a rule"
    limited = json.loads(ctl("add-cidr", "203.0.113.1", "--limit", "5/s", "--dry-run", "-o", "json").stdout)
    assert limited["limited"]["flows"] == 3
    assert not {"AddCidr", "Ban"} & {name for name, _ in running.canned.asked}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["what-if"], "nothing to compare with"),
        (["what-if", "/nowhere"], "does not exist"),
        (["ban", "-", "--dry-run"], "works with one address"),
    ],
)
def test_what_makes_no_sense_is_no_difference(ctl: Ctl, store: Path, arguments: list[str], said: str) -> None:
    assert store.exists()
    done = ctl(*arguments)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_mistakes_in_rules_are_no_difference(ctl: Ctl, store: Path, rules: Path, tmp_path: Path) -> None:
    (rules / "10.toml").write_text('[[rule]]\ncidr = "nonsense"\naction = "drop"\n')
    done = ctl("what-if", str(rules))
    assert (done.returncode, "10.toml:2" in done.stderr) == (2, True), done.stderr
    listed = tmp_path / "some.netset"
    listed.write_text("192.0.2.0/24\n")
    assert "no action of its own" in ctl("what-if", str(listed)).stderr
    store.unlink()
    (rules / "10.toml").unlink()
    done = ctl("what-if", str(rules))
    assert (done.returncode, "cannot be read" in done.stderr) == (3, True), done.stderr


def test_pieces_and_processes_add_up(ctl: Ctl, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What many processes count of many pieces is what one counts of one."""
    assert store.exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "10.toml").write_text('[[rule]]\ncidr = "203.0.113.0/25"\naction = "drop"\n')
    whole = json.loads(ctl("what-if", str(other), "-o", "json").stdout)
    monkeypatch.setattr(whatif_flows, "PIECE_ROWS", 37)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    parts = json.loads(ctl("what-if", str(other), "-o", "json").stdout)
    for each in (whole, parts):
        each.pop("since")
        for change in ("dropped", "limited", "passed"):
            each[change].pop("largest")  # of equals, any
            each[change]["sources"].sort(key=lambda row: row["source"])
    assert parts == whole


def test_rows_that_are_stored_meanwhile_count_once(store: Path) -> None:
    reader = Reader(store)
    edge = reader.edge()
    before = {1: 300, 2: 290}
    added = list(reader.between(before, edge, 0))
    assert len(added) == 10
    live = [{**added[0]}, {**added[0], "src_port": 1}]
    assert len(whatif_flows.latest(live, added)) == 11


def test_peers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.setattr("trafficctl.whatif.tally._MOST_PEERS", 100)
    peers = Peers()
    for first in range(0, 1000, 50):
        hi = np.arange(first, first + 50, dtype=np.uint64)
        sums = np.stack([np.ones(50, np.int64), np.ones(50, np.int64), hi.astype(np.int64), np.zeros(50, np.int64)], 1)
        peers.add(hi, hi, np.zeros(50, np.bool_), sums)
    peers.combine()
    assert len(peers.hi) <= 100
    assert int(peers.sums[:, 0].sum()) + peers.others == 1000, "none is lost"
    assert 999 in peers.hi, "the largest stay"


def test_wrong_files_say_where(rules: Path, running: Running, store: Path) -> None:
    assert store.exists()
    with Client(str(running.path)) as client:
        now = in_force(client)
    (rules / "x.toml").write_text("[[rule]\n")
    with pytest.raises(ConfigError, match=r"x\.toml:1"):
        with_path(now, rules / "x.toml")

"""trafficctl flows against a served daemon: what it asks, and how many rows it shows."""

from __future__ import annotations

import json

import pytest
from control_fake import Running
from control_replies import FLOW
from ctl_runs import Ctl


def test_flow_filters(ctl: Ctl, running: Running) -> None:
    arguments = (
        "flows --since @100 --until 2023-11-14T22:00:00+00:00 --src 10.0.0.0/8 --dst 192.0.2.1 --host 2001:db8::/32"
    )
    ctl(
        *arguments.split(),
        *[
            "--port",
            "!https,8000-8100",
            "--proto",
            "udp",
            "--action",
            "drop",
            "--rule",
            "r",
            "--interface",
            "eth0",
            "--limit",
            "7",
        ],
    )
    asked = {
        "since": 100.0,
        "until": 1_699_999_200.0,
        "src": "10.0.0.0/8",
        "dst": "192.0.2.1/32",
        "host": "2001:db8::/32",
        "ports": "!443,8000-8100",
        "proto": "udp",
        "action": "drop",
        "rule": "r",
        "interface": "eth0",
        "limit": 7,
    }
    ((name, told),) = running.canned.asked
    assert (name, {key: told.get(key) for key in asked}) == ("Flows", asked)


def test_flow_order_and_groups(ctl: Ctl, running: Running) -> None:
    ctl("flows", "--sort", "bytes", "--group-by", "src, dport")
    ctl("flows", "--sort", "bytes", "--reverse")
    ctl("flows", "-r")
    queries = [asked for _, asked in running.canned.asked]
    assert [query["sort"] for query in queries] == ["bytes", "-bytes", "-last_seen"]
    assert queries[0]["group_by"] == ["src", "dport"]


def test_flows_beyond_the_default_limit_are_announced(ctl: Ctl, running: Running) -> None:
    running.canned.flow_rows = 100
    done = ctl("flows", "-o", "jsonl")
    assert (len(done.stdout.splitlines()), "--limit N shows up to N" in done.stderr) == (100, True)
    assert not ctl("flows", "--limit", "100000", "-o", "jsonl").stderr


def test_many_flows_arrive_whole(ctl: Ctl, running: Running) -> None:
    running.canned.flow_rows = 2_345
    assert len(ctl("flows", "--limit", "5000", "-o", "jsonl").stdout.splitlines()) == 2_345
    assert len(json.loads(ctl("flows", "--limit", "5000", "-o", "json").stdout)) == 2_345


def test_why_a_unit_has_a_number_is_said(ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    for unit, said in (("cgroup 4711", 1), ("cgroup.service", 0), (None, 0)):
        monkeypatch.setitem(FLOW, "unit", unit)
        done = ctl("flows")
        assert done.stderr.count("such as cgroup 4711: it was removed before the daemon could read its name") == said
    assert not done.stderr


def test_sql_instead_of_rows(ctl: Ctl) -> None:
    assert ctl("flows", "--sql").stdout == "SELECT * FROM flows\n"

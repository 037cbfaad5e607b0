"""Names of hosts and services: where they come from, what they cost, and that nobody waits for them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from control_fake import Running
from control_replies import FLOW
from ctl_runs import Ctl

from trafficctl import names
from trafficctl.asked import Asked
from trafficctl.names import Labels
from trafficctl.render.columns import FLOWS
from trafficctl.render.events import end_of
from trafficctl.render.style import Style
from trafficctl.render.table import lines
from trafficctl.resolver import _THREADS, Resolver

ROOT = Path(__file__).parents[2]
HOSTS = """\
127.0.0.1       localhost
# a comment      with words
192.0.2.10      mail.example mail   # the old one
2001:DB8:0::1   six.example
fe80::1%lo0     link.example
nonsense
192.0.2.10      later.example
"""


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text(HOSTS)
    return path


def never(address: str) -> str:
    raise AssertionError(f"{address} was asked for")


def test_the_file_of_hosts_comes_first_and_its_first_name_counts(hosts: Path) -> None:
    resolver = Resolver(never, hosts)
    assert resolver.of("192.0.2.10") == "mail.example"
    assert resolver.of("2001:db8::1") == "six.example"
    assert Resolver(never, hosts.with_name("none")).of is not None


def test_dns_is_asked_once_and_what_has_no_name_is_remembered(hosts: Path) -> None:
    asked: list[str] = []

    def look_up(address: str) -> str:
        asked.append(address)
        if address.endswith(".9"):
            raise OSError("no such name")
        return f"host-{address}.example"

    resolver = Resolver(look_up, hosts)
    wanted = ["203.0.113.5", "203.0.113.9", "192.0.2.10"]
    for _ in range(3):
        resolver.wait(wanted, 5.0)
    assert [resolver.of(each) for each in wanted] == ["host-203.0.113.5.example", None, "mail.example"]
    assert sorted(asked) == ["203.0.113.5", "203.0.113.9"]


def test_nobody_waits_for_a_resolver_that_hangs(hosts: Path) -> None:
    gate = threading.Event()
    resolver = Resolver(lambda _: "late.example" if gate.wait(30) else "", hosts)
    began = time.monotonic()
    assert resolver.of("203.0.113.5") is None
    resolver.wait(["203.0.113.5"], 0.1)
    assert time.monotonic() - began < 2
    gate.set()
    resolver.wait(["203.0.113.5"], 5.0)
    assert resolver.of("203.0.113.5") == "late.example"


def test_more_addresses_than_wait_or_are_kept_are_released(hosts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trafficctl.resolver._MOST", 50)
    monkeypatch.setattr("trafficctl.resolver._WAITING", 20)
    gate = threading.Event()
    resolver = Resolver(lambda address: address if gate.wait(30) else "", hosts)
    many = [f"203.0.113.{number}" for number in range(200)]
    assert [resolver.of(each) for each in many] == [None] * 200
    assert len(resolver._asked) <= 20 + _THREADS
    gate.set()
    for _ in range(20):
        for each in many:
            resolver.wait([each], 5.0)
    assert len(resolver._known) <= 50


def test_what_was_asked_for_comes_before_reverse_dns_and_after_the_file(
    ctl: Ctl, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = FLOW["first_seen"]
    told = [("old.example", began - 60), ("shop.example", began - 1), ("later.example", began + 3600)]
    looked_up: list[str] = []

    def reverse(address: str) -> str:
        looked_up.append(address)
        return f"host-{address}.example"

    monkeypatch.setattr("trafficctl.resolver.reverse", reverse)
    running.canned.replies["DnsNames"] = {
        "names": [{"address": "203.0.113.5", "name": name, "since": since} for name, since in told]
    }
    (row, *_) = json.loads(ctl("flows", "--names", "--json").stdout)
    assert (row["dst_name"], row["dst_name_from"]) == ("shop.example", "dns")
    assert (row["src_name"], row["src_name_from"]) == (f"host-{row['src_ip']}.example", "reverse")
    assert "203.0.113.5" not in looked_up
    header, *_ = ctl("flows", "--names", "-o", "csv").stdout.splitlines()
    assert header.endswith("src_name,dst_name,src_name_from,dst_name_from")
    assert "(later.example)" in ctl("explain", "203.0.113.5", "--names").stdout
    assert "later.example" in ctl("top", "--names", "-o", "jsonl").stdout


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"first_seen": 100.0, "last_seen": 200.0}, "b.example"),
        ({"first_seen": 99.5, "last_seen": 99.6}, "b.example"),  # clocks differ by less than a second
        ({"first_seen": 60.0, "last_seen": 70.0}, "a.example"),
        ({"first_seen": 10.0, "last_seen": 20.0}, None),  # before anybody asked
        ({"first_seen": 10.0, "last_seen": 120.0}, "a.example"),  # while it went on
        ({"timestamp": 150.0}, "b.example"),
        ({}, "c.example"),
    ],
)
def test_a_flow_has_the_name_of_its_time(row: dict[str, float], expected: str | None) -> None:
    asked = Asked("nowhere")
    asked._names = {"192.0.2.1": [("a.example", 50.0), ("b.example", 100.0), ("c.example", 300.0)]}
    assert asked.of({"dst_ip": "192.0.2.1", **row}, "dst_ip") == expected
    assert asked.of({"host": "192.0.2.1", **row}, "host") == "c.example"
    assert asked.of({"dst_ip": "192.0.2.2", **row}, "dst_ip") is None


def test_a_daemon_that_cannot_be_asked_knows_no_names(hosts: Path) -> None:
    labels = Labels(Resolver(lambda _: "far.example", hosts), asked=Asked("/nonexistent/socket"))
    (row,) = labels.rows([FLOW])
    assert (row["dst_name"], row["dst_name_from"]) == ("far.example", "reverse")
    (row,) = labels.rows([{**FLOW, "dst_ip": "192.0.2.10"}])
    assert (row["dst_name"], row["dst_name_from"]) == ("mail.example", "hosts")


def test_a_name_cannot_steer_the_terminal_and_does_not_crowd_out_the_port(hosts: Path) -> None:
    resolver = Resolver(lambda _: "\x1b[2J" + "x" * 300, hosts)
    labels = Labels(resolver)
    (row,) = labels.rows([FLOW])
    assert row["src_name"] is None or len(row["src_name"]) <= 253
    shown = end_of(row, "dst")
    assert "\x1b" not in shown
    assert shown.endswith("xxx:https")
    assert len(shown) < 60
    for width in (80, 160):
        assert all(len(line) <= width for line in lines([row], FLOWS, width, Style(False)))


@pytest.mark.parametrize("name", ["192.0.2.1", "192.0.2.1.", "a.7", "2130706433"])
def test_nobody_is_shown_by_the_address_of_another(hosts: Path, name: str) -> None:
    (row,) = Labels(Resolver(lambda _: name, hosts)).rows([{"src_ip": "198.51.100.77"}])
    assert (row["src_name"], row["src_name_from"]) == (None, None)
    assert end_of(row, "src") == "198.51.100.77"


def test_services_are_named_by_protocol_and_not_where_a_port_is_anybodys() -> None:
    assert names.service(22, "TCP") == "ssh"
    assert names.service(53, "UDP") == "domain"
    assert names.service(22, "ICMP") is None
    assert names.service(60177, "TCP") is None
    assert names.service(0, "TCP") is None


def test_tables_name_services_unless_numbers_are_wanted_and_data_never_does(ctl: Ctl) -> None:
    assert "203.0.113.5:https" in ctl("flows").stdout
    assert "203.0.113.5:443" in ctl("flows", "-n").stdout
    assert "203.0.113.5:https" in ctl("top").stdout
    assert "203.0.113.5:443" in ctl("top", "-n").stdout
    (row, *_) = json.loads(ctl("flows", "--json").stdout)
    assert not {"src_service", "src_name"} & set(row)


def test_names_are_added_to_tables_and_data(ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    def reverse(address: str) -> str:
        if address != "203.0.113.5":
            raise OSError("no such name")
        return "far.example"

    monkeypatch.setattr("trafficctl.resolver.reverse", reverse)
    assert "far.example:https" in ctl("flows", "--names").stdout
    assert "203.0.113.5:443" in ctl("flows", "--names", "-n").stdout
    (row, *_) = json.loads(ctl("flows", "--names", "--json").stdout)
    assert row["dst_name"] == "far.example"
    assert "dst_name" in ctl("flows", "--names", "-o", "csv").stdout.splitlines()[0]
    assert "far.example" in ctl("threats", "--names").stdout
    assert "(far.example)" in ctl("explain", "203.0.113.5", "--names").stdout
    assert "far.example" in ctl("top", "--names", "-o", "jsonl").stdout


_SILENT = """
import socket, sys, time
silent = socket.socket(type=socket.SOCK_DGRAM)
silent.bind(("127.0.0.1", 53))  # a resolver that never answers
from pathlib import Path
from trafficctl.resolver import Resolver, reverse
began = time.monotonic()
Resolver(reverse, Path("/dev/null")).wait([f"192.0.2.{number}" for number in range(20)], 0.3)
print(time.monotonic() - began)
"""


@pytest.mark.root
def test_a_resolver_that_never_answers_holds_nobody_up(tmp_path: Path) -> None:
    """socket.getnameinfo would with Python 3.11: no other thread runs meanwhile."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\\noptions timeout:2 attempts:1\\n")
    script = 'ip link set lo up && mount --bind "$1" "$(realpath /etc/resolv.conf)" && exec "$2" -c "$3"'
    inner = ["sh", "-c", script, "sh", str(tmp_path / "resolv.conf"), sys.executable, _SILENT]
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--propagation", "private", *inner],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert float(done.stdout) < 1.5

"""Each command against a served daemon: what it asks, what it shows, how it ends."""

from __future__ import annotations

import csv
import io
import json
import stat
import threading
import time
from datetime import datetime, timedelta
from datetime import time as dt_time
from pathlib import Path
from typing import Any

import pytest
from control_fake import Running
from control_replies import BAN, FLOW, RULE, STATUS, THREAT, TOP
from ctl_runs import Ctl

from trafficctl import values
from trafficctl.render.columns import AUDIT
from trafficmond import __version__, figures

EVENT = {
    "timestamp": 1_700_000_000.0,
    "src_ip": "203.0.113.5",
    "dst_ip": "192.0.2.1",
    "src_port": 1,
    "dst_port": 2,
    "protocol": "TCP",
    "packet_size": 60,
    "action": "DROP",
    "interface": "eth0",
}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["rules"], [RULE]),
        (["flows"], [FLOW] * 3),
        (["bans"], [BAN]),
        (["threats"], [THREAT]),
        (["version"], {"trafficctl": __version__, "trafficmond": "0.2.0"}),
    ],
)
def test_reading_in_every_format(ctl: Ctl, arguments: list[str], told: Any) -> None:
    done = ctl(*arguments, "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == told
    lines = ctl("-o", "jsonl", *arguments).stdout.splitlines()
    assert [json.loads(line) for line in lines] == (told if isinstance(told, list) else [told])
    rows = list(csv.reader(io.StringIO(ctl(*arguments, "--output=csv").stdout, newline="")))
    assert rows[0] == (list(told[0]) if isinstance(told, list) else ["key", "value"])
    assert ctl(*arguments).stdout


def test_status_in_every_format(ctl: Ctl) -> None:
    told = json.loads(ctl("status", "-o", "json").stdout)
    assert told.pop("control")["clients"] >= 1
    assert told == STATUS
    (line,) = ctl("status", "-o", "jsonl").stdout.splitlines()
    assert STATUS.items() <= json.loads(line).items()
    leaves = dict(csv.reader(io.StringIO(ctl("status", "-o", "csv").stdout, newline="")))
    assert leaves["accounting.seen.packets"] == "123456789"
    assert ctl("status").stdout.startswith("trafficmond 0.2.0, process 4242")


@pytest.mark.parametrize(
    "arguments", [["threat", "t-5"], ["explain", "203.0.113.5"], ["audit"], ["metrics"], ["reload"]]
)
def test_the_others_are_json_too(ctl: Ctl, arguments: list[str]) -> None:
    done = ctl(*arguments, "-o", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)
    assert ctl(*arguments).returncode == 0


@pytest.mark.parametrize(
    ("user", "login", "who"),
    [
        ("root", "ada", "root (ada)"),
        ("root", "root", "root"),
        ("root", None, "root (login unknown)"),
        ("ada", "ada", "ada"),
        ("ada", None, "ada"),
        ("port_scan", None, "port_scan"),
    ],
)
def test_the_audit_names_the_person_behind_root(user: str, login: str | None, who: str) -> None:
    (column,) = (column for column in AUDIT if column.key == "user")
    assert column.of
    assert column.of({"user": user, "login": login}) == who
    assert column.of({"user": "ada"}) == "ada"  # of an older daemon


def test_add_and_remove(ctl: Ctl, running: Running) -> None:
    done = ctl(
        "add-cidr", "198.51.100.9/24", "--limit", "100/s", "--burst", "20", "--ttl", "1h30m", "--label", "x", "--save"
    )
    assert done.returncode == 0
    assert "198.51.100.0/24" in done.stdout  # the prefix that is meant
    rule = {"cidr": "198.51.100.9/24", "action": "limit", "direction": "ingress", "label": "x", "ttl_s": 5400.0}
    assert running.canned.asked[0] == (
        "AddCidr",
        rule | {"rate_per_s": 100, "burst_packets": 20, "save": True},
    )
    done = ctl("remove-cidr", "198.51.100.0/24", "--save", "-o", "json")
    assert json.loads(done.stdout)[0]["cidr"] == "198.51.100.0/24"
    assert running.canned.asked[1] == ("RemoveCidr", {"cidr": "198.51.100.0/24", "save": True})


def test_services_are_distinguished(ctl: Ctl, running: Running) -> None:
    rule = {"cidr": "192.0.2.0/24", "action": "allow", "direction": "ingress", "ports": ["tcp/443", "53", "ssh"]}
    assert ctl("add-cidr", "192.0.2.0/24", "--port", "tcp/443,53", "--port", "ssh", "--action", "allow").returncode == 0
    ctl("remove-cidr", "192.0.2.0/24", "--port", "tcp/443, 53", "--port", "ssh")
    running.canned.replies["Explain"] |= {"listeners": ["cgroup 7"]}
    assert "such as cgroup 7: it was removed" in ctl("explain", "203.0.113.5", "tcp/443").stderr
    assert running.canned.asked == [
        ("AddCidr", rule),
        ("RemoveCidr", {"cidr": "192.0.2.0/24", "ports": ["tcp/443", "53", "ssh"]}),
        ("Explain", {"address": "203.0.113.5", "direction": "ingress", "service": "tcp/443"}),
    ]
    done = ctl("add-cidr", "192.0.2.0/24", "--port", "tcp/443,gre/7")
    assert (done.returncode, "'gre/7' names ports" in done.stderr) == (2, True)


@pytest.mark.parametrize(("command", "action"), [("allow", "allow"), ("deny", "drop")])
def test_the_words_of_ufw(ctl: Ctl, running: Running, command: str, action: str) -> None:
    rule = {"action": action, "ports": ["tcp/443", "80"]}
    assert ctl(command, "tcp/443,80").returncode == 0
    assert running.canned.asked == [("AddCidr", {"cidr": cidr, **rule}) for cidr in ("0.0.0.0/0", "::/0")]
    running.canned.asked.clear()
    words = "from", "192.0.2.9/24", "2001:db8::7"
    assert ctl(command, "tcp/443,80", *words, "--save", "--ttl", "1h", "--label", "x").returncode == 0
    more = {"save": True, "ttl_s": 3600.0, "label": "x"}
    expected = [("AddCidr", {"cidr": cidr, **rule, **more}) for cidr in ("192.0.2.9/24", "2001:db8::7/128")]
    assert running.canned.asked == expected
    for wrong in (["192.0.2.0/24"], ["from"], ["from", "x"], ["to", "192.0.2.0/24"]):
        assert ctl(command, "ssh", *wrong).returncode == 2
    assert running.canned.asked == expected


def test_of_several_rules_those_that_came_in_force_are_reported_when_one_fails(ctl: Ctl) -> None:
    done = ctl("deny", "ssh", "from", "192.0.2.0/24", "203.0.113.66", "198.51.100.0/24")
    assert done.returncode != 0
    assert "note: 192.0.2.0/24 took effect before this failed; that stays in force" in done.stderr
    assert "there is no room for more" in done.stderr
    assert "took effect" not in ctl("deny", "ssh", "from", "203.0.113.66").stderr


def test_an_address_is_a_prefix(ctl: Ctl, running: Running) -> None:
    ctl("add-cidr", "2001:db8::1", "--direction", "egress")
    asked = running.canned.asked[0][1]
    assert (asked["cidr"], asked["direction"]) == ("2001:db8::1/128", "egress")


def test_bans(ctl: Ctl, running: Running) -> None:
    assert ctl("ban", "203.0.113.9", "--ttl", "10m", "--reason", "why").returncode == 0
    asked = [parameters for _, parameters in running.canned.asked]
    assert (asked[0]["cidr"], asked[0]["ttl_s"], asked[0]["reason"]) == ("203.0.113.9/32", 600.0, "why")
    lifted = ctl("unban", "203.0.113.5")
    assert (lifted.returncode, "stays banned by fail2ban-recidive forever" in lifted.stderr) == (0, True)
    assert ctl("unban", "203.0.113.5", "--all").stderr == ""
    ctl("unban", "203.0.113.5", "--owner", "fail2ban-sshd")
    whose = [(asked.get("owner"), asked.get("everyone", False)) for _, asked in running.canned.asked[1:]]
    assert whose == [(None, False), (None, True), ("fail2ban-sshd", False)]
    assert running.canned.asked[1][1]["cidr"] == "203.0.113.5/32"


@pytest.mark.parametrize("ttl", ["forever", "-1", "-1s"])
def test_a_ban_for_good_as_people_and_fail2ban_write_it(ctl: Ctl, running: Running, ttl: str) -> None:
    done = ctl("ban", "::ffff:203.0.113.9", "--ttl", ttl, "--owner", "fail2ban-recidive")
    asked = running.canned.asked[0][1]
    assert (asked["cidr"], asked["forever"], asked["owner"]) == ("203.0.113.9/32", True, "fail2ban-recidive")
    assert "ttl_s" not in asked
    title, header, row = done.stdout.splitlines()
    assert (title, header.split()[0], row.split()[0], "forever" in row) == ("banned:", "PREFIX", "203.0.113.9", True)


@pytest.mark.parametrize(
    ("words", "word"),
    [
        ("add-cidr 198.51.100.0/24", "added"),
        ("allow ssh from 192.0.2.0/24", "added"),
        ("remove-cidr 198.51.100.0/24", "removed"),
        ("ban 203.0.113.9", "banned"),
        ("unban 203.0.113.5", "lifted"),
    ],
)
def test_a_change_is_named_before_its_row(ctl: Ctl, words: str, word: str) -> None:
    ctl("add-cidr", "198.51.100.0/24")
    title, header, *_ = ctl(*words.split()).stdout.splitlines()
    assert (title, header.split()[0]) == (f"{word}:", "PREFIX")
    ctl("add-cidr", "198.51.100.0/24")
    assert isinstance(json.loads(ctl(*words.split(), "-o", "json").stdout), list)


def test_what_one_should_know_of_a_ban_is_said_after_it(ctl: Ctl) -> None:
    done = ctl("ban", "203.0.113.22")
    assert (done.returncode, done.stderr) == (0, "note: a connection to SSH's port was open\n")


def test_many_bans_are_one_call(ctl: Ctl, running: Running) -> None:
    done = ctl("ban", "-", "--ttl", "1h", "--owner", "lists", stdin="# a list\n192.0.2.1\n192.0.2.2, 5m, rude\n")
    assert (done.returncode, done.stdout) == (0, "2 banned, 0 refused\n")
    asked = running.canned.asked[0][1]
    bans = [(each["cidr"], each["ttl_s"], each.get("reason") or "") for each in asked["bans"]]
    assert (bans, asked["owner"]) == ([("192.0.2.1/32", 3600.0, ""), ("192.0.2.2/32", 300.0, "rude")], "lists")
    done = ctl("ban", "-", "-o", "json", stdin="127.0.0.1\n")
    assert (done.returncode, json.loads(done.stdout)["banned"]) == (1, 0)
    assert done.stderr == "refused: 127.0.0.1/32 is guarded\n"
    done = ctl("ban", "-", stdin="192.0.2.1\nnonsense\n192.0.2.1, 0\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert "line 2: 'nonsense' is not an address or prefix" in done.stderr
    assert "line 3: '0' is not a valid duration" in done.stderr
    assert "nothing was banned" in done.stderr
    assert len(running.canned.asked) == 2
    assert ctl("unban", "-", "--all", stdin="192.0.2.1\n192.0.2.2\n").stdout == "2 lifted: 192.0.2.1, 192.0.2.2\n"


def test_a_long_list_is_as_few_calls_as_the_daemon_takes(ctl: Ctl, running: Running) -> None:
    lines = "".join(f"10.{n >> 8 & 255}.{n & 255}.1, 600, {'x' * 100}\n" for n in range(10_000))
    assert ctl("ban", "-", stdin=lines).stdout == "10,000 banned, 0 refused\n"
    assert 1 < len(running.canned.asked) < 6
    assert sum(len(asked["bans"]) for _, asked in running.canned.asked) == 10_000


@pytest.mark.parametrize(
    "arguments",
    [
        *(["flows", f"--{name}="] for name in ("unit", "rule", "interface", "process", "proto", "group-by", "sort")),
        *(["threats", "--detector", " "], ["watch", "--interface", ""], ["ban", "192.0.2.1", "--owner", ""]),
        *(["unban", "192.0.2.1", "--owner", ""], ["metrics", "--write", ""], ["report", "--write", ""]),
        *(["report", "--config", ""], ["doctor", "--config", ""]),
    ],
)
def test_what_is_empty_is_not_as_if_it_had_not_been_given(ctl: Ctl, running: Running, arguments: list[str]) -> None:
    done = ctl(*arguments)
    assert (done.returncode, " empty" in done.stderr) == (2, True)
    assert not running.canned.asked


def test_since_is_how_long_ago(ctl: Ctl, running: Running) -> None:
    ctl("threats", "--since", "1h", "--min-severity", "high", "--open", "--host", "203.0.113.5")
    query = running.canned.asked[0][1]
    assert abs(query["since"] - (time.time() - 3600)) < 5
    told = query["min_severity"], query["host"], query["open_only"]
    assert told == ("high", "203.0.113.5/32", True)


def test_metrics_into_a_file(ctl: Ctl, tmp_path: Path) -> None:
    target = tmp_path / "trafficmon.prom"
    target.write_text("old")
    assert ctl("metrics", "--write", str(target)).returncode == 0
    assert target.read_text().endswith("# EOF\n")
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert list(tmp_path.glob(".trafficmon*")) == []
    assert ctl("metrics", "--write", str(tmp_path / "none" / "x")).returncode == 1
    for folder in ("/", "."):
        done = ctl("metrics", "--write", folder)
        assert (done.returncode, "Is a directory" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def publish_when_watched(running: Running, topic: str, records: list[dict[str, Any]]) -> threading.Thread:
    def publish() -> None:
        end = time.monotonic() + 5
        while not running.do(running.broadcast.wants, topic) and time.monotonic() < end:
            time.sleep(0.01)
        running.do(running.broadcast.publish, topic, records)

    thread = threading.Thread(target=publish)
    thread.start()
    return thread


@pytest.mark.parametrize("form", ["human", "json", "jsonl", "csv"])
def test_watch_events(ctl: Ctl, running: Running, form: str) -> None:
    thread = publish_when_watched(running, "events", [EVENT] * 3)
    done = ctl("watch", "--count", "2", "-o", form)
    thread.join(5)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == (3 if form == "csv" else 2)
    assert "203.0.113.5" in lines[-1]
    if form in ("json", "jsonl"):
        assert json.loads(lines[0]) == EVENT


def test_watch_threats(ctl: Ctl, running: Running) -> None:
    thread = publish_when_watched(running, "threats", [THREAT])
    done = ctl("watch", "--threats", "--count", "1")
    thread.join(5)
    assert "high" in done.stdout
    assert "tried 250 ports" in done.stdout


def test_top_prints_samples_without_a_terminal(ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOP, "units", [*TOP["units"], {**TOP["units"][0], "unit": "cgroup 7"}])
    done = ctl("top", "--interval", "10ms", "--count", "2")
    assert done.stdout.count("trafficmon  ") == 2
    assert done.stderr.count("such as cgroup 7: it was removed") == 2
    assert "> " not in done.stdout  # nothing is selected where nobody can select
    assert all(line == line.rstrip() for line in done.stdout.splitlines())
    assert "1.43 MiB/s" in done.stdout
    rows = [json.loads(line) for line in ctl("top", "--interval", "10ms", "-o", "jsonl").stdout.splitlines()]
    assert [row["flow_count"] for row in rows] == [4_096]
    lines = ctl("top", "--interval", "10ms", "--count", "2", "-o", "csv").stdout.splitlines()
    assert lines[0].startswith("at,src_ip,")
    assert len(lines) == 3


# ---- exit codes ----


def test_times_of_the_day_and_days_by_name() -> None:
    now = datetime.now()
    for text in ("02:55", "23:59:59", "00:00"):
        found = datetime.fromtimestamp(values.moment(text))
        assert found.strftime("%H:%M:%S").startswith(text)
        assert now - timedelta(days=1, seconds=5) <= found <= datetime.now()
    today = datetime.fromtimestamp(values.moment("today"))
    assert (today.date(), today.time()) == (datetime.now().date(), dt_time())
    assert datetime.fromtimestamp(values.moment("yesterday")).date() == today.date() - timedelta(days=1)
    for text, ago in (("1 hour ago", 3600), ("-2h", 7200), ("90 minutes", 5400), ("1 day 2hours ago", 93600)):
        assert abs(time.time() - ago - values.moment(text)) < 5, text
    assert values.moment("@1700000000.5") == 1700000000.5
    for text in ("@nan", "@inf", "@1700000000000", "@1e300", "@"):  # no number, or in milliseconds
        with pytest.raises(ValueError, match="seconds since 1970"):
            values.moment(text)
    then = time.time() - 40 * 86400
    shown = figures.when(then)  # as a table prints it
    if len(shown) == len("Nov 14 22:14"):
        assert abs(values.moment(shown) - then) <= 60


def test_json_is_an_output_everywhere(ctl: Ctl) -> None:
    for arguments in (["--json", "bans"], ["bans", "--json"], ["threats", "--json"]):
        assert isinstance(json.loads(ctl(*arguments).stdout), list)


def test_watch_takes_ports(ctl: Ctl) -> None:
    assert ctl("watch", "--port", "x").returncode == 2
    assert ctl("watch", "--port", "22-8").returncode == 2


def test_rules_say_since_when_they_count_and_that_bans_come_first(ctl: Ctl) -> None:
    told = ctl("rules").stdout
    assert "packets and bytes since 20" in told
    assert "checked before rules and lists: " in told
    assert "since" not in ctl("rules", "-o", "csv").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["22/tcp"], "write 'tcp/22'"),
        (["from", "192.0.2.1"], "the service comes first"),
        (["203.0.113.9"], "add-cidr makes rules for all services"),
        (["2001:db8::/32"], "the service comes first"),
        (["in", "on", "eth0"], "the service comes first"),
        (["tcp/22", "from", "any"], "without 'from', every source is meant"),
        ([], "SERVICE is missing\n"),
    ],
)
def test_the_words_of_ufw_in_its_order_are_answered_with_ours(ctl: Ctl, words: list[str], said: str) -> None:
    for command in ("allow", "deny"):
        done = ctl(command, *words)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr

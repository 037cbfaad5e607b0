"""How commands end: exit codes, reasons, help, and readers, disks and users that go away."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from control_fake import Running
from control_replies import BAN, FLOW, THREAT
from ctl_runs import Ctl, command, environ

from trafficctl.__main__ import run
from trafficctl.commands import COMMANDS, GROUPS
from trafficctl.parser import build, parse
from trafficmond import __version__
from trafficmond.errors import ConfigError, ControlError, Mistake, StoreError


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["remove-cidr", "9.9.9.9"], 1, "no run-time rule on 9.9.9.9/32\n  see trafficctl rules"),
        (["add-cidr", "0.0.0.0/0"], 1, "would cut off this host\n  use --force to do it anyway"),
        (["ban", "127.0.0.1"], 1, "is guarded"),
        (["unban", "9.9.9.9"], 1, "no ban within"),
        (["threat", "zzz"], 1, "no threat zzz"),
        (["flows", "--sort", "nonsense"], 2, "trafficctl: --sort: 'nonsense' is not a column\n  see docs/flows-db.md"),
        (["add-cidr", "nonsense"], 2, "is not an address or prefix; write one such as"),
        (["add-cidr", "1.2.3.4", "--ttl", "soon"], 2, "is not a valid duration"),
        (
            ["ban", "1.2.3.4", "--ttl", "9999999999"],
            2,
            "--ttl: '9999999999' is too long; the maximum",
        ),
        (["add-cidr", "1.2.3.4", "--action", "explode"], 2, "'explode' is not one of allow"),
        (["explain", "1.2.3.4/8"], 2, "one address is wanted"),
        (["flows", "--port", "70000"], 2, "is not a valid port"),
        (["flows", "--port", "80-22"], 2, "the first port of a range is the smaller one"),
        (["flows", "--port", "22,!80"], 2, "before all of them"),
        (["explain", "web1"], 2, "getent ahosts web1"),
        (["flows", "--dst", "web1.example.org"], 2, "ask for its addresses first: getent ahosts web1.example.org\n"),
        (
            ["explain", "web1.example.org"],
            2,
            "2001:db8::/32; for a name, ask for its addresses first: getent ahosts web1.ex",
        ),
        (["flows", "--port", "no-such-service"], 2, "is not the name of a service"),
        (["flows", "--since", "whenever"], 2, "is not a time; write how long ago"),
        (["flows", "--limit", "0"], 2, "not a whole number above 0"),
        (["nonsense"], 2, "trafficctl: there is no command 'nonsense'\n  see trafficctl --help"),
        (["statsu"], 2, "did you mean status?"),
        (
            ["status", "extra"],
            2,
            "trafficctl status: 'extra' is not an argument of this command\n  see trafficctl status",
        ),
        (["explain", "10.0.0.0/8"], 2, "for a prefix: trafficctl rules 10.0.0.0/8"),
        (["add-cidr", "9.9.9.9", "--action", "limit"], 2, "give the rate: --limit 100/s"),
        (["add-cidr", "9.9.9.9", "--action", "drop", "--limit", "5"], 2, "cannot be used with drop"),
        (["add-cidr", "9.9.9.9", "--limit", "9999999999/s"], 2, "is not a valid rate"),
        (["ban", "9.9.9.9", "--ttl", "0s"], 2, "is not a valid duration, for example 10m, 2h or forever"),
        (["ban", "9.9.9.9", "--ttl", "99999w"], 2, "the maximum is a hundred years"),
        ([], 2, "Commands:"),
        (["threat", ""], 2, "ID: it is empty, perhaps from a variable that is not set"),
        (["apply", "/nonexistent"], 2, "there is no /nonexistent\n  name a folder, a rules file or a settings file"),
        (["flows", "--from", "http://x"], 2, "'http://x' is not the address of a fleet's server; write clickhouse://"),
        (["add-cidr", "1.2.3.4", "--port", "70000"], 2, "'70000' is out of range; ports go from 0 to 65535\n"),
        (["status", "-o", "xml"], 2, "'xml' is not one of human, json, jsonl, csv\n"),
        (["-o", "toml", "status"], 2, "'toml' is not one of human, json, jsonl, csv\n"),
        (["rules", "-o", "xml"], 2, "'xml' is not one of human, json, jsonl, csv, toml\n"),
        (["report", "-o", "html"], 2, "jsonl, csv; for a page use --write FILE"),
        (["analyze", "-o", "html", "x.pcap"], 2, "jsonl, csv; for a page use --report FILE"),
        (["flows", "-o", "html"], 2, "jsonl, csv; for a page use trafficctl report --write FILE"),
        (["-o", "html", "status"], 2, "jsonl, csv; for a page use trafficctl report --write FILE"),
        (["-s", "/nonexistent/socket", "status"], 3, "there is no such socket\n  start the daemon"),
    ],
)
def test_exit_codes_and_reasons(ctl: Ctl, arguments: list[str], code: int, told: str) -> None:
    done = ctl(*arguments)
    assert done.returncode == code
    assert told in done.stderr
    assert done.stdout == ""


def test_csv_of_nothing_has_its_header(ctl: Ctl, running: Running) -> None:
    for name, fields in (("bans", list(BAN)), ("threats", list(THREAT))):
        running.canned.replies[name.capitalize()] = {name: []}
        assert ctl(name, "-o", "csv").stdout == ",".join(fields) + "\r\n"
        assert ctl(name).stdout == f"no {name}\n"


def test_no_flows_is_a_no(ctl: Ctl, running: Running) -> None:
    running.canned.flow_rows = 0
    done = ctl("flows")
    assert (done.returncode, done.stdout) == (1, "no such flows\n")
    assert ctl("flows", "-o", "csv").stdout.startswith("first_seen,")
    assert json.loads(ctl("flows", "-o", "json").stdout) == []


def test_not_permitted_is_four(ctl: Ctl, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.clients, "may_change", lambda _: False)
    done = ctl("add-cidr", "192.0.2.0/24")
    assert done.returncode == 4
    assert "usermod -aG trafficmon-admin" in done.stderr
    monkeypatch.setattr(socket.socket, "connect", raise_permission)
    assert ctl("status").returncode == 4


def raise_permission(*_: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_a_reload_of_wrong_files_is_a_no(ctl: Ctl, running: Running) -> None:
    wrong = [Mistake("a.toml:1", "odd"), Mistake("b.toml:2", "odder")]
    running.canned.replies["Reload"] = ConfigError(wrong, hint="run trafficctl check")
    done = ctl("reload")
    assert done.returncode == 1
    assert "a.toml:1: odd" in done.stderr
    assert "b.toml:2: odder" in done.stderr


# ---- the command as a whole ----


def test_every_command_helps_with_examples(ctl: Ctl) -> None:
    for name in COMMANDS:
        done = ctl(name, "--help")
        assert done.returncode == 0
        assert f"usage: trafficctl {name}" in done.stdout
        assert "Examples:" in done.stdout
        assert f"trafficctl {name}" in done.stdout.partition("Examples:")[2]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_example_is_a_command_that_can_be_typed(name: str) -> None:
    parser = build(fill=True)
    module = importlib.import_module(f"trafficctl.commands.{COMMANDS[name][0]}")
    for line in module.__doc__.partition("Examples:\n")[2].splitlines():
        typed = re.split(r"   *|[|>&]", line.strip().removeprefix("sudo "))[0]
        if typed.startswith("trafficctl ") and "--version" not in typed:
            parser.parse_args(shlex.split(typed)[1:])  # exits with 2 if it is not valid


def test_help_lists_every_command_once(ctl: Ctl) -> None:
    listed = [name for commands in GROUPS.values() for name in commands]
    assert sorted(listed) == sorted(COMMANDS)
    done = ctl("--help")
    told = " ".join(done.stdout.split())
    for name, (_, line) in COMMANDS.items():
        assert f"{name} {line}" in told


def test_completion_can_see_every_option() -> None:
    (commands,) = [action for action in build(fill=True)._actions if action.dest == "command"]
    assert isinstance(commands.choices, dict)
    options = {name: parser.format_usage() for name, parser in commands.choices.items()}
    assert set(options) == set(COMMANDS)
    assert "--group-by" in options["flows"]


def test_global_options_before_and_after(ctl_process: Ctl, running: Running) -> None:
    for arguments in (["-s", str(running.path), "status"], ["status", "-s", str(running.path)]):
        done = ctl_process(*arguments, TRAFFICMON_SOCKET="/nonexistent")
        assert done.returncode == 0, done.stderr
    assert ctl_process("-V").stdout == f"trafficctl {__version__}\n"


def test_a_reader_that_leaves_is_no_error(running: Running) -> None:
    running.canned.flow_rows = 20_000
    env = environ(running.path)
    line = f"{' '.join(command('flows', '--limit', '20000', '-o', 'jsonl'))} | head -1"
    done = subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, timeout=30)
    assert json.loads(done.stdout) == FLOW
    assert done.stderr == ""


def test_a_full_disk_is_one_line(running: Running) -> None:
    for arguments in (("status",), ("flows", "-o", "csv")):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                command(*arguments),
                env=environ(running.path),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=30,
            )
        assert done.returncode == 1
        assert done.stderr == "trafficctl: cannot write the output: No space left on device\n"


def test_an_interrupt_ends_quietly(running: Running) -> None:
    env = environ(running.path)
    heeding = ("env", "--default-signal=INT", *command("watch"))  # tests in the background ignore it, and so would this
    with subprocess.Popen(heeding, env=env, stderr=subprocess.PIPE, text=True) as watching:
        try:
            end = time.monotonic() + 10
            while not running.do(running.broadcast.wants, "events") and time.monotonic() < end:
                time.sleep(0.02)
            watching.send_signal(signal.SIGINT)
            assert watching.wait(10) == 130
            assert watching.stderr is not None
            assert watching.stderr.read() == ""
        finally:
            watching.kill()


def test_ordinary_commands_load_nothing_heavy(running: Running) -> None:
    """What keeps `status` quick: neither numpy nor the daemon's rooms nor asyncio are read for it."""
    code = """
import sys
from trafficctl.__main__ import run
run(sys.argv[1:])
print("|", *sys.modules)
"""
    allowed = {
        "trafficmond",
        *(f"trafficmond.{room}" for room in ("errors", "figures", "protocols", "control", "control.client")),
    }
    for arguments in (["status"], ["rules"], ["flows"], ["threats"], ["bans"], ["explain", "192.0.2.1"]):
        env = environ(running.path)
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, timeout=30
        )
        loaded = set(done.stdout.rpartition("|")[2].split())
        assert not {"numpy", "asyncio", "curses", "pyroute2"} & loaded
        ours = {name for name in loaded if name.startswith("trafficmond")}
        assert ours - {"trafficmond.networks"} == allowed  # read where an address was written


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_as_good_as_null(running: Running, closed: str) -> None:
    """Cron jobs and daemons close what they do not need; the command is done all the same."""
    running.canned.asked.clear()
    line = f"{' '.join(command('ban', '203.0.113.9'))} {closed}"
    done = subprocess.run(line, shell=True, env=environ(running.path), capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr, [name for name, _ in running.canned.asked]) == (0, "", ["Ban"])


@pytest.mark.parametrize(
    ("typed", "found", "told"),
    [
        ("ban 203.0.113.9 --ttl 1h", "ttl_s: is not valid", "--ttl: is not valid"),
        ("add-cidr 203.0.113.9 --ttl 1h", "ttl_s: is not valid", "--ttl: is not valid"),
        ("add-cidr 203.0.113.9", "runtime: rule[0].burst: is not a number", "--burst: is not a number"),
        ("add-cidr 203.0.113.9", "burst_packets: is not a number", "--burst: is not a number"),
        ("add-cidr 203.0.113.9", "runtime: rule[0].asn: is not a number", "runtime: rule[0].asn: is not a number"),
        ("explain 203.0.113.9", "address: is none\nservice: is none", "IP: is none\nSERVICE: is none"),
    ],
)
def test_a_mistake_that_the_daemon_finds_names_what_was_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, found: str, told: str
) -> None:
    def fail(_: object) -> None:
        raise ControlError(found)

    args = parse(typed.split())
    args.run = fail
    monkeypatch.setattr("trafficctl.parser.parse", lambda _: args)
    run([])
    assert capsys.readouterr().err == f"trafficctl: {told}\n"


def test_what_others_put_into_an_error_does_not_reach_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error of a ClickHouse, or of what stands in its place, may hold whatever a terminal obeys."""

    def fail(_: object) -> None:
        raise StoreError("Code: 60 \x1b]0;title\x07\n  and \x9b31m", hint="\x1b[2J")

    monkeypatch.setattr("trafficctl.parser.parse", lambda _: SimpleNamespace(run=fail, option_of={}))
    assert run([]) == 1
    assert capsys.readouterr().err == "trafficctl: Code: 60 \\x1b]0;title\\x07\n  and \\x9b31m\n  \\x1b[2J\n"

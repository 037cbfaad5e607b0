"""A word that a command does not have is answered with what to type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from control_fake import Running
from ctl_runs import Ctl

from trafficctl.commands import COMMANDS
from trafficctl.mistyped import _COMMANDS, MEANT


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("threats 17", "one threat: trafficctl threat 17"),
        ("threats 203.0.113.5", "did you mean: trafficctl threats --host 203.0.113.5"),
        ("threats 1d", "did you mean: trafficctl threats --since 1d"),
        ("ban 203.0.113.5 10min", "did you mean: trafficctl ban 203.0.113.5 --ttl 10min"),
        ("ban 203.0.113.5 ssh", "did you mean: trafficctl ban 203.0.113.5 --port ssh"),
        ("ban 203.0.113.5 --tll 1h", "did you mean --ttl?"),
        ("ban 203.0.113.5 --bantime=1h", "did you mean --ttl=1h?"),
        ("unban 203.0.113.5 203.0.113.6", "many addresses: trafficctl unban - < FILE"),
        ("add-cidr 203.0.113.0/24 drop", "did you mean: trafficctl add-cidr 203.0.113.0/24 --action drop"),
        ("remove-cidr 203.0.113.0/24 tcp/443", "did you mean: trafficctl remove-cidr 203.0.113.0/24 --port tcp/443"),
        ("flows 443", "did you mean: trafficctl flows --port 443"),
        ("watch 203.0.113.5", "did you mean: trafficctl watch --host 203.0.113.5"),
        ("top 203.0.113.5", "did you mean: trafficctl top --match 203.0.113.5"),
        ("usage lo", "did you mean: trafficctl usage --interface lo"),
        ("history 17", "one change: trafficctl rules --diff 17"),
        ("bans 203.0.113.5", "trafficctl explain 203.0.113.5"),
        ("report --html", "did you mean --write?"),
        ("report x.html", "trafficctl report --write x.html"),
        ("flows --by unit", "did you mean --group-by?"),
        ("usage --group-by=unit", "did you mean --by=unit?"),
        ("top --once", "did you mean --count?"),
        ("explain tcp/22", "say whose packets: trafficctl explain 192.0.2.7 tcp/22"),
        ("what-if add-cidr 203.0.113.0/24 --ttl 1h", "trafficctl add-cidr 203.0.113.0/24 --ttl 1h --dry-run"),
        ("what-if ban 203.0.113.5", "trafficctl ban 203.0.113.5 --dry-run"),
        ("rollback 3", "trafficctl undo 3"),
        ("flows -n 20", "did you mean: trafficctl flows --limit 20\n"),
        ("flows since 1h --limit 5", "did you mean: trafficctl flows --since 1h --limit 5\n"),
        ("flows last 5m", "did you mean: trafficctl flows --since 5m\n"),
        ("flows port 80", "did you mean: trafficctl flows --port 80\n"),
        ("flows --group-by src dst --limit 3", "did you mean: trafficctl flows --group-by src,dst --limit 3\n"),
        ("flows --csv", "did you mean --output csv?"),
        ("threats --high", "did you mean --min-severity high?"),
        ("threats open", "did you mean: trafficctl threats --open\n"),
        ("ban 203.0.113.5 for 10m", "did you mean: trafficctl ban 203.0.113.5 --ttl 10m\n"),
        ("ban 203.0.113.5 10 minutes", "did you mean: trafficctl ban 203.0.113.5 --ttl 10m\n"),
        ("ban 203.0.113.5 for 1 hour", "did you mean: trafficctl ban 203.0.113.5 --ttl 1h\n"),
        ("ban 203.0.113.5 --ttl 10 mins", "did you mean: trafficctl ban 203.0.113.5 --ttl 10m\n"),
        ("ban 203.0.113.5 10", "did you mean: trafficctl ban 203.0.113.5 --port 10\n"),
        ("flows since 2 hours ago", "did you mean: trafficctl flows --since 2h\n"),
        ("flows last 2 days --limit 5", "did you mean: trafficctl flows --since 2d --limit 5\n"),
        ("rules list", "; without 'list': trafficctl rules\n"),
        ("bans list", "without 'list': trafficctl bans\n"),
        ("flows show", "without 'show': trafficctl flows\n"),
        ("threats all", "without 'all': trafficctl threats\n"),
        ("ban 203.0.113.5 -t 10m", "did you mean --ttl?"),
        ("ban 203.0.113.5 ttl 10m", "did you mean: trafficctl ban 203.0.113.5 --ttl 10m\n"),
        ("apply default drop", "did you mean: trafficctl apply --default drop\n"),
        ("apply --default deny", "not one of allow, monitor, drop; did you mean drop?"),
        ("add-cidr 203.0.113.5 --action reject", "did you mean drop?"),
        ("add-cidr 203.0.113.5 --direction out", "did you mean egress?"),
        ("add-cidr 203.0.113.5 --ttl forever", "a rule without an end has no --ttl; --save keeps it over restarts"),
        ("top -d 1", "did you mean --interval?"),
        ("explain 203.0.113.5 --port 22", "a service comes after the address: trafficctl explain 203.0.113.5 tcp/22"),
        ("check -c /etc/trafficmon/trafficmond.toml", "the file comes alone: trafficctl check ./trafficmond.toml"),
        ("explain 203.0.113.5:22", "; write 203.0.113.5 alone\n"),
        ("ban [2001:db8::5]:443", "; write 2001:db8::5 alone\n"),
        ("ban 203.000.113.005", "; leave out the leading zeros\n"),
        ("ban []", "'[]' is not an address or prefix; write one such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32\n"),
        ("unban all", "; every address is 0.0.0.0/0, and ::/0 of IPv6\n"),
        ("ban", "CIDR is missing\n  for example: trafficctl ban 203.0.113.5\n"),
        ("threat", "ID is missing\n  for example: trafficctl threat 5f2a\n"),
        ("ban --ttl", "--ttl needs a value: how long: 10m, 2h, forever"),
        ("flows --src", "--src needs a value: the initiator"),
        ("usage --by interfaces", "; did you mean interface?"),
        ("threats --min-severity hihg", "'hihg' is not one of low, medium, high, critical; did you mean high?"),
    ],
)
def test_it_says_what_to_type(ctl: Ctl, running: Running, typed: str, told: str) -> None:
    done = ctl(*typed.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.endswith(f"  see trafficctl {typed.split()[0]} --help\n")
    assert running.canned.asked == []


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("block 203.0.113.5", "ban, or deny for a service?"),
        ("log", "did you mean watch?"),
        ("restart", "did you mean systemctl, with trafficmond?"),
        ("quota", "did you mean usage?"),
        ("statsu", "did you mean status?"),
    ],
)
def test_commands_of_other_programs_are_known(ctl: Ctl, typed: str, told: str) -> None:
    done = ctl(*typed.split())
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_what_is_meant_exists_and_is_not_taken() -> None:
    assert not MEANT.keys() & COMMANDS.keys()
    words = {word for meant in MEANT.values() for word in re.findall(r"[a-z-]{3,}", meant)}
    assert words & COMMANDS.keys() >= {"ban", "deny", "watch", "flows", "remove-cidr", "usage", "confirm"}


def test_what_cannot_be_guessed_is_refused_only(ctl: Ctl) -> None:
    told = "trafficctl status: 'extra' is not an argument of this command\n  see trafficctl status --help\n"
    assert ctl("status", "extra").stderr == told


def test_the_hints_are_for_commands_that_exist() -> None:
    assert _COMMANDS.keys() <= COMMANDS.keys()


def test_import_takes_the_program_without_its_option(ctl: Ctl, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.write_text("*filter\n:INPUT DROP [0:0]\n-A INPUT -s 192.0.2.1 -j ACCEPT\nCOMMIT\n")
    named = ctl("import", "--from", "iptables-save", str(saved))
    assert "192.0.2.1" in named.stdout
    assert ctl("import", "iptables-save", str(saved)).stdout == named.stdout
    done = ctl("import", str(saved))
    assert (done.returncode, "one of ufw, nft, iptables-save, firewalld" in done.stderr) == (2, True)

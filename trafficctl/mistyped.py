"""Says what to type in place of words that a command does not have."""

import re
import shlex
import socket
from argparse import Action, ArgumentParser
from collections.abc import Callable, Sequence
from itertools import chain

from trafficctl import values

# What ufw, fail2ban, nft, systemctl and people call a command.
MEANT = {
    **dict.fromkeys(("block", "drop", "reject"), "ban, or deny for a service"),
    **dict.fromkeys(("unblock", "unbanip"), "unban"),
    **dict.fromkeys(("log", "logs", "tail", "monitor", "events"), "watch"),
    **dict.fromkeys(("show", "list", "ls"), "flows, rules, bans or threats"),
    **dict.fromkeys(("start", "stop", "restart", "enable", "disable"), "systemctl, with trafficmond"),
    **dict.fromkeys(("quota", "quotas", "stats", "totals"), "usage"),
    **dict.fromkeys(("delete", "remove", "del"), "remove-cidr, or unban"),
    **dict.fromkeys(("add", "insert"), "add-cidr, allow or deny"),
    **dict.fromkeys(("units", "services", "processes", "hosts", "talkers"), "top, or flows --group-by"),
    **dict.fromkeys(("alerts", "alarms", "attacks"), "threats"),
    **dict.fromkeys(("save", "commit"), "confirm"),
    **dict.fromkeys(("help", "man"), "trafficctl COMMAND --help"),
}
# An option by the name that it has in other programs, or in another command.
_OPTIONS = {
    **dict.fromkeys(("--html", "--file", "--out", "--report"), ("--write", "--report")),
    **dict.fromkeys(("--time", "--timeout", "--duration", "--for", "--bantime", "--expires", "-t"), ("--ttl",)),
    **dict.fromkeys(("--comment", "--message", "--why", "--name"), ("--reason", "--label")),
    **dict.fromkeys(("--source", "--from-ip", "--ip", "--address"), ("--src", "--host", "--match")),
    **dict.fromkeys(("--hours", "--days", "--last", "--period"), ("--since",)),
    **dict.fromkeys(("--count", "--head", "--lines"), ("--limit", "--top")),
    **dict.fromkeys(("--port", "--ports", "--service", "--dport", "-p"), ("--port",)),
    **dict.fromkeys(("--by", "--group", "--group-by"), ("--group-by", "--by")),
    "--once": ("--count",),
    **dict.fromkeys(("--delay", "-d"), ("--interval",)),
    **dict.fromkeys(("--country", "--asn"), ("--group-by",)),
    "--format": ("--output",),
}
_SEVERAL = ("--group-by", "--port", "--proto", "--src", "--dst", "--host")  # options that take several, with commas
# Functions that accept a word without an option, and the options that it may be for; the first match counts.
_MEANINGS: tuple[tuple[Callable[[str], object], tuple[str, ...]], ...] = (
    (values.duration, ("--ttl", "--since", "--confirm-within", "--unused")),
    (values.prefix, ("--host", "--match", "--src")),
    (values.services, ("--port",)),
    (values.moment, ("--since",)),
    (socket.if_nametoindex, ("--interface",)),
)
_SHOWS = ("list", "ls", "show", "print", "all")  # what a command without that word does
_UNIT = re.compile("(s|m|h|d|w)(|ec|econd|in|inute|r|our|ay|eek)s?")
# By command, where the user may have meant to put a word that it does not take; {} is the word.
_COMMANDS = {
    "threats": "one threat: trafficctl threat {}",
    "history": "one change: trafficctl rules --diff {}",
    "bans": "what decides for one address: trafficctl explain {}",
    "reload": "to try other files first: trafficctl apply {}",
    "rollback": "to undo a confirmed change: trafficctl undo {}",
    "confirm": "it keeps all that is on probation",
    "ban": "many addresses: trafficctl ban - < FILE, one on each line",
    "unban": "many addresses: trafficctl unban - < FILE, one on each line",
    "add-cidr": "one prefix for each call; for services: trafficctl allow tcp/443 from {}",
    "doctor": "settings in another file: trafficctl doctor -c {}",
    "metrics": "to write a file: trafficctl metrics --write {}",
    "report": "to write a page: trafficctl report --write {}",
}


def instead(command: str, parser: ArgumentParser, typed: Sequence[str], unknown: str) -> str:
    """What to type in place of `unknown`, one of the words `typed` after `command`; empty if nothing comes near."""
    options = parser._option_string_actions
    known = {str(choice): name for name, action in options.items() for choice in action.choices or ()}
    if (spoken := _spoken(typed)) != list(typed):  # "10 minutes"
        time = next(word for word in spoken if word not in typed)
        if spoken[spoken.index(time) - 1].startswith("--"):
            return _write(command, spoken)
        typed, unknown = spoken, unknown if unknown in spoken else time
    if unknown.startswith("-"):
        flag, equals, value = unknown.partition("=")
        if near := _option(flag, options):
            return f"did you mean {near}{equals}{value}?"
        if command == "explain" and flag in _OPTIONS:
            return "a service comes after the address: trafficctl explain 203.0.113.5 tcp/22"
        if command == "check" and flag in ("-c", "--config"):
            return "the file comes alone: trafficctl check ./trafficmond.toml"
        word = flag.lstrip("-")
        return f"did you mean {known[word]} {word}?" if word in known else ""
    if command == "what-if" and typed[0] in ("add-cidr", "ban"):
        return f"to try that: trafficctl {shlex.join([*typed, '--dry-run'])}"
    at = typed.index(unknown)
    before = typed[at - 1] if at else ""
    bare = next((name for name in (f"--{unknown}", *_OPTIONS.get(f"--{unknown}", ())) if name in options), None)
    if at > 1 and typed[at - 2] in _SEVERAL and (not bare or typed[at - 2] == "--group-by"):  # "src dst"
        return _write(command, typed[: at - 1], [f"{before},{unknown}"], typed[at + 1 :])
    if bare and bare not in typed:  # "since 1h"
        return _write(command, typed[:at], [bare], typed[at + 1 :])
    if f"--{before}" in options:  # "default drop", where a command takes one word
        return _write(command, typed[: at - 1], [f"--{before}"], typed[at:])
    if before == "-n" and "--limit" in options and unknown.isdecimal():  # as for tail
        return _write(command, typed[: at - 1], ["--limit"], typed[at:])
    meant = (name for reads, names in _MEANINGS if values.is_a(reads, unknown) for name in names if name in options)
    if (taken := known.get(unknown) or next(meant, None)) and taken not in typed:
        return _write(command, typed[:at], [taken], typed[at:])
    return alone(command, unknown) or _COMMANDS.get(command, "").format(shlex.quote(unknown))


def alone(command: str, word: str) -> str:
    """What to type in place of "rules list"; empty for other words."""
    return f"without {word!r}: trafficctl {command}" if word in _SHOWS else ""


def _spoken(words: Sequence[str]) -> list[str]:
    """The words, with "10 minutes" or "10 minutes ago" as "10m"."""
    said: list[str] = []
    for word in words:
        if said and said[-1].isdecimal() and (unit := _UNIT.fullmatch(word)):
            said[-1] += unit[1]
        elif word != "ago":
            said.append(word)
    return said


def _write(command: str, *words: Sequence[str]) -> str:
    return f"did you mean: trafficctl {shlex.join([command, *chain(*words)])}"


def _option(flag: str, options: dict[str, Action]) -> str | None:
    from difflib import get_close_matches

    meant = next((name for name in _OPTIONS.get(flag, ()) if name in options), None)
    plain = {name.strip("-"): name for name in options}  # names are compared without dashes, which all have
    return meant or next((plain[near] for near in get_close_matches(flag.strip("-"), plain, 1)), None)

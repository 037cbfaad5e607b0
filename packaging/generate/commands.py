"""The commands and options of trafficctl, read from its own argument parser."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from trafficctl.commands import COMMANDS
from trafficctl.parser import build

# Of what `usage --by unit` answers: not the rest, nor what has none. Without a colon, which ends an action for zsh.
UNITS_ONLY = '/"key"."[^("]/'
PROCESSES = "flows --since 1h --group-by process"  # of whom a person has just heard; short of a long history
RULES_ONLY = '/"kind":"rule"/'  # of what `rules` answers: not the guard, nor lists, as an address for sed


@dataclass(frozen=True)
class Argument:
    """An option (with `flags`) or a positional (without). `source` says where its values come from:

    "" (no value, or one only the user knows), "choices", "files", "interfaces", or what the daemon is asked for:
    "prefixes" and "labels" of rules, "bans", "threats", "units", "processes".
    """

    flags: tuple[str, ...]
    metavar: str
    help: str
    choices: tuple[str, ...]
    source: str
    repeats: str = ""  # of a positional: "?" it may be left out, "+" once or more, "*" any number

    @property
    def takes_value(self) -> bool:
        """Whether something comes after the flag."""
        return bool(self.metavar)


@dataclass(frozen=True)
class Command:
    """One command: the line of help, the text below its title, and its arguments without the global ones."""

    name: str
    summary: str
    text: str
    examples: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Client:
    """All of it: the options before or after a command, and the commands."""

    options: tuple[Argument, ...]
    commands: tuple[Command, ...]


def client_commands() -> Client:
    """The whole command line of trafficctl."""
    parser = build(fill=True)
    options = tuple(_argument("", action) for action in parser._actions if action.option_strings)
    common = {flag for option in options for flag in option.flags}
    (subparsers,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    commands = []
    for name, (_, summary) in COMMANDS.items():
        command: argparse.ArgumentParser = subparsers.choices[name]
        arguments = [_argument(name, action) for action in command._actions if not common & set(action.option_strings)]
        text, _, examples = (command.epilog or "").partition("Examples:\n")
        commands.append(
            Command(name, summary, f"{command.description}\n\n{text}".strip(), examples.rstrip(), tuple(arguments))
        )
    return Client(options, tuple(commands))


def _argument(command: str, action: argparse.Action) -> Argument:
    metavar = ""
    if not action.option_strings or action.nargs != 0:
        metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper().replace("_", "-")
    choices = tuple(map(str, action.choices or ()))
    source = "choices" if choices else _source(command, action, metavar)
    repeats = action.nargs if isinstance(action.nargs, str) and not action.option_strings else ""
    return Argument(
        tuple(action.option_strings), metavar, action.help or "", choices, source if metavar else "", repeats
    )


def _source(command: str, action: argparse.Action, metavar: str) -> str:
    if metavar == "CIDR" and not action.option_strings:
        return {"unban": "bans", "ban": "", "add-cidr": ""}.get(command, "prefixes")
    if command == "threat" and metavar == "ID":
        return "threats"
    if metavar in ("PATH", "FILE", "SOCKET", "FOLDER", "DIR"):
        return "files"
    return {"rule": "labels", "interface": "interfaces", "unit": "units", "process": "processes"}.get(action.dest, "")

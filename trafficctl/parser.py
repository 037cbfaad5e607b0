"""The argument parser. The arguments of a command are read from its module only if that command is used."""

import argparse
import importlib
import os
import re
import sys
import textwrap
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any, NoReturn

from trafficctl.commands import COMMANDS, GROUPS
from trafficctl.values import NEGATIVE
from trafficmond import __version__
from trafficmond.control.client import DEFAULT_SOCKET

_UNDER, _GOES_ON = " " * 6, " \\"
_WIDEST = 120  # longer lines are hard to read
_EXAMPLE = re.compile(r"( +\S.*?)(   *)(\S.*)")  # a command, a gap, and its effect


class Help(argparse.RawDescriptionHelpFormatter):
    """Formats a text of paragraphs, in which an indented line is an example or a row of a table."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in _filled(text, min(width, _WIDEST)))


def _filled(text: str, width: int) -> Iterator[str]:
    for kind, lines in groupby(text.splitlines(), lambda line: "" if not line else "row" if line[0] == " " else "text"):
        if kind == "text":
            yield from textwrap.wrap(" ".join(lines), width, break_on_hyphens=False)
        else:
            for line in lines:
                yield from _row(line, width)


def _row(line: str, width: int) -> list[str]:
    """The line itself, or if it is too long the command, continued with backslashes, and its effect below it."""
    if len(line) <= width:
        return [line]
    start = len(line) - len(line.lstrip())
    parts = _EXAMPLE.fullmatch(line)
    typed, gap, what = parts.groups() if parts else (line, "", "")
    if len(typed + gap) <= width // 3:  # a name and its description
        return _hung(what, typed + gap, " " * len(typed + gap), width)
    if start > width // 3:  # continues the effect of the line before
        return _hung(line.strip(), _UNDER, _UNDER, width)
    pieces = _hung(typed.strip(), " " * start, _UNDER, width - len(_GOES_ON))
    effect = _hung(what, _UNDER, _UNDER, width) if what else []
    return [*(piece + _GOES_ON for piece in pieces[:-1]), pieces[-1], *effect]


def _hung(text: str, first: str, other: str, width: int) -> list[str]:
    return textwrap.TextWrapper(width, first, other, break_long_words=False, break_on_hyphens=False).wrap(text)


_MISSING = "the following arguments are required: "  # how argparse begins that message
FORMATS = ("human", "json", "jsonl", "csv", "toml")

_EPILOG = """\
Examples:
  trafficctl status                                  the state of the daemon and its interfaces
  trafficctl top                                     live screen: rates, flows, hosts, threats
  sudo trafficctl add-cidr 203.0.113.0/24 --ttl 1h   drop a network for an hour
  trafficctl flows --since 1h --sort bytes           the largest flows of the last hour
  trafficctl explain 203.0.113.5                     why this address is treated as it is
  trafficctl watch -o jsonl | jq .src_ip             live events into another program

Exit codes: 0 done, 1 the answer is no, 2 usage, 3 cannot reach the daemon, 4 not permitted.
See trafficctl COMMAND --help for each command, with examples.
"""


class _Command(argparse.ArgumentParser):
    """One command's parser; fills itself from `trafficctl.commands.<module>` when first used.

    The module has `run(args)`, which returns the exit code if that may not be 0, and, for arguments of its own,
    `arguments(parser)`.
    """

    module = ""

    def fill(self) -> None:
        if self.module:
            name, self.module = self.module, ""
            command: Any = importlib.import_module(f"trafficctl.commands.{name}")
            self.formatter_class = Help
            self._negative_number_matcher = NEGATIVE
            self.description, _, self.epilog = command.__doc__.partition("\n\n")
            if hasattr(command, "arguments"):
                command.arguments(self)
            options = [(each.dest, (str(each.metavar), *each.option_strings)[-1]) for each in self._actions]
            option_of = dict(options) | {option.strip("-"): option for _, option in options}  # rules files say "burst"
            self.set_defaults(run=command.run, option_of=option_of)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        command = self.module and self.prog.rpartition(" ")[2]
        self.fill()
        known, unknown = super().parse_known_args(args, namespace)
        if unknown and command:
            from trafficctl.mistyped import instead

            hint = instead(command, self, args, unknown[0])
            self._refuse(f"{unknown[0]!r} is not an argument of this command", hint)
        return known, unknown

    def error(self, message: str) -> NoReturn:
        """Exits with the message and a pointer to --help, without the usage text, which would hide the message."""
        message = message.removeprefix("argument ")
        if message.startswith(_MISSING):
            self._refuse(f"{message.removeprefix(_MISSING)} is missing", f"for example: {self._example()}")
        name, _, what = message.partition(": ")
        if what.startswith("expected ") and (action := self._option_string_actions.get(name.rpartition("/")[2])):
            message = f"{name} needs a value: {action.help}"
        self._refuse(message)

    def _example(self) -> str:
        """The first example of the command's help, without its effect."""
        return (self.epilog or "").partition("\n  ")[2].partition("\n")[0].partition("  ")[0]

    def _refuse(self, message: str, hint: str = "") -> NoReturn:
        self.exit(2, "\n  ".join(filter(None, [f"{self.prog}: {message}", hint, f"see {self.prog} --help"])) + "\n")

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """The value; the text of a ValueError is the message, where argparse would only name the type."""
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as error:
            if isinstance(error.__context__, ValueError):
                from trafficctl.mistyped import alone

                optional = action.nargs == "?" and not action.option_strings
                hint = alone(self.prog.rpartition(" ")[2], arg_string) if optional else ""
                what = "; ".join(filter(None, [str(error.__context__), hint]))
                raise argparse.ArgumentError(action, what) from None
            raise

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        from trafficmond.config.declare import guess

        if action.dest == "command":
            from trafficctl.mistyped import MEANT

            near = f"; did you mean {MEANT[value]}?" if value in MEANT else guess(value, list(COMMANDS))
            raise argparse.ArgumentError(None, f"there is no command {value!r}{near}")
        known = [str(each) for each in action.choices]
        pages = (name for name, each in self._option_string_actions.items() if "HTML" in (each.help or ""))
        page = next(pages, "trafficctl report --write") if (action.dest, value) == ("output", "html") else ""
        near = f"; for a page use {page} FILE" if page else guess(str(value), known)
        what = f"{str(value)!r} is not one of {', '.join(known)}{near}"
        raise argparse.ArgumentError(action, what)


def build(names: Collection[str] = COMMANDS, *, fill: bool = False) -> argparse.ArgumentParser:
    """The parser for these commands; `fill` reads all their arguments, for completion scripts and documentation."""
    parser = _Command(
        prog="trafficctl",
        description="Query and control trafficmond, the network traffic monitor of this host.",
        usage="trafficctl [-s SOCKET] [-o FORMAT | --json] COMMAND ...",
        epilog=_commands_help() + "\n" + _EPILOG,
        formatter_class=Help,
        allow_abbrev=False,
    )
    socket = os.environ.get("TRAFFICMON_SOCKET") or DEFAULT_SOCKET
    _add_globals(parser, socket, "human", names)
    named: dict[str, Any] = {"dest": "command", "metavar": "COMMAND", "help": argparse.SUPPRESS}
    commands = parser.add_subparsers(required=True, parser_class=_Command, prog="trafficctl", **named)
    for name in names:
        # The same options after the command; their defaults must not overwrite values given before the command.
        common = _Command(add_help=False)
        _add_globals(common, argparse.SUPPRESS, argparse.SUPPRESS, [name])
        command = commands.add_parser(name, parents=[common], allow_abbrev=False)
        command.module = COMMANDS[name][0]
        if fill:
            command.fill()
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parses the arguments; `run` of the result is the command's function. Exits with code 2 if they are not valid."""
    parser = build([name for name in COMMANDS if name in argv])  # building all would take longer than most commands
    if not argv:
        parser.print_help(sys.stderr)
        parser.exit(2)
    return parser.parse_args(argv)


def _add_globals(parser: argparse.ArgumentParser, socket: str, form: str, commands: Collection[str]) -> None:
    forms = FORMATS if {"rules", "import"} & set(commands) else FORMATS[:-1]  # only rules can be written as TOML
    text = "the daemon's control socket ($TRAFFICMON_SOCKET)"
    parser.add_argument("-s", "--socket", metavar="SOCKET", default=socket, help=text)
    text = f"the format: human (default), json, jsonl, csv{'; for rules also toml' if 'toml' in forms else ''}"
    parser.add_argument("-o", "--output", metavar="FORMAT", choices=forms, default=form, help=text)
    text = "the same as -o json"
    parser.add_argument("--json", dest="output", action="store_const", const="json", default=form, help=text)
    if parser.add_help:
        text = "show the version and exit"
        parser.add_argument("-V", "--version", action="version", version=f"trafficctl {__version__}", help=text)


def _commands_help() -> str:
    lines = ["Commands:"]
    for title, commands in GROUPS.items():
        lines += ["", f"  {title}", *(f"    {name:<13} {text}" for name, (_, text) in commands.items())]
    return "\n".join(lines) + "\n"

"""Man pages: the prose of packaging/man, with what is declared in the code put in its places."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from commands import Argument, Client, Command
from rendering import allowed

from trafficmond import __version__
from trafficmond.config.declare import TableSpec, declared
from trafficmond.config.flags import _parser as daemon_parser
from trafficmond.config.settings import Settings
from trafficmond.feeds.__main__ import parser as fetch_parser
from trafficmond.notifier.__main__ import parser as notify_parser
from trafficmond.notifier.settings import Settings as NotifySettings


def pages(folder: Path, client: Client) -> Mapping[str, str]:
    """Each page's text by its file name. In the prose a line `@NAME@` stands for what is generated."""
    parts: Mapping[str, Callable[[], str]] = {
        "CLIENT_OPTIONS": lambda: "".join(map(_option, client.options)),
        "COMMANDS": lambda: "".join(map(_command, client.commands)),
        "DAEMON_OPTIONS": lambda: "".join(_options_of(daemon_parser())),
        "FETCH_OPTIONS": lambda: "".join(_options_of(fetch_parser())),
        "NOTIFY_OPTIONS": lambda: "".join(_options_of(notify_parser())),
        "NOTIFY_SETTINGS": lambda: "".join(_settings(NotifySettings, "")),
        "SETTINGS": lambda: "".join(_settings(Settings, "")),
    }
    made = {}
    for path in sorted(folder.glob("*.in")):
        text = re.sub(r"^@(\w+)@\n", lambda match: parts[match[1]](), path.read_text(), flags=re.MULTILINE)
        made[path.stem] = text.replace("@VERSION@", __version__)
    return made


def plain(text: str) -> str:
    """Text as roff shows it unchanged."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("%%", "%")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def _option(option: Argument) -> str:
    value = f" \\fI{plain(option.metavar)}\\fR" if option.takes_value else ""
    choices = f" One of {', '.join(option.choices)}." if option.choices and option.choices[0] not in option.help else ""
    flags = ", ".join(f"\\fB{plain(flag)}\\fR" for flag in option.flags)
    return f".TP\n{flags + value if flags else value.strip()}\n{_sentence(option.help)}{plain(choices)}\n"


def _command(command: Command) -> str:
    words = [f"\\fB{plain(command.name)}\\fR"]
    for argument in command.arguments:
        value = f"\\fI{plain(argument.metavar)}\\fR" if argument.takes_value else ""
        flag = f"\\fB{plain(argument.flags[-1])}\\fR" if argument.flags else ""
        optional = flag or argument.repeats in ("?", "*")
        word = "\\ ".join(filter(None, (flag, value)))
        words.append(f"[{word}]" if optional else word)
        words[-1] += "..." if argument.repeats in ("*", "+") else ""
    out = [f'.SS "{command.name}"\n', "\n".join(words), "\n.PP\n", _paragraphs(command.text)]
    out += [_option(argument) for argument in command.arguments]
    if command.examples:
        out.append(".PP\nExamples:\n.PP\n.nf\n.RS 4\n" + plain(_dedent(command.examples)) + "\n.RE\n.fi\n")
    return "".join(out)


def _options_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        metavar = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
        text = (action.help or "").replace("%(prog)s", parser.prog)
        choices = tuple(map(str, action.choices or ()))
        yield _option(Argument(tuple(action.option_strings), str(metavar), text, choices, ""))


def _settings(cls: type[Any], name: str) -> Iterator[str]:
    below = []
    for key, (_, spec) in declared(cls).items():
        if isinstance(spec, TableSpec):
            below.append((f"{name}.{key}" if name else key, spec))
            continue
        default = (
            "required"
            if spec.required
            else f"default {spec.kind.show(spec.default) if spec.default is not None else 'none'}"
        )
        kind = ": ".join(filter(None, (spec.kind.name, allowed(spec))))
        yield f".TP\n\\fB{plain(key)}\\fR ({plain(kind)}; {plain(default)})\n{plain(spec.help)}\n"
    for path, spec in below:
        yield f'.SS "{f"[[{path}]]" if spec.many else f"[{path}]"}"\n{plain(spec.help)}\n'
        yield from _settings(spec.cls, path)


def _sentence(text: str) -> str:
    text = text.replace("%(default)s", "")
    # Not "Tcp/443, 53": a value stays as it is typed.
    text = text[:1].upper() + text[1:] if re.match(r"[a-z]+([ :]|$)", text) else text
    return plain(text + ("" if text.endswith(".") else "."))


def _paragraphs(text: str) -> str:
    """Paragraphs as they are; indented lines stay lines."""
    out = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if all(line.startswith(" ") for line in paragraph.splitlines()):
            out.append(".nf\n.RS 4\n" + plain(_dedent(paragraph)) + "\n.RE\n.fi\n")
        else:
            out.append(plain(paragraph) + "\n")
    return ".PP\n".join(out)


def _dedent(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip("\n").splitlines())

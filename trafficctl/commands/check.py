"""Check settings and rules, and show mistakes in their places; needs no daemon.

PATH is the settings file (default /etc/trafficmon/trafficmond.toml, checked with all rules and lists that it names), a
rules file, a prefix list, or a folder of these. The exit code is 1 if there is a mistake; notes are not mistakes.

Examples:
  trafficctl check
  trafficctl check ./trafficmond.toml
  trafficctl check /etc/trafficmon/cidr.d/10-office.toml
  trafficctl check -o json | jq '.mistakes[].what'
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trafficctl import exits, session, values
from trafficctl.render import table
from trafficctl.render.style import Style
from trafficmond import figures


def arguments(parser: ArgumentParser) -> None:
    text = "settings, a rules file, a list or a folder"
    parser.add_argument("path", nargs="?", metavar="PATH", type=values.path, help=text)


def run(args: Namespace) -> int:
    from trafficctl.checking import check

    checked = check(args.path)
    session.output(args).report(checked.as_dict(), render)
    return exits.NO if checked.mistakes else exits.DONE


def render(checked: dict[str, Any], style: Style, width: int | None) -> Iterator[str]:
    for kind, colour in (("mistakes", "red"), ("notes", "yellow")):
        path = None
        for each in checked[kind]:
            if each["path"] != path:
                path = each["path"]
                yield style.title(figures.plain(path))
            yield from _one(each, colour, style, width)
    counts = figures.ruling(checked["rules"], checked["lists"], checked["prefixes"])
    wrong, notes = len(checked["mistakes"]), len(checked["notes"])
    also = f", {figures.many(notes, 'note')}" if notes else ""
    name = figures.plain(checked["path"])
    if wrong:
        paths = (Path(each["path"]).absolute() for each in checked["mistakes"])
        elsewhere = any(each != Path(checked["path"]).absolute() for each in paths)
        named = " with the files that it names" if elsewhere else ""
        found = f"{name}{named}: {figures.many(wrong, 'mistake')}{also}"
        yield style.paint(f"{found}; the daemon would keep the rules in force", "red")
    else:
        yield style.paint(f"{name}: in order", "green") + f" ({counts}{also})"


def _one(each: dict[str, Any], colour: str, style: Style, width: int | None) -> Iterator[str]:
    gutter = f"{each['line'] or '':>6} | "
    if each["text"] is not None:
        yield style.dim(gutter) + table.clip(figures.plain(each["text"].expandtabs(4)), width and width - len(gutter))
    lead = " " * (len(gutter) - 2) + "^ "
    for line in table.hung(each["what"], width and width - len(lead)):
        yield lead + style.paint(line, colour)
        lead = " " * len(lead)

"""Formats `--help` for the width of the terminal: paragraphs are wrapped, examples are kept as they are if they fit."""

import argparse
import re
import textwrap
from collections.abc import Iterator
from itertools import groupby

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
    lines = textwrap.TextWrapper(width, first, other, break_long_words=False, break_on_hyphens=False)
    return lines.wrap(text)

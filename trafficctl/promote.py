"""Finds the line of a rules file or of the settings that puts something in shadow. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

_HEADER = re.compile(r"\s*\[")
_SHADOW = re.compile(r"\s*shadow\s*=\s*true\s*(#.*)?")
_DEFAULT_SHADOW = re.compile(r"\s*(policy\s*\.\s*)?default_shadow\s*=\s*true\s*(#.*)?")
_LIST = re.compile(r"\s*\[\[\s*list\s*\]\]\s*(#.*)?")
_PATH = re.compile(r"""\s*path\s*=\s*["']([^"']+)["']\s*(#.*)?""")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file that is to be removed, counted from 1."""

    number: int
    text: str


def of_rule(text: str, header: int) -> Line | None:
    """The `shadow = true` of the [[rule]] whose header is line `header`; None if it is written in another way."""
    return _first(_block(text.splitlines(), header), header + 1, _SHADOW)


def of_list(text: str, path: str) -> Line | None:
    """The `shadow = true` of the [[list]] of the file `path`, of which the settings may name the end only."""
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        block = _block(lines, number) if _LIST.fullmatch(line) else ()
        if any(path.endswith(found[1]) for each in block if (found := _PATH.fullmatch(each))):
            return _first(block, number + 1, _SHADOW)
    return None


def of_default(text: str) -> Line | None:
    return _first(text.splitlines(), 1, _DEFAULT_SHADOW)


def _first(lines: Iterable[str], start: int, wanted: re.Pattern[str]) -> Line | None:
    """The first line that matches; `start` is the number of the first of `lines`."""
    return next((Line(at, line.strip()) for at, line in enumerate(lines, start) if wanted.fullmatch(line)), None)


def _block(lines: Sequence[str], header: int) -> list[str]:
    """The lines of the table whose header is line `header`."""
    return list(takewhile(lambda line: not _HEADER.match(line), lines[header:]))

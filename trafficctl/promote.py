"""Where a rules file or the settings say that something is in shadow. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_HEADER = re.compile(r"\s*\[")
_SHADOW = re.compile(r"\s*shadow\s*=\s*true\s*(#.*)?")
_DEFAULT_SHADOW = re.compile(r"\s*(policy\s*\.\s*)?default_shadow\s*=\s*true\s*(#.*)?")
_LIST = re.compile(r"\s*\[\[\s*list\s*\]\]\s*(#.*)?")
_PATH = re.compile(r"""\s*path\s*=\s*["']([^"']+)["']\s*(#.*)?""")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file that is to go, counted from 1."""

    number: int
    text: str


def of_rule(text: str, header: int) -> Line | None:
    """That of the [[rule]] whose header is at a line; None where it is written in another way."""
    return _first(text.splitlines(), header, _SHADOW)


def of_list(text: str, path: str) -> Line | None:
    """That of the [[list]] of a file, which the settings may name by its end alone."""
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if _LIST.fullmatch(line) and any(path.endswith(named) for named in _paths(_block(lines, number))):
            return _first(lines, number, _SHADOW)
    return None


def of_default(text: str) -> Line | None:
    """That of policy.default_shadow."""
    lines = text.splitlines()
    found = (Line(number, line.strip()) for number, line in enumerate(lines, 1) if _DEFAULT_SHADOW.fullmatch(line))
    return next(found, None)


def _first(lines: Sequence[str], header: int, wanted: re.Pattern[str]) -> Line | None:
    for offset, line in enumerate(_block(lines, header), header + 1):
        if wanted.fullmatch(line):
            return Line(offset, line.strip())
    return None


def _block(lines: Sequence[str], header: int) -> list[str]:
    """The lines of a table, behind its header."""
    return list(_until(lines[header:], lambda line: bool(_HEADER.match(line))))


def _paths(block: Sequence[str]) -> list[str]:
    return [found[1] for line in block if (found := _PATH.fullmatch(line))]


def _until(lines: Sequence[str], ends: Callable[[str], bool]) -> Iterator[str]:
    for line in lines:
        if ends(line):
            return
        yield line

"""Where in a TOML file a key stands: tomllib does not say, and a mistake without its line is half a message."""

from __future__ import annotations

import re
from collections import Counter

_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\- \"']+?)\s*\]\]?\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(r"\s*([\w.\-\"']+)\s*=")


def key_lines(text: str) -> dict[str, int]:
    """Line number, from 1, by key as mistakes name it: "flows", "flows.interval", "log[1].format".

    A scan, not a parser: a multi-line string that looks like TOML can only add keys that nobody asks for.
    """
    found: dict[str, int] = {}
    seen: Counter[str] = Counter()
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _plain(header[2])
            if header[1] == "[[":
                seen[table] += 1
                table = f"{table}[{seen[table] - 1}]"
            found.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            key = _plain(assignment[1])
            found.setdefault(f"{table}.{key}" if table else key, number)
    return found


def line_of(key: str, lines: dict[str, int]) -> int | None:
    """The line of `key`, or of the nearest table around it; None if there is neither."""
    while key:
        if key in lines:
            return lines[key]
        key = key.rpartition(".")[0]
    return None


def _plain(key: str) -> str:
    return re.sub(r"[\s\"']", "", key)

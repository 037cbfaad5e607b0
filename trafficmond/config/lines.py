"""Where in a TOML file a key stands: tomllib does not say, and a mistake without its line is half a message."""

from __future__ import annotations

import re
from collections import Counter

_TOKEN = re.compile(r'''"""|\'{3}|"(?:\\.|[^"\\])*"|'[^']*'|#.*|[\[\]{}]''')
_END = {
    '"""': re.compile(r'''(?:\\.|(?!""")[^\\])*"{3,5}'''),
    "'''": re.compile(r"(?:(?!''').)*'{3,5}"),
}
_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\- \"']+?)\s*\]\]?\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(r"\s*([\w.\-\"']+)\s*=")


def key_lines(text: str) -> dict[str, int]:
    """Line number, from 1, by key as mistakes name it: "flows", "flows.interval", "log[1].format".

    A scan, not a parser: it knows where values over several lines end, and leaves all else to tomllib.
    """
    found: dict[str, int] = {}
    seen: Counter[str] = Counter()
    table, quote, depth = "", "", 0
    for number, line in enumerate(text.splitlines(), 1):
        within = quote or depth
        quote, depth = _left_open(line, quote, depth)
        if within:
            continue
        if header := _HEADER.match(line):
            table = _plain(header[2])
            head, dot, rest = table.partition(".")
            if dot and head in seen:  # a table within the latest of an array
                table = f"{head}[{seen[head] - 1}].{rest}"
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


def _left_open(line: str, quote: str, depth: int) -> tuple[str, int]:
    """The quotes of a string that goes on after this line, and how many brackets are open, given those before it."""
    at = 0
    while at < len(line):
        found = _END[quote].match(line, at) if quote else _TOKEN.search(line, at)
        if not found:
            break
        at, token = found.end(), found[0]
        if quote:
            quote = ""
        elif token in _END:
            quote = token
        else:
            depth += (token in "[{") - (token in "]}")
    return quote, max(depth, 0)


def _plain(key: str) -> str:
    return re.sub(r"[\s\"']", "", key)

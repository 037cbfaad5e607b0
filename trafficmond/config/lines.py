"""Finds the lines of keys in a TOML file, for messages about mistakes: tomllib does not report them."""

import re
from collections import Counter

_TOKEN = re.compile(r'''"""|\'{3}|"(?:\\.|[^"\\])*"|'[^']*'|#.*|[\[\]{}]''')
_END = {'"""': re.compile(r'''(?:\\.|(?!""")[^\\])*"{3,5}'''), "'''": re.compile(r"(?:(?!''').)*'{3,5}")}
_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\- \"']+?)\s*\]\]?\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(r"\s*([\w.\-\"']+)\s*=")


def key_lines(text: str) -> dict[str, int]:
    """The line number, from 1, of each key in the form of mistakes: "flows", "flows.interval", "log[1].format". This is
    a scan, not a parser: it finds the end of values over several lines, and leaves all else to tomllib."""
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
    """The line of `key` (the first, for an array of tables), or of the nearest table that contains it; else None."""
    while key:
        if number := lines.get(key, lines.get(f"{key}[0]")):
            return number
        key = key.rpartition(".")[0]
    return None


def _left_open(line: str, quote: str, depth: int) -> tuple[str, int]:
    """The open quotes and the number of open brackets after a line, given those before it."""
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

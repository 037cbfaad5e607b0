"""The `[[rule]]` tables of a TOML file, each with its line, which tomllib does not report.

Tomllib takes longer for ten thousand rules than all later steps. Nearly every rules file consists of lines that mean
the same alone as in their place (a header, a comment, `key = value`). Such a file is parsed line by line, and equal
lines only once. Tomllib parses all others as a whole, and their headers are found by a pattern.
"""

import re
import tomllib
from typing import Any

from trafficmond.config.lines import key_lines, line_of
from trafficmond.dataclass import dataclass

_HEADER = re.compile(r"[ \t]*\[\[[ \t]*rule[ \t]*\]\][ \t]*(?:#[^\x00-\x08\x0a-\x1f\x7f]*)?")
_NOTHING = re.compile(r"[ \t]*(?:#[^\x00-\x08\x0a-\x1f\x7f]*)?")
_STRING = re.compile(r'[ \t]*([A-Za-z_]+)[ \t]*=[ \t]*"([^"\\\x00-\x1f\x7f]*)"[ \t]*(?:#[^\x00-\x08\x0a-\x1f\x7f]*)?')


@dataclass(frozen=True, slots=True, eq=False)
class RuleTables:
    """Tables in order, the line of each one's header (0: unknown), and the lines of the file's other top-level keys."""

    tables: list[dict[str, Any]]
    headers: list[int]
    others: dict[str, int]
    lines: list[str]

    def line_of(self, index: int, key: str) -> int:
        """1-based line of `key` in table `index`, else of its header; 0 if unknown."""
        header = self.headers[index]
        assignment = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=")
        end = self.headers[index + 1] - 1 if index + 1 < len(self.headers) else len(self.lines)
        for number in range(header, end) if header else ():
            if assignment.match(self.lines[number]):
                return number + 1
        return header


def read_rule_tables(text: str) -> RuleTables:
    """Parses text. Raises tomllib.TOMLDecodeError, RecursionError, TypeError (line of a `rule` that is no array)."""
    lines = text.replace("\r\n", "\n").split("\n")
    by_line = _by_line(lines)
    if by_line is not None:
        return RuleTables(*by_line, {}, lines)
    document = tomllib.loads(text)
    tables = document.pop("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise TypeError(line_of("rule", key_lines(text)) or 0)
    headers = [number for number, line in enumerate(lines, 1) if _HEADER.fullmatch(line)]
    # A header within a multi-line string, or an oddly written one, would shift the rest: then lines are unknown.
    known = headers if len(headers) == len(tables) else [0] * len(tables)
    at = key_lines(text) if document else {}
    return RuleTables(tables, known, {key: line_of(key, at) or 0 for key in document}, lines)


def _by_line(lines: list[str]) -> tuple[list[dict[str, Any]], list[int]] | None:
    """Tables and header lines if each line means the same alone as in its place; else None."""
    tables: list[dict[str, Any]] = []
    headers: list[int] = []
    known: dict[str, tuple[str, Any]] = {}
    table: dict[str, Any] | None = None
    for number, line in enumerate(lines, 1):
        item = known.get(line)
        if item is None:
            if line == "[[rule]]" or _HEADER.fullmatch(line):
                table = {}
                tables.append(table)
                headers.append(number)
                continue
            if not line or _NOTHING.fullmatch(line):
                continue
            item = _assignment(line)
            if item is None:
                return None
            known[line] = item
        key, value = item
        if table is None or key in table:
            return None
        table[key] = value
    return tables, headers


def _assignment(line: str) -> tuple[str, Any] | None:
    """(key, value) of a line that assigns a plain value to a bare key; else None."""
    match = _STRING.fullmatch(line)
    if match is not None:
        return match[1], match[2]
    try:
        found = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    [(key, value)] = found.items()
    # A dotted key or an inline table may be completed by other lines.
    return None if isinstance(value, dict) or line.lstrip().startswith("[") else (key, value)

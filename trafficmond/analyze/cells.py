"""Reads tables of JSON records, one row each, as Splunk, Graylog, Kibana and pandas export them to CSV."""

import contextlib
import csv
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from trafficmond.analyze.parse_errors import ParseErrors
from trafficmond.analyze.source import SEPARATORS
from trafficmond.analyze.values import THOUSANDS

_NAME = re.compile(r'"?[@#$\w][\w .@:\[\]{}-]{0,100}"?')
_COLUMNS = 400
_FIELD = re.compile(r"(\w+)'?\s*[=:]\s*'?([^,'{}\[\]]+)")


class Table:
    """The layout of a table whose first line names its columns."""

    def __init__(self, head: str) -> None:
        """Raises ValueError if the first line is no line of names."""
        self.header = head[: head.find("\n")].strip("\r\ufeff")
        for self.separator in SEPARATORS:
            names = self.header.split(self.separator)
            if 1 < len(names) <= _COLUMNS and all(not name or _NAME.fullmatch(name.strip()) for name in names):
                break
        else:
            raise ValueError("no line with the names of columns")
        self.names = [name.strip(' "') for name in names]
        self.escape = "\\" if '"{\\"' in head else None  # in place of doubled quotes

    def rows(self, lines: Iterable[str], name: str, errors: ParseErrors | None) -> Iterator[tuple[int, dict[str, Any]]]:
        """(line, record) of each row of the text; empty cells are left out. Rows of another width count as damage."""
        reader = csv.reader(lines, delimiter=self.separator, escapechar=self.escape)
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:  # a cell too long
                if errors:
                    errors.line(name, reader.line_num, "no row", str(error))
                continue
            if cells is None:
                return
            if len(cells) == len(self.names):
                record = {name: _plain(cell) for name, cell in zip(self.names, cells, strict=True) if cell}
                if any(name != cell for name, cell in record.items()):  # joined files repeat the names
                    yield reader.line_num, record
            elif cells and errors:
                what = f"{len(cells)} cells instead of {len(self.names)}"
                errors.line(name, reader.line_num, what, self.separator.join(cells))


def _plain(cell: str) -> Any:
    if cell.startswith("{") and cell.endswith("}"):
        return _structure(cell)
    return cell.replace(",", "") if THOUSANDS.fullmatch(cell) else cell  # as Kibana shows numbers


def _structure(cell: str) -> Any:
    """The fields of an object: JSON, or as Python, Athena and DuckDB write it ({'ip': ...}, {ip=...})."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(cell)
    return dict(_FIELD.findall(cell)) or cell

"""Writes the result of a command in the wanted format."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TextIO

from trafficctl.exits import UsageError
from trafficctl.render import style as styles
from trafficctl.render import table
from trafficctl.render.style import Style
from trafficctl.render.table import Column, Row

# Makes the lines for people, given colours and the terminal's width (None: no limit).
Renderer = Callable[[Any, Style, "int | None"], Iterable[str]]

_PAGE = 500  # rows for which the column widths of a long table are computed together


class Output:
    """Standard output in one of four formats: `human`, `json`, `jsonl`, `csv`. The last three have every field."""

    def __init__(self, form: str, stream: TextIO | None = None, width: int | None = None, colour: bool = False) -> None:
        self.form = form
        self.stream = stream or sys.stdout
        self.width = width
        self.style = Style(colour)

    @classmethod
    def of(cls, form: str) -> Output:
        """Standard output in a format: with the width of its terminal, and colour if that is wanted."""
        if form == "toml":
            raise UsageError("-o toml works only with trafficctl rules", "use -o json")
        stream = sys.stdout
        fits = stream.isatty() or os.environ.get("COLUMNS", "").isdigit()
        width = shutil.get_terminal_size().columns if fits else None
        return cls(form, stream, width, styles.wanted(stream))

    @property
    def human(self) -> bool:
        return self.form == "human"

    def line(self, text: str) -> None:
        self.stream.write(text + "\n")

    def lines(self, texts: Iterable[str]) -> None:
        self.stream.writelines(text + "\n" for text in texts)

    def rows(
        self, rows: Iterable[Row], columns: Sequence[Column], *, fields: Sequence[str] = (), empty: str = ""
    ) -> int:
        """Writes rows and returns how many there were. `fields`: csv's columns; `empty`: the text for no rows."""
        count = 0

        def counting() -> Iterator[Row]:
            nonlocal count
            for count, row in enumerate(rows, 1):  # noqa: B007
                yield row

        counted = counting()
        if self.form == "json":
            self._json_array(counted)
        elif self.form == "jsonl":
            for row in counted:
                self.record(row)
        elif self.form == "csv":
            self._csv(counted, fields)
        else:
            self._table(counted, columns, empty)
        return count

    def report(self, value: Mapping[str, Any], render: Renderer) -> None:
        """Writes one value with parts: for people by `render`, else complete (csv: a line a leaf, dotted keys)."""
        if self.form == "human":
            self.lines(render(value, self.style, self.width))
        elif self.form == "json":
            self.line(json.dumps(value, indent=2, ensure_ascii=False))
        elif self.form == "jsonl":
            self.record(value)
        else:
            from trafficmond.analyze.render.data import leaves

            self._csv(({"key": key, "value": leaf} for key, leaf in leaves(value)), ("key", "value"))

    def record(self, value: Mapping[str, Any]) -> None:
        """Writes one compact JSON line."""
        self.line(json.dumps(value, separators=(",", ":"), ensure_ascii=False))

    def flush(self) -> None:
        self.stream.flush()

    def _json_array(self, rows: Iterable[Row]) -> None:
        lead = "["
        for row in rows:
            self.stream.write(f"{lead}\n  {json.dumps(row, ensure_ascii=False)}")
            lead = ","
        self.line("\n]" if lead == "," else "[]")

    def _csv(self, rows: Iterable[Row], fields: Sequence[str]) -> None:
        writer: csv.DictWriter[str] | None = None
        for row in rows:
            if writer is None:
                writer = self._csv_writer(fields or list(row))
            writer.writerow({key: _csv_value(value) for key, value in row.items()})
        if writer is None and fields:
            self._csv_writer(fields)

    def _csv_writer(self, fields: Sequence[str]) -> csv.DictWriter[str]:
        writer = csv.DictWriter(self.stream, fields, extrasaction="ignore", lineterminator="\r\n")
        writer.writeheader()
        return writer

    def _table(self, rows: Iterator[Row], columns: Sequence[Column], empty: str) -> None:
        hidden: dict[str, int] = {}
        while page := list(islice(rows, _PAGE)):
            self.lines(table.lines(page, columns, self.width, self.style, hidden))
            empty = ""
        self.lines([*table.note(hidden, self.width, self.style), *filter(None, [empty])])


def _csv_value(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else value

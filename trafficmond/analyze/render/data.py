"""The report for programs: JSON, and CSV with one section after another."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from trafficmond import figures as f

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_json(report: dict[str, Any], *, escaped: bool = False) -> str:
    """The report as JSON; `escaped` if the output cannot have all characters."""
    return json.dumps(report, indent=2, ensure_ascii=escaped) + "\n"


def to_csv(report: dict[str, Any]) -> str:
    """Rows of `section, key, field, value`: the first three columns identify each number of the report."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("section", "key", "field", "value"))
    for section, value in report.items():
        for key, field, item in _leaves(value):
            writer.writerow((section, _safe(key), field, _safe(item)))
    return out.getvalue()


def _leaves(value: Any) -> Iterator[tuple[str, str, Any]]:
    """(key, field, value): the key is a position in a list or a name in a mapping, the field is a path below it."""
    if isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, dict | list):
                yield from ((str(name), field, leaf) for field, leaf in _paths(item, ""))
            else:
                yield str(name), "", item
    elif isinstance(value, list):
        for number, item in enumerate(value, 1):
            yield from ((str(number), field, leaf) for field, leaf in _paths(item, ""))
    else:
        yield "", "", value


def _paths(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _paths(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for number, item in enumerate(value, 1):
            yield from _paths(item, f"{path}.{number}" if path else str(number))
    else:
        yield path, value


def _safe(value: Any) -> str:
    """The cell in a form that no spreadsheet takes for a formula (OWASP, "CSV injection")."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    text = f.plain(value)
    return "'" + text if text.startswith(_FORMULA) else text

"""The report for programs: JSON, and CSV with one section after another."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
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
    parts = _parts(value, 1)
    if parts is None:
        yield "", "", value
    for key, part in parts or ():
        yield from ((str(key), field, leaf) for field, leaf in leaves(part, first=1))


def leaves(value: Any, path: str = "", first: int = 0) -> Iterator[tuple[str, Any]]:
    """(dotted path, leaf) of nested data: "interfaces.0.name". `first` is the number of the first element of a list."""
    parts = _parts(value, first)
    if parts is None:
        yield path, value
    for key, part in parts or ():
        yield from leaves(part, f"{path}.{key}" if path else str(key), first)


def _parts(value: Any, first: int) -> Iterable[tuple[Any, Any]] | None:
    """The parts of a mapping or a list with their keys; None for anything else."""
    if isinstance(value, Mapping):
        return value.items()
    return enumerate(value, first) if isinstance(value, list) else None


def _safe(value: Any) -> str:
    """The cell in a form that no spreadsheet takes for a formula (OWASP, "CSV injection")."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    text = f.plain(value)
    return "'" + text if text.startswith(_FORMULA) else text

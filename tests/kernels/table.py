"""The table kernel by feature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Rows of features and checks, a column a kernel; what is missing gets a number and its reason below."""
    reasons: list[str] = []

    def cell(said: str | None) -> str:
        if said is None or not said.startswith("no: "):
            return said or "-"
        if said not in reasons:
            reasons.append(said)
        return f"no [{reasons.index(said) + 1}]"

    rows = [["", *results], ["release", *(found["release"].replace("-cloud-", "-") for found in results.values())]]
    for group in ("features", "checks"):
        rows.append([group, *("" for _ in results)])
        names = dict.fromkeys(name for found in results.values() for name in found[group])
        rows += [[f"  {name}", *(cell(found[group].get(name)) for found in results.values())] for name in names]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(
        [*lines, "", *(f"[{number}] {reason.removeprefix('no: ')}" for number, reason in enumerate(reasons, 1))]
    )

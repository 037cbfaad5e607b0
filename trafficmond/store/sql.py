"""Values as SQL literals, so that the question a person is shown is the very one that is asked."""

from __future__ import annotations

import math


def literal(value: str | int | float) -> str:
    """`value` quoted for SQL. Raises ValueError for what no literal can say (NUL, NaN, infinity)."""
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("text with a NUL byte cannot be queried")
        return "'" + value.replace("'", "''") + "'"
    if not math.isfinite(value):
        raise ValueError(f"{value} cannot be queried")
    return repr(value)

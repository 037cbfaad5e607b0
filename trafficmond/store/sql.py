"""Values as SQL literals, so that the query shown is the query that runs."""

import math


def literal(value: str | int | float) -> str:
    """`value` quoted for SQL. Raises ValueError for values without a literal (NUL, NaN, infinity)."""
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("text with a NUL byte cannot be queried")
        return "'" + value.replace("'", "''") + "'"
    if not math.isfinite(value):
        raise ValueError(f"{value} cannot be queried")
    return repr(value)

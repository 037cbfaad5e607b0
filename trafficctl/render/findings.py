"""The findings of trafficctl doctor as text."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from trafficctl.render import table
from trafficctl.render.style import Style
from trafficmond import figures


def render(rows: Sequence[dict[str, str]], style: Style, width: int | None) -> Iterator[str]:
    """Each finding with its state, the advice below it, and a summary at the end."""
    margin = min(24, max((len(row["subject"]) for row in rows), default=0)) + 8
    room = max(24, (width or 1000) - margin)
    for row in rows:
        head = style.word(row["state"].ljust(6)) + table.pad(
            table.clip(figures.plain(row["subject"]), margin - 8), margin - 6
        )
        what = textwrap.wrap(figures.plain(row["what"]), room, break_on_hyphens=False) or [""]
        yield head + what[0]
        for line in what[1:]:
            yield " " * margin + line
        if row["advice"]:
            for index, line in enumerate(textwrap.wrap(figures.plain(row["advice"]), room - 3, break_on_hyphens=False)):
                yield " " * margin + style.dim(("-> " if index == 0 else "   ") + line)
    states = Counter(row["state"] for row in rows)
    summary = ", ".join(f"{states[state]} {style.word(state)}" for state in ("fail", "warn", "ok") if states[state])
    yield ""
    yield summary

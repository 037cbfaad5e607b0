"""The findings of trafficctl doctor as text."""

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
        subject = table.clip(figures.plain(row["subject"]), margin - 8)
        what, *more = table.hung(row["what"], room)
        yield style.word(row["state"].ljust(6)) + table.pad(subject, margin - 6) + what
        more += [style.dim(line) for line in table.hung(row["advice"], room, "-> ", "   ") if row["advice"]]
        yield from (" " * margin + line for line in more)
    states = Counter(row["state"] for row in rows)
    summary = ", ".join(f"{states[state]} {style.word(state)}" for state in ("fail", "warn", "ok") if states[state])
    yield ""
    yield summary

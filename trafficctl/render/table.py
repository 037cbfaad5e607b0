"""Tables that fit the terminal: columns shrink, then the least important are hidden and named below the table."""

import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from trafficctl.render.style import Style
from trafficmond.figures import plain

GAP = 2
NICE_TO_HAVE = 3  # columns of this weight and below are hidden before any text is cut
_INDENT = "    "
_UNBROKEN = "\N{NO-BREAK SPACE}"
Row = dict[str, Any]


class Column(NamedTuple):
    """How one field is shown. A NamedTuple, since the import of dataclasses takes a quarter of a client's start."""

    key: str
    title: str
    show: Callable[[Any], str] = plain  # for values that are not None
    right: bool = False
    shrinks_to: int = 0  # 0: never cut; else may be cut to this width
    weight: int = 5  # the lightest column is hidden first; columns of weight 9 last
    meaningful: bool = False  # coloured by its word
    keep_end: bool = False  # cut in the middle, for example an address or a path
    below: bool = False  # shown in full below its row if the table is too wide
    of: Callable[[Row], Any] | None = None  # computes the value, if it is not the one field
    unknown: str = ""  # shown for a missing value if another row has one
    brief: Callable[[Row], Any] | None = None  # computes a shorter value, for when there is no room


def lines(
    rows: Iterable[Row],
    columns: Sequence[Column],
    width: int | None,
    style: Style,
    hidden: dict[str, int] | None = None,
) -> list[str]:
    """The table's lines, heading first; none is wider than `width` (None: no limit).

    Adds the columns that have no room to `hidden`, by title with their weight: for `note`, after the last table.
    """
    rows = list(rows)
    texts = [[_cell(column, row) for column in columns] for row in rows]
    if width is not None and _total(_natural(texts, columns)) > width:
        texts = [[_cell(column, row, brief=True) for column in columns] for row in rows]
    # A column that is empty in all rows is left out.
    shown = [i for i, _ in enumerate(columns) if any(text[i] for text in texts)] or list(range(len(columns)))
    for text in texts:
        text[:] = [cell or column.unknown for cell, column in zip(text, columns, strict=True)]
    natural = {i: max([cells(columns[i].title), *(cells(text[i]) for text in texts)]) for i in shown}
    below = [i for i in natural if columns[i].below] if width is not None and _total(natural) > width else []
    widths, left = _fit({i: natural[i] for i in natural if i not in below}, columns, width)
    out = [style.title(_line([columns[i].title for i in widths], widths, columns))]
    for text in texts:
        cut = {i: (clip_middle if columns[i].keep_end else clip)(text[i], widths[i]) for i in widths}
        out.append(_coloured(cut, widths, columns, style))
        if width is not None:
            below_row = "; ".join(f"{columns[i].title.lower()}: {text[i]}" for i in below if text[i])
            out += map(style.dim, textwrap.wrap(below_row, width, initial_indent=_INDENT, subsequent_indent=_INDENT))
    if hidden is not None:
        hidden |= {columns[i].title: columns[i].weight for i in left}
    return out


def note(hidden: Mapping[str, int], width: int | None, style: Style) -> list[str]:
    """The lines that name the hidden columns; none if all of these are only nice to have."""
    if not any(weight > NICE_TO_HAVE for weight in hidden.values()):
        return []
    titles = ", ".join(title.replace(" ", _UNBROKEN) for title in hidden)
    wrapped = textwrap.wrap(f"(-o csv has everything; no room for: {titles})", width or 80)
    return [style.dim(line.replace(_UNBROKEN, " ")) for line in wrapped]


def _natural(texts: Sequence[Sequence[str]], columns: Sequence[Column]) -> dict[int, int]:
    """The widths of the columns that are not empty, without those that are only nice to have."""
    return {
        i: max([cells(column.title), *(cells(text[i]) for text in texts)])
        for i, column in enumerate(columns)
        if column.weight > NICE_TO_HAVE and any(text[i] for text in texts)
    }


def _cell(column: Column, row: Row, *, brief: bool = False) -> str:
    of = column.brief if brief and column.brief else column.of
    value = of(row) if of else row.get(column.key)
    return "" if value is None else column.show(value)


def _fit(natural: dict[int, int], columns: Sequence[Column], width: int | None) -> tuple[dict[int, int], list[int]]:
    """The widths by column index, and the indexes of the hidden columns."""
    widths = dict(natural)
    hidden: list[int] = []
    while width is not None and (excess := _total(widths) - width) > 0:
        room = {i: widths[i] - columns[i].shrinks_to for i in widths if 0 < columns[i].shrinks_to < widths[i]}
        lightest = min(reversed(widths), key=lambda i: columns[i].weight)
        if sum(room.values()) >= excess and columns[lightest].weight > NICE_TO_HAVE:
            _shrink(widths, room, excess)
        elif len(widths) > 1:
            hidden.append(lightest)
            del widths[lightest]
        else:
            (only,) = widths
            widths[only] = width
    return widths, sorted(hidden)


def _shrink(widths: dict[int, int], room: dict[int, int], excess: int) -> None:
    while excess > 0:
        widest = max((i for i in room if room[i] > 0), key=lambda i: widths[i])
        widths[widest] -= 1
        room[widest] -= 1
        excess -= 1


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def _line(texts: Sequence[str], widths: dict[int, int], columns: Sequence[Column]) -> str:
    padded = [pad(clip(text, widths[i]), widths[i], columns[i].right) for text, i in zip(texts, widths, strict=True)]
    return (" " * GAP).join(padded).rstrip()


def _coloured(cut: dict[int, str], widths: dict[int, int], columns: Sequence[Column], style: Style) -> str:
    parts = []
    for i, text in cut.items():
        padded = pad(text, widths[i], columns[i].right)
        parts.append(padded.replace(text, style.word(text), 1) if columns[i].meaningful and text else padded)
    return (" " * GAP).join(parts).rstrip()


def cells(text: str) -> int:
    """The width of a text in terminal cells: two for East Asian wide characters, none for combining marks."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(c) for c in text)


def _cells_of(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def clip_middle(text: str, width: int) -> str:
    """The beginning and more of the end of the text in at most `width` cells, around an ellipsis if it was cut."""
    if cells(text) <= width:
        return text
    start, end = clip(text, width // 3), text
    while end and cells(start or "…") + cells(end) > width:
        end = end[1:]
    return (start or "…") + end if width > 0 else ""


def clip(text: str, width: int | None) -> str:
    """The beginning of the text in at most `width` cells, before an ellipsis if it was cut."""
    if width is None or cells(text) <= width:
        return text
    kept, used = "", 0
    for char in text:
        used += _cells_of(char)
        if used > width - 1:
            break
        kept += char
    return kept.rstrip("….") + "…" if width > 0 else ""


def hung(text: str, width: int | None, first: str = "", other: str = "") -> list[str]:
    """Untrusted text in lines that begin with `first` and `other`, wrapped to `width` (None: one line)."""
    lines = textwrap.TextWrapper(width or sys.maxsize, first, other, break_on_hyphens=False)
    return lines.wrap(plain(text)) or [first]


def pad(text: str, width: int, right: bool = False) -> str:
    blanks = " " * (width - cells(text))
    return blanks + text if right else text + blanks

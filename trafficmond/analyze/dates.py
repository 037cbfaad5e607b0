"""Dates as programs and people write them, in the order of ISO 8601."""

import re
from datetime import date, timedelta
from typing import Any

_NAME = re.compile(r"[A-Z][a-z]")
_WEEKDAY = re.compile(r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? ")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY_MONTH = re.compile(r"(\d{1,2})[ /-](Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b")
_MONTH_DAY = re.compile(r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +(\d{1,2}),?(?= )")
_YEAR_LAST = re.compile(
    r"(\d{1,2})[/.-](\d{1,2})[ /.-](\d{4}|\d{2}(?!:)),?(?:[. T:]| @ )(\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)(.*)"
)
_YEAR_BEHIND = re.compile(r"(\d{1,2}/\d{1,2}) (\d{1,2}:\d{2}:\d{2}(?:\.\d+)?)(?: UTC| GMT)? (\d{4})")  # ctime(3)
_DAY_OF_YEAR = re.compile(r"(\d{4})[ ./-]?(\d{3})[ .T/:-](\d{1,2}:\d{2}:\d{2}(?:\.\d+)?.*)")
_HALF_DAY = re.compile(r"(.*?)(\d{1,2})(:\d{2}:\d{2}(?:\.\d+)?) ?([AP])M", re.IGNORECASE)
_YEAR_FIRST = ("/", "-")
_EITHER = re.compile(rb"(?<![\w/.-])(\d{1,2})(?:\\?/|-)(\d{1,2})(?:\\?/|-)(?:\d{4}|\d\d),?[ .T:]\d{1,2}:\d\d")


class Order:
    """Whether the dates of a source have the day or the month first, by the dates in its first bytes. `unknown`: none
    of these shows it."""

    day_first: bool | None = None
    """For the source that is being read; None: each date shows it, or has the month first."""

    def __init__(self, head: bytes) -> None:
        pairs = [(int(first), int(second)) for first, second in _EITHER.findall(head)]
        days, months = (any(pair[at] > 12 for pair in pairs) for at in (0, 1))
        self.unknown = not (days or months) and any(first != second for first, second in pairs)
        self._day_first = days and not months if pairs else None

    def begin(self) -> None:
        Order.day_first = self._day_first

    def end(self) -> None:
        Order.day_first = None


def in_order(text: str) -> str:
    """The time with its date in the order of ISO 8601, months as numbers, and 24 hours in place of AM and PM. A text
    without a whole date keeps its order. The day is first before a point or if `Order` says so, else the month."""
    named, text = any(month in text for month in _MONTHS), _numbered(text)
    if found := _HALF_DAY.fullmatch(text):
        text = f"{found[1]}{int(found[2]) % 12 + 12 * (found[4] in 'Pp'):02}{found[3]}"
    if found := _DAY_OF_YEAR.fullmatch(text):
        day = date(int(found[1]), 1, 1) + timedelta(int(found[2]) - 1)
        return f"{day}T{padded(found[3])}" if day.year == int(found[1]) else text
    if text[:4].isdecimal() and text[4:5] in _YEAR_FIRST:
        return text.replace("/", "-")
    if found := _YEAR_LAST.fullmatch(_YEAR_BEHIND.sub(r"\1 \3 \2", text)):
        first, second = int(found[1]), int(found[2])
        day_first = first > 12 if named or Order.day_first is None else Order.day_first
        month, day_of = (second, first) if day_first or "." in text[:3] else (first, second)
        return f"{('20' + found[3])[-4:]}-{month:02}-{day_of:02}T{padded(found[4])}{found[5].strip()}"
    return text


def seconds(value: Any) -> float:
    """A number that may have a decimal comma. Raises ValueError or TypeError."""
    return float(value.replace(",", ".") if type(value) is str else value)


def padded(clock: str) -> str:
    """The time of day with two digits for the hour."""
    return "0" + clock if clock[1] == ":" else clock


def _numbered(text: str) -> str:
    """The time without the name of the day, and with the month as a number."""
    if not _NAME.search(text):
        return text
    text = _WEEKDAY.sub("", text)
    text = _DAY_MONTH.sub(lambda found: f"{_MONTHS.index(found[2]) + 1}/{found[1]}", text)
    return _MONTH_DAY.sub(lambda found: f"{_MONTHS.index(found[1]) + 1}/{found[2]}", text)

"""Dates as programs and people write them, in the order of ISO 8601."""

import re
from datetime import date, timedelta

_NAME = re.compile(r"[A-Z][a-z]")
_WEEKDAY = re.compile(r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? ")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY_MONTH = re.compile(r"(\d{1,2})[ /-](Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b")
_MONTH_DAY = re.compile(r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +(\d{1,2}),?(?= )")
_YEAR_LAST = re.compile(
    r"(\d{1,2})[/.-](\d{1,2})[ /.-](\d{4}|\d{2}(?!:)),?(?:[. T:]| @ )(\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)(.*)"
)
_YEAR_BEHIND = re.compile(r"(\d{1,2}/\d{1,2}) (\d{1,2}:\d{2}:\d{2}(?:\.\d+)?) (\d{4})")  # ctime(3)
_DAY_OF_YEAR = re.compile(r"(\d{4})[ ./-]?(\d{3})[ .T/:-](\d{1,2}:\d{2}:\d{2}(?:\.\d+)?.*)")
_HALF_DAY = re.compile(r"(.*?)(\d{1,2})(:\d{2}:\d{2}(?:\.\d+)?) ?([AP])M", re.IGNORECASE)
_YEAR_FIRST = ("/", "-")


def in_order(text: str) -> str:
    """The time with its date in the order of ISO 8601; what has no whole date stays as it is, but for names of months
    and halves of the day. Of two numbers that may both be the month, the first one is, unless points follow it."""
    text = _numbered(text)
    if found := _HALF_DAY.fullmatch(text):
        text = f"{found[1]}{int(found[2]) % 12 + 12 * (found[4] in 'Pp'):02}{found[3]}"
    if found := _DAY_OF_YEAR.fullmatch(text):
        return f"{date(int(found[1]), 1, 1) + timedelta(int(found[2]) - 1)}T{padded(found[3])}"
    if text[:4].isdecimal() and text[4:5] in _YEAR_FIRST:
        return text.replace("/", "-")
    if found := _YEAR_LAST.fullmatch(_YEAR_BEHIND.sub(r"\1 \3 \2", text)):
        first, second = int(found[1]), int(found[2])
        month, day = (second, first) if first > 12 or "." in text[:3] else (first, second)
        return f"{('20' + found[3])[-4:]}-{month:02}-{day:02}T{padded(found[4])}{found[5].strip()}"
    return text


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

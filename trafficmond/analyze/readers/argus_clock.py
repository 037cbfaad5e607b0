"""Times that `ra` writes: in the format of RA_TIME_FORMAT, in epoch seconds (`ra -u`), or without a year or a date."""

import re
from datetime import UTC, datetime

from trafficmond.analyze.source import Source
from trafficmond.analyze.values import moment

_NAME = re.compile(r"[A-Z][a-z]")
_WEEKDAY = re.compile(r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? ")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY_MONTH = re.compile(r"(\d{1,2})[ /-](Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b")
_MONTH_DAY = re.compile(r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +(\d{1,2}),?(?= )")
_NO_YEAR = re.compile(r"(\d{1,2})/(\d{1,2})[. ](\d{1,2}:\d{2}:\d{2}(?:\.\d+)?)")
_YEAR_LAST = re.compile(r"(\d{1,2})[/.-](\d{1,2})[ /.-](\d{4}|\d{2})[. T](\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)")
_YEAR_BEHIND = re.compile(r"(\d{1,2}/\d{1,2}) (\d{1,2}:\d{2}:\d{2}(?:\.\d+)?) (\d{4})")  # ctime(3)
_NO_DATE = re.compile(r"\d{1,2}:\d{2}:\d{2}(?:\.\d+)?")
_DAY_OF_YEAR = re.compile(r"(\d{4})[ ./-]?(\d{3})[ .T/:-](\d{1,2}:\d{2}:\d{2}(?:\.\d+)?.*)")
_HALF_DAY = re.compile(r"(.*?)(\d{1,2})(:\d{2}:\d{2}(?:\.\d+)?) ?([AP])M", re.IGNORECASE)
_YEAR_FIRST = ("/", "-")
_DAY_S = 86400.0


class Clock:
    """Parses the times of one source. A missing year or day (UTC) is taken from the file's own time; without a date,
    another day begins where the time goes back by more than half a day."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._written = datetime.fromtimestamp(source.modified, UTC)
        self._latest = 0.0  # of times without a date

    def read(self, text: str) -> float:
        """Epoch seconds; a time without a zone is UTC. Raises ValueError."""
        text = _numbered(text.strip())
        if found := _HALF_DAY.fullmatch(text):
            text = f"{found[1]}{int(found[2]) % 12 + 12 * (found[4] in 'Pp'):02}{found[3]}"
        if found := _DAY_OF_YEAR.fullmatch(text):
            return moment(f"{found[1]}-01-01T{_padded(found[3])}") + (int(found[2]) - 1) * _DAY_S
        if text[:4].isdecimal() and text[4:5] in _YEAR_FIRST:
            return moment(text.replace("/", "-"))
        text = _YEAR_BEHIND.sub(r"\1 \3 \2", text)
        if found := _YEAR_LAST.fullmatch(text):
            first, second = int(found[1]), int(found[2])
            month, day = (second, first) if first > 12 or "." in text[:3] else (first, second)
            return moment(f"{('20' + found[3])[-4:]}-{month:02}-{day:02}T{_padded(found[4])}")
        if found := _NO_YEAR.fullmatch(text):
            return self._in_year(int(found[1]), int(found[2]), found[3])
        if _NO_DATE.fullmatch(text):
            self._source.note(f"times without a date were read as {self._written:%Y-%m-%d}, the day of the file", 0)
            at = moment(f"{self._written:%Y-%m-%d}T{_padded(text)}")
            if self._latest:
                at += round((self._latest - at) / _DAY_S) * _DAY_S
            self._latest = max(self._latest, at)
            return at
        return moment(text.replace("/", "-"))

    def _in_year(self, month: int, day: int, clock: str) -> float:
        year = self._written.year
        at = moment(f"{year}-{month:02}-{day:02}T{_padded(clock)}")
        if at > self._source.modified + _DAY_S:  # it was written before the turn of the year
            year -= 1
            at = moment(f"{year}-{month:02}-{day:02}T{_padded(clock)}")
        self._source.note(f"times without a year were read as {year}, by the file's own time", 0)
        return at


def _numbered(text: str) -> str:
    """The time without the name of the day, and with the month as a number."""
    if not _NAME.search(text):
        return text
    text = _WEEKDAY.sub("", text)
    text = _DAY_MONTH.sub(lambda found: f"{_MONTHS.index(found[2]) + 1}/{found[1]}", text)
    return _MONTH_DAY.sub(lambda found: f"{_MONTHS.index(found[1]) + 1}/{found[2]}", text)


def _padded(clock: str) -> str:
    return "0" + clock if clock[1] == ":" else clock

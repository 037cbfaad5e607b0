"""Times that `ra` writes: in the format of RA_TIME_FORMAT, in epoch seconds (`ra -u`), or without a year or a date."""

import re
from datetime import UTC, datetime

from trafficmond.analyze.dates import in_order, padded
from trafficmond.analyze.source import Source
from trafficmond.analyze.values import moment

_NO_YEAR = re.compile(r"(\d{1,2})/(\d{1,2})[. ](\d{1,2}:\d{2}:\d{2}(?:\.\d+)?)")
_NO_DATE = re.compile(r"\d{1,2}:\d{2}:\d{2}(?:\.\d+)?")
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
        text = in_order(text.strip())
        if found := _NO_YEAR.fullmatch(text):
            return self._in_year(int(found[1]), int(found[2]), found[3])
        if _NO_DATE.fullmatch(text):
            self._source.note(f"times without a date were read as {self._written:%Y-%m-%d}, the day of the file", 0)
            at = moment(f"{self._written:%Y-%m-%d}T{padded(text)}")
            if self._latest:
                at += round((self._latest - at) / _DAY_S) * _DAY_S
            self._latest = max(self._latest, at)
            return at
        return moment(text)

    def _in_year(self, month: int, day: int, clock: str) -> float:
        year = self._written.year
        at = moment(f"{year}-{month:02}-{day:02}T{padded(clock)}")
        if at > self._source.modified + _DAY_S:  # it was written before the turn of the year
            year -= 1
            at = moment(f"{year}-{month:02}-{day:02}T{padded(clock)}")
        self._source.note(f"times without a year were read as {year}, by the file's own time", 0)
        return at

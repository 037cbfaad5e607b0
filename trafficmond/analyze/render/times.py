"""The times of a report: local, as precise as is of use."""

from datetime import datetime


def moment(seconds: float, width: float = 1) -> str:
    """The local time of a bin, as precise as its width."""
    try:
        at = datetime.fromtimestamp(seconds).astimezone()
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f}"
    return at.strftime("%Y-%m-%d" if width >= 86400 else "%b %d, %H:%M" if width >= 3600 else "%H:%M:%S")


def day(text: str | None) -> str:
    """An ISO time of the report as local time with its zone: "2024-11-29 00:00:00 CET"."""
    if not text or not text.endswith("Z"):
        return (text or "-")[:19].replace("T", " ")
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def period(first: str | None, last: str | None) -> str:
    """From one ISO time to another, with the day once if it is the same: "2024-11-29 10:00:01 to 10:00:05 CET"."""
    if not first or not last or first[:19] == last[:19]:
        return day(first)
    if not first.endswith("Z") or not last.endswith("Z"):
        return f"{day(first)} to {day(last)}"
    begin, end = day(first), day(last)
    if begin[19:] == end[19:]:
        begin = begin[:19]
    return f"{begin} to {end[11:] if begin[:10] == end[:10] else end}"

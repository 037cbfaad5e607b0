"""Numbers, times and text from outside, in a form for people."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

# Control characters, and those that change the direction of text: a label must not move its neighbours.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def number(value: float) -> str:
    """1234567 -> "1,234,567"; fractions with at most two digits."""
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.2f}"


def short(value: float) -> str:
    """For axes: 1500 -> "1.5k", 2000000 -> "2M"."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def size(value: float) -> str:
    """Bytes in binary units, as everywhere in trafficctl: 1234567 -> "1.18 MiB"."""
    amount = float(value)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.3g} {unit}" if amount < 100 else f"{amount:.0f} {unit}"


def span(seconds: float) -> str:
    """A length of time in its two largest units: 5400 -> "1 h 30 m"."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    parts = []
    left = round(seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2])


def percent(value: float) -> str:
    """12.5 -> "12.5 %"; a share that rounds to nothing but is something is "<0.1 %"."""
    return "<0.1 %" if 0 < value < 0.1 else f"{value:.1f} %"


def plural(count: int, word: str) -> str:
    """ "1 threat", "2 threats"."""
    return f"{number(count)} {word}{'' if count == 1 else 's'}"


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
    return _local(text).strftime("%Y-%m-%d %H:%M:%S %Z")


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


def _local(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone()


def action(name: str) -> str:
    """The action as trafficctl and the rules call it: LOG is monitor."""
    return {"LOG": "monitor"}.get(name, name.lower())


def plain(value: Any) -> str:
    """Text from outside with invisible characters escaped: "a\\nb" -> "a\\\\x0ab"."""
    return _UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", str(value))


def evidence(value: Any) -> str:
    """A value of a threat's evidence on one line."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int | float):
        return number(round(value, 3))
    if isinstance(value, dict):
        return ", ".join(f"{plain(key)}: {evidence(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(item) if isinstance(item, int) else evidence(item) for item in value)
    return plain(value)

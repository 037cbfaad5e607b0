"""Parses and formats durations, sizes and rates. Pure."""

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"": 1, "B": 1, "kB": 1000}
_BYTES |= {f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)}
_BYTES |= {f"{letter}iB": 1 << 10 * power for power, letter in enumerate("KMGT", 1)}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d|w)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern}\s*)+")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(s|m|h|d)")
_LONGEST = 100 * 365 * 86400.0
_MOST = 1 << 60


def parse_duration(text: str, plain: str = "") -> float:
    """The seconds of "250ms", "30s", "1h30m", "10min", "30d" or "2w". Raises ValueError. `plain`: the unit of a number
    without one."""
    text = text.strip()
    parts = text + plain * text.isdecimal()
    seconds = 0.0 if text == "0" else -1.0
    if _DURATION.fullmatch(parts):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(parts))
    if seconds > _LONGEST:
        raise ValueError(f"{text!r} is too long; the maximum is a hundred years")
    if seconds < 0:
        raise ValueError(
            f'{text!r} is not a valid duration; write a number and ms, s, m, h, d or w, such as "30s" or "1h30m"'
        )
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest exact text in one unit ("90s", "5m", "30d"), or else in milliseconds."""
    if seconds == 0:
        return "0s"
    for unit in ("w", "d", "h", "m", "s"):
        count = seconds / _SECONDS[unit]
        if count >= 1 and count == int(count) and (unit != "w" or count == 1):
            return f"{int(count)}{unit}"
    return f"{_plain(seconds * 1000)}ms" if seconds < 1 else f"{_plain(seconds)}s"


def parse_size(text: str) -> int:
    """The bytes of "4096", "100MiB" or "2GB". Raises ValueError."""
    found = _SIZE.fullmatch(text.strip())
    factor = _BYTES.get(found[2]) if found else None
    size = int(float(found[1]) * factor) if found and factor else -1
    if not 0 <= size <= _MOST:
        raise ValueError(f'{text!r} is not a valid size; write a number and B, KiB, MiB, GiB or TiB, such as "100MiB"')
    return size


def format_size(size: int) -> str:
    """The exact text in the largest binary unit that divides the size ("100MiB", "1500B")."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


def parse_rate(text: str) -> float:
    """The events a second of "100/s", "20/m" or "5/h". Raises ValueError."""
    found = _RATE.fullmatch(text.strip())
    if not found or float(found[1]) > _MOST:
        raise ValueError(f'{text!r} is not a valid rate; write a number, a slash and s, m, h or d, such as "100/s"')
    return float(found[1]) / _SECONDS[found[2]]


def format_rate(per_second: float) -> str:
    """The text in the smallest time unit with a whole number, else in seconds ("100/s", "20/m", "0.3/s")."""
    for unit in ("s", "m", "h", "d"):
        count = per_second * _SECONDS[unit]
        if abs(count - round(count)) <= 1e-9 * max(1.0, count):
            return f"{round(count)}/{unit}"
    return f"{_plain(per_second)}/s"


def _plain(number: float) -> str:
    return f"{number:.9f}".rstrip("0").rstrip(".")

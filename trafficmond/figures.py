"""Formats numbers, times and untrusted text for people: one way for tables, sentences and reports."""

import re
import time
from typing import Any

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_DECIMAL = ("", "k", "M", "G", "T", "P")
_CONTAINER = re.compile(r"(?<=[0-9a-f]{12})[0-9a-f]{52}(?![0-9a-f])")  # left out of a container's short id
_SERVICE = re.compile(r"(?<!\bkernel)(?<!\bforwarded)(?<!\bnobody)\.service$")  # without it, our own words


def size(value: float | None) -> str:
    """Bytes: "0 B", "1.5 KiB", "98.8 GiB"."""
    return _scaled(value, 1024, _BINARY)


def number(value: float | None) -> str:
    """A count: "999", "12.3 k", "4.56 M"."""
    return _scaled(value, 1000, _DECIMAL).rstrip()


def brief_unit(name: str) -> str:
    """A unit without ".service", as systemctl accepts it, and with the short number of a container."""
    return _SERVICE.sub("", _CONTAINER.sub("…", name)).replace(".service/", "/")


def rate(value: float | None) -> str:
    """A count a second: "12.3 k/s"."""
    text = number(value)
    return f"{text}/s" if text else ""


def octet_rate(value: float | None) -> str:
    """Bytes a second: "1.14 MiB/s"."""
    text = size(value)
    return f"{text}/s" if text else ""


def _scaled(value: float | None, base: int, names: tuple[str, ...]) -> str:
    if value is None:
        return ""
    scaled, index = float(value), 0
    # A value less than half below the base would be rounded up to it.
    while abs(scaled) >= (base - 0.5 if index else base) and index < len(names) - 1:
        scaled /= base
        index += 1
    digits = f"{scaled:.0f}" if index == 0 or abs(scaled) >= 99.95 else f"{scaled:.3g}"
    if index == 0 and abs(scaled) < 10:
        digits = f"{scaled:.1f}".removesuffix(".0")
    return f"{digits} {names[index]}"


def exact(value: float | None) -> str:
    """A count with all digits, in groups: "123,456,789"; of a fraction the first digits: "0.0123", "1,234.5"."""
    if value is None:
        return ""
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def many(value: int, noun: str) -> str:
    """ "1 rule", "4,567 prefixes": the count with its noun; `noun` is the singular."""
    plural = noun + ("es" if noun.endswith(("x", "s")) else "s")
    return f"{exact(value)} {noun if value == 1 else plural}"


def ruling(rules: int, lists: int | None, prefixes: int | None) -> str:
    """ "3 rules, 1 list, 4,567 prefixes"; counts of zero are left out."""
    counts = ((rules, "rule"), (lists, "list"), (prefixes, "prefix"))
    return ", ".join(many(value, noun) for value, noun in counts if value) or "0 rules"


def share(part: float, whole: float) -> str:
    """ "12.3 %", "<0.1 %", or "-" if the whole is zero."""
    if not whole:
        return "-"
    percent = 100 * part / whole
    return "<0.1 %" if 0 < percent < 0.1 else f"{percent:.1f} %"


def span(seconds: float | None) -> str:
    """A duration in its two largest units: "12.3 ms", "4.59 s", "3 m 12 s", "5 d 2 h"."""
    if seconds is None:
        return ""
    if abs(seconds) < 10:
        return f"{1000 * seconds:.3g} ms" if 0 < abs(seconds) < 0.9995 else f"{seconds:.3g} s"
    left = round(abs(seconds))
    parts = []
    for name, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= size:
            parts.append(f"{left // size} {name}")
            left %= size
        elif parts:
            break
    return ("-" if seconds < 0 else "") + " ".join(parts[:2])


def unit(word: str) -> str:
    """The unit of a threat's count for people; the words of evidence do not change."""
    return {"dials": "connection attempts", "openings": "connections opened"}.get(word, word)


def term(key: str) -> str:
    """The name of a value of evidence for people; the keys do not change."""
    words = {"opened_without_a_word": "opened without data", "manner": "first packet"}
    return words.get(key) or key.replace("_", " ")


def clock(then: float | None) -> str:
    """Local date and time to the second."""
    return "" if then is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then))


def when(then: float | None, now: float | None = None) -> str:
    """A time in a table: "16:04:15" today, "Nov 14 22:14" this year, else the date; local time."""
    if then is None:
        return ""
    moment, today = time.localtime(then), time.localtime(now)
    if moment[:3] == today[:3]:
        return time.strftime("%H:%M:%S", moment)
    return time.strftime("%b %d %H:%M" if moment[0] == today[0] else "%Y-%m-%d", moment)


def plain(text: object) -> str:
    """Untrusted text with its control characters as escapes, so that it cannot control the terminal."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in shown)


def action(name: str) -> str:
    """The action in the word of rules, of a record: "LOG" is "monitor"."""
    return {"LOG": "monitor"}.get(name, name.lower())


def evidence(value: Any) -> str:
    """A value of a threat's evidence on one line. Numbers in a list are ports, without groups."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int | float):
        return exact(value)
    if isinstance(value, dict):
        return ", ".join(f"{plain(key)}: {evidence(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(item) if isinstance(item, int) else evidence(item) for item in value)
    return plain(value)

"""Bounds of parameters for all methods, and checks that methods call."""

from typing import Any

from trafficmond.control.idl import Mismatch

LONGEST_TEXT = 4096  # characters
LONGEST_NOTE = 200  # characters of a text that tables show
MOST_ITEMS = 64  # of a list
MOST_OF_MANY = 50_000  # of a list in _MANY; the size of a call is bounded, too
_MANY = ("addresses", "bans", "cidrs", "ports")
_SHOWN = 60


def check(parameters: dict[str, Any]) -> None:
    """Raises Mismatch for text and lists that are too long, and for text with a NUL."""
    for where, value in parameters.items():
        items = value if isinstance(value, list) else [value]
        most = MOST_OF_MANY if where in _MANY else MOST_ITEMS
        if len(items) > most:
            raise Mismatch(where, f"{len(items)} entries are too many; use up to {most}")
        for item in items:
            if isinstance(item, str) and len(item) > LONGEST_TEXT:
                raise Mismatch(where, f"{len(item):,} characters are too many; use up to {LONGEST_TEXT:,}")
            if isinstance(item, str) and "\0" in item:
                raise Mismatch(where, "contains a NUL character; remove it")


def number(where: str, value: int, least: int, most: int) -> int:
    """Returns the value. Raises Mismatch if it is not between `least` and `most`."""
    if not least <= value <= most:
        raise Mismatch(where, f"{value} is out of range; use {least} to {most}")
    return value


def one_of(where: str, value: str, names: tuple[str, ...]) -> str:
    """Returns the value. Raises Mismatch if it is not one of the names."""
    if value not in names:
        raise Mismatch(where, f"{value[:_SHOWN]!r} is unknown; use {' or '.join(names)}")
    return value


def note(where: str, text: str) -> str:
    """Returns the text. Raises Mismatch if it cannot be shown in a line of a table."""
    if len(text) > LONGEST_NOTE or not text.isprintable():
        raise Mismatch(where, f"use up to {LONGEST_NOTE} printable characters, without line breaks")
    return text

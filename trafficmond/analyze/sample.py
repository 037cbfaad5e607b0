"""What a file begins with, looked at once for all readers: which of them knows it, and what the others miss."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

from trafficmond.analyze.jsonstream import first_objects

SHIPPED = "@timestamp"
"""Where Logstash and its kin put the time of a record, often in place of the field that it was taken from."""

LINES = 64
OBJECTS = 64
_SPLIT = re.compile(r"[,;|\t ]+")


class Sample:
    """The first bytes of a file (Source.head), as lines and as JSON objects.

    A reader's `lacks(sample)` says what keeps a file from being of its format: nothing (an empty list), the names of
    fields that are missing where most are there, or None where there is no likeness.
    """

    def __init__(self, head: bytes, *, enveloped: bool = False) -> None:
        self.head = head
        self.enveloped = enveloped  # look for records within those of a shipper, or behind what syslog wrote

    @cached_property
    def lines(self) -> list[str]:
        """The first lines; the first may be half a line, the last too."""
        return [
            line.strip("\r\0\ufeff\x1e") for line in self.head.decode("utf-8", "replace").split("\n", LINES)[:LINES]
        ]

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        """The first whole JSON objects."""
        return first_objects(self.head, OBJECTS, enveloped=self.enveloped) if b"{" in self.head else []

    def object_lacks(self, needed: Collection[str], names: Callable[[dict[str, Any]], Iterable[str]] = list) -> Lacks:
        """What the object most like it lacks of the `needed` keys; `names` says which keys an object has."""
        return _least(needed, (set(names(found)) for found in self.objects))

    def header_lacks(self, needed: Collection[str], names: Callable[[str], Iterable[str]]) -> Lacks:
        """What the line most like it lacks of the `needed` names; `names` takes a line for a header."""
        return _least(needed, (set(names(line)) for line in self.lines))


def with_time(event: Mapping[str, Any]) -> list[str]:
    """The keys of a record whose time may be where a shipper puts it."""
    return [*event, "timestamp"] if SHIPPED in event else [*event]


Lacks = list[str] | None


def _least(needed: Collection[str], found: Iterable[set[str]]) -> Lacks:
    best: Lacks = None
    for names in found:
        missing = [name for name in needed if name not in names]
        if len(missing) <= len(needed) // 2 and (best is None or len(missing) < len(best)):
            best = missing
            if not missing:
                break
    return best

"""The beginning of a file, parsed once for all readers: which of them recognises it, and what the others miss."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

from trafficmond.analyze.jsonstream import first_objects

SHIPPED = "@timestamp"
"""Keys under which Logstash and similar programs store the time of a record, often instead of the original field."""

LINES = 64
OBJECTS = 64


class Sample:
    """The first bytes of a file (Source.head), as lines and as JSON objects.

    A reader's `lacks(sample)` returns the reasons why a file is not in its format: an empty list if it is, the names of
    missing fields if most are there, None if it is not similar at all.
    """

    def __init__(self, head: bytes, *, enveloped: bool = False) -> None:
        self.head = head
        self.enveloped = enveloped  # search records inside those of a log shipper, or after a syslog header

    @cached_property
    def lines(self) -> list[str]:
        """The first lines; the first and the last one may be incomplete."""
        return [
            line.strip("\r\0\ufeff\x1e") for line in self.head.decode("utf-8", "replace").split("\n", LINES)[:LINES]
        ]

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        known = self.enveloped or b"{" in self.head
        return first_objects(self.head, OBJECTS, enveloped=self.enveloped) if known else []

    def object_lacks(self, needed: Collection[str], names: Callable[[dict[str, Any]], Iterable[str]] = list) -> Lacks:
        """The `needed` keys that the most similar object lacks; `names` returns the keys of an object."""
        return _least(needed, (set(names(found)) for found in self.objects))

    def header_lacks(self, needed: Collection[str], names: Callable[[str], Iterable[str]]) -> Lacks:
        """The `needed` names that the most similar line lacks; `names` parses a header; JSON is not one."""
        return _least(needed, (set(names(line)) for line in self.lines if line[:1] not in ("{", "[")))


def with_time(event: Mapping[str, Any]) -> list[str]:
    """The keys of a record, with the field that has its time even if a log shipper moved it."""
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

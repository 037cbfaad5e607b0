"""What is news about a situation: that it began, got worse, is back, or is over. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trafficmond.model import Severity

OPENED, WORSE, AGAIN, ENDED = "opened", "worse", "again", "ended"
AT_ONCE = (OPENED, AGAIN)  # what nobody should wait for

Record = dict[str, Any]
_KEPT = (
    *("id", "detector", "severity", "technique", "src_ip", "dst_ip"),
    *("first_seen", "last_seen", "count", "summary"),
)


@dataclass(frozen=True, slots=True)
class Reported:
    """What people know of a situation already."""

    severity: Severity
    open: bool
    last_seen: float


@dataclass(frozen=True, slots=True)
class News:
    """One thing to tell. `threat` has the fields of a ThreatEntry that a message needs."""

    seq: int  # in the order of their coming
    at: float  # when it became known
    kind: str
    threat: Record


def news_of(record: Record, reported: Reported | None, least: Severity) -> str | None:
    """Which news a threat's record is to those who know `reported` of it; None: none."""
    severity, closed = severity_of(record), record.get("state") == "closed"
    if reported is None:
        return None if severity < least else ENDED if closed else OPENED
    if closed:
        return ENDED if reported.open else None
    if not reported.open:  # what the daemon remembers may be older than what it has told of
        return AGAIN if record["last_seen"] > reported.last_seen else None
    return WORSE if severity > reported.severity else None


def reported_after(record: Record, reported: Reported | None) -> Reported:
    """What people know once they were told of this record."""
    severity, seen = severity_of(record), float(record["last_seen"])
    if reported is not None:
        severity, seen = max(severity, reported.severity), max(seen, reported.last_seen)
    return Reported(severity, record.get("state") != "closed", seen)


def severity_of(record: Record) -> Severity:
    """Raises KeyError for what is no severity."""
    return Severity[record["severity"].upper()]


def kept_of(record: Record) -> Record:
    """The part of a record that a message needs."""
    return {name: record.get(name) for name in _KEPT}

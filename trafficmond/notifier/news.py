"""News of a threat: it began, got worse, is back, or has ended. Pure."""

from typing import Any

from trafficmond.dataclass import dataclass
from trafficmond.model import Severity

OPENED, WORSE, AGAIN, ENDED = "opened", "worse", "again", "ended"
AT_ONCE = (OPENED, AGAIN)  # sent without waiting for more

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reported:
    """The state of a threat that was last reported to people."""

    severity: Severity
    open: bool
    last_seen: float


@dataclass(frozen=True, slots=True)
class News:
    """An item of news. `threat` has the fields of a ThreatEntry that a message needs."""

    seq: int  # in the order of arrival
    at: float  # when it became known
    kind: str
    threat: Record


def news_of(record: Record, reported: Reported | None, least: Severity) -> str | None:
    """The kind of news in a threat's record, compared with what was `reported`; None: it has none."""
    severity, closed = severity_of(record), record.get("state") == "closed"
    if reported is None:
        return None if severity < least else ENDED if closed else OPENED
    if closed:
        return ENDED if reported.open else None
    if not reported.open:  # the daemon's stored record may be older than the reported one
        return AGAIN if record["last_seen"] > reported.last_seen else None
    return WORSE if severity > reported.severity else None


def reported_after(record: Record, reported: Reported | None) -> Reported:
    severity, seen = severity_of(record), float(record["last_seen"])
    if reported is not None:
        severity, seen = max(severity, reported.severity), max(seen, reported.last_seen)
    return Reported(severity, record.get("state") != "closed", seen)


def severity_of(record: Record) -> Severity:
    """The severity of a threat's record. Raises ValueError for an unknown one."""
    return Severity.parse(record["severity"])

"""Values that everyone shares: actions, reasons, directions, rules' identities and threats."""

import enum
from collections.abc import Mapping
from typing import Any, Self

from trafficmond.dataclass import dataclass, field, fields


class Named(enum.IntEnum):
    """Numbers whose names people read, in small letters."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The member named by `text` (any case). Raises ValueError with the valid names."""
        try:
            return cls[text.upper()]
        except KeyError:
            *names, last = map(str, cls)
            what = f"{text!r} is not a valid {cls.__name__.lower()}; use {', '.join(names)} or {last}"
            raise ValueError(what) from None

    def __str__(self) -> str:
        return self.name.lower()


class Action(Named):
    """What happens to a packet; the numbers are those of `enum tm_action`."""

    ALLOW = 0  # pass, quiet
    MONITOR = 1  # pass, logged
    DROP = 2  # drop, logged
    LIMIT = 3  # pass while the source's token bucket lasts, then drop


class Reason(Named):
    """Why a packet got its action; the numbers are those of `enum tm_reason`."""

    DEFAULT = 0
    LIST = 1
    RULE = 2
    BAN = 3
    ALLOWLIST = 4
    GUARD = 5
    ESTABLISHED = 6
    LIMIT = 7


class Direction(Named):
    """Seen from this host; a rule may also say both."""

    INGRESS = 0
    EGRESS = 1
    BOTH = 2


class Severity(Named):
    """Of a threat; ordered."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


SEVERITIES = tuple(map(str, Severity))
LIVE_SORTS = ("bytes", "packets", "sent", "received", "total")  # what a live screen may sort by
LIVE_WINDOWS_S = (2, 10, 40)  # over which its rates are averaged


@dataclass(slots=True)
class Threat:
    """One situation that a detector is sure of; repeats update it.

    Times are epoch seconds. `src_ip` is the attacker and `dst_ip` the victim, None where many or unknown; of a network
    under flood, which `evidence` names, one of its hosts.
    `count` is in the detector's own unit (dials, packets, bytes), named in `evidence["unit"]`.
    """

    detector: str
    severity: Severity
    technique: str  # MITRE ATT&CK id, "T1046"
    src_ip: str | None
    dst_ip: str | None
    first_seen: float
    last_seen: float
    count: int
    summary: str
    evidence: dict[str, Any] = field(default_factory=dict)
    id: str = ""  # given by the engine; stable over the threat's life

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The threat of a row that has all its fields, the severity by name."""
        values = {each.name: row[each.name] for each in fields(cls)}
        return cls(**{**values, "severity": Severity.parse(row["severity"])})

    def row(self) -> dict[str, Any]:
        """Its THREAT_FIELDS, as plain values."""
        return {name: getattr(self, name) for name in THREAT_FIELDS} | {"severity": str(self.severity)}


# In the order of its rows, which end with evidence and state.
THREAT_FIELDS = ("id", *(each.name for each in fields(Threat) if each.name not in ("id", "evidence")))


@dataclass(frozen=True, slots=True)
class FlowQuery:
    """A query of the stored flows; None or empty is no restriction. Times are epoch seconds."""

    since: float | None = None  # last packet not before
    until: float | None = None  # last packet not after
    src: str | None = None  # prefixes as choice.prefixes reads them
    dst: str | None = None
    host: str | None = None  # either side
    port: int | str | None = None  # either side; as choice.ports reads them
    proto: str | None = None  # as choice.protocols reads them
    action: str | None = None
    rule: str | None = None  # label
    interface: str | None = None
    unit: str | None = None  # the manager's name; "nginx" for "nginx.service"
    process: str | None = None  # a command's short name, or its number
    sort: str | None = None  # a column, the largest first; "-" before it: the smallest first
    group_by: tuple[str, ...] = ()
    limit: int = 100
    unstored: bool = False  # only rows that flows.db does not have yet


def columns(text: str) -> dict[str, str]:
    """The type of each column of a table, from a list as in SQL: "first_seen REAL, src_ip TEXT"."""
    return {name: kind for name, _, kind in (each.partition(" ") for each in text.split(", "))}

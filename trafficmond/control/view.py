"""What the control methods may ask of the daemon, and nothing more.

Rows and replies are plain dicts of JSON values whose fields are those of `io.trafficmon.varlink` (the type or
the reply is named in each docstring); times are epoch seconds, durations seconds, addresses and prefixes text.
Requests are frozen dataclasses, already checked for type by the server; the daemon checks their meaning.

A request that cannot be met raises a `TrafficmonError`: `NotFound`, `Refused`, a `ConfigError` with every
mistake, or any other, which the caller reads as a failure with its reason and hint.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trafficmond.errors import ControlError
from trafficmond.model import FlowQuery

Row = dict[str, Any]


class NotFound(ControlError):
    """Nothing answers to what was asked for: no such rule, ban or threat."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, name="io.trafficmon.NotFound", hint=hint)


class Refused(ControlError):
    """Understood, permitted to this caller, and not done: it would cut a lifeline, or nothing would change."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, name="io.trafficmon.Refused", hint=hint)


class Busy(ControlError):
    """Too much of that kind is asked at once; nothing was done."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, name="io.trafficmon.Busy", hint=hint)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the kernel vouches for it (SO_PEERCRED); what the audit records."""

    uid: int
    gid: int
    pid: int
    user: str  # the uid's name, or its number as text


@dataclass(frozen=True, slots=True)
class NewRule:
    """A rule to add at run time, in the words of a `[[rule]]` of cidr.d."""

    cidr: str
    action: str = "drop"  # model.Action's names
    direction: str = "ingress"  # model.Direction's names
    label: str = ""
    ttl_s: float | None = None  # None: until removed
    rate_per_s: int | None = None  # packets a second for each source; action limit only
    burst_packets: int | None = None
    save: bool = False  # outlive a restart, in the daemon's own file of cidr.d
    force: bool = False  # even if it takes this caller's or this host's lifeline


@dataclass(frozen=True, slots=True)
class NewBan:
    """A prefix to ban."""

    cidr: str
    ttl_s: float | None = None  # None: the configured ban time
    reason: str = ""
    force: bool = False
    forever: bool = False  # until it is lifted


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose bans to lift."""

    owner: str | None = None  # None: the caller's own
    everyone: bool = False


@dataclass(frozen=True, slots=True)
class FlowAnswer:
    """The SQL that answers a `FlowQuery`, and its rows, page by page, as they are read."""

    sql: str
    columns: tuple[str, ...]
    pages: AsyncIterator[Sequence[Row]]


@dataclass(frozen=True, slots=True)
class ThreatQuery:
    """A question to the stored and live threats."""

    since: float | None = None
    detector: str | None = None
    min_severity: str = "low"
    host: str | None = None  # attacker or victim: an address or a prefix
    open_only: bool = False
    limit: int = 100


@dataclass(frozen=True, slots=True)
class TopQuery:
    """What a live screen wants to see of the flow table."""

    sort: str = "bytes"  # bytes | packets, a second
    match: str = ""  # an address, prefix, port or protocol; empty: everything
    limit: int = 20


class View(Protocol):
    """The daemon, as the control methods see it. Coroutines run on the daemon's loop and must not block it."""

    version: str

    async def status(self) -> Row:
        """The reply of `Status`."""
        ...

    def rules(self, within: str | None) -> AsyncIterator[Sequence[Row]]:
        """`Rule` rows in pages, strongest first; a list file is one row. `within`: those overlapping a prefix."""
        ...

    async def add_rule(self, rule: NewRule, caller: Caller) -> tuple[Row, list[str]]:
        """Put a rule in force; the `Rule` as it stands now, and notes about it. Raises Refused, ConfigError."""
        ...

    async def remove_rule(
        self, cidr: str, direction: str | None, save: bool, caller: Caller
    ) -> tuple[Sequence[Row], list[str]]:
        """Take the run-time rules on exactly this prefix out of force; the `Rule`s removed, and notes about it. Raises
        NotFound, or Refused if the rule comes from a file."""
        ...

    async def reload(self, caller: Caller) -> Row:
        """The reply of `Reload`: read every file again and put it in force. Raises ConfigError: nothing changed."""
        ...

    async def flows(self, query: FlowQuery) -> FlowAnswer:
        """Ask flows.db. Raises ConfigError for a filter, column or prefix that makes no sense."""
        ...

    async def bans(self) -> Sequence[Row]:
        """`BanEntry` rows in force."""
        ...

    async def ban(self, ban: NewBan, owner: str | None, caller: Caller) -> Row:
        """The reply of `Ban`: ban a prefix for `owner` (None: the caller). Raises Refused for the guard and the
        allowlist."""
        ...

    async def ban_many(self, bans: Sequence[NewBan], owner: str | None, caller: Caller) -> Row:
        """The reply of `BanMany`: ban many in one change. Raises ConfigError with every mistake: nothing changed."""
        ...

    async def unban(self, cidr: str, whose: Whose, caller: Caller) -> Row:
        """The reply of `Unban`: lift somebody's bans within a prefix. Raises NotFound."""
        ...

    async def unban_many(self, cidrs: Sequence[str], whose: Whose, caller: Caller) -> Row:
        """The reply of `UnbanMany`: lift somebody's bans within many prefixes in one change."""
        ...

    async def threats(self, query: ThreatQuery) -> Sequence[Row]:
        """`ThreatEntry` rows, latest first."""
        ...

    async def threat(self, ident: str) -> Row:
        """The reply of `Threat`: a threat (an unambiguous start of its id will do), the flows behind it and
        what was done about it. Raises NotFound."""
        ...

    async def top(self, query: TopQuery) -> Row:
        """The reply of `Top`: the moment's interfaces, flows, hosts and open threats."""
        ...

    async def explain(self, address: str, direction: str) -> Row:
        """The reply of `Explain`: what happens to packets of an address, and why."""
        ...

    async def metrics(self) -> str:
        """OpenMetrics text."""
        ...

    async def audit(self, since: float | None, limit: int) -> Sequence[Row]:
        """`AuditEntry` rows, latest first."""
        ...

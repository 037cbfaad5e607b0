"""The base class of handlers, and functions that read parameters. io.trafficmon.varlink describes the methods."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import TypeVar

from trafficmond import networks, services
from trafficmond.control.call import Call, Row
from trafficmond.control.peers import Caller
from trafficmond.errors import ConfigError, Mistake
from trafficmond.handlers.spare import Spared
from trafficmond.handlers.stored import Stored
from trafficmond.model import Direction
from trafficmond.networks import Network
from trafficmond.parts import Parts
from trafficmond.policy.trial import MOST_S
from trafficmond.reloader import Reloader
from trafficmond.ruleset import InForce
from trafficmond.standing import Begin
from trafficmond.store.records import AuditEntry

_NOT_AUDITED = (
    "done, but flows.db cannot be written now: the audit entry is in the journal, and is stored when that is possible"
)
_LONGEST_S = 100 * 365.25 * 86400

A = TypeVar("A")
T = TypeVar("T")


class Handler:
    """The base of all handlers: access to the parts, the stored records and the audit."""

    def __init__(self, parts: Parts, reloader: Reloader) -> None:
        self._parts = parts
        self._reloader = reloader
        self._stored = Stored(parts)

    async def _audit(
        self, caller: Caller, change: str, subject: str, before: str | None, after: str | None
    ) -> list[str]:
        """Records a change by a client; returns notes for the client."""
        who = caller.uid, caller.user, caller.pid
        entry = AuditEntry(time.time(), *who, change, subject, before, after, caller.login)
        return [] if await self._parts.audit(entry) else [_NOT_AUDITED]

    async def _audited(
        self, call: Call, change: str, subject: str, before: str | None, after: str | None, on_probation: bool
    ) -> list[str]:
        """The same for a change that may be on probation; then the notes include that."""
        notes = self._parts.probation_notes() if on_probation else []
        words = [after or "removed", *notes[:1]] if notes else [after] if after else []
        return [*notes, *await self._audit(call.caller, change, subject, before, ", ".join(words) or None)]

    def _begin(self, call: Call, what: str, confirm_within_s: float | None) -> Begin:
        """The author, the text and the wanted probation of a change. Raises ConfigError."""
        within_s = 0.0 if confirm_within_s is None else parse_probation(confirm_within_s)
        return Begin(call.caller.user, what, within_s)

    def _in_force(self) -> InForce:
        in_force = self._parts.rulebook.in_force
        assert in_force is not None
        return in_force

    def _spared(self) -> Spared:
        return Spared(self._in_force().policy, self._parts.protected.logins())


def parsed(name: str, parse: Callable[[A], T], value: A) -> T:
    """The value of the parameter `name`, read by `parse`, whose ValueError becomes a ConfigError."""
    try:
        return parse(value)
    except ValueError as error:
        raise ConfigError([Mistake(name, str(error))]) from None


def parse_network(text: str, name: str = "cidr") -> Network:
    """The prefix in the parameter `name`. Raises ConfigError."""
    return parsed(name, networks.parse, text)


def parse_ttl(seconds: float, name: str = "ttl_s") -> float:
    """The duration of a rule or ban in seconds: the parameter `name`. Raises ConfigError."""
    if not 0 < seconds <= _LONGEST_S:  # NaN neither
        what = f"{seconds:g} s is not a valid duration; use more than 0 and at most 100 years"
        raise ConfigError([Mistake(name, what)])
    return seconds


def parse_probation(seconds: float) -> float:
    """The duration of a probation in seconds. Raises ConfigError."""
    if not 1 <= seconds <= MOST_S:  # NaN neither
        what = f"{seconds:g} s is not a valid time for a probation; use 1 s to 1 hour"
        raise ConfigError([Mistake("confirm_within_s", what)])
    return seconds


def parse_direction(text: str) -> Direction:
    """The direction of that name. Raises ConfigError."""
    return parsed("direction", Direction.parse, text)


def named_ports(texts: Sequence[str], force: bool = False) -> list[str]:
    """Services in the form in which rules are compared. Raises ConfigError, always with `force`."""
    if force:
        what = "cannot be used with ports: the guard and the allowlist are for hosts, whatever the service"
        raise ConfigError([Mistake("force", what)])
    return services.text(parsed("ports", services.parse, texts))


ONE_REPLY_ROWS = 1000


async def paged(call: Call, pages: AsyncIterator[Sequence[Row]]) -> AsyncGenerator[list[Row], None]:
    """The pages, at least one. Without `more` exactly one page, of at most ONE_REPLY_ROWS rows."""
    if call.more:
        page: Sequence[Row] | None = None
        async for page in pages:
            yield list(page)
        if page is None:
            yield []
        return
    rows: list[Row] = []
    async for page in pages:
        rows.extend(page)
        if len(rows) >= ONE_REPLY_ROWS:
            break
    yield rows[:ONE_REPLY_ROWS]

"""What every subject's answers build on: the parts, stored records, its audit, and what people write."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from trafficmond import networks
from trafficmond.answers.spare import Spared
from trafficmond.control.view import Busy, Caller, Row
from trafficmond.errors import ConfigError, Mistake, StoreError
from trafficmond.model import Direction, FlowQuery
from trafficmond.networks import Network
from trafficmond.parts import Parts
from trafficmond.reloader import Reloader
from trafficmond.store.reader import Reader
from trafficmond.store.records import Change
from trafficmond.store.store import Outrun

T = TypeVar("T")
P = ParamSpec("P")
PartT = TypeVar("PartT", bound="Part")

_SETTLE_S = 2.0  # how long a question waits for the latest threats to be stored
_LOOKS = 5  # at what is pending, each a little later than the one before
_NOT_AUDITED = (
    "done, but flows.db cannot be written at present: its audit is in the journal, and is stored when that is possible"
)
_LONGEST_S = 100 * 365.25 * 86400


def to_the_end(
    method: Callable[Concatenate[PartT, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[PartT, P], Coroutine[Any, Any, T]]:
    """For changes: they go on, up to the audit, even if the client hangs up meanwhile."""

    @wraps(method)
    async def whole(self: PartT, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._parts.tasks.shielded(method(self, *args, **kwargs))

    return whole


class Part:
    """The answers about one subject."""

    def __init__(self, parts: Parts, reloader: Reloader) -> None:
        self._parts = parts
        self._reloader = reloader

    async def _settled(self) -> None:
        """Waits until the small things that the store was given are there to be read, unless it takes nothing."""
        if self._parts.store.status().state == "ok":
            with contextlib.suppress(TimeoutError, StoreError):
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._parts.store.settled())), _SETTLE_S)

    async def _read(self, work: Callable[[Reader], T]) -> T:
        """Reads flows.db in a thread for questions. Raises Busy."""
        with self._parts.questions.turn():
            return await self._parts.questions.ask(lambda: Reader(self._parts.store.path), work)

    async def _read_all(self, wanted: FlowQuery, work: Callable[[Reader], T]) -> T:
        """The same, with what kernel, flow table and queue still hold of the flows that `wanted` asks for. Nothing is
        stored for it. Raises Busy."""
        pipeline, store = self._parts.pipeline, self._parts.store
        with self._parts.questions.turn():
            await self._parts.pipeline.drain()
            for _ in range(_LOOKS):
                pending, given = pipeline.pending(), store.given
                with contextlib.suppress(Outrun):
                    return await self._parts.questions.ask(partial(store.reader, given, pending, wanted), work)
        raise Busy("rows are stored faster than they can be read", hint="try again in a moment")

    async def _rows(self, columns: Sequence[str], rest: str) -> list[Row]:
        quoted = ", ".join(f'"{name}"' for name in columns)
        rows = await self._read(lambda reader: reader.rows(f"SELECT {quoted} {rest}"))
        return [dict(zip(columns, row, strict=True)) for row in rows]

    async def _audit(
        self, caller: Caller, change: str, subject: str, before: str | None, after: str | None
    ) -> list[str]:
        """Records what a client changed; what it should be told about that."""
        entry = Change(time.time(), caller.uid, caller.user, caller.pid, change, subject, before, after)
        return [] if await self._parts.audit(entry) else [_NOT_AUDITED]

    def _spared(self) -> Spared:
        """What bans and rules made by hand spare, as it is now."""
        in_force = self._parts.rulebook.in_force
        return Spared(in_force.policy if in_force else None, self._parts.protected.logins())

    def _spare_lifelines(self, cidr: str, what: str) -> None:
        """Raises Refused if `cidr` holds something that this host or its administrator needs."""
        self._spared().refuse(networks.parse(cidr), what)


def prefix_of(text: str) -> str:
    """The canonical form of a prefix. Raises ConfigError."""
    return str(network_of(text))


def network_of(text: str, name: str = "cidr") -> Network:
    """The prefix that is meant by the parameter `name`. Raises ConfigError."""
    try:
        return networks.parse(text)
    except ValueError as error:
        raise ConfigError([Mistake(name, str(error))]) from None


def lasting(seconds: float) -> float:
    """A time that a rule or a ban can last. Raises ConfigError."""
    if not 0 < seconds <= _LONGEST_S:  # NaN neither
        raise ConfigError([Mistake("ttl_s", f"{seconds:g} s is no time to last; use more than 0 and up to 100 years")])
    return seconds


def direction_of(text: str) -> Direction:
    """The direction of that name. Raises ConfigError."""
    try:
        return Direction.parse(text)
    except ValueError as error:
        raise ConfigError([Mistake("direction", str(error))]) from None

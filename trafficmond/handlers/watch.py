"""A stream of what happens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from trafficmond import choice
from trafficmond.choice import Choice
from trafficmond.control.bounds import one_of
from trafficmond.control.broadcast import TOPICS, Wanted
from trafficmond.control.call import Call, Reply, method
from trafficmond.control.idl import Mismatch
from trafficmond.handlers.handler import Handler
from trafficmond.model import Action

T = TypeVar("T")


class Watch(Handler):
    """`Watch`."""

    @method("Watch", endless=True)
    async def watch(
        self,
        _: Call,
        topics: list[str] | None = None,
        action: str | None = None,
        host: str | None = None,
        interface: str | None = None,
        ports: str | None = None,
    ) -> AsyncGenerator[Reply, None]:
        """Records as they are published, until the client goes."""
        for topic in topics or ():
            one_of("topics", topic, TOPICS)
        hosts, either = chosen("host", choice.prefixes, host), chosen("ports", choice.ports, ports)
        wanted, broadcast = Wanted(parse_action(action), hosts, interface or None, either), self._parts.broadcast
        subscription = broadcast.subscribe(topics or TOPICS, wanted)
        try:
            async for topic, records, lost in subscription.batches():
                yield {"topic": topic, "records": records, "lost": lost}
        finally:
            broadcast.unsubscribe(subscription)


def parse_action(text: str | None) -> Action | None:
    """The action of that name, or as log records spell it. Raises Mismatch."""
    if not text:
        return None
    try:
        return Action.MONITOR if text.lower() == "log" else Action.parse(text)
    except ValueError as error:
        raise Mismatch("action", str(error)) from None


def chosen(where: str, read: Callable[[str], Choice[T]], text: str | None) -> Choice[T] | None:
    """What a filter means. Raises Mismatch."""
    try:
        return read(text) if text else None
    except ValueError as error:
        raise Mismatch(where, str(error)) from None

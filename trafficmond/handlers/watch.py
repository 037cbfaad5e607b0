"""The method that streams events and threats."""

from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from trafficmond import choice
from trafficmond.choice import EventFilter
from trafficmond.control.bounds import one_of
from trafficmond.control.broadcast import TOPICS
from trafficmond.control.call import Call, Reply, method
from trafficmond.control.idl import Mismatch
from trafficmond.handlers.handler import Handler
from trafficmond.model import Action

T = TypeVar("T")


class Watch(Handler):
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
        for topic in topics or ():
            one_of("topics", topic, TOPICS)
        hosts, either = _filter("host", choice.prefixes, host), _filter("ports", choice.ports, ports)
        wanted = EventFilter(_filter("action", _action, action), hosts, interface or None, either)
        broadcast = self._parts.broadcast
        subscription = broadcast.subscribe(topics or TOPICS, wanted)
        try:
            async for topic, records, lost in subscription.batches():
                yield {"topic": topic, "records": records, "lost": lost}
        finally:
            broadcast.unsubscribe(subscription)


def _action(text: str) -> Action:
    """The action of that name; log records spell MONITOR as LOG."""
    return Action.MONITOR if text.lower() == "log" else Action.parse(text)


def _filter(where: str, read: Callable[[str], T], text: str | None) -> T | None:
    try:
        return read(text) if text else None
    except ValueError as error:
        raise Mismatch(where, str(error)) from None

"""A stream of what happens."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from trafficmond import networks
from trafficmond.control.bounds import one_of
from trafficmond.control.call import Call, Reply, method
from trafficmond.control.hub import TOPICS, Wanted
from trafficmond.control.idl import Mismatch
from trafficmond.model import Action


@method("Watch", endless=True)
async def watch(
    call: Call,
    topics: list[str] | None = None,
    action: str | None = None,
    host: str | None = None,
    interface: str | None = None,
) -> AsyncGenerator[Reply, None]:
    """Records as they are published, until the client goes."""
    for topic in topics or ():
        one_of("topics", topic, TOPICS)
    wanted = Wanted(action_of(action), prefix_of("host", host), interface or None)
    subscription = call.service.hub.subscribe(topics or TOPICS, wanted)
    try:
        async for topic, records, lost in subscription.batches():
            yield {"topic": topic, "records": records, "lost": lost}
    finally:
        call.service.hub.unsubscribe(subscription)


def action_of(text: str | None) -> Action | None:
    """The action of that name, or as log records spell it. Raises Mismatch."""
    if not text:
        return None
    try:
        return Action.MONITOR if text.lower() == "log" else Action.parse(text)
    except ValueError as error:
        raise Mismatch("action", str(error)) from None


def prefix_of(where: str, text: str | None) -> networks.Network | None:
    """The prefix that is meant. Raises Mismatch."""
    try:
        return networks.parse(text) if text else None
    except ValueError as error:
        raise Mismatch(where, str(error)) from None

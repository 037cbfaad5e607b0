"""A stream of what happens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from trafficmond import networks
from trafficmond.control.call import Call, Reply, method
from trafficmond.control.hub import TOPICS, Record
from trafficmond.control.idl import Mismatch


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
        if topic not in TOPICS:
            raise Mismatch("topics", f"{topic!r} is none of {', '.join(TOPICS)}")
    wanted = event_filter(action, host, interface)
    subscription = call.service.hub.subscribe(topics or TOPICS)
    try:
        async for topic, records, lost in subscription.batches():
            kept = records if topic != "events" else [record for record in records if wanted(record)]
            if kept or lost:
                yield {"topic": topic, "records": kept, "lost": lost}
    finally:
        call.service.hub.unsubscribe(subscription)


def event_filter(action: str | None, host: str | None, interface: str | None) -> Callable[[Record], bool]:
    """Does an event's record match? Raises Mismatch for a host that is no address or prefix."""
    try:
        network = networks.parse(host) if host else None
    except ValueError as error:
        raise Mismatch("host", str(error)) from None

    def wanted(record: Record) -> bool:
        if action and str(record.get("action", "")).lower() not in _spellings(action):
            return False
        if interface and record.get("interface") != interface:
            return False
        return network is None or any(
            side in record and networks.holds(network, record[side]) for side in ("src_ip", "dst_ip")
        )

    return wanted


def _spellings(action: str) -> tuple[str, ...]:
    # A log record says LOG where the rules say monitor.
    return ("log", "monitor") if action.lower() in ("log", "monitor") else (action.lower(),)

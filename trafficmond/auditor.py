"""Records who changed what, so that nothing that was changed is unaccounted for."""

from __future__ import annotations

import asyncio

from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet
from trafficmond.store.records import AuditEntry
from trafficmond.store.store import Store

_AUDIT_S = 2.0  # for a change's record to reach the disk


async def record(store: Store, sinks: SinkSet, change: AuditEntry) -> bool:
    """Records a change in flows.db. Returns whether it is on the disk.

    If the disk refuses it, it is written to the journal now, and to flows.db when that is possible again.
    """
    done = asyncio.wrap_future(store.audit(change))
    done.add_done_callback(asyncio.Future.exception)  # the store reports and counts what it cannot do
    await asyncio.wait([done], timeout=_AUDIT_S)
    if done.done() and done.exception() is None:
        return True
    who = f"{change.user} (uid {change.uid}, process {change.pid}, login {change.login or 'unknown'})"
    fields = {"user": change.user, "uid": change.uid, "change": change.change, "subject": change.subject}
    what = f"{change.change} {change.subject}, from {change.before or 'nothing'} to {change.after or 'nothing'}"
    sinks.note(messages.NOT_AUDITED, f"{who}: {what}; not stored in flows.db yet", fields)
    return False

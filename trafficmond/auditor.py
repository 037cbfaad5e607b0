"""Records who changed what, so that nothing that was changed is unaccounted for."""

from __future__ import annotations

import asyncio

from trafficmond.sinks import messages
from trafficmond.sinks.fanout import SinkSet
from trafficmond.store.records import AuditEntry
from trafficmond.store.store import Store

_AUDIT_S = 2.0  # for a change's record to reach the disk


class Auditor:
    """Has the store keep the audit."""

    def __init__(self, store: Store, sinks: SinkSet) -> None:
        self._store = store
        self._sinks = sinks

    async def record(self, change: AuditEntry) -> bool:
        """Records a change; when this returns it is on the disk, or the disk refuses: then the journal has it, and it
        is stored when that is possible again. Returns whether it is stored."""
        done = asyncio.wrap_future(self._store.audit(change))
        done.add_done_callback(asyncio.Future.exception)  # the store says and counts what it cannot do
        await asyncio.wait([done], timeout=_AUDIT_S)
        if done.done() and done.exception() is None:
            return True
        who = f"{change.user} (uid {change.uid}, process {change.pid}, login {change.login or 'unknown'})"
        fields = {"user": change.user, "uid": change.uid, "change": change.change, "subject": change.subject}
        what = f"{change.change} {change.subject}, from {change.before or 'nothing'} to {change.after or 'nothing'}"
        text = f"{who}: {what}; not stored in flows.db yet"
        self._sinks.note(messages.NOT_AUDITED, text, fields)
        return False

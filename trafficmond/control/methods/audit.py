"""Who changed what."""

from __future__ import annotations

from trafficmond.control.call import Call, Reply, method


@method("Audit")
async def audit(call: Call, since: float | None = None, limit: int = 100) -> Reply:
    """Changes, latest first."""
    return {"entries": list(await call.view.audit(since, limit))}

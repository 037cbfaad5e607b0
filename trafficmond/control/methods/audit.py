"""Who changed what."""

from __future__ import annotations

from trafficmond.control.bounds import number
from trafficmond.control.call import Call, Reply, method

MOST_ROWS = 1_000_000


@method("Audit")
async def audit(call: Call, since: float | None = None, limit: int = 100) -> Reply:
    """Changes, latest first."""
    return {"entries": list(await call.view.audit(since, number("limit", limit, 1, MOST_ROWS)))}

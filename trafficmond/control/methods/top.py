"""The moment, for a live screen."""

from __future__ import annotations

from trafficmond.control.call import Call, Reply, method
from trafficmond.control.view import TopQuery

MAX_ROWS = 500


@method("Top")
async def top(call: Call, sort: str = "bytes", match: str = "", limit: int = 20) -> Reply:
    """Interfaces, busiest flows and hosts, open threats."""
    return await call.view.top(TopQuery(sort, match, max(1, min(limit, MAX_ROWS))))

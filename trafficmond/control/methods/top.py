"""The moment, for a live screen."""

from __future__ import annotations

from trafficmond.control.bounds import one_of
from trafficmond.control.call import Call, Reply, method
from trafficmond.control.view import TopQuery

MAX_ROWS = 500
SORTS = ("bytes", "packets")


@method("Top")
async def top(call: Call, sort: str = "bytes", match: str = "", limit: int = 20) -> Reply:
    """Interfaces, busiest flows and hosts, open threats."""
    return await call.view.top(TopQuery(one_of("sort", sort, SORTS), match, max(1, min(limit, MAX_ROWS))))

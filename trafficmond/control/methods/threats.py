"""Threats: the list, and one in detail."""

from __future__ import annotations

from trafficmond.control.bounds import number
from trafficmond.control.call import Call, Reply, method
from trafficmond.control.view import ThreatQuery

MOST_ROWS = 100_000


@method("Threats")
async def threats(
    call: Call,
    since: float | None = None,
    detector: str | None = None,
    min_severity: str = "low",
    host: str | None = None,
    open_only: bool = False,
    limit: int = 100,
) -> Reply:
    """Threats, latest first."""
    most = number("limit", limit, 1, MOST_ROWS)
    query = ThreatQuery(since, detector, min_severity, host, open_only, most)
    return {"threats": list(await call.view.threats(query))}


@method("Threat")
async def threat(call: Call, id: str) -> Reply:
    """One threat with its flows and what was done."""
    return await call.view.threat(id)

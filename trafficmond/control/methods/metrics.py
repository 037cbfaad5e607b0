"""Metrics, for who collects them through the socket."""

from __future__ import annotations

from trafficmond.control.call import Call, Reply, method


@method("Metrics")
async def metrics(call: Call) -> Reply:
    """OpenMetrics text."""
    return {"text": await call.view.metrics()}

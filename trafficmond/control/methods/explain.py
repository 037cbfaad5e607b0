"""Why an address is treated as it is."""

from __future__ import annotations

from trafficmond.control.call import Call, Reply, method


@method("Explain")
async def explain(call: Call, address: str, direction: str = "ingress") -> Reply:
    """The verdict, what decides it, and what would change it."""
    return await call.view.explain(address, direction)

"""How the daemon is."""

from __future__ import annotations

from trafficmond.control.call import Call, Reply, method


@method("Status")
async def status(call: Call) -> Reply:
    """Everything an administrator asks first."""
    return {**await call.view.status(), "control": call.service.load()}


@method("Version")
async def version(call: Call) -> Reply:
    """The daemon's version."""
    return {"version": call.view.version}

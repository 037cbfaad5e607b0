"""The rules: look, add, remove, read again."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from trafficmond.control.call import Call, Reply, method
from trafficmond.control.paging import paged
from trafficmond.control.view import NewRule


@method("Rules")
async def rules(call: Call, within: str | None = None) -> AsyncGenerator[Reply, None]:
    """Rules in force, in pages."""
    async for page in paged(call, call.view.rules(within)):
        yield {"rules": page}


@method("AddCidr", changes=True)
async def add_cidr(
    call: Call,
    cidr: str,
    action: str = "drop",
    direction: str = "ingress",
    label: str = "",
    ttl_s: float | None = None,
    rate_per_s: int | None = None,
    burst_packets: int | None = None,
    save: bool = False,
    force: bool = False,
) -> Reply:
    """Put a rule in force."""
    rule = NewRule(cidr, action, direction, label, ttl_s, rate_per_s, burst_packets, save, force)
    row, notes = await call.view.add_rule(rule, call.caller)
    return {"rule": row, "notes": notes}


@method("RemoveCidr", changes=True)
async def remove_cidr(call: Call, cidr: str, direction: str | None = None, save: bool = False) -> Reply:
    """Take run-time rules out of force."""
    rows, notes = await call.view.remove_rule(cidr, direction, save, call.caller)
    return {"removed": list(rows), "notes": notes}


@method("Reload", changes=True)
async def reload(call: Call) -> Reply:
    """Read the files again."""
    return await call.view.reload(call.caller)

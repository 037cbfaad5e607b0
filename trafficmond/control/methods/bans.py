"""Bans: look, ban, lift."""

from __future__ import annotations

from trafficmond.control.bounds import note
from trafficmond.control.call import Call, Reply, method
from trafficmond.control.view import NewBan


@method("Bans")
async def bans(call: Call) -> Reply:
    """Bans in force."""
    return {"bans": list(await call.view.bans())}


@method("Ban", changes=True)
async def ban(call: Call, cidr: str, ttl_s: float | None = None, reason: str = "", force: bool = False) -> Reply:
    """Ban a prefix."""
    return {"ban": await call.view.ban(NewBan(cidr, ttl_s, note("reason", reason), force), call.caller)}


@method("Unban", changes=True)
async def unban(call: Call, cidr: str) -> Reply:
    """Lift the bans within a prefix."""
    return {"lifted": list(await call.view.unban(cidr, call.caller))}
